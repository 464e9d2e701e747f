//! What was recorded of a run: written down while it happens, judged afterwards in `checks`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

/// Times are from the beginning of the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) publishes: Vec<Publish>,
    pub(crate) subscriptions: Vec<Receiver>,
    pub(crate) clients: Vec<LiveClient>,
    /// When requests or answers may have been lost although every server did what it should.
    pub(crate) excuses: Vec<Excuse>,
    /// How often a nats-server or a link to one kept what an active had sent, and let it go when another one was active.
    pub(crate) stalls: usize,
    /// When Postgres was made to refuse rows.
    pub(crate) refusals: Vec<Refusals>,
    /// What the tables held when a term was first seen.
    pub(crate) beginnings: Vec<Beginning>,
    /// A Postgres has one replica, and fails over once.
    pub(crate) failover: Option<Failover>,
    /// Answers by which two servers were active at once.
    pub(crate) contradictions: String,
    /// Servers that ended although nobody ended them.
    pub(crate) deaths: Vec<String>,
    /// How long publishers had to wait after each fault had ended.
    pub(crate) recoveries: Vec<(String, Duration)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) channel: &'static str,
    pub(crate) client_id: String,
    pub(crate) guid: String,
    pub(crate) data: Bytes,
    pub(crate) sent_at: Duration,
    pub(crate) outcome: Outcome,
    /// Of a client that does not wait for its answers.
    pub(crate) is_abandoned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Silence,
    Acked(Duration),
    Refused(String),
    /// NATS said that no server listens.
    NobodyListens,
}

/// One subscription, or all members of a queue group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receiver {
    pub(crate) name: String,
    pub(crate) channel: &'static str,
    /// Deliveries of each member, in the order of their arrival.
    pub(crate) members: Vec<Vec<Arrival>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) sequence: u64,
    pub(crate) data: Bytes,
    pub(crate) is_redelivered: bool,
}

/// A client that answered every heartbeat and never left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveClient {
    pub(crate) client_id: String,
    pub(crate) connection_id: String,
    /// What its last ping was answered with.
    pub(crate) ping: Result<(), String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excuse {
    pub(crate) what: String,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// Of what this client published meanwhile, or all clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusals {
    pub(crate) client_id: Option<String>,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// Of a term: what was in the tables of older terms when it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) epoch: i64,
    pub(crate) older_rows: BTreeMap<String, i64>,
}

/// The database failed over to a copy of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failover {
    /// Every commit had waited for the copy: it lacks nothing.
    pub(crate) is_synchronous: bool,
    /// The server that took over told why it could not know that; then it may pass over what was heard and is not there.
    pub(crate) is_doubted: bool,
    /// The last sequence of each channel on the copy, before a server wrote on it.
    pub(crate) had: BTreeMap<String, i64>,
    /// When the first term on it was there.
    pub(crate) over_at: Duration,
}

/// What a failover had lost, as the servers tell it, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostRange {
    pub(crate) channel: String,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) fate: RangeOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeOutcome {
    Restored,
    Lost,
    Unknown,
}

/// What the tables hold in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// By channel, in order of sequence.
    pub(crate) messages: BTreeMap<&'static str, Vec<Row>>,
    /// Client IDs with their connection IDs.
    pub(crate) clients: BTreeSet<(String, String)>,
    pub(crate) takeovers: Vec<i64>,
    pub(crate) told: Vec<LostRange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) sequence: i64,
    pub(crate) epoch: i64,
    pub(crate) published_at_ns: i64,
    pub(crate) guid: String,
    pub(crate) data: Vec<u8>,
}

impl Failover {
    /// The last sequence of the channel that the copy had.
    pub(crate) fn had(&self, channel: &str) -> i64 {
        self.had.get(channel).copied().unwrap_or(0)
    }
}

impl LostRange {
    pub(crate) fn count(&self) -> i64 {
        self.last - self.first + 1
    }

    /// Whether its messages are gone, or may be.
    pub(crate) fn is_passed_over(&self) -> bool {
        match self.fate {
            RangeOutcome::Lost | RangeOutcome::Unknown => true,
            RangeOutcome::Restored => false,
        }
    }
}

impl Stored {
    /// Whether a server told that the sequence is passed over.
    pub(crate) fn is_passed_over(&self, channel: &str, sequence: i64) -> bool {
        self.told.iter().any(|range| {
            range.is_passed_over()
                && range.channel == channel
                && (range.first..=range.last).contains(&sequence)
        })
    }

    /// How many sequences of the channel are told to be passed over.
    pub(crate) fn passed_over(&self, channel: &str) -> i64 {
        let of_channel = |range: &&LostRange| range.is_passed_over() && range.channel == channel;
        self.told
            .iter()
            .filter(of_channel)
            .map(LostRange::count)
            .sum()
    }
}

impl History {
    /// Why answers may be missing to what was sent then.
    pub(crate) fn excuse(&self, sent_at: Duration) -> Option<&Excuse> {
        self.excuses
            .iter()
            .find(|excuse| (excuse.from..=excuse.to).contains(&sent_at))
    }

    /// Whether Postgres was made to refuse it.
    pub(crate) fn may_be_refused(&self, publish: &Publish) -> bool {
        self.refusals.iter().any(|refusals| {
            let client_id = refusals.client_id.as_ref();
            client_id.is_none_or(|client_id| *client_id == publish.client_id)
                && (refusals.from..=refusals.to).contains(&publish.sent_at)
        })
    }

    pub(crate) fn acked(&self) -> usize {
        let is_acked = |publish: &&Publish| matches!(publish.outcome, Outcome::Acked(_));
        self.publishes.iter().filter(is_acked).count()
    }
}
