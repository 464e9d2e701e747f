//! Text that strangers have chosen, on its way to people: names of channels, clients and durables, and the error texts of
//! other programs. Control characters and those that turn the direction of writing could forge a line of a log, hide a
//! part of it or steer a terminal. They are shown as escapes instead. Also errors, with their causes.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::iter;

/// True for what does not belong into a line: C0 and C1 controls, separators of lines, and characters that are invisible
/// or change how their neighbours are shown.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// One line, whatever the text is. Escapes are those of Rust: `\n`, `\u{1b}`.
pub fn line(text: &str) -> Cow<'_, str> {
    replaced(text, is_unsafe, |c, out| out.extend(c.escape_default()))
}

/// As [`line`], but the text may have several lines and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c| !matches!(c, '\n' | '\t') && is_unsafe(c);
    replaced(text, is_unsafe, |c, out| out.extend(c.escape_default()))
}

/// As [`line`], and different texts stay different: backslashes are escaped, too.
pub fn label(text: &str) -> Cow<'_, str> {
    let is_escaped = |c| c == '\\' || is_unsafe(c);
    replaced(text, is_escaped, |c, out| out.extend(c.escape_default()))
}

/// The same JSON, in which nothing unsafe stands by itself. What stands between values may have lines.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| is_unsafe(c) && c >= '\u{7f}';
    replaced(text, is_escaped, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("a String takes everything");
        }
    })
}

/// The error, and what caused it.
pub fn with_causes(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

fn replaced(
    text: &str,
    is_replaced: impl Fn(char) -> bool,
    replace: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_replaced(c) {
            replace(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Writes as [`line`].
#[derive(Debug)]
pub struct Lines<W>(pub W);

impl<W: fmt::Write> fmt::Write for Lines<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&line(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\nb\r\x1b[31m\u{9b}\u{7f}\u{202e}\u{2066}\u{2028}\u{e0041}é\t";

    #[test]
    fn a_line_stays_one_line_and_steers_nothing() {
        assert_eq!(
            line(NASTY),
            "a\\nb\\r\\u{1b}[31m\\u{9b}\\u{7f}\\u{202e}\\u{2066}\\u{2028}\\u{e0041}é\\t"
        );
        assert_eq!(lines("a\n\tb\x1b"), "a\n\tb\\u{1b}");
        assert!(matches!(line("plain é 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_means_the_same_and_shows_nothing_unsafe() {
        let plain = serde_json::to_string(NASTY).unwrap();
        let safe = json(&plain);

        assert!(!safe.chars().any(is_unsafe), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), NASTY);
    }

    #[test]
    fn causes_follow_the_error() {
        #[derive(Debug, thiserror::Error)]
        #[error("it failed")]
        struct Failed(#[source] fmt::Error);

        let text = with_causes(&Failed(fmt::Error));
        assert_eq!(text, format!("it failed: {}", fmt::Error));
    }

    #[test]
    fn labels_of_different_names_differ() {
        assert_ne!(label("a\x1b"), label("a\\u{1b}"));
        assert_eq!(label("plain"), "plain");
    }
}
