//! Names that begin with `nss_` are those of the exporter that dashboards of NATS Streaming were made for. All are
//! gauges here, because they may fall.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::kinds::{Labels, gauge, gauges, label, set};
use crate::core::report::Channel;
use crate::http::format::time;
use crate::http::view::View;

/// The server.
pub(super) fn register(registry: &mut Registry, view: &View) {
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
        counts.traffic.in_messages,
    );
    gauge(
        registry,
        "bytes_in",
        "Bytes published by clients",
        counts.traffic.in_bytes,
    );
    gauge(
        registry,
        "msgs_out",
        "Messages delivered",
        counts.traffic.out_messages,
    );
    gauge(
        registry,
        "bytes_out",
        "Bytes delivered",
        counts.traffic.out_bytes,
    );
}

/// What is not a number about the server.
pub(super) fn info(registry: &mut Registry, view: &View) {
    let status = &view.status;
    let info = Info::new([
        ("cluster_id", status.cluster_id.clone()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("go_version", String::new()),
        ("state", view.state().to_owned()),
        ("role", String::new()),
        ("start_time", time(status.started_at)),
    ]);
    registry.register("server", "The server that answers", info);
}

/// Channels and subscriptions.
pub(super) fn channels(registry: &mut Registry, view: &View, channels: &[Channel]) {
    let messages = gauges(registry, "msgs_total", "Messages kept in the channel");
    let bytes = gauges(
        registry,
        "bytes_total",
        "Bytes of messages kept in the channel",
    );
    let last = gauges(registry, "last_seq", "Last sequence of the channel");
    let subs_last_sent = gauges(registry, "subs_last_sent", "Last sequence sent");
    let subs_pending = gauges(
        registry,
        "subs_pending_count",
        "Messages sent and not acked",
    );
    let subs_max = gauges(
        registry,
        "subs_max_inflight",
        "Messages that may be sent and not acked",
    );
    for channel in channels {
        let labels: Labels = vec![
            ("server_role", view.state().to_owned()),
            ("channel", label(channel.name.as_str())),
        ];
        set(&messages, &labels, channel.messages);
        set(&bytes, &labels, channel.bytes);
        set(&last, &labels, channel.last.0);
        for subscription in &channel.subscriptions {
            let text = |text: Option<&String>| label(text.map_or("", String::as_str));
            let client = subscription.client_id.as_ref();
            let mut labels = labels.clone();
            labels.extend([
                (
                    "client_id",
                    client.map_or_else(String::new, |id| label(id.as_str())),
                ),
                ("inbox", label(&subscription.inbox)),
                ("queue_name", text(subscription.queue_group.as_ref())),
                (
                    "is_durable",
                    subscription.durable_name.is_some().to_string(),
                ),
                ("is_offline", (!subscription.online).to_string()),
                ("durable_name", text(subscription.durable_name.as_ref())),
            ]);
            set(&subs_last_sent, &labels, subscription.last_sent.0);
            set(&subs_pending, &labels, subscription.in_flight as u64);
            set(&subs_max, &labels, u64::from(subscription.max_in_flight));
        }
    }
}
