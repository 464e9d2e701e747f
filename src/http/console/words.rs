//! Names, times and amounts as pages show them.

use std::borrow::Cow;

use maud::{Markup, html};

pub(super) use crate::amounts::{bytes, duration, grouped};
use crate::core::time::Timestamp;
use crate::printable;

/// What strangers chose; the template escapes what would be markup.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    printable::line(text)
}

pub(super) fn or_dash(text: Option<&str>) -> Cow<'_, str> {
    text.filter(|text| !text.is_empty())
        .map_or(Cow::Borrowed("–"), shown)
}

/// ISO 8601 in UTC, without the fraction of a second.
pub(super) fn time(at: Option<&str>) -> Markup {
    html! {
        @if let Some(at) = at {
            time datetime=(at) { (at.get(..10).unwrap_or(at)) " " (at.get(11..19).unwrap_or_default()) }
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
