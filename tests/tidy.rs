//! The repository's habits that neither the compiler nor clippy can check. Each rule shows on a sample that it
//! would notice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file past which it surely does more than one thing.
const LINES_MAX: usize = 600;

struct File {
    /// From the repository's root, with slashes.
    path: String,
    text: String,
}

/// What is wrong with a file, a sentence each.
type Rule = fn(&File) -> Vec<String>;

/// What each module may name of the others: itself, and these. `node` is where adapters meet, `cli` on top.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("protocol", &["core"]),
    ("certificates", &["printable"]),
    ("config", &["certificates", "core", "protocol"]),
    ("nats", &["certificates", "core", "protocol", "node::clock"]),
    ("former", &["core", "protocol", "config::secret"]),
    (
        "store",
        &[
            "core",
            "former",
            "config::database",
            "config::encryption",
            "config::mysql",
            "config::secret",
            "node::clock",
            "postgres",
        ],
    ),
    (
        "leadership",
        &[
            "core",
            "printable",
            "config::database",
            "node::clock",
            "postgres",
        ],
    ),
    ("postgres", &["config::database", "node::clock"]),
    (
        "http",
        &[
            "certificates",
            "core",
            "node::status",
            "node::reports",
            "node::requests",
            "node::histogram",
            "node::condition",
            "node::clock",
            "store::look",
            "amounts",
            "printable",
        ],
    ),
    ("amounts", &[]),
    ("printable", &[]),
    ("dev", &[]),
];

const CORE_CRATES: &[&str] = &["std", "core", "alloc", "bytes", "bytestring"];

fn imports_follow_the_architecture(file: &File) -> Vec<String> {
    let Some(module) = module_of(&file.path) else {
        return Vec::new();
    };
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
        return Vec::new();
    };
    let code = without_comments(&file.text);
    let mut complaints = Vec::new();
    if code.contains("super::super") {
        complaints.push(String::from(
            "write the path from `crate::`, so that its direction shows",
        ));
    }
    for path in crate_paths(&code) {
        let inside = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}::"));
        if !inside(module) && !allowed.iter().any(|prefix| inside(prefix)) {
            complaints.push(format!("`{module}` may not import `crate::{path}`"));
        }
    }
    complaints
}

fn the_core_uses_no_crate_that_does_anything(file: &File) -> Vec<String> {
    if module_of(&file.path) != Some("core") {
        return Vec::new();
    }
    let code = without_comments(without_tests(&file.text));
    dependencies()
        .into_iter()
        .filter(|name| !CORE_CRATES.contains(&name.as_str()))
        .filter(|name| names_crate(&code, name))
        .map(|name| format!("the core may not use `{name}`"))
        .collect()
}

fn sql_stands_where_the_tables_are_known(file: &File) -> Vec<String> {
    // Not CREATE DATABASE and the like: messages name those to administrators, the program runs none.
    const SQL: &[&str] = &[
        "SELECT ",
        "INSERT INTO ",
        "UPDATE ",
        "DELETE FROM ",
        "TRUNCATE ",
        "CREATE TABLE ",
        "CREATE SCHEMA ",
        "CREATE INDEX ",
        "CREATE VIEW ",
        "CREATE OR REPLACE ",
        "ALTER TABLE ",
        "DROP TABLE ",
        "DROP SCHEMA ",
    ];
    let Some(module) = module_of(&file.path) else {
        return Vec::new();
    };
    if ["store", "leadership", "postgres"].contains(&module) {
        return Vec::new();
    }
    let code = without_comments(without_tests(&file.text));
    SQL.iter()
        .filter(|keyword| code.contains(**keyword))
        .map(|keyword| {
            format!(
                "`{}` belongs under store/ or leadership/",
                keyword.trim_end()
            )
        })
        .collect()
}

fn one_file_knows_the_subjects(file: &File) -> Vec<String> {
    let allowed = file.path == "src/protocol/subjects.rs" || !file.path.starts_with("src/");
    let code = without_comments(without_tests(&file.text));
    let named = code
        .match_indices("_STAN")
        .any(|(at, _)| !code[..at].ends_with(|before: char| before.is_ascii_alphanumeric()));
    if named && !allowed {
        vec![String::from(
            "`_STAN` may stand in src/protocol/subjects.rs only",
        )]
    } else {
        Vec::new()
    }
}

fn tests_wait_for_conditions(file: &File) -> Vec<String> {
    // In two pieces, so that this file keeps its own rule.
    const SLEEPS: &[&str] = &[concat!("sleep", "("), concat!("sleep", "_until(")];
    let tests = if file.path.starts_with("tests/") {
        file.text.as_str()
    } else {
        &file.text[without_tests(&file.text).len()..]
    };
    let code = without_comments(tests);
    SLEEPS
        .iter()
        .filter(|call| code.contains(**call))
        .map(|call| format!("a test calls `{call}…)`: wait for the condition, with a limit"))
        .collect()
}

fn files_have_one_purpose(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        vec![format!(
            "{lines} lines are more than {LINES_MAX}: split it by purpose"
        )]
    } else {
        Vec::new()
    }
}

/// `http` for `src/http.rs` and everything under `src/http/`.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let module = inside.split(['/', '.']).next()?;
    (!matches!(module, "lib" | "main")).then_some(module)
}

fn without_comments(text: &str) -> String {
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    text.lines()
        .filter(|line| !is_comment(line))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Unit tests stand at the end of a file.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |end| &text[..end])
}

/// The paths that begin with `crate::`, those in braces spread out one level: `core::ids`, `http`.
fn crate_paths(code: &str) -> Vec<String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut paths = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        // `$crate::` of a macro leads here too; `some_crate::` does not.
        if code[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + found.len()..];
        let end = rest.find(|c: char| !is_path(c)).unwrap_or(rest.len());
        let (path, rest) = rest.split_at(end);
        match path.strip_suffix("::").or(path.is_empty().then_some("")) {
            Some(stem) if rest.starts_with('{') => {
                paths.extend(in_braces(rest).map(|leaf| join(stem, leaf)));
            }
            _ => paths.push(path.trim_end_matches(':').to_owned()),
        }
    }
    paths
}

/// The first names of what a list in braces holds; what is nested deeper is reached through its first name.
fn in_braces(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let mut end = list.len();
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            end = at;
            break;
        }
    }
    let mut depth = 0;
    list[1..end]
        .split(move |c: char| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        })
        .map(|item| {
            item.trim()
                .split([' ', '{'])
                .next()
                .unwrap_or_default()
                .trim_end_matches(':')
        })
        .filter(|item| !item.is_empty())
}

fn join(stem: &str, leaf: &str) -> String {
    match (stem, leaf) {
        ("", leaf) => leaf.to_owned(),
        (stem, "self") => stem.to_owned(),
        (stem, leaf) => format!("{stem}::{leaf}"),
    }
}

/// Whether a path in `code` begins with the crate `name`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let alone =
            !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.');
        let after = &code[at + name.len()..];
        let used = after.trim_start().starts_with(';') && code[..at].trim_end().ends_with("use");
        alone && (after.starts_with("::") || used)
    })
}

/// The crates that Cargo.toml lets the library use, as code spells them.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once([' ', '='])?.0.replace('-', "_")))
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files() -> Vec<File> {
    let mut files = Vec::new();
    for directory in ["src", "tests", "benches"] {
        collect(&root().join(directory), &mut files);
    }
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

fn collect(directory: &Path, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            files.push(File { path, text });
        }
    }
}

fn complaints(rule: Rule, path: &str, text: &str) -> Vec<String> {
    rule(&File {
        path: path.to_owned(),
        text: text.to_owned(),
    })
}

fn assert_holds_everywhere(rule: Rule) {
    let complaints: Vec<_> = files()
        .iter()
        .flat_map(|file| {
            rule(file)
                .into_iter()
                .map(|what| format!("{}: {what}", file.path))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn modules_import_only_what_they_may() {
    let rule: Rule = imports_follow_the_architecture;
    for (path, text) in [
        ("src/nats/a.rs", "use crate::store::Error;"),
        ("src/store/a.rs", "use crate::{core::ids, leadership};"),
        (
            "src/leadership/a.rs",
            "use crate::{\n    core::{self, batch},\n    store::{load, rows},\n};",
        ),
        ("src/http/a.rs", "use crate::node::{status, active::Loop};"),
        ("src/http/a.rs", "fn f() { crate::nats::go() }"),
        ("src/protocol/b/c.rs", "use crate::config;"),
        ("src/core/a.rs", "use super::super::nats;"),
        ("src/store/a.rs", "use crate::config::{database, serve};"),
        ("src/core/a.rs", "use crate::*;"),
    ] {
        assert_ne!(complaints(rule, path, text), [""; 0], "{path}: {text}");
    }
    for (path, text) in [
        (
            "src/nats/a.rs",
            "use crate::{core::{batch, ids}, protocol};\n// crate::store does the rest",
        ),
        ("src/store/a.rs", "use crate::config::database::Url;"),
        (
            "src/http/a.rs",
            "use crate::node::{clock::Clock, status::Status};",
        ),
        ("src/node/a.rs", "use crate::{http, nats, store};"),
        ("tests/store/a.rs", "use crate::support;"),
    ] {
        assert_eq!(complaints(rule, path, text), [""; 0], "{path}: {text}");
    }
    assert_holds_everywhere(rule);
}

#[test]
fn the_core_is_pure() {
    let rule: Rule = the_core_uses_no_crate_that_does_anything;
    for text in [
        "use tokio::sync::watch;",
        "fn f() -> sqlx::Error {}",
        "use tracing;",
    ] {
        assert_ne!(complaints(rule, "src/core/a.rs", text), [""; 0], "{text}");
    }
    let text = "use bytes::Bytes;\n// tokio::spawn would be wrong\nlet url = base.url::<u8>();";
    assert_eq!(complaints(rule, "src/core/a.rs", text), [""; 0]);
    assert_holds_everywhere(rule);
}

#[test]
fn sql_is_kept_in_the_store_and_the_leadership() {
    let rule: Rule = sql_stands_where_the_tables_are_known;
    let text = r#"let statement = "SELECT 1";"#;
    assert_ne!(complaints(rule, "src/node/a.rs", text), [""; 0]);
    assert_eq!(complaints(rule, "src/store/a.rs", text), [""; 0]);
    assert_eq!(
        complaints(rule, "src/node/a.rs", "// SELECT is not for here"),
        [""; 0]
    );
    assert_holds_everywhere(rule);
}

#[test]
fn subjects_are_made_in_one_place() {
    let rule: Rule = one_file_knows_the_subjects;
    let text = r#"let subject = "_STAN.pub";"#;
    assert_ne!(complaints(rule, "src/nats/a.rs", text), [""; 0]);
    assert_eq!(complaints(rule, "src/protocol/subjects.rs", text), [""; 0]);
    assert_eq!(
        complaints(rule, "src/http/a.rs", r#"let state = "FT_STANDBY";"#),
        [""; 0]
    );
    assert_holds_everywhere(rule);
}

#[test]
fn no_test_sleeps() {
    let rule: Rule = tests_wait_for_conditions;
    let text = concat!("tokio::time::sleep", "(LIMIT).await;");
    assert_ne!(complaints(rule, "tests/node/a.rs", text), [""; 0]);
    let unit = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{ {text} }}");
    assert_ne!(complaints(rule, "src/http/a.rs", &unit), [""; 0]);
    assert_eq!(complaints(rule, "src/http/a.rs", text), [""; 0]);
    assert_holds_everywhere(rule);
}

#[test]
fn no_file_is_too_long() {
    let rule: Rule = files_have_one_purpose;
    assert_ne!(
        complaints(rule, "src/a.rs", &"\n".repeat(LINES_MAX + 1)),
        [""; 0]
    );
    assert_eq!(
        complaints(rule, "src/a.rs", &"\n".repeat(LINES_MAX)),
        [""; 0]
    );
    assert_holds_everywhere(rule);
}

/// The tests that the table of invariants names and that are nowhere.
fn named_tests_that_are_missing(architecture: &str, tests: &str) -> Vec<String> {
    let invariants = architecture.lines().filter(|line| {
        let number = line
            .strip_prefix("| ")
            .and_then(|row| row.split(' ').next());
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    });
    let named = invariants.filter_map(|line| line.rsplit('`').nth(1));
    named
        .filter(|name| {
            !tests.contains(&format!("fn {name}()")) && !tests.contains(&format!("    {name}\n"))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let sample = "| 1 | It holds. | `it_holds` |\n| 2 | So does this. | `lost` |\n";
    assert_eq!(
        named_tests_that_are_missing(sample, "fn it_holds() {"),
        ["lost"]
    );

    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let tests: String = files().into_iter().map(|file| file.text).collect();
    assert_eq!(
        named_tests_that_are_missing(&architecture, &tests),
        Vec::<String>::new()
    );
}

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
