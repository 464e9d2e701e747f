//! Which channels a group of servers serves, where several groups share one cluster ID: those that it lists, by name
//! or by wildcard. Every channel belongs to one group at most, so two lists must have no channel in common.
//!
//! What is done with requests for other groups' channels is in `pending_clients`; how the groups learn of each other's lists
//! is `protocol::partition_peers`' and the node's business.

use super::ids::ChannelName;
use super::limits::ChannelPattern;

/// At least one entry, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// In the order of their text.
    entries: Vec<ChannelPattern>,
    wildcards: Vec<ChannelPattern>,
}

impl Partition {
    /// `None` without an entry: a group without channels serves nobody.
    pub fn new(mut entries: Vec<ChannelPattern>) -> Option<Self> {
        entries.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        entries.dedup();
        let wildcards = entries.iter().filter(|entry| !entry.is_literal());
        let wildcards = wildcards.cloned().collect();
        (!entries.is_empty()).then_some(Self { entries, wildcards })
    }

    pub fn entries(&self) -> &[ChannelPattern] {
        &self.entries
    }

    pub fn contains(&self, channel: &ChannelName) -> bool {
        self.has_entry(channel.as_str())
            || self
                .wildcards
                .iter()
                .any(|entry| entry.matches(channel.as_str()))
    }

    fn has_entry(&self, text: &str) -> bool {
        let found = self.entries.binary_search_by(|own| own.as_str().cmp(text));
        found.is_ok()
    }

    /// The first of another group's entries that has a channel in common with one of these.
    pub fn conflict<'a>(&self, theirs: &'a [ChannelPattern]) -> Option<&'a ChannelPattern> {
        theirs.iter().find(|their| {
            // Two plain names overlap only where they are equal.
            let own = if their.is_literal() {
                &self.wildcards
            } else {
                &self.entries
            };
            self.has_entry(their.as_str()) || own.iter().any(|own| overlap(own, their))
        })
    }

    /// The entries without those that are part of a wider one: together they name the same channels.
    pub fn widest(&self) -> Vec<ChannelPattern> {
        let is_part = |entry: &ChannelPattern| {
            let mut others = self.wildcards.iter().filter(|other| *other != entry);
            others.any(|other| covers(other, entry))
        };
        let entries = self.entries.iter();
        entries.filter(|entry| !is_part(entry)).cloned().collect()
    }
}

/// True when a channel may match both.
pub fn overlap(a: &ChannelPattern, b: &ChannelPattern) -> bool {
    let (mut a, mut b) = (a.as_str().split('.'), b.as_str().split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(x), Some(y)) if x == y || x == "*" || y == "*" => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

/// True when every channel that matches `narrow` matches `wide`.
fn covers(wide: &ChannelPattern, narrow: &ChannelPattern) -> bool {
    let mut tokens = narrow.as_str().split('.');
    for wanted in wide.as_str().split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(token)) if token != ">" => {}
            (wanted, Some(token)) if wanted == token => {}
            (_, Some(_) | None) => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text.to_owned().into()).expect("a valid entry")
    }

    fn partition(entries: &[&str]) -> Partition {
        Partition::new(entries.iter().map(|text| entry(text)).collect()).expect("entries")
    }

    fn texts(entries: &[ChannelPattern]) -> Vec<&str> {
        entries.iter().map(ChannelPattern::as_str).collect()
    }

    #[test]
    fn a_group_serves_the_channels_it_lists_and_no_others() {
        let orders = partition(&["orders.>", "billing", "stock.*.low"]);
        let serves = |name: &str| orders.contains(&ChannelName::parse(name.into()).expect("valid"));

        for own in ["orders.new", "orders.eu.new", "billing", "stock.7.low"] {
            assert!(serves(own), "{own}");
        }
        for foreign in [
            "orders",
            "billing.eu",
            "Billing",
            "stock.7",
            "stock.7.8.low",
            "x",
        ] {
            assert!(!serves(foreign), "{foreign}");
        }
        assert_eq!(Partition::new(Vec::new()), None);
    }

    /// Acceptance: 161.
    #[test]
    fn lists_conflict_when_a_channel_may_match_both() {
        for (ours, theirs, conflict) in [
            ("foo", "foo", true),
            ("foo", "bar", false),
            ("foo", "foo.bar", false),
            ("foo.>", "foo", false),
            ("foo.>", "foo.bar", true),
            ("foo.bar", "foo.>", true),
            ("foo.*", "foo.bar.baz", false),
            ("foo.*", "*.bar", true),
            ("foo.*.baz", "foo.bar.>", true),
            ("*", "foo", true),
            ("*", "foo.bar", false),
            ("foo.bar", ">", true),
            ("foo.>", "bar.>", false),
        ] {
            let list = [entry("of.no.one"), entry(theirs)];
            let found = partition(&[ours, "else.where"]).conflict(&list).cloned();
            let expected = conflict.then(|| entry(theirs));
            assert_eq!(found, expected, "{ours} and {theirs}");
        }
    }

    #[test]
    fn entries_that_are_part_of_a_wider_one_are_not_listened_to_twice() {
        let widest = |entries: &[&str]| {
            let widest = partition(entries).widest();
            texts(&widest).join(" ")
        };

        assert_eq!(widest(&["foo.bar", "foo.>", "foo.*", "bar"]), "bar foo.>");
        assert_eq!(widest(&["foo.*", "foo.>"]), "foo.>");
        assert_eq!(widest(&["foo.*", "*.bar"]), "*.bar foo.*");
        assert_eq!(widest(&["foo", "foo"]), "foo");
        assert_eq!(widest(&["*.*", "foo.>"]), "*.* foo.>");
    }

    /// All of them up to a length above that of the patterns; no pattern has the token `c`.
    fn names() -> Vec<String> {
        let mut names: Vec<String> = vec![String::new()];
        for _ in 0..4 {
            let longer = |name: &String| ["a", "b", "c"].map(|token| format!("{name}.{token}"));
            let more: Vec<String> = names.iter().flat_map(longer).collect();
            names.extend(more);
        }
        let names = names.iter().filter_map(|name| name.strip_prefix('.'));
        names.map(str::to_owned).collect()
    }

    fn patterns() -> Vec<ChannelPattern> {
        let mut texts: Vec<String> = vec![String::new()];
        for _ in 0..3 {
            let longer =
                |text: &String| ["a", "b", "*", ">"].map(|token| format!("{text}.{token}"));
            let more: Vec<String> = texts.iter().flat_map(longer).collect();
            texts.extend(more);
        }
        texts.sort();
        texts.dedup();
        let texts = texts.iter().filter_map(|text| text.strip_prefix('.'));
        texts
            .filter_map(|text| ChannelPattern::parse(text.to_owned().into()))
            .collect()
    }

    #[test]
    fn overlapping_and_covering_mean_what_matching_says() {
        let (names, patterns) = (names(), patterns());
        assert!(patterns.len() > 40, "{}", patterns.len());
        let matched = |pattern: &ChannelPattern| -> Vec<bool> {
            names.iter().map(|name| pattern.matches(name)).collect()
        };
        let matched: Vec<Vec<bool>> = patterns.iter().map(matched).collect();
        for (a, of_a) in patterns.iter().zip(&matched) {
            for (b, of_b) in patterns.iter().zip(&matched) {
                let mut pairs = of_a.iter().zip(of_b);
                assert_eq!(overlap(a, b), pairs.any(|(a, b)| *a && *b), "{a:?} {b:?}");
                let mut pairs = of_a.iter().zip(of_b);
                assert_eq!(covers(a, b), pairs.all(|(a, b)| *a || !*b), "{a:?} {b:?}");
            }
        }
    }
}
