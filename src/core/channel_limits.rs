//! Which limits hold for which channel: the global ones, and entries for names and wildcards that inherit from
//! each other as in NATS Streaming.

use std::time::Duration;

use bytestring::ByteString;

use super::ids::{ChannelName, NAME_BYTES_MAX};

/// Limits of one channel. `None` means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLimits {
    pub subscriptions: Option<usize>,
    pub messages: Option<u64>,
    pub bytes: Option<u64>,
    pub age: Option<Duration>,
    pub inactivity: Option<Duration>,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            subscriptions: Some(1000),
            messages: Some(1_000_000),
            bytes: Some(1_024_000_000),
            age: None,
            inactivity: None,
        }
    }
}

/// What one entry says. The outer `None` inherits, the inner one is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub subscriptions: Option<Option<usize>>,
    pub messages: Option<Option<u64>>,
    pub bytes: Option<Option<u64>>,
    pub age: Option<Option<Duration>>,
    pub inactivity: Option<Option<Duration>>,
}

impl Overrides {
    /// These, and the others where they say nothing.
    pub(super) fn or(self, others: Self) -> Self {
        Self {
            subscriptions: self.subscriptions.or(others.subscriptions),
            messages: self.messages.or(others.messages),
            bytes: self.bytes.or(others.bytes),
            age: self.age.or(others.age),
            inactivity: self.inactivity.or(others.inactivity),
        }
    }

    pub(super) fn over(self, wider: ChannelLimits) -> ChannelLimits {
        ChannelLimits {
            subscriptions: self.subscriptions.unwrap_or(wider.subscriptions),
            messages: self.messages.unwrap_or(wider.messages),
            bytes: self.bytes.unwrap_or(wider.bytes),
            age: self.age.unwrap_or(wider.age),
            inactivity: self.inactivity.unwrap_or(wider.inactivity),
        }
    }
}

/// A channel name in which whole tokens may be `*` (any one token) and the last one `>` (one or more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPattern(ByteString);

impl ChannelPattern {
    pub fn parse(text: ByteString) -> Option<Self> {
        let last = text.split('.').count() - 1;
        let token_fits = |(index, token): (usize, &str)| match token {
            "" => false,
            "*" => true,
            ">" => index == last,
            _ => !token.bytes().any(|b| matches!(b, b'/' | b'*' | b'>' | 0)),
        };
        let valid = text.len() <= NAME_BYTES_MAX && text.split('.').enumerate().all(token_fits);
        valid.then_some(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names one channel.
    pub fn is_literal(&self) -> bool {
        self.0.split('.').all(|token| token != "*" && token != ">")
    }

    pub fn matches(&self, name: &str) -> bool {
        let mut tokens = name.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                (wanted, Some(token)) if wanted != "*" && wanted != token => return false,
                (_, Some(_)) => {}
            }
        }
        tokens.next().is_none()
    }

    /// Sorts wide before narrow: at each token `>` before `*` before a name.
    pub(super) fn width(&self) -> Vec<(u8, &str)> {
        let rank = |token| match token {
            ">" => (0, ""),
            "*" => (1, ""),
            name => (2, name),
        };
        self.0.split('.').map(rank).collect()
    }
}

/// The entries, from the widest to the narrowest, with what each inherits already in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerChannel(Vec<(ChannelPattern, ChannelLimits)>);

impl PerChannel {
    /// An entry takes what it does not say from the narrowest wider entry that matches its own text (in which
    /// wildcards count as plain tokens), else from `global`.
    pub fn new(mut entries: Vec<(ChannelPattern, Overrides)>, global: ChannelLimits) -> Self {
        entries.sort_by(|(a, _), (b, _)| a.width().cmp(&b.width()));
        let mut resolved = Self::default();
        for (pattern, overrides) in entries {
            let wider = resolved.find(&pattern.0).unwrap_or(global);
            resolved.0.push((pattern, overrides.over(wider)));
        }
        resolved
    }

    /// The limits of the narrowest entry that matches.
    fn find(&self, name: &str) -> Option<ChannelLimits> {
        let matching = self.0.iter().rfind(|(pattern, _)| pattern.matches(name));
        matching.map(|&(_, limits)| limits)
    }

    /// From the widest to the narrowest, with what they inherit.
    pub fn entries(&self) -> impl Iterator<Item = (&ChannelPattern, ChannelLimits)> {
        self.0.iter().map(|(pattern, limits)| (pattern, *limits))
    }

    pub fn of(&self, channel: &ChannelName) -> Option<ChannelLimits> {
        self.find(channel.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text.to_owned().into()).expect("a valid pattern")
    }

    /// The table of NATS Streaming, in which every entry sets other limits.
    /// Acceptance: 121.
    #[test]
    fn entries_inherit_from_the_narrowest_wider_one_that_matches() {
        let seconds = |n| Some(Duration::from_secs(n));
        let global = ChannelLimits {
            messages: Some(11),
            bytes: Some(12),
            age: seconds(13),
            subscriptions: Some(14),
            inactivity: seconds(15),
        };
        let entry = |text, own: Overrides| (pattern(text), own);
        let own = Overrides::default();
        let entries = vec![
            entry(
                "foo.baz",
                Overrides {
                    bytes: Some(Some(70)),
                    subscriptions: Some(Some(80)),
                    ..own
                },
            ),
            entry(
                "*.>",
                Overrides {
                    subscriptions: Some(Some(5)),
                    ..own
                },
            ),
            entry(
                "bar.baz.boz",
                Overrides {
                    inactivity: Some(seconds(120)),
                    ..own
                },
            ),
            entry(
                "foo.>",
                Overrides {
                    messages: Some(Some(10)),
                    ..own
                },
            ),
            entry(
                "foo.*.*.>",
                Overrides {
                    age: Some(seconds(30)),
                    ..own
                },
            ),
            entry(
                "foo.a.b.c",
                Overrides {
                    subscriptions: Some(Some(40)),
                    ..own
                },
            ),
            entry(
                "*.*",
                Overrides {
                    bytes: Some(Some(2)),
                    ..own
                },
            ),
            entry(
                "foo.*.>",
                Overrides {
                    bytes: Some(Some(20)),
                    ..own
                },
            ),
            entry(
                "foo.d.e.f",
                Overrides {
                    messages: Some(Some(50)),
                    age: Some(seconds(60)),
                    ..own
                },
            ),
            entry(
                "bar.*.>",
                Overrides {
                    messages: Some(Some(90)),
                    ..own
                },
            ),
            entry(
                "bar.baz.>",
                Overrides {
                    bytes: Some(Some(100)),
                    inactivity: Some(seconds(110)),
                    ..own
                },
            ),
        ];
        let table = PerChannel::new(entries, global);

        for (text, messages, bytes, age, subscriptions, inactivity) in [
            ("*.>", 11, 12, 13, 5, 15),
            ("*.*", 11, 2, 13, 5, 15),
            ("foo.>", 10, 2, 13, 5, 15),
            ("foo.*.>", 10, 20, 13, 5, 15),
            ("foo.*.*.>", 10, 20, 30, 5, 15),
            ("foo.a.b.c", 10, 20, 30, 40, 15),
            ("foo.d.e.f", 50, 20, 60, 5, 15),
            ("foo.baz", 10, 70, 13, 80, 15),
            ("bar.*.>", 90, 12, 13, 5, 15),
            ("bar.baz.>", 90, 100, 13, 5, 110),
            ("bar.baz.boz", 90, 100, 13, 5, 120),
            // Channels without an entry of their own.
            ("foo.x.y", 10, 20, 13, 5, 15),
            ("bar.baz.x", 90, 100, 13, 5, 110),
            ("foo", 11, 12, 13, 14, 15),
        ] {
            let expected = ChannelLimits {
                messages: Some(messages),
                bytes: Some(bytes),
                age: seconds(age),
                subscriptions: Some(subscriptions),
                inactivity: seconds(inactivity),
            };
            let entry = table.0.iter().find(|(pattern, _)| &*pattern.0 == text);
            let found = entry
                .map(|&(_, limits)| limits)
                .or_else(|| table.find(text));
            assert_eq!(found.unwrap_or(global), expected, "{text}");
        }
    }

    #[test]
    fn an_entry_may_lift_a_limit() {
        let entries = vec![(
            pattern("free"),
            Overrides {
                messages: Some(None),
                ..Overrides::default()
            },
        )];
        let table = PerChannel::new(entries, ChannelLimits::default());

        assert_eq!(table.find("free").map(|limits| limits.messages), Some(None));
        assert_eq!(table.find("other"), None);
    }

    #[test]
    fn wildcards_are_whole_tokens_and_the_long_one_comes_last() {
        for good in ["foo", "foo.*", "*.bar", "foo.>", ">", "*"] {
            assert!(ChannelPattern::parse(good.into()).is_some(), "{good}");
        }
        for bad in ["", "foo.", "foo*", "foo.>.bar", "f>", ".", "a/b"] {
            assert!(ChannelPattern::parse(bad.into()).is_none(), "{bad}");
        }
    }
}
