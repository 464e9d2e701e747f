//! Every behaviour of docs/acceptance.md is shown by a test that says so, or is listed as a difference. A test says so
//! in a line `Acceptance: 12, 34.`: in its doc comment, or as a comment in a scenario or a client's script.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const COUNT: u32 = 170;

/// A group of docs/acceptance.md with the numbers of its items.
struct Group {
    title: String,
    items: BTreeSet<u32>,
}

#[test]
fn every_acceptance_item_has_a_test_or_a_documented_difference() {
    let groups = groups(&read("docs/acceptance.md"));
    let items: Vec<u32> = groups.iter().flat_map(|g| g.items.clone()).collect();
    assert_eq!(items, (1..=COUNT).collect::<Vec<_>>());

    let shown = shown();
    let differences = differences(&read("docs/differences.md"));
    let unknown = shown.keys().chain(&differences).filter(|n| **n > COUNT);
    assert_eq!(unknown.collect::<Vec<_>>(), [&0; 0]);
    eprintln!("{}", table(&groups, &shown, &differences));
    let missing: Vec<u32> = (1..=COUNT)
        .filter(|n| !shown.contains_key(n) && !differences.contains(n))
        .collect();
    assert_eq!(
        missing, [0; 0],
        "show them in a test that says `Acceptance: …`, or list them in docs/differences.md as `(acceptance …)`"
    );
}

#[test]
fn only_tests_and_whole_lines_count() {
    let rust = "    /// Acceptance: 3, 14.\n    #[test]\n    fn it_works() {}\n";
    assert_eq!(numbers_in("a.rs", rust).unwrap(), [3, 14]);
    assert_eq!(numbers_in("a.txt", "# Acceptance: 7.\nx").unwrap(), [7]);
    assert_eq!(numbers_in("a.js", "// Acceptance: 9.\n").unwrap(), [9]);
    assert_eq!(numbers_in("a.txt", "see Acceptance: 7.\n").unwrap(), [0; 0]);
    for (path, bad) in [
        ("a.txt", "# Acceptance: 7\n"),
        ("a.txt", "# Acceptance: 7-9.\n"),
        ("a.txt", "# Acceptance: all of it.\n"),
        ("a.rs", "/// Acceptance: 7.\nfn helper() {}\n"),
    ] {
        assert!(numbers_in(path, bad).is_err(), "{bad}");
    }
    assert_eq!(
        differences("| x | y (acceptance 3, 5 to 7) |\n(acceptance 9)"),
        BTreeSet::from([3, 5, 6, 7, 9])
    );
}

/// The items that tests show, with the files.
fn shown() -> BTreeMap<u32, BTreeSet<String>> {
    let mut shown: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        collect(&root().join(folder), &mut files);
    }
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        if name == "tests/acceptance.rs" {
            continue;
        }
        let numbers = numbers_in(&name, &text).unwrap_or_else(|why| panic!("{name}: {why}"));
        for number in numbers {
            shown.entry(number).or_default().insert(name.clone());
        }
    }
    shown
}

fn numbers_in(path: &str, text: &str) -> Result<Vec<u32>, String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let comment = line.trim_start().trim_start_matches(['/', '#']);
        let is_comment = comment.len() < line.trim_start().len();
        let Some(list) = comment.trim_start().strip_prefix("Acceptance:") else {
            continue;
        };
        if !is_comment {
            continue;
        }
        let wrong = || format!("{line:?} should look like `Acceptance: 12, 34.`");
        for number in list.strip_suffix('.').ok_or_else(wrong)?.split(',') {
            found.push(number.trim().parse().map_err(|_| wrong())?);
        }
        if Path::new(path)
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            let is_attribute = |line: &&str| line.trim_start().starts_with("#[");
            let attributes: Vec<&str> = lines.clone().take_while(is_attribute).collect();
            if !attributes
                .iter()
                .any(|attribute| attribute.contains("test"))
            {
                return Err(format!("{line:?} does not stand before a test"));
            }
        }
    }
    Ok(found)
}

/// The numbers in `(acceptance 1, 2, 5 to 7)`.
fn differences(text: &str) -> BTreeSet<u32> {
    let lists = text.split("(acceptance ").skip(1);
    let parts = lists.flat_map(|list| list.split(')').next().unwrap().split(','));
    parts
        .flat_map(|part| {
            let (first, last) = part.split_once(" to ").unwrap_or((part, part));
            let number = |text: &str| -> u32 {
                let parsed = text.trim().parse();
                parsed.unwrap_or_else(|_| panic!("{part:?} is no number of an item"))
            };
            number(first)..=number(last)
        })
        .collect()
}

/// Headings `## A. Title` and list items `12. text`.
fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            groups.push(Group {
                title: title.to_owned(),
                items: BTreeSet::new(),
            });
        } else if let Some(group) = groups.last_mut()
            && let Some((number, _)) = line.split_once(". ")
            && let Ok(number) = number.parse()
        {
            assert!(group.items.insert(number), "{number} stands twice");
        }
    }
    groups
}

fn table(
    groups: &[Group],
    shown: &BTreeMap<u32, BTreeSet<String>>,
    differences: &BTreeSet<u32>,
) -> String {
    let mut text =
        "| group | items | tests | tests and a difference | difference |\n|---|---|---|---|---|\n"
            .to_owned();
    let mut sums = [0; 4];
    for group in groups {
        let count = |tested: bool, differs: bool| {
            let items = group.items.iter();
            items
                .filter(|n| shown.contains_key(n) == tested && differences.contains(n) == differs)
                .count()
        };
        let counts = [
            group.items.len(),
            count(true, false),
            count(true, true),
            count(false, true),
        ];
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        let [all, tests, both, differs] = counts;
        let title = &group.title;
        writeln!(text, "| {title} | {all} | {tests} | {both} | {differs} |").unwrap();
    }
    let [all, tests, both, differs] = sums;
    writeln!(text, "| all | {all} | {tests} | {both} | {differs} |").unwrap();
    text
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    const TEXT: [&str; 4] = ["rs", "txt", "js", "py"];

    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| TEXT.iter().any(|text| extension == *text))
        {
            files.push(path);
        }
    }
}
