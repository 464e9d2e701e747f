//! What the active says about messages that are missing from the tables.

use super::Active;
use crate::core::unseen::UnseenRange;
use crate::monitoring::condition::Condition;
use crate::store::gone::say_gone;

/// Channels that are named; there may be as many as there are channels.
const NAMED_MAX: usize = 5;

impl Active<'_> {
    /// To be called now and then.
    pub(super) fn tell_unseen(&self) {
        let unseen = self.active.broker().unseen();
        let status = &self.node.status;
        if unseen.is_empty() {
            return status.clear(Condition::MessagesUnseen);
        }
        status.raise(
            Condition::MessagesUnseen,
            sentence(&unseen, self.node.store.schema()),
        );
    }
}

fn sentence(unseen: &[UnseenRange], schema: &str) -> String {
    let ranges = unseen.iter().take(NAMED_MAX).map(|range| {
        let UnseenRange {
            channel,
            first,
            last,
        } = range;
        format!("channel {channel}, messages {first} to {last}")
    });
    let mut named = ranges.collect::<Vec<_>>().join("; ");
    if unseen.len() > NAMED_MAX {
        let others = unseen.len() - NAMED_MAX;
        named = format!("{named}; and of {others} other channels");
    }
    let remedy = unseen.first().map(|range| say_gone(schema, range));
    format!(
        "missing from the tables, and nothing says that they are gone: {named}; subscriptions wait there until they are \
         back. Look for what hides or moves rows of {schema}.messages (policies, rules, a restore or a tool that deletes \
         without triggers) and for a damaged index (REINDEX TABLE); where they are gone for good, say so: {}",
        remedy.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{ChannelName, Sequence};

    #[test]
    fn the_remedy_is_a_statement_for_any_name() {
        let range = |name: &str| UnseenRange {
            channel: ChannelName::parse(name.to_owned().into()).expect("valid"),
            first: Sequence(51),
            last: Sequence(150),
        };
        let text = sentence(&[range("it's")], "stan \"by");
        let remedy = "SELECT \"stan \"\"by\".messages_are_gone('it''s', 51, 150)";
        assert!(text.ends_with(remedy), "{text}");

        let many: Vec<UnseenRange> = (0..9).map(|number| range(&format!("c{number}"))).collect();
        let text = sentence(&many, "stanby");
        assert!(text.contains("c4, messages"), "{text}");
        assert!(!text.contains("c5"), "{text}");
        assert!(text.contains("of 4 other channels"), "{text}");
    }
}
