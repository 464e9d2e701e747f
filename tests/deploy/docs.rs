//! The documents for operators name only what there is: flags, variables, metrics, files, pages.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::program::{Known, read, root};

pub(crate) fn pages() -> Vec<(String, String)> {
    let mut paths = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // About the tests, and about the server that is replaced.
        let is_for_operators =
            !["acceptance.md", "flakes.md", "SUMMARY.md"].contains(&name.as_str());
        if is_for_operators && name.ends_with("md") {
            paths.push(format!("docs/{name}"));
        }
    }
    let pages = paths.into_iter().map(|path| (read(&path), path));
    pages.map(|(text, path)| (path, text)).collect()
}

/// Language and text of the fenced blocks, without the indentation of a list that they stand in.
pub(crate) fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for line in text.lines() {
        let code = line.trim_start();
        match (code.strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                let indent = line.len() - code.len();
                open = Some((indent, language.to_owned(), String::new()));
            }
            (Some(_), Some((_, language, block))) => blocks.push((language, block)),
            (None, Some((indent, language, block))) => {
                let line = line.get(indent..).unwrap_or_default();
                open = Some((indent, language, block + line + "\n"));
            }
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block is not closed");
    blocks
}

pub(crate) fn outside_of_blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    })
}

/// What follows each occurrence of `prefix` that begins a word, as far as `is_part` goes.
fn words<'a>(text: &'a str, prefix: &str, is_part: fn(char) -> bool) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '.');
        if text[..at].ends_with(inside) {
            continue;
        }
        let rest = &text[at..];
        let end = rest[prefix.len()..]
            .find(|c| !is_part(c))
            .map_or(rest.len(), |end| end + prefix.len());
        found.insert(&rest[..end]);
    }
    found
}

/// Flags of other programs that the documents name.
const OTHERS: &[&str] = &[
    "no-install-recommends",
    "from-literal",
    "set",
    "build",
    "bin",
    "debug",
    "release",
    "profile",
    "locked",
    "now",
    "at-least",
    "load",
    "rounds",
    "example",
    "replicas",
    "env-file",
    "exact",
    "test",
    "nocapture",
    "page",
    "force",
    "format",
    "check",
    "single-transaction",
    "intent-to-add",
];

#[test]
fn flags_and_variables_in_the_documents_exist() {
    let known = Known::new();
    for (path, text) in pages() {
        for flag in words(&text, "--", |c| c.is_ascii_lowercase() || c == '-') {
            let name = flag.trim_start_matches('-').trim_end_matches('-');
            let is_known = known.flags.contains(name) || OTHERS.contains(&name);
            assert!(is_known || name.is_empty(), "{path}: {flag}");
        }
        for name in words(&text, "STANBY_", |c| c.is_ascii_uppercase() || c == '_') {
            // Of nats-server's configuration, of builds, and of the tests.
            let elsewhere = [
                "STANBY_SERVER_PASSWORD",
                "STANBY_CLIENT_PASSWORD",
                "STANBY_BUILD_COMMIT",
            ];
            let is_known = known.variables.contains(name)
                || elsewhere.contains(&name)
                || name.starts_with("STANBY_TEST_");
            assert!(is_known, "{path}: {name}");
        }
    }
}

#[test]
fn blocks_of_code_say_their_language() {
    for (path, text) in pages() {
        for (language, block) in blocks(&text) {
            let known = ["sh", "sql", "text", "toml", "json", "rust", "yaml", "nginx"];
            assert!(
                known.contains(&language.as_str()),
                "{path}: ```{language}\n{block}"
            );
        }
        let is_indented = |line: &&str| line.starts_with("    stanby ");
        assert_eq!(outside_of_blocks(&text).find(is_indented), None, "{path}");
    }
}

pub(crate) fn source(directory: &str) -> String {
    let mut source = String::new();
    let mut folders = vec![root().join(directory)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                source += &fs::read_to_string(path).unwrap();
            }
        }
    }
    source
}

/// Those that people search for when they have one before them.
#[test]
fn log_lines_in_the_documents_are_written_by_the_program() {
    let source = source("src");
    let mut lines = source.split('\n').map(str::trim_start);
    let mut joined = String::new();
    for line in &mut lines {
        match line.strip_suffix('\\') {
            Some(part) => joined += part,
            None => joined = joined + line + "\n",
        }
    }
    let page = read("docs/troubleshooting.md");
    let table = page.split("## Log lines").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut count = 0;
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let line = row.split('`').next().unwrap();
        assert!(joined.contains(line), "{line}");
        count += 1;
    }
    assert!(count > 10, "{count} lines");
}

#[test]
fn metrics_in_the_documents_exist() {
    let source = source("src/http");
    // Names of databases, roles and tables begin alike.
    let elsewhere = [
        "stanby_app",
        "stanby_owner",
        "stanby_reader",
        "stanby_step_down",
    ];
    for (path, text) in pages() {
        for name in words(&text, "stanby_", |c| c.is_ascii_lowercase() || c == '_') {
            let name = name.trim_end_matches('_');
            let metric = name
                .trim_end_matches("_total")
                .trim_start_matches("stanby_");
            let is_known = elsewhere.contains(&name) || source.contains(metric);
            assert!(is_known, "{path}: {name}");
        }
    }
}

/// As GitHub and mdBook make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = outside_of_blocks(page).filter(|line| line.starts_with('#'));
    let anchors = headings.map(|line| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        text.chars()
            .filter(kept)
            .collect::<String>()
            .replace(' ', "-")
    });
    anchors.collect()
}

/// Every page of the repository that is for people, those about the tests and the decisions included.
pub(crate) fn all_pages() -> Vec<String> {
    let mut paths: Vec<String> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ]
    .map(str::to_owned)
    .into();
    for folder in ["docs", "docs/decisions", "docs/reference"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name).extension().is_some_and(|it| it == "md") {
                paths.push(format!("{folder}/{name}"));
            }
        }
    }
    paths
}

/// Of the pages below a directory, with how many links were looked at.
pub(crate) fn links_that_lead_nowhere(root: &Path, pages: &[String]) -> (Vec<String>, usize) {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in pages {
        let page = root.join(path);
        let text = fs::read_to_string(&page).unwrap();
        for line in outside_of_blocks(&text) {
            for (at, _) in line.match_indices("](") {
                let target = line[at + 2..].split(')').next().unwrap();
                if target.starts_with("http") {
                    continue;
                }
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let file = if file.is_empty() {
                    page.clone()
                } else {
                    page.parent().unwrap().join(file)
                };
                let has_anchor = || anchors(&fs::read_to_string(&file).unwrap()).contains(anchor);
                if !file.exists() || !anchor.is_empty() && !has_anchor() {
                    wrong.push(format!("{path}: {target}"));
                }
                count += 1;
            }
        }
    }
    (wrong, count)
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let (wrong, count) = links_that_lead_nowhere(&root(), &all_pages());
    assert_eq!(wrong, [""; 0]);
    assert!(count > 100, "{count} links");
}

#[test]
fn each_page_has_its_place_in_the_contents() {
    let contents = read("docs/SUMMARY.md");
    for path in all_pages() {
        let from_docs = path.strip_prefix("docs/").map(str::to_owned);
        let link = from_docs.unwrap_or_else(|| format!("../{path}"));
        let is_listed = contents.contains(&format!("]({link})")) || path == "docs/SUMMARY.md";
        assert!(
            is_listed,
            "{path} is not in docs/SUMMARY.md: give it a place in the reader's order"
        );
    }
}
