//! `docs/faults.md` names tests that exist.

use std::collections::BTreeSet;
use std::fs;

use super::{files, root};

/// The last cell of each row of the tables, and the fault that it belongs to.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let cells = |line| -> Vec<&str> { str::split(line, " | ").collect() };
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows = rows.map(cells).filter(|cells| cells[0] != "| fault");
    rows.map(|cells| (cells[0].trim_start_matches("| "), *cells.last().unwrap()))
        .collect()
}

/// What stands between backticks in the last cells and is no test, and faults without any.
fn unknown(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (fault, cell) in rows(page) {
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            complaints.push(format!("{fault}: no test"));
        }
        let missing = names.into_iter().filter(|name| !tests.contains(*name));
        complaints.extend(missing.map(|name| format!("{fault}: {name} is no test")));
    }
    complaints
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Functions, what the macros of short runs and scenarios make of their lists, and scripts of scenarios.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files() {
        for line in file.text.lines().map(str::trim) {
            let function = line
                .split("fn ")
                .nth(1)
                .and_then(|rest| rest.split('(').next());
            let run = line.strip_suffix(';').and_then(|run| run.split_once(' '));
            let run = run
                .map(|(name, _)| name)
                .filter(|_| file.path.starts_with("tests/"));
            names.extend(
                [function, run]
                    .into_iter()
                    .flatten()
                    .filter(|it| is_name(it))
                    .map(str::to_owned),
            );
        }
    }
    for entry in fs::read_dir(root().join("tests/scenarios")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        names.extend(name.strip_suffix(".txt").map(str::to_owned));
    }
    names
}

#[test]
fn every_test_that_the_page_of_faults_names_exists() {
    let known = BTreeSet::from(["a_fact".to_owned()]);
    let sample = "| fault | what happens | shown by |\n|---|---|---|\n| a | b | `a_fact`, `no_fact` |\n| c | d | |\n";
    assert_eq!(
        unknown(sample, &known),
        ["a: no_fact is no test", "c: no test"]
    );

    let page = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    assert!(rows(&page).len() > 30, "{} rows", rows(&page).len());
    assert_eq!(unknown(&page, &tests()), [""; 0]);
}
