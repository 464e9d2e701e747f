//! What operators want to become of messages that are not acked, and of channels that are full. Nothing unless they say
//! so: then everything is as NATS Streaming does it.
//!
//! One policy holds for a durable, a queue group, or whatever is subscribed to a channel: the one that names it, else the
//! one with the narrowest pattern of channels. It holds as a whole; policies are not mixed.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use super::ids::{ChannelName, PositionId, Sequence};
use super::limits::ChannelPattern;

/// As somebody has set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub id: u64,
    pub channels: ChannelPattern,
    /// All subscriptions where neither is named.
    pub durable: Option<ByteString>,
    pub queue_group: Option<ByteString>,
    pub delivery: Delivery,
    /// A limit of channels; only where neither a durable nor a queue group is named.
    pub full: Full,
}

/// How often a message is delivered, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// `None`: until it is acked.
    pub max: Option<u32>,
    /// Instead of the ack wait: how long the first delivery waits for its ack, the second one, and so on; the last
    /// one holds for all further ones. Empty: the ack wait.
    pub backoff: Vec<Duration>,
    /// What becomes of a message that was delivered `max` times and is not acked.
    pub poison: Poison,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Poison {
    /// It is passed over as if it were acked.
    #[default]
    PassOver,
    /// The subscription gets nothing more until somebody acks the message, or refuses it in SQL: then it is tried again.
    Pause,
    /// It becomes a message of this channel, and is passed over.
    DeadLetter { channel: ChannelName, header: bool },
}

/// What becomes of a publish to a channel that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Full {
    /// Refused, instead of the oldest message being dropped.
    pub rejects: bool,
    /// Only what every durable has acked is dropped, also for its age.
    pub keeps_unacked: bool,
}

/// A message that was delivered as often as it may be, in the dead-letter channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub origin: ChannelName,
    pub position: PositionId,
    pub sequence: Sequence,
    pub durable: Option<ByteString>,
    pub queue_group: Option<ByteString>,
    pub deliveries: u32,
    /// What the consumer that refused it last has said.
    pub reason: ByteString,
    /// The reply text that it was published with.
    pub reply: ByteString,
}

/// A dead letter that is there, as a redrive finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    pub sequence: Sequence,
    /// Where it was published; a name that is none where somebody has changed it by hand.
    pub origin: ByteString,
    pub reply: ByteString,
    /// The size of its payload.
    pub bytes: u64,
}

/// How often a message was delivered, as the tables keep it: only of those that were delivered again, and where a policy
/// counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub deliveries: u32,
    pub reason: ByteString,
    /// It is about to be a dead letter: an ack in SQL comes too late.
    pub is_given_up: bool,
    /// Its subscription gets nothing more until it is settled.
    pub is_awaited: bool,
}

impl Delivery {
    fn is_default(&self) -> bool {
        self.max.is_none() && self.backoff.is_empty()
    }

    /// How long this delivery waits for its ack; the first one is 1.
    pub(super) fn wait(&self, delivery: u32, ack_wait: Duration) -> Duration {
        let index = usize::try_from(delivery.saturating_sub(1)).unwrap_or(usize::MAX);
        let last = self.backoff.len().saturating_sub(1);
        let wait = self.backoff.get(index.min(last));
        wait.copied().unwrap_or(ack_wait)
    }

    /// It was delivered as often as it may be.
    pub(super) fn is_over(&self, deliveries: u32) -> bool {
        self.max.is_some_and(|max| deliveries >= max)
    }
}

/// All that are set.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    /// Those that name a subscription first, narrow patterns before wide ones.
    all: Vec<(Policy, Arc<Delivery>)>,
}

impl Policies {
    pub(super) fn new(policies: Vec<Policy>) -> Self {
        let shared = |policy: Policy| {
            let delivery = Arc::new(policy.delivery.clone());
            (policy, delivery)
        };
        let mut all: Vec<_> = policies.into_iter().map(shared).collect();
        all.sort_by(|(one, _), (other, _)| {
            let named = |policy: &Policy| policy.durable.is_some() || policy.queue_group.is_some();
            let width = one.channels.width().cmp(&other.channels.width());
            let by_name = named(other).cmp(&named(one));
            by_name.then(width.reverse()).then(one.id.cmp(&other.id))
        });
        Self { all }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The policy that holds for a subscription.
    pub(super) fn of(
        &self,
        channel: &ChannelName,
        durable: Option<&str>,
        queue_group: Option<&str>,
    ) -> Option<Arc<Delivery>> {
        let named = |wanted: &Option<ByteString>, name: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == name)
        };
        let first = self.all.iter().find(|(policy, _)| {
            policy.channels.matches(channel.as_str())
                && named(&policy.durable, durable)
                && named(&policy.queue_group, queue_group)
        });
        let (_, delivery) = first.filter(|(policy, _)| !policy.delivery.is_default())?;
        Some(Arc::clone(delivery))
    }

    pub(super) fn of_channel(&self, channel: &ChannelName) -> Full {
        let first = self.all.iter().find(|(policy, _)| {
            policy.durable.is_none()
                && policy.queue_group.is_none()
                && policy.channels.matches(channel.as_str())
        });
        first.map(|(policy, _)| policy.full).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(id: u64, channels: &str, durable: Option<&str>) -> Policy {
        Policy {
            id,
            channels: ChannelPattern::parse(channels.into()).expect("it is one"),
            durable: durable.map(ByteString::from),
            queue_group: None,
            delivery: Delivery {
                max: u32::try_from(id).ok(),
                ..Delivery::default()
            },
            full: Full::default(),
        }
    }

    #[test]
    fn a_policy_that_names_the_subscription_goes_before_one_for_its_channel_and_narrow_before_wide()
    {
        let policies = Policies::new(vec![
            policy(1, ">", None),
            policy(2, "orders.*", None),
            policy(3, "orders.paid", None),
            policy(4, ">", Some("billing")),
        ]);
        let of = |channel: &str, durable| {
            let channel = ChannelName::parse(channel.into()).expect("it is one");
            let found = policies.of(&channel, durable, None);
            found.and_then(|found| found.max)
        };
        assert_eq!(of("orders.paid", None), Some(3));
        assert_eq!(of("orders.sent", None), Some(2));
        assert_eq!(of("other", Some("audit")), Some(1));
        assert_eq!(of("orders.paid", Some("billing")), Some(4));
    }

    #[test]
    fn the_last_back_off_holds_for_all_further_deliveries() {
        let seconds = Duration::from_secs;
        let delivery = Delivery {
            backoff: vec![seconds(1), seconds(5)],
            ..Delivery::default()
        };
        let waits = [1, 2, 3, 1000].map(|n| delivery.wait(n, seconds(30)));
        assert_eq!(waits, [1, 5, 5, 5].map(seconds));
        assert_eq!(Delivery::default().wait(3, seconds(30)), seconds(30));
    }
}
