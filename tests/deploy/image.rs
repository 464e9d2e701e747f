//! `deploy/Dockerfile`: it copies what the build needs, and its commands exist.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::program::{assert_parses, read, root};

/// The words after an instruction, of each line that begins with it.
fn instructions(name: &str) -> Vec<String> {
    let text = read("deploy/Dockerfile").replace("\\\n", " ");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(str::to_owned).collect()
}

fn json(text: &str) -> Vec<String> {
    let list = &text[text.find('[').unwrap()..];
    serde_json::from_str(list).unwrap()
}

#[test]
fn the_image_runs_commands_that_exist() {
    let entry = json(&instructions("ENTRYPOINT")[0]);
    let command = json(&instructions("CMD")[0]);
    assert_eq!(command, ["serve"]);
    assert_parses(&[entry, command].concat());
    assert_parses(&json(&instructions("HEALTHCHECK")[0]));
    let port = instructions("EXPOSE").concat();
    assert_eq!(instructions("ENV"), [format!("STANBY_HTTP_PORT={port}")]);
}

#[test]
fn the_image_is_built_from_all_that_cargo_wants() {
    let copies = instructions("COPY");
    let of_context: Vec<&str> = copies
        .iter()
        .filter(|copy| !copy.starts_with("--from"))
        .flat_map(|copy| {
            let words: Vec<&str> = copy.split(' ').collect();
            words[..words.len() - 1].to_vec()
        })
        .collect();
    let ignored = read(".dockerignore");
    for source in &of_context {
        assert!(root().join(source).exists(), "{source}");
        assert!(
            ignored.lines().any(|line| line == format!("!{source}")),
            "{source}"
        );
    }

    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let mut targets = 0;
    for kind in ["test", "bench", "example", "bin"] {
        let Some(list) = manifest.get(kind).and_then(toml::Value::as_array) else {
            continue;
        };
        for target in list {
            let path = Path::new(target["path"].as_str().unwrap());
            let is_copied = of_context.iter().any(|source| path.starts_with(source));
            assert!(is_copied, "{} is not copied", path.display());
            targets += 1;
        }
    }
    assert!(targets > 10);
    for file in ["build.rs", "Cargo.lock", "proto", "migrations"] {
        assert!(of_context.contains(&file), "{file}");
    }

    let included = included_in_the_program();
    assert!(included.len() > 30, "{included:?}");
    for file in included {
        let is_copied = of_context.iter().any(|source| file.starts_with(source));
        assert!(is_copied, "{} is not copied", file.display());
    }
}

/// What the sources have the compiler read besides, from the root.
fn included_in_the_program() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join("src")];
    while let Some(directory) = waiting.pop() {
        for path in fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let calls = ["include_str!(\"", "include_bytes!(\""];
            let names = calls.iter().flat_map(|call| text.split(call).skip(1));
            for name in names.filter_map(|rest| rest.split('"').next()) {
                let file = fs::canonicalize(directory.join(name)).unwrap();
                found.push(file.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn the_image_takes_the_place_of_the_former_one_under_both_of_its_names_and_with_a_nats_server() {
    let run = instructions("RUN").concat();
    assert!(
        run.contains(" nats-server"),
        "a server runs one where none is named: {run}"
    );
    for name in [
        "/nats-streaming-server",
        "/usr/local/bin/nats-streaming-server",
    ] {
        assert!(run.contains(&format!(" {name}")), "{name}: {run}");
    }
}
