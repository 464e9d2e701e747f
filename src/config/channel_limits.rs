//! Limits of single channels: `orders.>: max-msgs=10, max-age=1h`. Which entry holds for which channel is
//! `core::limits`' business.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::duration::GoDuration;
use super::error::Error;
use super::file::SourcePosition;
use super::size::Size;
use crate::core::limits::{ChannelLimits, ChannelPattern, Overrides, PerChannel};

/// Separates entries where several stand in one text.
pub const SEPARATOR: char = ';';

/// One entry. What it does not say is inherited; zero and less mean unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelEntry {
    pub pattern: ChannelPattern,
    pub overrides: Overrides,
    /// Where it stands, if it came from a file.
    pub position: Option<SourcePosition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Subscriptions,
    Messages,
    Bytes,
    Age,
    Inactivity,
}

impl Limit {
    /// Sets a limit of subscriptions, messages or bytes. Returns whether there was one already.
    pub fn set_amount(self, overrides: &mut Overrides, number: i64) -> bool {
        // Zero and less are no limit.
        let amount = u64::try_from(number).ok().filter(|&number| number > 0);
        match self {
            Self::Subscriptions => {
                let fits = amount.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
                overrides.subscriptions.replace(fits).is_some()
            }
            Self::Messages => overrides.messages.replace(amount).is_some(),
            Self::Bytes => overrides.bytes.replace(amount).is_some(),
            Self::Age | Self::Inactivity => false,
        }
    }

    /// Sets a limit of age or inactivity. Returns whether there was one already.
    pub fn set_time(self, overrides: &mut Overrides, time: GoDuration) -> bool {
        let time = Some(time.to_std()).filter(|time| !time.is_zero());
        match self {
            Self::Age => overrides.age.replace(time).is_some(),
            Self::Inactivity => overrides.inactivity.replace(time).is_some(),
            Self::Subscriptions | Self::Messages | Self::Bytes => false,
        }
    }
}

impl ChannelEntry {
    /// Its limits by their names, as numbers and durations; 0 is unlimited.
    pub fn limits(&self) -> Vec<(&'static str, String)> {
        let own = &self.overrides;
        let amount = |limit: Option<u64>| limit.unwrap_or(0).to_string();
        let time = |limit: Option<Duration>| GoDuration::from(limit.unwrap_or_default());
        let limits = [
            ("max-msgs", own.messages.map(amount)),
            ("max-bytes", own.bytes.map(amount)),
            ("max-age", own.age.map(|age| time(age).to_string())),
            (
                "max-subs",
                own.subscriptions.map(|n| amount(n.map(|n| n as u64))),
            ),
            (
                "max-inactivity",
                own.inactivity
                    .map(|inactivity| time(inactivity).to_string()),
            ),
        ];
        let given = limits.into_iter();
        given
            .filter_map(|(name, limit)| Some((name, limit?)))
            .collect()
    }
}

/// As `--channel-limits` takes it.
impl fmt::Display for ChannelEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.pattern.as_str())?;
        for (index, (name, limit)) in self.limits().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} {name}={limit}")?;
        }
        Ok(())
    }
}

impl FromStr for ChannelEntry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // A name may hold colons, a limit holds none.
        let (name, limits) = text.rsplit_once(':').ok_or_else(|| {
            Error::new(format!(
                "{text:?} should be a channel and its limits, like 'orders.>: max-msgs=10, max-age=1h'"
            ))
        })?;
        let name = name.trim();
        let pattern = ChannelPattern::parse(name.into())
            .ok_or_else(|| Error::new(format!("invalid channel name {name:?}")))?;
        let mut overrides = Overrides::default();
        let limits = limits.split(',').map(str::trim);
        for limit in limits.filter(|limit| !limit.is_empty()) {
            set(&mut overrides, name, limit)?;
        }
        Ok(Self {
            pattern,
            overrides,
            position: None,
        })
    }
}

fn set(overrides: &mut Overrides, channel: &str, limit: &str) -> Result<(), Error> {
    let (key, value) = limit.split_once('=').unwrap_or((limit, ""));
    let value = value.trim();
    let wrong =
        |error: &dyn std::fmt::Display| Error::new(format!("channel {channel:?}: {key}: {error}"));
    let key = key.trim().replace('_', "-");
    let limit = match key.as_str() {
        "max-msgs" | "mm" => Limit::Messages,
        "max-bytes" | "mb" => Limit::Bytes,
        "max-age" | "ma" => Limit::Age,
        "max-subs" | "msu" => Limit::Subscriptions,
        "max-inactivity" | "mi" => Limit::Inactivity,
        _ => {
            return Err(Error::new(format!(
                "channel {channel:?}: {key:?} is not a limit; use max-msgs, max-bytes, max-age, max-subs or \
                 max-inactivity"
            )));
        }
    };
    let twice = match limit {
        Limit::Subscriptions | Limit::Messages => {
            let number = value.parse().map_err(|_| {
                wrong(&format_args!(
                    "{value:?} is not a number; write it like {key}=10"
                ))
            })?;
            limit.set_amount(overrides, number)
        }
        Limit::Bytes => {
            let size: Size = value.parse().map_err(|error: Error| wrong(&error))?;
            limit.set_amount(overrides, size.0)
        }
        Limit::Age | Limit::Inactivity => {
            let time: GoDuration = value.parse().map_err(|error: Error| wrong(&error))?;
            limit.set_time(overrides, time)
        }
    };
    if twice {
        return Err(Error::new(format!(
            "channel {channel:?}: {key} is given twice; keep one of them"
        )));
    }
    Ok(())
}

/// The entries of flags; blank ones say nothing.
pub fn parse(texts: &[String]) -> Result<Vec<ChannelEntry>, Error> {
    let given = texts.iter().filter(|text| !text.trim().is_empty());
    given.map(|text| text.parse()).collect()
}

/// The table of all entries, in any order. `channels` is how many channels there may be.
pub fn per_channel(
    entries: Vec<ChannelEntry>,
    global: ChannelLimits,
    channels: Option<usize>,
) -> Result<PerChannel, Error> {
    let literal = |entry: &&ChannelEntry| entry.pattern.is_literal();
    let named = entries.iter().filter(literal).count();
    if let Some(max) = channels.filter(|&max| named > max) {
        return Err(Error::new(format!(
            "too many channels defined ({named}). The max channels limit is set to {max}"
        )));
    }
    for (index, entry) in entries.iter().enumerate() {
        if entries[..index].iter().any(|e| e.pattern == entry.pattern) {
            return Err(Error::new(format!(
                "channel {:?} has two entries of limits; write them as one",
                entry.pattern.as_str()
            )));
        }
    }
    let entries = entries.into_iter();
    let entries = entries.map(|entry| (entry.pattern, entry.overrides));
    Ok(PerChannel::new(entries.collect(), global))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::ChannelName;

    fn table(entries: &[&str], channels: Option<usize>) -> Result<PerChannel, Error> {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        per_channel(parse(&entries)?, ChannelLimits::default(), channels)
    }

    fn refusal(text: &str) -> String {
        text.parse::<ChannelEntry>().unwrap_err().to_string()
    }

    fn limits(entries: &[&str], channel: &str) -> ChannelLimits {
        let table = table(entries, Some(100)).unwrap();
        let channel = ChannelName::parse(channel.into()).unwrap();
        table.of(&channel).unwrap_or_default()
    }

    #[test]
    fn an_entry_sets_what_it_names_and_inherits_the_rest() {
        let entries = [
            "foo.>: max-msgs=10, max-bytes=20MB, max-age=1h, max-subs=5, max-inactivity=10m",
            "foo.bar:max_msgs=0",
        ];
        let wide = ChannelLimits {
            messages: Some(10),
            bytes: Some(20 << 20),
            age: Some(Duration::from_hours(1)),
            subscriptions: Some(5),
            inactivity: Some(Duration::from_mins(10)),
        };

        assert_eq!(limits(&entries, "foo.x"), wide);
        let lifted = ChannelLimits {
            messages: None,
            ..wide
        };
        assert_eq!(limits(&entries, "foo.bar"), lifted);
        assert_eq!(limits(&entries, "other"), ChannelLimits::default());
    }

    #[test]
    fn zero_and_less_lift_a_limit() {
        let lifted = "x: max-msgs=-1, max-bytes=0, max-age=0, max-subs=-5, max-inactivity=-1s";
        let unlimited = ChannelLimits {
            subscriptions: None,
            messages: None,
            bytes: None,
            age: None,
            inactivity: None,
        };
        assert_eq!(limits(&[lifted], "x"), unlimited);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let cases = [
            ("foo", "\"foo\" should be a channel and its limits"),
            (": max-msgs=1", "invalid channel name \"\""),
            (
                "foo.>.bar: max-msgs=1",
                "invalid channel name \"foo.>.bar\"",
            ),
            ("a*: max-msgs=1", "invalid channel name \"a*\""),
            ("foo: msgs=1", "channel \"foo\": \"msgs\" is not a limit"),
            (
                "foo: max-msgs",
                "channel \"foo\": max-msgs: \"\" is not a number",
            ),
            (
                "foo: max-msgs=x",
                "channel \"foo\": max-msgs: \"x\" is not a number",
            ),
            (
                "foo: max-age=x",
                "channel \"foo\": max-age: \"x\" is not a duration",
            ),
            (
                "foo: max-bytes=x",
                "channel \"foo\": max-bytes: should be a size",
            ),
            (
                "foo: max-msgs=1, mm=2",
                "channel \"foo\": mm is given twice",
            ),
        ];
        for (text, start) in cases {
            let refusal = refusal(text);
            assert!(refusal.starts_with(start), "{text}: {refusal}");
        }
    }

    #[test]
    fn more_named_channels_than_there_may_be_are_refused_in_the_words_of_nats_streaming() {
        let entries = ["a: max-msgs=1", "b: max-msgs=1", "c.>:", " "];

        assert!(table(&entries, Some(2)).is_ok(), "wildcards do not count");
        assert!(table(&entries, None).is_ok());
        assert_eq!(
            table(&entries, Some(1)).unwrap_err().to_string(),
            "too many channels defined (2). The max channels limit is set to 1"
        );
    }

    #[test]
    fn two_entries_of_one_channel_are_refused() {
        let refusal = table(&["a: max-msgs=1", "a : max-age=1s"], None).unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("channel \"a\" has two entries")
        );
    }
}
