//! `/metrics`, and the dashboards and alerts that are made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::publish;
use crate::pair::{LIMIT, Pair};
use crate::support::wait::wait_until;

/// The samples of `/metrics` by name, without labels.
fn samples(metrics: &str) -> BTreeMap<String, f64> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let mut samples = BTreeMap::new();
    for line in lines {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap().to_owned();
        *samples.entry(name).or_default() += value.parse::<f64>().unwrap();
    }
    samples
}

/// Names that begin like ours, in the text of a dashboard or of rules.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_name(c));
    let ours = words.filter(|word| word.starts_with("stanby_") || word.starts_with("nss_"));
    ours.map(str::to_owned).collect()
}

#[tokio::test]
async fn metrics_tell_of_durables_and_every_name_in_dashboards_and_alerts_exists() {
    let Some(pair) = Pair::new(&["--channel-limits", "orders: max-msgs=5"]).await else {
        return;
    };
    let client = pair.group.client("me").await;
    client.hold("orders", "", "books", 2).await.unwrap();
    client.hold("orders", "workers", "", 1).await.unwrap();
    publish(&client, "orders", 8).await;

    let metrics = wait_until(LIMIT, async || {
        let (_, text) = pair.active.get("/metrics").await?;
        let found = samples(&text);
        let dropped = found.get("stanby_dropped_unacked_messages_total");
        if dropped == Some(&3.0) && found["stanby_durable_unacked"] > 1.5 {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await;

    for line in [
        "stanby_durable_lag{channel=\"orders\",durable=\"books\",queue=\"\",client_id=\"me\"} ",
        "stanby_durable_unacked{channel=\"orders\",durable=\"books\",queue=\"\",client_id=\"me\"} 2",
        "stanby_durable_stalled_members{channel=\"orders\",durable=\"books\",queue=\"\",client_id=\"me\"} 1",
        "stanby_channel_last_sequence{channel=\"orders\"} 8",
        "stanby_channel_messages{channel=\"orders\"} 5",
        "stanby_takeovers_total 1",
        "stanby_commit_seconds_bucket{le=\"+Inf\"} ",
        "nss_server_info{",
    ] {
        assert!(
            metrics.lines().any(|found| found.starts_with(line)),
            "{line} in {metrics}"
        );
    }
    let exporter = metrics
        .lines()
        .find(|line| line.starts_with("nss_chan_subs_pending_count{"));
    let exporter = exporter.unwrap();
    for label in [
        "server_id=",
        "server_role=\"FT_ACTIVE\"",
        "channel=\"orders\"",
        "client_id=\"me\"",
        "inbox=\"_INBOX.",
        "queue_name=",
        "is_durable=",
        "is_offline=\"false\"",
        "durable_name=",
    ] {
        assert!(exporter.contains(label), "{label} in {exporter}");
    }
    let found = samples(&metrics);
    assert!(found["stanby_resident_memory_bytes"] > 1e6);
    assert!(found["stanby_commit_seconds_count"] >= 1.0);
    assert!(found["stanby_takeover_seconds"] > 0.0);
    assert!(found["stanby_trust_seconds"] > 0.0);
    assert!(found["stanby_pool_connections"] >= 1.0);
    assert_eq!(found["stanby_batch_messages_sum"].to_string(), "8");
    assert_eq!(found["stanby_channels_left_out"].to_string(), "0");

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["deploy/grafana/stanby.json", "deploy/prometheus/alerts.yml"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let names = names_in(&text);
        assert!(names.len() > 10, "{file}: {names:?}");
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !found.contains_key(*name))
            .collect();
        assert!(
            missing.is_empty(),
            "{file} names {missing:?}, which /metrics does not have"
        );
    }

    let (_, standby) = pair.standby.get("/metrics").await.unwrap();
    let standby = samples(&standby);
    assert_eq!(standby["stanby_active"].to_string(), "0");
    assert!(
        !standby.contains_key("stanby_channel_messages"),
        "sums over a pair count once"
    );
    assert!(!standby.contains_key("nss_chan_msgs_total"));
}
