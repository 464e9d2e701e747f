//! `/streaming/storez`.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Query as Asked, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::format::{Callback, json, time};
use super::paging::Query;
use super::view::Source;
use crate::core::limits::{ChannelLimits, Limits};

#[derive(Serialize)]
struct Storez {
    cluster_id: String,
    server_id: String,
    now: String,
    #[serde(rename = "type")]
    kind: &'static str,
    limits: StoreLimits,
    total_msgs: u64,
    total_bytes: u64,
}

/// After inheritance; 0 is unlimited.
#[derive(Serialize)]
struct StoreLimits {
    max_channels: u64,
    #[serde(flatten)]
    channel: Limitz,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    channels: BTreeMap<String, Limitz>,
}

#[derive(Serialize)]
struct Limitz {
    max_msgs: u64,
    max_bytes: u64,
    /// Nanoseconds.
    max_age: u64,
    max_subscriptions: u64,
    /// Nanoseconds.
    max_inactivity: u64,
}

impl From<ChannelLimits> for Limitz {
    fn from(limits: ChannelLimits) -> Self {
        let nanos = |time: Option<Duration>| {
            u64::try_from(time.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
        };
        Self {
            max_msgs: limits.messages.unwrap_or(0),
            max_bytes: limits.bytes.unwrap_or(0),
            max_age: nanos(limits.age),
            max_subscriptions: limits.subscriptions.unwrap_or(0) as u64,
            max_inactivity: nanos(limits.inactivity),
        }
    }
}

impl From<&Limits> for StoreLimits {
    fn from(limits: &Limits) -> Self {
        let entries = limits.per_channel.entries();
        Self {
            max_channels: limits.channels.unwrap_or(0) as u64,
            channel: limits.channel.into(),
            channels: entries
                .map(|(pattern, limits)| (pattern.as_str().to_owned(), limits.into()))
                .collect(),
        }
    }
}

pub(super) async fn storez(State(source): State<Source>, Asked(query): Asked<Query>) -> Response {
    let view = source.fresh_view().await;
    let page = Storez {
        limits: StoreLimits::from(&*view.status.limits),
        cluster_id: view.status.cluster_id,
        server_id: view.status.server_id,
        now: time(view.now.wall),
        kind: "SQL",
        total_msgs: view.status.counts.messages,
        total_bytes: view.status.counts.bytes,
    };
    json(StatusCode::OK, &page, &Callback::of(&query))
}
