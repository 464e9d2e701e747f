//! The Debian package: what it packs is there or made, and what it configures is understood.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsString;

use stanby::config::Sources;

use crate::program::{Known, read, root};

fn metadata() -> toml::Table {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let package = manifest["package"]["metadata"]["deb"].as_table();
    package.unwrap().clone()
}

#[test]
fn the_package_packs_what_there_is() {
    let metadata = metadata();
    let script = read("deploy/debian/build");
    let mut installed = Vec::new();
    for asset in metadata["assets"].as_array().unwrap() {
        let [from, to] = [0, 1].map(|at| asset[at].as_str().unwrap());
        if let Some(made) = from.strip_prefix("target/packaging/") {
            let (_, end) = made.rsplit_once('.').unwrap_or(("", made));
            let made_by = match end {
                "bash" | "zsh" | "fish" => "completions",
                "gz" => "gzip",
                _ => "cp",
            };
            assert!(script.contains(made_by), "{from}");
        } else if let Some(directory) = from.strip_suffix("/*.md") {
            assert!(root().join(directory).is_dir(), "{from}");
        } else {
            assert!(root().join(from).is_file(), "{from}");
        }
        let name = from.rsplit('/').next().unwrap();
        let name = if to.ends_with('/') { name } else { "" };
        installed.push(format!("/{to}{name}"));
    }
    for file in metadata["conf-files"].as_array().unwrap() {
        let file = file.as_str().unwrap();
        assert!(
            installed.iter().any(|it| it == file),
            "{file} is not packed"
        );
    }
}

#[test]
fn a_server_understands_the_configuration_of_the_package() {
    let file = root().join("deploy/debian/stanby.toml");
    let secrets = read("deploy/debian/secrets.env");
    let known = Known::new();
    let mut database_url = OsString::new();
    let entries = secrets.lines().map(|line| line.trim_start_matches('#'));
    for (name, value) in entries.filter_map(|line| line.split_once('=')) {
        assert!(known.variables.contains(name), "{name}");
        if name == "STANBY_DATABASE_URL" {
            database_url = format!("--database-url={value}").into();
        }
    }
    let mut config = OsString::from("--config=");
    config.push(&file);

    let sources = Sources::read(&[config, database_url]).unwrap();

    assert_eq!(
        (sources.warnings, sources.unknown),
        (Vec::new(), Vec::new())
    );
    assert!(sources.config.http.is_some());
}
