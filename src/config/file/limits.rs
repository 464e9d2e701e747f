//! Limits of single channels in a file: a block whose keys are channels or wildcards, and whose values are blocks
//! of limits. What holds for the global limits (their keys, their types) is in `streaming`.

use super::cursor::at;
use super::value::{Entry, Kind, Table, Value};
use crate::config::Error;
use crate::config::channel_limits::{ChannelEntry, Limit};
use crate::config::duration::GoDuration;
use crate::config::size::Size;
use crate::core::limits::{ChannelPattern, Overrides};

/// The names of each limit. The first one is ours, with `-` for `_`.
pub(super) const NAMES: &[(&[&str], Limit)] = &[
    (
        &["max_subs", "msu", "max_subscriptions", "maxsubscriptions"],
        Limit::Subscriptions,
    ),
    (
        &["max_msgs", "mm", "maxmsgs", "max_count", "maxcount"],
        Limit::Messages,
    ),
    (&["max_bytes", "mb", "maxbytes"], Limit::Bytes),
    (&["max_age", "ma", "maxage"], Limit::Age),
    (
        &["max_inactivity", "mi", "maxinactivity"],
        Limit::Inactivity,
    ),
];

/// Which types a value may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// Numbers for amounts, text for times, as NATS Streaming has it.
    OfNats,
    /// Text for amounts as well, and 0 for times.
    OfOurs,
}

/// The entries of a block of channels. Limits that nobody knows are reported through `unknown`.
pub(super) fn channels(
    table: &Table,
    strictness: Strictness,
    unknown: &mut dyn FnMut(&Entry, &[&str]),
) -> Result<Vec<ChannelEntry>, Error> {
    let mut channels = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    // Not `entries`: names of channels differ by case, too.
    for entry in table.0.iter().rev() {
        if !seen.insert(&entry.key) {
            continue;
        }
        let pattern = ChannelPattern::parse(entry.key.clone().into());
        let pattern = pattern.ok_or_else(|| {
            at(
                &entry.position,
                format_args!("invalid channel name {:?}", entry.key),
            )
        })?;
        let Kind::Table(limits) = &entry.value.kind else {
            return Err(wrong_type(entry, "map[string]interface {}"));
        };
        let mut overrides = Overrides::default();
        for limit in limits.entries() {
            let name = limit.key.to_ascii_lowercase();
            let known = NAMES
                .iter()
                .find(|(names, _)| names.contains(&name.as_str()));
            match known {
                Some(&(_, kind)) => set(&mut overrides, kind, limit, strictness)?,
                None => unknown(limit, &first_names()),
            }
        }
        channels.push(ChannelEntry {
            pattern,
            overrides,
            position: Some(entry.position.clone()),
        });
    }
    channels.reverse();
    Ok(channels)
}

fn first_names() -> Vec<&'static str> {
    NAMES.iter().map(|(names, _)| names[0]).collect()
}

fn set(
    overrides: &mut Overrides,
    limit: Limit,
    entry: &Entry,
    strictness: Strictness,
) -> Result<(), Error> {
    match limit {
        Limit::Subscriptions | Limit::Messages | Limit::Bytes => {
            let number = match (&entry.value.kind, strictness) {
                (Kind::Integer(number, _), _) => *number,
                (Kind::Text(text), Strictness::OfOurs) => {
                    let size: Size = text.parse().map_err(|error| at(&entry.position, error))?;
                    size.0
                }
                _ => return Err(wrong_type(entry, "int64")),
            };
            limit.set_amount(overrides, number);
        }
        Limit::Age | Limit::Inactivity => {
            let time = match (&entry.value.kind, strictness) {
                (Kind::Integer(0, _), Strictness::OfOurs) => GoDuration::default(),
                _ => duration(entry)?,
            };
            limit.set_time(overrides, time);
        }
    }
    Ok(())
}

/// A duration, which files hold as text.
pub(super) fn duration(entry: &Entry) -> Result<GoDuration, Error> {
    if let Kind::Integer(_, text) = &entry.value.kind
        && text.parse::<GoDuration>().is_err()
    {
        let remedy = format!("; write it with its unit and in quotes, like \"{text}s\"");
        return Err(wrong_type_but(entry, "string", &remedy));
    }
    let Kind::Text(text) = &entry.value.kind else {
        return Err(wrong_type(entry, "string"));
    };
    text.parse().map_err(|error| {
        at(
            &entry.position,
            format_args!("parameter {:?}: {error}", entry.key),
        )
    })
}

/// In the words of NATS Streaming, with what to do where that is known.
pub(super) fn wrong_type(entry: &Entry, expected: &str) -> Error {
    wrong_type_but(entry, expected, &hint(&entry.value, expected))
}

fn wrong_type_but(entry: &Entry, expected: &str, remedy: &str) -> Error {
    let Entry {
        key,
        position,
        value,
        ..
    } = entry;
    at(
        position,
        format_args!(
            "parameter {key:?} value is expected to be {expected}, got {}{remedy}",
            value.kind.type_name(),
        ),
    )
}

fn hint(value: &Value, expected: &str) -> String {
    match (&value.kind, expected) {
        (Kind::Integer(_, text), "string") => {
            format!("; put it in quotes: \"{text}\"")
        }
        (Kind::Text(_), "int64") => "; write a number, without quotes".to_owned(),
        (Kind::Text(_), "bool") => "; write true or false, without quotes".to_owned(),
        _ => String::new(),
    }
}
