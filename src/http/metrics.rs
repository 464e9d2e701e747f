//! `/metrics`, in the text format of `OpenMetrics`.
//!
//! Names that begin with `nss_` are those of the exporter that dashboards of NATS Streaming were made for; they
//! are gauges here because they may fall. The rest are ours.

use std::fmt;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::process;
use super::view::{Source, View};
use crate::core::broker::Counts;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(source): State<Source>) -> Response {
    match render(&source.view()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn render(view: &View) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    ours(registry.sub_registry_with_prefix("stanby"), view);
    let server_id = ("server_id".into(), view.status.server_id.clone().into());
    of_the_exporter(
        registry
            .sub_registry_with_label(server_id)
            .sub_registry_with_prefix("nss_server"),
        view,
    );
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn ours(registry: &mut Registry, view: &View) {
    let status = &view.status;
    let node = Info::new([
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("cluster_id", status.cluster_id.clone()),
        ("server_id", status.server_id.clone()),
    ]);
    registry.register("node", "The node that answers", node);
    let active = u64::from(view.is_active());
    gauge(
        registry,
        "active",
        "1 while this node serves clients, 0 on a standby",
        active,
    );
    let ready = u64::from(status.trouble.is_none());
    gauge(
        registry,
        "ready",
        "1 while this node serves or can take over",
        ready,
    );
    let epoch = view.epoch().map_or(0, |epoch| epoch.0);
    gauge(
        registry,
        "epoch",
        "Number of the term while active, else 0",
        epoch,
    );
    let active_since = status.active_since.filter(|_| view.is_active());
    let active_seconds = active_since.map_or(0, |since| view.now.wall.since(since).as_secs());
    gauge(
        registry,
        "active_seconds",
        "Seconds since this node became active",
        active_seconds,
    );
    let uptime = view.now.wall.since(status.started_at).as_secs();
    gauge(
        registry,
        "uptime_seconds",
        "Seconds since the process started",
        uptime,
    );
    counter(
        registry,
        "commits",
        "Batches committed to Postgres",
        status.commits,
    );
    let late = "Times that Postgres proved the lock only after more than half a lease";
    counter(registry, "late_renewals", late, status.late_renewals);
    let overflows = "Messages that NATS dropped because this node read too slowly";
    counter(registry, "nats_overflows", overflows, status.nats_overflows);
    let restored = "Messages that a failover of Postgres had lost and this node stored again";
    counter(
        registry,
        "failover_restored_messages",
        restored,
        status.failovers.restored,
    );
    let lost = "Acked messages that a failover of Postgres has lost";
    counter(
        registry,
        "failover_lost_messages",
        lost,
        status.failovers.lost,
    );
    let unknown =
        "Sequences passed over because a failover of Postgres may have lost their messages";
    counter(
        registry,
        "failover_unknown_messages",
        unknown,
        status.failovers.unknown,
    );
    let shadow_bytes = "Bytes of requests that this node remembers as a standby";
    gauge(
        registry,
        "shadow_bytes",
        shadow_bytes,
        status.shadow_bytes as u64,
    );
    let crowded_out = "Requests that this node forgot as a standby for want of room";
    counter(
        registry,
        "shadow_crowded_out",
        crowded_out,
        status.shadow_crowded_out,
    );
    amounts(registry, &status.counts);
    if let Some(open) = process::open_fds() {
        gauge(registry, "open_fds", "Open file descriptors", open as u64);
    }
    if let Some(max) = process::max_fds() {
        gauge(
            registry,
            "max_fds",
            "File descriptors that may be open",
            max,
        );
    }
}

fn amounts(registry: &mut Registry, counts: &Counts) {
    gauge(
        registry,
        "clients",
        "Registered clients",
        counts.clients as u64,
    );
    gauge(registry, "channels", "Channels", counts.channels as u64);
    let subscriptions = "Subscriptions, offline durables included";
    gauge(
        registry,
        "subscriptions",
        subscriptions,
        counts.subscriptions as u64,
    );
    gauge(registry, "messages", "Messages kept", counts.messages);
    gauge(registry, "bytes", "Bytes of messages kept", counts.bytes);
    counter(
        registry,
        "in_messages",
        "Messages published by clients",
        counts.in_messages,
    );
    counter(
        registry,
        "in_bytes",
        "Bytes published by clients",
        counts.in_bytes,
    );
    counter(
        registry,
        "out_messages",
        "Messages delivered, redeliveries included",
        counts.out_messages,
    );
    counter(
        registry,
        "out_bytes",
        "Bytes delivered, redeliveries included",
        counts.out_bytes,
    );
    let skipped = "Messages passed over because NATS does not deliver their size";
    counter(
        registry,
        "skipped_messages",
        skipped,
        counts.skipped_messages,
    );
    let unreadable = "Messages passed over because their rows cannot be read";
    counter(
        registry,
        "unreadable_messages",
        unreadable,
        counts.unreadable_messages,
    );
}

fn of_the_exporter(registry: &mut Registry, view: &View) {
    let counts = &view.status.counts;
    gauge(
        registry,
        "active",
        "1 while the state is FT_ACTIVE",
        u64::from(view.is_active()),
    );
    gauge(
        registry,
        "clients",
        "Registered clients",
        counts.clients as u64,
    );
    gauge(registry, "channels", "Channels", counts.channels as u64);
    gauge(
        registry,
        "subscriptions",
        "Subscriptions",
        counts.subscriptions as u64,
    );
    gauge(registry, "msgs_total", "Messages kept", counts.messages);
    gauge(
        registry,
        "bytes_total",
        "Bytes of messages kept",
        counts.bytes,
    );
    gauge(
        registry,
        "msgs_in",
        "Messages published by clients",
        counts.in_messages,
    );
    gauge(
        registry,
        "bytes_in",
        "Bytes published by clients",
        counts.in_bytes,
    );
    gauge(
        registry,
        "msgs_out",
        "Messages delivered",
        counts.out_messages,
    );
    gauge(registry, "bytes_out", "Bytes delivered", counts.out_bytes);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}
