//! Names, times and amounts as pages show them.

use std::borrow::Cow;

use maud::{Markup, html};

pub(super) use crate::amounts::{bytes, duration, grouped, until};
use crate::core::time::Timestamp;
use crate::printable;

/// What strangers chose; the template escapes what would be markup. What a page would not show, or not as many of, is an escape:
/// a name that is nothing but a space, too.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    let text = printable::line(text);
    let is_odd = |c: char| c != ' ' && (c.is_whitespace() || is_blank(c));
    if !text.contains(is_odd) && !text.contains("  ") && text.trim() == text {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let is_edge = letter == ' ' && (before == ' ' || letters.peek().is_none());
        if is_edge || is_odd(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
        before = letter;
    }
    Cow::Owned(shown)
}

/// Letters and marks without a look.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

pub(super) fn or_dash(text: Option<&str>) -> Cow<'_, str> {
    text.filter(|text| !text.is_empty())
        .map_or(Cow::Borrowed("–"), shown)
}

/// ISO 8601 in UTC, without the fraction of a second.
pub(super) fn time(at: Option<&str>) -> Markup {
    html! {
        @if let Some(at) = at {
            time datetime=(at) { span.day { (at.get(..10).unwrap_or(at)) } " " (at.get(11..19).unwrap_or_default()) }
        } @else {
            "–"
        }
    }
}

/// The same of a time that is a number.
pub(super) fn timestamp(at: Timestamp) -> Markup {
    let text = jiff::Timestamp::from_nanosecond(i128::from(at.0));
    let text = text.ok().map(|time| time.to_string());
    time(text.as_deref())
}

/// `one durable needs`, `3 durables need`.
pub(super) fn count(number: u64, one: &str, several: &str) -> String {
    match number {
        0 => format!("no {several}"),
        1 => format!("one {one}"),
        _ => format!("{} {several}", grouped(number)),
    }
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_seen_even_one_that_is_nothing_but_space() {
        for (name, expected) in [
            ("orders", "orders"),
            ("a b", "a b"),
            (" ", "\\u{20}"),
            (" a  b ", "\\u{20}a \\u{20}b\\u{20}"),
            ("a\u{a0}", "a\\u{a0}"),
            ("\u{3164}", "\\u{3164}"),
            ("\u{202e}a\n", "\\u{202e}a\\n"),
            ("日本 😀 שלום", "日本 😀 שלום"),
        ] {
            assert_eq!(shown(name), expected);
        }
    }
}
