//! ARCHITECTURE.md and the code are one: its code map says who may import whom, its invariants name tests that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::LazyLock;

use super::source::{crate_paths, module_of, names_crate, shipped, without_comments};
use super::{File, Rule, assert_holds_everywhere, complaints, files, root};

/// Beside what the code map says: crates that do nothing by themselves.
const CORE_CRATES: &[&str] = &["std", "core", "alloc", "bytes", "bytestring"];

/// What each module of `src/` may name of the others. `None`: everything.
type CodeMap = BTreeMap<String, Option<Vec<String>>>;

/// The last column of the code map, by the names in the first.
fn code_map(architecture: &str) -> CodeMap {
    let rows = architecture
        .lines()
        .skip_while(|line| !line.starts_with("| place |"))
        .skip(2)
        .take_while(|line| line.starts_with("| "));
    let mut map = CodeMap::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (places, may_use) = (cells.first().unwrap(), cells.last().unwrap());
        let may_use = (*may_use != "everything").then(|| in_backticks(may_use));
        for place in in_backticks(places) {
            let module = place
                .trim_end_matches('/')
                .trim_end_matches(".rs")
                .to_owned();
            assert!(
                map.insert(module, may_use.clone()).is_none(),
                "`{place}` has two rows"
            );
        }
    }
    map
}

fn in_backticks(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

static CODE_MAP: LazyLock<CodeMap> = LazyLock::new(|| code_map(&architecture()));

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// Modules that lead to themselves by what they may use. What may use everything is on top, one above the other.
fn circles(map: &CodeMap) -> Vec<String> {
    let module = |path: &String| path.split(':').next().unwrap_or_default().to_owned();
    let uses = |name: &str| -> Vec<String> {
        let allowed = map.get(name).cloned().flatten();
        allowed.iter().flatten().map(module).collect()
    };
    let leads_to_itself = |name: &&String| {
        let mut seen = BTreeSet::new();
        let mut waiting = uses(name);
        while let Some(next) = waiting.pop() {
            if seen.insert(next.clone()) {
                waiting.extend(uses(&next));
            }
        }
        seen.contains(*name)
    };
    map.keys().filter(leads_to_itself).cloned().collect()
}

fn imports_follow_the_architecture(file: &File) -> Vec<String> {
    let Some(module) = module_of(&file.path) else {
        return Vec::new();
    };
    let Some(Some(allowed)) = CODE_MAP.get(module) else {
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
    let code = without_comments(shipped(file));
    dependencies()
        .into_iter()
        .filter(|name| !CORE_CRATES.contains(&name.as_str()))
        .filter(|name| names_crate(&code, name))
        .map(|name| format!("the core may not use `{name}`"))
        .collect()
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
            "use crate::{clock::Clock, monitoring::status::Status};",
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
fn the_code_map_has_a_row_for_every_module_and_no_circle() {
    let sample = "| place | for | may use |\n|---|---|---|\n| `a/` | x | `b::c` |\n| `b.rs` | y | `a` |\n| `c/`, `d/` | z | – |\n";
    let map = code_map(sample);
    assert_eq!(map.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!(circles(&map), ["a", "b"]);

    let map = code_map(&architecture());
    let files = files();
    let modules: BTreeSet<_> = files
        .iter()
        .filter_map(|file| module_of(&file.path))
        .collect();
    let mapped: BTreeSet<_> = map.keys().map(String::as_str).collect();
    assert_eq!(
        mapped, modules,
        "left: rows of the code map, right: modules"
    );
    assert_eq!(circles(&CODE_MAP), Vec::<String>::new());
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

    let tests: String = files().into_iter().map(|file| file.text).collect();
    assert_eq!(
        named_tests_that_are_missing(&architecture(), &tests),
        Vec::<String>::new()
    );
}

/// Places in the code that the page names, like `core/active` or `node/run.rs`, and that are not there. Whatever has a slash inside
/// is one, but for patterns.
fn named_places_that_are_missing(page: &str) -> Vec<String> {
    let is_place = |word: &String| {
        word.contains('/')
            && !word.starts_with('/')
            && word
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "_-./".contains(letter))
    };
    let exists = |place: &str| {
        let module = format!("src/{}.rs", place.trim_end_matches('/'));
        [module.as_str(), &format!("src/{place}"), place]
            .iter()
            .any(|path| root().join(path).exists())
    };
    page.lines()
        .flat_map(in_backticks)
        .filter(is_place)
        .filter(|place| !exists(place.split("::").next().unwrap_or(place)))
        .collect()
}

#[test]
fn every_place_that_the_architecture_names_exists() {
    let sample =
        "`core/active`, `node/run.rs`, `docs/`, `core/no_such` and `node/no_such.rs`, not `a/*`";
    assert_eq!(
        named_places_that_are_missing(sample),
        ["core/no_such", "node/no_such.rs"]
    );
    assert_eq!(
        named_places_that_are_missing(&architecture()),
        Vec::<String>::new()
    );
}
