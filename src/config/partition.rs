//! Several groups of servers with one cluster ID: which channels this one serves, and what distinguishes its ack inboxes from
//! those of the others.

use super::channel_limits::ChannelEntry;
use super::error::Error;
use crate::core::partition::Partition;

/// The channels with limits of their own, where the group is to serve no others.
pub(super) fn partition(
    partitioning: bool,
    entries: &[ChannelEntry],
) -> Result<Option<Partition>, Error> {
    if !partitioning {
        return Ok(None);
    }
    let listed = entries.iter().map(|entry| entry.pattern.clone());
    let partition = Partition::new(listed.collect()).ok_or_else(|| {
        Error::new(
            "stan: no configured channel: with partitioning this group serves only the channels that are listed, and \
             none is; list them under store_limits.channels or with --channel-limits, like 'orders.>:'",
        )
    })?;
    Ok(Some(partition))
}

/// A token of a subject that the other groups do not have, as long as ft groups or schemas have different names. Where
/// they do not, each receives the acks of all and passes over those that are not its own.
pub(super) fn token(ft_group: Option<&str>, schema: &str) -> String {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let group = ft_group.filter(|group| group.bytes().all(fits));
    group.unwrap_or(schema).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::channel_limits::parse;
    use crate::core::limits::ChannelPattern;

    fn of(partitioning: bool, entries: &[&str]) -> Result<Option<Partition>, Error> {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        partition(partitioning, &parse(&entries)?)
    }

    /// Acceptance: 159.
    #[test]
    fn partitioning_without_channels_is_refused_in_the_words_of_nats_streaming() {
        let refusal = of(true, &[]).unwrap_err().to_string();
        assert!(
            refusal.starts_with("stan: no configured channel"),
            "{refusal}"
        );
        assert_eq!(of(false, &[]).unwrap(), None);
        assert_eq!(of(false, &["orders.>: max-msgs=1"]).unwrap(), None);
    }

    #[test]
    fn a_group_serves_the_channels_that_have_entries_with_or_without_limits() {
        let found = of(true, &["orders.>: max-msgs=1", "billing:"])
            .unwrap()
            .unwrap();
        let entries = found.entries().iter().map(ChannelPattern::as_str);
        assert_eq!(entries.collect::<Vec<_>>(), ["billing", "orders.>"]);
    }

    #[test]
    fn ack_inboxes_carry_the_group_or_else_the_schema() {
        assert_eq!(token(Some("pair-a"), "stanby"), "pair-a");
        assert_eq!(token(Some("pair a.b"), "stanby_a"), "stanby_a");
        assert_eq!(token(None, "stanby"), "stanby");
    }
}
