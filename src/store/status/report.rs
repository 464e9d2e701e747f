//! What a look at the tables shows, as rows.

use serde::Serialize;

use super::Stranger;
use crate::store::encryption::EncryptionReport;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub cluster_id: String,
    pub schema: String,
    /// Channels that the last active served, wildcards included; `None`: all.
    pub serves: Option<Vec<String>>,
    pub active: Option<Active>,
    pub standbys: Vec<Standby>,
    /// Who keeps servers from becoming active: a session that holds the lock and is none of theirs.
    pub stranger: Option<Stranger>,
    /// How the last active became it.
    pub last_takeover: Option<LastTakeover>,
    /// What is wrong with the active, or was with the last one; and who keeps takeovers out right now.
    pub conditions: Vec<Condition>,
    /// What could not be read, because another transaction holds a lock on it.
    pub unread: Vec<&'static str>,
    pub counts: Counts,
    /// `None`: nothing is encrypted.
    pub encryption: Option<EncryptionReport>,
    pub clients: Vec<Client>,
    pub channels: Vec<Channel>,
    pub durables: Vec<Durable>,
    pub unreadable: Vec<Unreadable>,
}

/// The last server that became active. Times are ISO 8601 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Active {
    pub epoch: i64,
    pub holder: String,
    pub host: Option<String>,
    pub pid: Option<i32>,
    pub since: Option<String>,
    /// False: nobody is active right now.
    pub holds_lock: bool,
}

/// A row of the history. What an older server has not noted is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastTakeover {
    pub epoch: i64,
    pub at: Option<String>,
    pub from: Option<String>,
    pub to: String,
    /// Why the term before ended.
    pub cause: Option<String>,
    pub detail: Option<String>,
    /// How long clients waited.
    pub silence_ms: Option<i64>,
    pub answered_from_memory: Option<i64>,
}

/// A server that waits for the lock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standby {
    /// `stanby/<cluster>/<group>/<server id>`.
    pub name: String,
    /// Where Postgres sees it come from; `None` on a Unix socket, and for who may not know.
    pub address: Option<String>,
    pub connected_since: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// As in the metric `stanby_condition`.
    pub kind: String,
    pub reason: String,
    pub since: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub clients: i64,
    pub channels: i64,
    pub subscriptions: i64,
    pub durables: i64,
    pub messages: i64,
    pub bytes: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Client {
    pub client_id: String,
    pub status: String,
    pub connected_at: Option<String>,
    pub last_heartbeat_at: Option<String>,
    pub missed_heartbeats: i64,
    pub subscriptions: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Channel {
    pub name: String,
    pub status: String,
    pub first_sequence: i64,
    pub last_sequence: i64,
    pub messages: i64,
    pub bytes: i64,
    pub subscriptions: i64,
    /// Largest lag of its subscriptions.
    pub furthest_behind: i64,
    pub last_published_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Durable {
    pub channel: String,
    pub durable_name: String,
    pub queue_group: Option<String>,
    /// Attached clients, or the last owner of an offline durable.
    pub clients: Option<String>,
    pub members: i64,
    pub status: String,
    pub last_sent: i64,
    pub acked_floor: i64,
    pub unacked: i64,
    /// Messages that are not acked: unsent and unacked ones together.
    pub lag: i64,
    pub unsent: i64,
    /// Age of the oldest message that is not acked.
    pub behind_seconds: f64,
    pub why: String,
}

/// Who is active and who would take over, without the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Roles {
    pub active: Option<Active>,
    pub standbys: Vec<Standby>,
}

/// A message that subscriptions passed over because its row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    pub channel: String,
    pub sequence: i64,
    pub why: String,
    pub noticed_at: Option<String>,
}
