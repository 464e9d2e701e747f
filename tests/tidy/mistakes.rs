//! Known mistakes are made in a copy of the tree alone, and each is looked for.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{File, Rule, assert_holds_everywhere, complaints, root};

/// Lines that build with mistakes, in what others build from: manifests, scripts, packaging.
fn builds_with_mistakes(path: &str, text: &str) -> Vec<String> {
    if path == "scripts/known-bad" {
        return Vec::new();
    }
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| line.replace("scripts/known-bad", ""))
        .filter(|line| line.contains("known-bad") || line.contains("all-features"))
        .map(|line| format!("{path}: {line}"))
        .collect()
}

#[test]
fn nothing_that_anybody_runs_is_built_with_mistakes() {
    for (path, line) in [
        ("Cargo.toml", "known-bad = []"),
        ("Cargo.toml", "default = [\"known-bad\"]"),
        ("Dockerfile", "RUN cargo build --features known-bad"),
        ("scripts/release", "cargo build --all-features"),
    ] {
        assert_ne!(builds_with_mistakes(path, line), [""; 0], "{path}: {line}");
    }
    assert_eq!(
        builds_with_mistakes(".ci/run", "scripts/known-bad"),
        [""; 0]
    );

    let elsewhere = ["target", ".git", "src", "tests", "benches", "docs"];
    let mut waiting = vec![root()];
    let mut complaints = Vec::new();
    let mut count = 0;
    while let Some(directory) = waiting.pop() {
        for path in fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            let name = path
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if path.is_dir() {
                let is_elsewhere = elsewhere.contains(&name.as_str()) || name.ends_with("/target");
                waiting.extend((!is_elsewhere).then_some(path));
            } else if path.extension().is_none_or(|extension| extension != "md")
                && let Ok(text) = fs::read_to_string(&path)
            {
                count += 1;
                complaints.extend(builds_with_mistakes(&name, &text));
            }
        }
    }
    assert!(count > 10, "only {count} files were found");
    assert_eq!(complaints, [""; 0]);
}

/// Mistakes in code that ships.
fn makes_known_mistakes(file: &File) -> Vec<String> {
    let ships = file.path.starts_with("src/");
    let lines = file.text.lines().filter(|_| ships);
    lines
        .filter(|line| line.contains("known_bad") || line.contains("KNOWN_BAD"))
        .map(|line| format!("a mistake belongs into tests/known_bad: {line}"))
        .collect()
}

#[test]
fn the_code_that_ships_has_no_branch_for_a_known_mistake() {
    let rule: Rule = makes_known_mistakes;
    let text = "if crate::known_bad::is(\"choke\") {}";
    assert_ne!(complaints(rule, "src/core/a.rs", text), [""; 0]);
    assert_eq!(complaints(rule, "tests/a.rs", text), [""; 0]);
    assert_holds_everywhere(rule);
}

/// Mistakes that a patch makes and the script does not look for.
fn mistakes_that_nobody_looks_for(patch: &str, script: &str) -> Vec<String> {
    let is_call = "is(\"";
    let added = patch.lines().filter(|line| line.starts_with('+'));
    let calls = added.flat_map(|line| line.split(is_call).skip(1));
    let names = calls.filter_map(|rest| rest.split('"').next());
    names
        .filter(|name| !script.contains(&format!("\nfinds {name} ")))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_known_mistake_is_looked_for() {
    let patch = "+    if crate::known_bad::is(\"one\") && !is(\"other\") {";
    let script = "\nfinds one 'a fact' simulation\n";
    assert_eq!(mistakes_that_nobody_looks_for(patch, script), ["other"]);

    let script = fs::read_to_string(root().join("scripts/known-bad")).unwrap();
    let patches = fs::read_dir(root().join("tests/known_bad")).unwrap();
    let patches: Vec<_> = patches
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(patches.len() > 10, "only {} were found", patches.len());
    for patch in patches {
        assert_eq!(mistakes_that_nobody_looks_for(&patch, &script), [""; 0]);
    }
}

/// The patches in the order in which `scripts/known-bad` applies them.
fn patches() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/known_bad")).unwrap();
    let mut patches: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "patch")
        })
        .collect();
    patches.sort();
    patches
}

#[test]
fn every_known_mistake_can_be_made_in_the_code_as_it_is() {
    let copy = tempfile::tempdir().unwrap();
    let patches = patches();
    for patch in &patches {
        let text = fs::read_to_string(patch).unwrap();
        for name in text.lines().filter_map(|line| line.strip_prefix("+++ b/")) {
            let (from, to) = (root().join(name), copy.path().join(name));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            if from.exists() && !to.exists() {
                fs::copy(from, to).unwrap();
            }
        }
    }
    for patch in patches {
        let ran = Command::new("patch")
            .args(["-p1", "--forward", "--no-backup-if-mismatch", "-d"])
            .arg(copy.path())
            .stdin(fs::File::open(&patch).unwrap())
            .output();
        let Ok(ran) = ran else {
            assert!(
                std::env::var_os("STANBY_TEST_REQUIRE").is_none(),
                "patch is not installed"
            );
            return;
        };
        assert!(
            ran.status.success(),
            "{} does not apply any more: make it again for the code as it is\n{}",
            patch.display(),
            String::from_utf8_lossy(&ran.stdout)
        );
    }
}
