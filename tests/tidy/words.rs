//! Private words: those that docs/glossary.md lists as not used, in the documents and in what the program says.

use super::source::{literals, shipped, without_comments};
use super::{File, assert_holds_everywhere, complaints, read};

/// Places where one of the words is a name, not a sentence.
const NAMES: &[(&str, &str)] = &[
    // The name of a migration that has landed, and a common table expression.
    ("src/store/migrate.rs", "told columns"),
    ("src/store/views/servers.rs", "WITH told AS"),
    ("src/http/console/verbs.rs", "{id}-told"),
    // A value in the tables.
    ("src/store/writer/lost.rs", "stored anew"),
    // The title of a decision.
    ("docs/SUMMARY.md", "[What a takeover remembers]"),
    (
        "docs/decisions/what-a-takeover-remembers.md",
        "# What a takeover remembers",
    ),
];

/// Pages that quote titles of tests.
const QUOTES: &[&str] = &["docs/acceptance.md", "docs/flakes.md"];

const SECTION: &str = "## Words that are not used";

/// Of the glossary's last table.
fn refused() -> Vec<String> {
    let glossary = read("docs/glossary.md");
    let (_, section) = glossary.split_once(SECTION).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let words = rows.filter_map(|row| row.split(" | ").next());
    let words = words
        .filter(|cell| *cell != "not")
        .flat_map(|cell| cell.split(", "));
    let words: Vec<String> = words.map(str::to_owned).collect();
    assert!(words.len() > 8, "{words:?}");
    words
}

fn has_word(text: &str, word: &str) -> bool {
    let text = text.to_lowercase();
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_letter) && !text[at + word.len()..].starts_with(is_letter)
    })
}

fn found<'a>(path: &str, texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let refused = refused();
    let is_name = |text: &str| {
        NAMES
            .iter()
            .any(|(at, part)| *at == path && text.contains(part))
    };
    let texts = texts.filter(|text| !is_name(text));
    texts
        .flat_map(|text| {
            let words = refused.iter().filter(|word| has_word(text, word));
            words
                .map(|word| format!("{word:?} (docs/glossary.md has another word): {text}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Without what stands in braces, which is a name of the code.
fn prose(literal: &str) -> String {
    let mut depth = 0_u32;
    let outside = literal.chars().filter(|c| {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                return false;
            }
            _ => {}
        }
        depth == 0
    });
    outside.collect()
}

fn in_source(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    let literals = literals(shipped(file));
    let named = |text: &String| {
        NAMES
            .iter()
            .any(|(at, part)| *at == file.path && text.contains(part))
    };
    let texts: Vec<String> = literals
        .iter()
        .filter(|it| !named(it))
        .map(|it| prose(it))
        .collect();
    found(&file.path, texts.iter().map(String::as_str))
}

#[test]
fn what_the_program_says_is_free_of_private_words() {
    let good = "fn a() { let told = 1; warn!(\"{told} is not b'{'\"); } // It was told.";
    assert_eq!(complaints(in_source, "src/a.rs", good), [""; 0]);
    let bad = "fn a() { warn!(\"a \\\"quote\\\", and \\\n      was told\"); }";
    assert_eq!(complaints(in_source, "src/a.rs", bad).len(), 1);
    let quoted = "fn a() { let c = '\"'; warn!(\"the server remembers\"); }";
    assert_eq!(complaints(in_source, "src/a.rs", quoted).len(), 1);
    assert_holds_everywhere(in_source);
}

/// Names that the code gives to functions, types, modules, variables and fields.
fn given_names(code: &str) -> Vec<String> {
    const BEFORE: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "mod", "let"];
    let is_break = |c: char| !c.is_alphanumeric() && c != '_';
    let words = code.split(is_break);
    let words: Vec<&str> = words.filter(|it| !it.is_empty() && *it != "mut").collect();
    let named = words.windows(2).filter(|pair| BEFORE.contains(&pair[0]));
    let fields = code.lines().filter_map(|line| {
        let (name, _) = line.trim_start().split_once(": ")?;
        let name = name.rsplit(' ').next()?;
        (!name.contains(is_break)).then_some(name)
    });
    let names = named.map(|pair| pair[1]).chain(fields);
    names.map(str::to_lowercase).collect()
}

fn in_names(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    let refused = refused();
    let is_refused = |name: &String| {
        refused.contains(name)
            || name
                .strip_suffix('s')
                .is_some_and(|it| refused.iter().any(|word| word == it))
    };
    let names = given_names(&without_comments(shipped(file)));
    let names = names.into_iter().filter(is_refused);
    names
        .map(|name| format!("{name:?} is a name (docs/glossary.md has another word)"))
        .collect()
}

#[test]
fn names_in_the_code_are_free_of_private_words() {
    let good = "// It was told: fn told().\nfn described(is_told: bool) {}\n";
    assert_eq!(complaints(in_names, "src/a.rs", good), [""; 0]);
    for bad in [
        "fn told(error: &Error) {}\n",
        "pub struct Errands(u8);\n",
        "let mut told = 1;\n",
        "    pub(super) told: Epoch,\n",
    ] {
        assert_eq!(complaints(in_names, "src/a.rs", bad).len(), 1, "{bad}");
    }
    assert_holds_everywhere(in_names);
}

/// Lines outside of blocks of code, without what stands in backticks.
fn lines(page: &str) -> Vec<String> {
    let mut is_inside = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    });
    lines
        .map(|line| line.split('`').step_by(2).collect())
        .collect()
}

#[test]
fn the_documents_are_free_of_private_words() {
    let page = lines("it is `told` and\n```sh\ntold\n```\n");
    assert_eq!(found("docs/a.md", page.iter().map(String::as_str)), [""; 0]);
    let page = lines("a standby hears it");
    assert_eq!(found("docs/a.md", page.iter().map(String::as_str)).len(), 1);

    let mut wrong = Vec::new();
    for path in super::pages() {
        if QUOTES.contains(&path.as_str()) {
            continue;
        }
        let text = read(&path);
        let text = text.split(SECTION).next().unwrap();
        let found = found(&path, lines(text).iter().map(String::as_str));
        wrong.extend(found.into_iter().map(|what| format!("{path}: {what}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// "Of the page." leaves out the word that the reader needs: the most rows of a page, its address, its age?
fn no_comment_begins_with_of(file: &File) -> Vec<String> {
    let is_one = |line: &&str| {
        let text = line.trim_start();
        let text = ["/// ", "//! ", "// "]
            .iter()
            .find_map(|start| text.strip_prefix(start));
        text.is_some_and(|text| text.starts_with("Of "))
    };
    let begins_so = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| is_one(line));
    // What goes on from the line before begins a sentence only by chance.
    begins_so
        .map(|(at, line)| format!("line {}: {}", at + 1, line.trim()))
        .collect()
}

#[test]
fn comments_say_what_it_is_of_which_they_speak() {
    assert_holds_everywhere(|file| {
        if file.path.starts_with("src/") {
            no_comment_begins_with_of(file)
        } else {
            Vec::new()
        }
    });
    assert_eq!(
        complaints(
            no_comment_begins_with_of,
            "src/a.rs",
            "/// Of a page.\nconst A: u8 = 1;\n"
        )
        .len(),
        1
    );
    assert!(
        complaints(
            no_comment_begins_with_of,
            "src/a.rs",
            "/// Rows of a page.\n"
        )
        .is_empty()
    );
}
