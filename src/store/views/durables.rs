//! Durables and durable queue groups, and what they have in flight.

use serde::{Deserialize, Serialize};

use super::{Argument, iso, seconds};
use crate::store::{Error, Store};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Durable {
    pub channel: String,
    /// Empty: a queue group without a durable name.
    pub durable: String,
    pub queue_group: Option<String>,
    /// Client IDs of the members, those that are offline included.
    pub clients: Option<String>,
    pub members: u64,
    pub status: String,
    /// Messages that are not acked: unsent and in flight together.
    pub lag: i64,
    pub unsent: i64,
    pub in_flight: i64,
    pub max_in_flight: i64,
    /// Age of the oldest message that is not acked.
    pub behind_seconds: f64,
    pub oldest_unacked: Option<u64>,
    pub oldest_unacked_at: Option<String>,
    pub last_sent: u64,
    pub acked_floor: u64,
    /// When an operator paused it. A statement that does not ask for it is a mistake.
    #[serde(deserialize_with = "Option::deserialize")]
    pub paused_since: Option<String>,
    /// The message for which a policy paused it. As above.
    #[serde(deserialize_with = "Option::deserialize")]
    pub paused_for: Option<u64>,
    pub why: String,
}

/// Age of the oldest message that a durable has not acked.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Behind {
    pub channel: String,
    pub durable: String,
    pub queue_group: Option<String>,
    /// Whose it is; with a queue group that of all members.
    pub clients: Option<String>,
    pub seconds: f64,
}

/// A message that was sent and is not acked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct InFlight {
    pub sequence: u64,
    pub client_id: Option<String>,
    pub published_at: Option<String>,
    pub age_seconds: f64,
    pub publisher: String,
    /// `None`: once, or nobody counts.
    pub deliveries: Option<u64>,
    /// When the last of these was noted.
    pub since: Option<String>,
}

/// Which policy holds for a subscription, and what it says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Policy {
    pub channel: String,
    pub durable: Option<String>,
    pub queue_group: Option<String>,
    pub clients: Option<String>,
    /// `default`: none holds.
    pub source: String,
    pub max_deliveries: Option<u64>,
    pub backoff_seconds: Option<Vec<f64>>,
    pub poison: Option<String>,
    pub dead_letter: Option<String>,
    pub when_full: String,
    pub keep_until_acked: bool,
    /// A message that was delivered as often as allowed and is in flight.
    pub waits_for: Option<u64>,
}

const DURABLES: &str = concat!(
    "SELECT channel, coalesce(durable_name, '') AS durable, queue_group, clients, members, status, lag, unsent, in_flight, max_in_flight, ",
    seconds!("behind"),
    " AS behind_seconds, oldest_unacked, ",
    iso!("oldest_unacked_at"),
    " AS oldest_unacked_at, last_sent, acked_floor, ",
    iso!("paused_since"),
    " AS paused_since, paused_for, why
    FROM position_status WHERE coalesce(durable_name, queue_group) IS NOT NULL AND $1 IN ('', channel)
    ORDER BY status IN ('stalled', 'paused') DESC, lag DESC, channel, durable, queue_group"
);

const IN_FLIGHT: &str = concat!(
    "SELECT sequence, client_id, ",
    iso!("published_at"),
    " AS published_at, ",
    seconds!("age"),
    " AS age_seconds, publisher, deliveries, ",
    iso!("since"),
    " AS since FROM in_flight
    WHERE channel = $1 AND coalesce(durable_name, '') = $2 AND coalesce(queue_group, '') = $3
        AND ($4 = '' OR queue_group IS NOT NULL OR client_id = $4)
    ORDER BY sequence LIMIT $5"
);

const POLICIES: &str = "SELECT channel, durable_name AS durable, queue_group, clients, source, max_deliveries,
        (SELECT array_agg(extract(epoch FROM pause)::float8 ORDER BY n) FROM unnest(backoff) WITH ORDINALITY AS b (pause, n))
            AS backoff_seconds,
        poison, dead_letter, when_full, keep_until_acked, waits_for
    FROM effective_policies WHERE $1 IN ('', channel) ORDER BY channel, durable_name, queue_group, clients";

const BEHIND: &str = concat!(
    "SELECT channel, durable_name AS durable, queue_group, clients, ",
    seconds!("behind"),
    " AS seconds FROM position_status WHERE durable_name IS NOT NULL"
);

impl Store {
    pub async fn behind(&self) -> Result<Vec<Behind>, Error> {
        self.query_view(BEHIND, &[]).await
    }

    /// The policies of all subscriptions, or of those of a channel.
    pub async fn policies(&self, channel: &str) -> Result<Vec<Policy>, Error> {
        self.query_view(POLICIES, &[Argument::Text(channel)]).await
    }

    /// With the queue groups that have no durable name. An empty channel means all channels.
    pub async fn durables(&self, channel: &str) -> Result<Vec<Durable>, Error> {
        self.query_view(DURABLES, &[Argument::Text(channel)]).await
    }

    /// The oldest first, up to `count`.
    pub async fn in_flight(&self, durable: &Durable, count: u32) -> Result<Vec<InFlight>, Error> {
        let owner = match (&durable.queue_group, &durable.clients) {
            (None, Some(client)) => client,
            _ => "",
        };
        let given = [
            Argument::Text(&durable.channel),
            Argument::Text(&durable.durable),
            Argument::Text(durable.queue_group.as_deref().unwrap_or_default()),
            Argument::Text(owner),
            Argument::Number(count.into()),
        ];
        self.query_view(IN_FLIGHT, &given).await
    }
}
