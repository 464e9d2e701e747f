//! Decisions that an operator may want to read in the log. The core writes no log itself.

use super::admin::RequestId;
use super::ids::{ChannelName, ClientId, Sequence};
use super::outbox::OutboxId;
use super::policy::DeadLetter;
use super::rejection::Rejection;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A client missed more heartbeats than allowed and was closed.
    ClientTimedOut(ClientId),
    /// A client stopped answering and another one took over its ID.
    ClientReplaced(ClientId),
    /// Nobody listens to a subscription whose answer may have come too late for its client; it was closed.
    SubscriptionWithoutResponders {
        client: ClientId,
        channel: ChannelName,
    },
    /// More clients connected than the rate allows, and the first of them was refused.
    ConnectsRefused,
    /// The first of those that found no room.
    ClientsRefused,
    /// So much is in flight that subscriptions with more than their share get nothing new, for the first time in this term.
    HeldBack,
    ChannelCreated(ChannelName),
    /// A channel without subscriptions and publishes reached its maximum inactivity.
    ChannelInactive(ChannelName),
    /// An operator has deleted the channel.
    ChannelDeleted(ChannelName),
    /// An operator has closed the client.
    ClientKicked(String),
    /// What an operator asked for was done, or (`refused`) was not.
    RequestAnswered {
        id: RequestId,
        verb: String,
        dry_run: bool,
        refused: Option<String>,
    },
    /// A limit dropped messages of the channel for the first time in this term.
    LimitReached(ChannelName),
    /// A message is larger than NATS delivers; a subscription passed over it.
    MessageTooLarge {
        channel: ChannelName,
        sequence: Sequence,
        bytes: u64,
    },
    /// A message's row makes no sense, or Postgres cannot read it; a subscription passed over it.
    MessageUnreadable {
        channel: ChannelName,
        sequence: Sequence,
        why: String,
    },
    /// Somebody deleted messages by hand, or said that they are gone.
    MessagesGone {
        channel: ChannelName,
        messages: u64,
    },
    /// The tables counted other messages than there are.
    CountCorrected {
        channel: ChannelName,
        before: u64,
        now: u64,
    },
    /// Messages are missing, and nothing says that they are gone; a subscription waits for them.
    MessagesUnseen {
        channel: ChannelName,
        first: Sequence,
        last: Sequence,
    },
    /// What somebody published in SQL cannot be stored.
    SqlRefused {
        id: OutboxId,
        channel: String,
        why: String,
    },
    /// A limit has dropped what a durable has not acked, for the first time in this term.
    DroppedUnacked {
        channel: ChannelName,
        sequence: Sequence,
    },
    /// A message was delivered as often as a policy allows, and what becomes of it.
    Poison(DeadLetter, &'static str),
    /// A dead letter cannot be written to this channel; it is tried again.
    DeadLetterRefused(ChannelName, Rejection),
    /// The tables held a row that fits nothing else; it was dropped.
    RowDropped {
        table: &'static str,
        id: u64,
        why: &'static str,
    },
}
