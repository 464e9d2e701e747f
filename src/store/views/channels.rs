//! Channels, what they take, and who publishes to them.

use serde::{Deserialize, Serialize};

use super::{Argument, iso, seconds};
use crate::core::ids::ChannelId;
use crate::store::{Error, Store};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Channel {
    #[serde(skip_serializing)]
    channel_id: u64,
    pub channel: String,
    pub status: String,
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub messages: u64,
    pub bytes: u64,
    pub subscriptions: u64,
    /// Largest lag of its subscriptions, in messages that are not acked.
    pub lag: i64,
    /// Age of the oldest message that one of them has not acked.
    pub behind_seconds: f64,
    pub last_published_at: Option<String>,
    pub created_at: Option<String>,
}

impl Channel {
    pub fn id(&self) -> ChannelId {
        ChannelId(self.channel_id)
    }
}

/// Beside what a list of channels shows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ChannelDetails {
    pub disk_bytes: u64,
    pub share_percent: f64,
    pub bytes_per_message: Option<f64>,
    pub per_second_1m: f64,
    pub per_second_1h: f64,
    pub last_24h: i64,
    pub oldest_at: Option<String>,
    /// Limits, and how much of each is taken; `None`: unlimited.
    pub max_msgs: Option<u64>,
    pub max_msgs_percent: Option<f64>,
    pub max_bytes: Option<u64>,
    pub max_bytes_percent: Option<f64>,
    pub max_age_seconds: Option<f64>,
    pub max_age_percent: Option<f64>,
    pub max_subscriptions: Option<u64>,
    pub max_subscriptions_percent: Option<f64>,
    /// Until the limit of messages or bytes, at the rate of the last hour.
    pub seconds_to_full: Option<f64>,
    /// What it does when it is full, and which policy says so.
    pub when_full: String,
    pub keep_until_acked: bool,
    pub policy: String,
}

/// Who publishes, of the newest 10,000 sequences.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Publisher {
    pub publisher: String,
    pub messages: u64,
    pub bytes: u64,
    pub last_sequence: u64,
    pub last_published_at: Option<String>,
}

const CHANNELS: &str = concat!(
    "SELECT channel_id, name AS channel, status, first_sequence, last_sequence, message_count AS messages, byte_count AS bytes,
        subscriptions, furthest_behind AS lag, ",
    seconds!("behind"),
    " AS behind_seconds, ",
    iso!("last_published_at"),
    " AS last_published_at, ",
    iso!("created_at"),
    " AS created_at FROM channel_status WHERE $1 IN ('', name) ORDER BY name, channel_id"
);

const DETAILS: &str = concat!(
    "SELECT disk_bytes, share_percent, bytes_per_message, per_second_1m, per_second_1h, last_24h, ",
    iso!("oldest_at"),
    " AS oldest_at, max_msgs, max_msgs_percent, max_bytes, max_bytes_percent, ",
    seconds!("max_age"),
    " AS max_age_seconds, max_age_percent, max_subscriptions, max_subscriptions_percent, ",
    seconds!("time_to_full"),
    " AS seconds_to_full, p.when_full, p.keep_until_acked, p.source AS policy
    FROM channel_usage JOIN channel_policies p USING (channel) WHERE channel = $1"
);

const PUBLISHERS: &str = concat!(
    "SELECT publisher, messages, bytes, last_sequence, ",
    iso!("last_published_at"),
    " AS last_published_at FROM publishers WHERE channel = $1 ORDER BY messages DESC, publisher"
);

const NAMES: &str = "SELECT name FROM channels WHERE NOT deleting ORDER BY name";

#[derive(Deserialize)]
struct Name {
    name: String,
}

impl Store {
    /// All channels, or the one of this name.
    pub async fn channels(&self, name: &str) -> Result<Vec<Channel>, Error> {
        self.query_view(CHANNELS, &[Argument::Text(name)]).await
    }

    pub async fn channel_details(&self, name: &str) -> Result<Option<ChannelDetails>, Error> {
        Ok(self
            .query_view(DETAILS, &[Argument::Text(name)])
            .await?
            .pop())
    }

    pub async fn publishers(&self, channel: &str) -> Result<Vec<Publisher>, Error> {
        self.query_view(PUBLISHERS, &[Argument::Text(channel)])
            .await
    }

    pub async fn channel_names(&self) -> Result<Vec<String>, Error> {
        let names: Vec<Name> = self.query_view(NAMES, &[]).await?;
        Ok(names.into_iter().map(|it| it.name).collect())
    }
}
