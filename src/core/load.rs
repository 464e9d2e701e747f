//! What the core wants read from the store, and what came back. Reads may be answered in any order, by any
//! connection: a committed message never changes.

use std::sync::Arc;

use super::admin::{RequestId, RequestPage};
use super::gone::GoneRange;
use super::ids::{ChannelId, LoadId, Sequence};
use super::message::Message;
use super::outbox::{OutboxId, OutboxPage};
use super::policy::{Policy, StoredDeadLetter};
use super::ranges::Ranges;
use super::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub id: LoadId,
    pub channel: ChannelId,
    pub query: LoadQuery,
}

impl Load {
    /// The same, but for fewer messages at once.
    #[must_use]
    pub fn modest(&self, messages: usize, bytes_max: usize) -> Self {
        let mut load = self.clone();
        match &mut load.query {
            LoadQuery::Range { count, bytes, .. } => {
                *count = messages.min(*count);
                *bytes = bytes_max.min(*bytes);
            }
            LoadQuery::Exactly { bytes, .. } => *bytes = bytes_max.min(*bytes),
            LoadQuery::Oldest { count, .. } => *count = messages.min(*count),
            LoadQuery::Outbox { rows, bytes, .. } => {
                *rows = messages.min(*rows);
                *bytes = bytes_max.min(*bytes);
            }
            LoadQuery::DeadLetters { rows, .. } => *rows = messages.min(*rows),
            LoadQuery::FirstSince(_)
            | LoadQuery::Gone
            | LoadQuery::Policies
            | LoadQuery::Requests { .. } => {}
        }
        load
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadQuery {
    /// Up to `count` messages in `first..=last`, in order, fewer when their data and text pass `bytes`. At least one
    /// if there is one.
    Range {
        first: Sequence,
        last: Sequence,
        count: usize,
        bytes: usize,
    },
    /// These, in order, fewer when their data and text pass `bytes` (at least one if there is one).
    Exactly {
        sequences: Vec<Sequence>,
        bytes: usize,
    },
    /// The sequence of the first message at or after this time.
    FirstSince(Timestamp),
    /// The sizes and times of the `count` oldest messages from `first` on, in order.
    Oldest { first: Sequence, count: usize },
    /// What is noted as gone of all channels and not settled yet.
    Gone,
    /// Up to `rows` requests of operators that are not answered, in order.
    Requests { rows: usize },
    /// Up to `rows` of the outbox of each kind, fewer when they pass `bytes`, at least one if there is one: those without a
    /// time with numbers in `gaps`, which are in order, and those that are due. Payloads up to `payload_bytes`. And up to `rows` of
    /// what is acked in SQL, with numbers in `ack_gaps`. Where it `settles`, it says which transactions may have acked, and not only which are open.
    Outbox {
        gaps: Vec<(u64, u64)>,
        ack_gaps: Vec<(u64, u64)>,
        due: Timestamp,
        /// Rows that are due and not wanted yet.
        put_off: Vec<OutboxId>,
        rows: usize,
        bytes: usize,
        payload_bytes: usize,
        settles: bool,
    },
    /// All policies.
    Policies,
    /// Up to `rows` dead letters in `first..=last` that are there, in order: those that were never redriven, or with
    /// `again` all but those that this request has redriven.
    DeadLetters {
        first: Sequence,
        last: Sequence,
        again: Option<RequestId>,
        rows: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// For `Range` and `Exactly`. `through` is the last sequence that the answer covers: one that was
    /// asked for, is not past it and is missing here was not found, or is `unreadable`.
    Messages {
        messages: Vec<Arc<Message>>,
        unreadable: Vec<Unreadable>,
        through: Sequence,
        /// Where some were not found: what is noted there as gone.
        gone: Ranges,
    },
    FirstSince {
        first: Option<Sequence>,
        /// What was not found before the first, or before the end.
        hole: Option<Hole>,
    },
    Oldest {
        oldest: Vec<Oldest>,
        /// Where some were not found: what is noted there as gone.
        gone: Ranges,
    },
    Gone(Vec<GoneRange>),
    Outbox(OutboxPage),
    Policies(Vec<Policy>),
    DeadLetters(Vec<StoredDeadLetter>),
    Requests(RequestPage),
}

/// Sequences that a read did not find, and what of them is noted as gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    pub first: Sequence,
    pub last: Sequence,
    pub gone: Ranges,
}

/// A row that no server wrote like this, or that Postgres itself cannot read any more. Reading it again does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub sequence: Sequence,
    pub why: String,
}

/// One of a channel's oldest messages, as limits see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oldest {
    pub sequence: Sequence,
    pub published_at: Timestamp,
    /// As [`Message::size`].
    pub size: u64,
}
