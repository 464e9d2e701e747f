//! Clients and what they subscribe to.

use serde::{Deserialize, Serialize};

use super::{Argument, iso, seconds};
use crate::store::{Error, Store};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Client {
    pub client_id: String,
    pub status: String,
    pub connected_at: Option<String>,
    pub last_heartbeat_at: Option<String>,
    pub missed_heartbeats: u64,
    pub subscriptions: u64,
    pub protocol: i64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Subscription {
    pub channel: String,
    pub durable: Option<String>,
    pub queue_group: Option<String>,
    pub status: String,
    /// The lag of the whole group, for a member of a queue group.
    pub lag: i64,
    pub unsent: i64,
    pub in_flight: i64,
    pub behind_seconds: f64,
    pub max_in_flight: i64,
    pub ack_wait_seconds: f64,
    pub since: Option<String>,
    pub why: String,
}

const CLIENTS: &str = concat!(
    "SELECT client_id, status, ",
    iso!("connected_at"),
    " AS connected_at, ",
    iso!("last_heartbeat_at"),
    " AS last_heartbeat_at, missed_heartbeats, subscriptions, protocol
    FROM client_status WHERE $1 IN ('', client_id) ORDER BY missed_heartbeats DESC, client_id"
);

const SUBSCRIPTIONS: &str = concat!(
    "SELECT channel, durable_name AS durable, queue_group, status, lag, unsent, in_flight, ",
    seconds!("behind"),
    " AS behind_seconds, max_in_flight, ",
    seconds!("ack_wait"),
    " AS ack_wait_seconds, ",
    iso!("since"),
    " AS since, why FROM subscription_status WHERE client_id = $1 ORDER BY channel, durable_name, queue_group"
);

impl Store {
    /// All that are connected, or the one of this ID.
    pub async fn clients(&self, client_id: &str) -> Result<Vec<Client>, Error> {
        self.query_view(CLIENTS, &[Argument::Text(client_id)]).await
    }

    /// Those of a client, durables that wait for it included.
    pub async fn subscriptions(&self, client_id: &str) -> Result<Vec<Subscription>, Error> {
        self.query_view(SUBSCRIPTIONS, &[Argument::Text(client_id)])
            .await
    }
}
