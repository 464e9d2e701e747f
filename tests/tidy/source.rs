//! Source text as the rules read it: without comments, without unit tests, and the paths that it names.

use super::File;

/// `http` for `src/http.rs` and everything under `src/http/`.
pub(super) fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let module = inside.split(['/', '.']).next()?;
    (!matches!(module, "lib" | "main")).then_some(module)
}

pub(super) fn without_comments(text: &str) -> String {
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    text.lines()
        .filter(|line| !is_comment(line))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The part of a file that is not compiled for tests alone. Unit tests stand at its end, or in a file `tests.rs`.
pub(super) fn shipped(file: &File) -> &str {
    let text = &file.text;
    if file.path.ends_with("/tests.rs") {
        return "";
    }
    text.find("#[cfg(test)]").map_or(text, |end| &text[..end])
}

/// The string literals, with the lines that a backslash joins as one.
pub(super) fn literals(code: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, here) = rest.split_at(at);
        rest = if here.starts_with("//") {
            here.split_once('\n').map_or("", |(_, rest)| rest)
        } else if here.starts_with("'\"'") || here.starts_with("'\\\"'") {
            here.split_once("\"'").map_or("", |(_, rest)| rest)
        } else if let Some(inside) = here.strip_prefix('"') {
            let hashes = before.trim_end_matches('#');
            let is_raw = hashes.ends_with('r');
            let end = format!("\"{}", &before[hashes.len()..]);
            let (literal, rest) = if is_raw {
                inside.split_once(&end).unwrap_or((inside, ""))
            } else {
                until_quote(inside)
            };
            literals.push(joined(literal));
            rest
        } else {
            &here[1..]
        };
    }
    literals
}

fn until_quote(text: &str) -> (&str, &str) {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !is_escaped => return (&text[..at], &text[at + 1..]),
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    (text, "")
}

fn joined(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let mut text = lines.next().unwrap_or_default().to_owned();
    text.extend(lines.map(str::trim_start));
    text
}

/// The paths that begin with `crate::`, those in braces spread out one level: `core::ids`, `http`.
pub(super) fn crate_paths(code: &str) -> Vec<String> {
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
pub(super) fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let alone =
            !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.');
        let after = &code[at + name.len()..];
        let used = after.trim_start().starts_with(';') && code[..at].trim_end().ends_with("use");
        alone && (after.starts_with("::") || used)
    })
}
