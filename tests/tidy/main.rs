//! The repository's habits that neither the compiler nor clippy can check. Each rule shows on a sample that it
//! would notice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod architecture;
mod faults;
mod mistakes;
mod module_tables;
mod places;
mod source;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

struct File {
    /// From the repository's root, with slashes.
    path: String,
    text: String,
}

/// What is wrong with a file, a sentence each.
type Rule = fn(&File) -> Vec<String>;

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

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The documents for those who run, use or change the program. Decisions tell how it came about.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = ["README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY"]
        .map(|name| format!("{name}.md"))
        .to_vec();
    for directory in ["docs", "docs/reference", "docs/decisions"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.file_name().unwrap().to_str().unwrap();
                pages.push(format!("{directory}/{name}"));
            }
        }
    }
    pages
}
