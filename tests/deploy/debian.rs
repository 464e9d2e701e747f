//! The Debian package: built, installed into a root of its own, judged by lintian, and removed; and what it configures is
//! understood.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use stanby::config::Sources;

use crate::docs::{all_pages, links_that_lead_nowhere};
use crate::package::PACKAGES;
use crate::program::{Known, read, root};
use crate::tools::output;

/// With what is in `at` as the system. Dependencies are those of another system, which the test does not install.
fn dpkg(at: &Path, arguments: &[&str]) -> Output {
    let output = Command::new("dpkg")
        .arg(format!("--root={}", at.display()))
        .args([
            "--force-depends",
            "--force-script-chrootless",
            "--force-not-root",
        ])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn empty_system() -> tempfile::TempDir {
    let at = tempfile::tempdir().unwrap();
    for directory in ["info", "updates", "triggers"] {
        std::fs::create_dir_all(at.path().join("var/lib/dpkg").join(directory)).unwrap();
    }
    for file in ["status", "available"] {
        std::fs::write(at.path().join("var/lib/dpkg").join(file), "").unwrap();
    }
    at
}

#[test]
fn the_package_installs_runs_keeps_what_was_changed_and_leaves_nothing_when_it_is_purged() {
    let Some(packages) = &*PACKAGES else { return };
    let package = packages.file(".deb");
    let package = package.to_str().unwrap();
    let system = empty_system();
    let at = system.path();

    dpkg(at, &["--install", package]);
    let version = Command::new(at.join("usr/bin/stanby"))
        .arg("version")
        .output()
        .unwrap();
    let expected = format!("stanby {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
    for file in [
        "usr/lib/systemd/system/stanby.service",
        "usr/share/man/man1/stanby-serve.1.gz",
        "usr/share/bash-completion/completions/stanby",
        "usr/share/stanby/roles.sql",
        "usr/share/doc/stanby/docs/install.md",
        "usr/share/doc/stanby/docs/decisions/tables.md",
        "usr/share/doc/stanby/changelog.gz",
    ] {
        assert!(at.join(file).is_file(), "{file}");
    }
    let (wrong, _) = links_that_lead_nowhere(&at.join("usr/share/doc/stanby"), &all_pages());
    assert_eq!(wrong, [""; 0]);
    let unit = std::fs::read_to_string(at.join("usr/lib/systemd/system/stanby.service")).unwrap();
    assert_eq!(unit, read("deploy/systemd/stanby.service"));
    let secrets = at.join("etc/stanby/secrets.env");
    let mode = secrets.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others may not read the secrets");

    let changed = "cluster_id = \"shop\"\n";
    std::fs::write(at.join("etc/stanby/stanby.toml"), changed).unwrap();
    dpkg(at, &["--force-confold", "--install", package]);
    let kept = std::fs::read_to_string(at.join("etc/stanby/stanby.toml")).unwrap();
    assert_eq!(kept, changed, "an upgrade keeps what was changed");

    dpkg(at, &["--remove", "stanby"]);
    assert!(!at.join("usr/bin/stanby").exists() && secrets.exists());
    dpkg(at, &["--purge", "stanby"]);
    for directory in ["etc/stanby", "usr/share/stanby", "usr/share/doc/stanby"] {
        assert!(!at.join(directory).exists(), "{directory} is left");
    }
}

#[test]
fn the_files_of_the_package_are_whole() {
    let Some(packages) = &*PACKAGES else { return };
    let system = empty_system();
    dpkg(
        system.path(),
        &["--install", packages.file(".deb").to_str().unwrap()],
    );
    let verified = dpkg(system.path(), &["--verify", "stanby"]);
    assert_eq!(String::from_utf8(verified.stdout).unwrap(), "");
}

#[test]
fn lintian_has_nothing_to_say() {
    let Some(packages) = &*PACKAGES else { return };
    let package = packages.file(".deb");
    let arguments = [
        "--allow-root",
        "--fail-on",
        "error,warning",
        "--tag-display-limit",
        "0",
    ];
    let arguments = [&arguments[..], &[package.to_str().unwrap()]].concat();
    if let Some(said) = output("lintian", &arguments) {
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success(), "{text}");
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
