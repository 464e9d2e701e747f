//! `/streaming/serverz`, with the fields that exporters and dashboards of NATS Streaming read.

use axum::extract::{Query as Asked, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::format::{Callback, json, time, uptime};
use super::paging::Query;
use super::process;
use super::view::{Source, View};

/// The order and the names are NATS Streaming's; `role` and `node_id` of its Raft mode are left out as there.
#[derive(Serialize)]
struct Serverz {
    cluster_id: String,
    server_id: String,
    version: &'static str,
    /// Decoders want the field; there is no Go version to tell.
    go: &'static str,
    state: &'static str,
    now: String,
    start_time: String,
    uptime: String,
    clients: usize,
    subscriptions: usize,
    channels: usize,
    total_msgs: u64,
    total_bytes: u64,
    in_msgs: u64,
    in_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_fds: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_fds: Option<u64>,
}

pub(super) async fn serverz(State(source): State<Source>, Asked(query): Asked<Query>) -> Response {
    json(
        StatusCode::OK,
        &Serverz::of(source.fresh_view().await),
        &Callback::of(&query),
    )
}

impl Serverz {
    fn of(view: View) -> Self {
        let state = view.state();
        let View { status, now, .. } = view;
        let counts = status.counts;
        Self {
            cluster_id: status.cluster_id,
            server_id: status.server_id,
            version: env!("CARGO_PKG_VERSION"),
            go: "",
            state,
            now: time(now.wall),
            start_time: time(status.started_at),
            uptime: uptime(now.wall.since(status.started_at)),
            clients: counts.clients,
            subscriptions: counts.subscriptions,
            channels: counts.channels,
            total_msgs: counts.messages,
            total_bytes: counts.bytes,
            in_msgs: counts.traffic.in_messages,
            in_bytes: counts.traffic.in_bytes,
            out_msgs: counts.traffic.out_messages,
            out_bytes: counts.traffic.out_bytes,
            open_fds: process::open_fds(),
            max_fds: process::max_fds(),
        }
    }
}
