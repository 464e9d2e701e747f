//! Says in the tables what this server was set up with, so that people see in what the servers of a pair differ.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::duration::GoDuration;
use crate::core::limits::ChannelLimits;
use crate::store::Store;
use crate::store::views::ServerSettings;

/// In the background: that it cannot be noted is no reason not to serve.
pub(super) async fn report(store: Store, settings: ServerSettings, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        done = store.report_settings(&settings) => if let Err(error) = done {
            tracing::warn!(%error, "what this server is set up with cannot be noted in the tables");
        },
    }
}

pub(super) fn settings(config: &Config, server_id: &str) -> ServerSettings {
    let host = nix::unistd::gethostname().ok();
    let host = host.and_then(|host| host.into_string().ok());
    let host = host.unwrap_or_default();
    let limits = &config.limits;
    let time = |it: std::time::Duration| GoDuration::from(it).to_string();
    let number = |it: Option<u64>| it.map_or_else(|| "unlimited".to_owned(), |it| it.to_string());
    let heartbeats = &config.heartbeats;
    let all = [
        ("cluster-id", config.cluster_id.clone()),
        ("schema", config.schema.clone()),
        ("lease", time(config.lease.duration())),
        ("hb-interval", time(heartbeats.interval)),
        ("hb-timeout", time(heartbeats.timeout)),
        ("hb-fail-count", heartbeats.fail_count.to_string()),
        ("replace-durable", config.replace_durables.to_string()),
        ("encrypt", config.encryption.key.is_some().to_string()),
        (
            "connect-rate",
            number(limits.connects_per_second.map(u64::from)),
        ),
        ("max-clients", number(limits.clients.map(|it| it as u64))),
        ("max-channels", number(limits.channels.map(|it| it as u64))),
        ("max-in-flight", number(limits.in_flight.map(u64::from))),
        ("limits", of_channel(&limits.channel)),
    ];
    let mut settings: BTreeMap<String, String> = all
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let entries = limits.per_channel.entries();
    settings.extend(entries.map(|(pattern, limits)| {
        (
            format!("channel-limits {}", pattern.as_str()),
            of_channel(&limits),
        )
    }));
    ServerSettings {
        server_id: server_id.to_owned(),
        pages: pages(config, &host),
        host,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        settings,
        told_at: None,
        is_active: false,
        is_standby: false,
    }
}

/// Where others find them.
fn pages(config: &Config, host: &str) -> Option<String> {
    let secure = config.https.as_ref();
    let secure = secure.map(|pages| ("https", &pages.address));
    let plain = config.http.as_ref().map(|address| ("http", address));
    // A port that the system chooses is only in the log.
    let mut open = secure.into_iter().chain(plain);
    let (scheme, address) = open.find(|(_, it)| it.port != 0)?;
    Some(if address.is_everywhere() {
        format!("{scheme}://{host}:{}", address.port)
    } else {
        format!("{scheme}://{address}")
    })
}

fn of_channel(limits: &ChannelLimits) -> String {
    let number = |it: Option<u64>| it.unwrap_or(0).to_string();
    let time = |it: Option<std::time::Duration>| GoDuration::from(it.unwrap_or_default());
    format!(
        "max-subs={}, max-msgs={}, max-bytes={}, max-age={}, max-inactivity={}",
        number(limits.subscriptions.map(|it| it as u64)),
        number(limits.messages),
        number(limits.bytes),
        time(limits.age),
        time(limits.inactivity)
    )
}
