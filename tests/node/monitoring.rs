//! The monitoring pages of whole servers, as exporters, dashboards and autoscalers read them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod lists;
mod metrics;

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::pair::{Group, LIMIT, Server};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

async fn page(server: &Server, path: &str) -> Value {
    let (code, body) = server.get(path).await.unwrap();
    assert_eq!(code, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn publish(client: &StanClient, channel: &str, count: usize) {
    let mut publisher = client.publisher(channel).await;
    for _ in 0..count {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
}

/// Waits until the page says so.
async fn wait_for(server: &Server, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_until(LIMIT, async || {
        let (code, body) = server.get(path).await?;
        let value: Value = serde_json::from_str(&body).map_err(|_| format!("{code} {body}"))?;
        if holds(&value) { Ok(value) } else { Err(body) }
    })
    .await
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// Acceptance: 141.
#[tokio::test]
async fn storez_shows_the_limits_after_inheritance() {
    let limits = [
        "--channel-limits",
        "foo.>: max-msgs=10; foo.bar: max-age=1s, max-subs=0",
        "-ma",
        "1h",
        "-mi",
        "2s",
    ];
    let Some(group) = Group::new(&limits).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    publish(&group.client("me").await, "foo.x", 2).await;

    let store = wait_for(&server, "/streaming/storez", |store| {
        store["total_msgs"] == 2
    })
    .await;
    assert_eq!(
        keys(&store),
        [
            "cluster_id",
            "limits",
            "now",
            "server_id",
            "total_bytes",
            "total_msgs",
            "type"
        ]
    );
    assert_eq!(store["type"], "SQL");
    let hour = 3_600_000_000_000_u64;
    let two_seconds = 2_000_000_000_u64;
    assert_eq!(
        store["limits"],
        json!({
            "max_channels": 100, "max_msgs": 1_000_000, "max_bytes": 1_024_000_000, "max_age": hour,
            "max_subscriptions": 1000, "max_inactivity": two_seconds,
            "channels": {
                "foo.>": {"max_msgs": 10, "max_bytes": 1_024_000_000, "max_age": hour, "max_subscriptions": 1000,
                    "max_inactivity": two_seconds},
                "foo.bar": {"max_msgs": 10, "max_bytes": 1_024_000_000, "max_age": 1_000_000_000,
                    "max_subscriptions": 0, "max_inactivity": two_seconds},
            }
        })
    );
}

/// Acceptance: 147.
#[tokio::test]
async fn the_pages_answer_all_the_time_while_servers_start_and_end() {
    const PATHS: [&str; 6] = [
        "/streaming/serverz",
        "/streaming/storez",
        "/streaming/clientsz?subs=1",
        "/streaming/channelsz?subs=1",
        "/streaming/isFTActive",
        "/metrics",
    ];

    let Some(group) = Group::new(&[]).await else {
        return;
    };
    for _ in 0..2 {
        let mut server = group.server();
        let codes = RefCell::new(BTreeSet::new());
        wait_until(LIMIT, async || {
            for path in PATHS {
                if let Ok((code, _)) = server.get(path).await {
                    codes.borrow_mut().insert(code);
                }
            }
            match server.get("/healthz/active").await {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert!(
            codes
                .borrow()
                .iter()
                .all(|code| [200, 204, 500].contains(code)),
            "{codes:?}"
        );
        let client = group.client("me").await;
        publish(&client, "a", 1).await;
        server.signal(nix::sys::signal::Signal::SIGTERM);
        while server.is_running() {
            for path in PATHS {
                server.get(path).await.ok();
            }
        }
        assert_eq!(server.end().await.code(), Some(143));
    }
}

#[tokio::test]
async fn counters_are_those_of_the_moment_of_the_request() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    let mut publisher = client.publisher("orders").await;

    for count in 1..=10 {
        publisher.send().await;
        publisher.take_all_acks().await;

        let serverz = page(&server, "/streaming/serverz").await;
        assert_eq!(
            (&serverz["in_msgs"], &serverz["total_msgs"]),
            (&json!(count), &json!(count))
        );
        let storez = page(&server, "/streaming/storez").await;
        assert_eq!(storez["total_msgs"], json!(count));
        let (_, metrics) = server.get("/metrics").await.unwrap();
        let line = format!("\nstanby_in_messages_total {count}\n");
        assert!(metrics.contains(&line), "{count}: {metrics}");
    }
}
