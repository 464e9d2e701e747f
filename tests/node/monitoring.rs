//! The monitoring pages of whole servers, as exporters, dashboards and autoscalers read them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::pair::{Group, LIMIT, Pair, Server};
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

fn without(mut value: Value, names: &[&str]) -> Value {
    for name in names {
        value.as_object_mut().unwrap().remove(*name);
    }
    value
}

/// Acceptance: 142, 144.
#[tokio::test]
async fn channels_and_clients_are_listed_by_the_active_and_by_the_standby() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let (alice, bob) = (
        pair.group.client("alice").await,
        pair.group.client("bob").await,
    );
    publish(&alice, "b", 5).await;
    publish(&alice, "a", 1).await;
    alice.hold("b", "", "books", 2).await.unwrap();
    alice.hold("b", "workers", "shared", 3).await.unwrap();
    bob.hold("b", "", "", 10).await.unwrap();
    bob.hold("b", "", "gone", 2).await.unwrap();
    let active = &pair.active;
    let pending = |value: &Value| {
        let subscriptions = value["subscriptions"].as_array();
        let pending = subscriptions
            .into_iter()
            .flatten()
            .map(|s| s["pending_count"].as_u64());
        pending.flatten().sum::<u64>() == 12
    };
    let b = wait_for(active, "/streaming/channelsz?channel=b&subs=1", pending).await;

    let of_b = without(b.clone(), &["bytes", "subscriptions"]);
    assert_eq!(
        of_b,
        json!({"name": "b", "msgs": 5, "first_seq": 1, "last_seq": 5, "subs_count": 4})
    );
    assert!(b["bytes"].as_u64().unwrap() > 100);
    let subscriptions = b["subscriptions"].as_array().unwrap();
    let found: Vec<Value> = subscriptions
        .iter()
        .map(|subscription| {
            assert!(
                subscription["inbox"]
                    .as_str()
                    .unwrap()
                    .starts_with("_INBOX.")
            );
            assert!(
                subscription["ack_inbox"]
                    .as_str()
                    .unwrap()
                    .starts_with("_INBOX.")
            );
            without(subscription.clone(), &["inbox", "ack_inbox"])
        })
        .collect();
    let common = json!({"ack_wait": 30, "is_offline": false});
    let expected = [
        json!({"client_id": "alice", "durable_name": "books", "is_durable": true, "max_inflight": 2, "last_sent": 2,
            "pending_count": 2, "is_stalled": true}),
        json!({"client_id": "alice", "queue_name": "shared:workers", "is_durable": true, "max_inflight": 3,
            "last_sent": 3, "pending_count": 3, "is_stalled": true}),
        json!({"client_id": "bob", "is_durable": false, "max_inflight": 10, "last_sent": 5, "pending_count": 5,
            "is_stalled": false}),
        json!({"client_id": "bob", "durable_name": "gone", "is_durable": true, "max_inflight": 2, "last_sent": 2,
            "pending_count": 2, "is_stalled": true}),
    ];
    for (found, mut expected) in found.into_iter().zip(expected) {
        expected
            .as_object_mut()
            .unwrap()
            .extend(common.as_object().unwrap().clone());
        assert_eq!(found, expected);
    }

    let list = page(active, "/streaming/channelsz").await;
    assert_eq!(
        keys(&list),
        [
            "cluster_id",
            "count",
            "limit",
            "names",
            "now",
            "offset",
            "server_id",
            "total"
        ]
    );
    assert_eq!(list["names"], json!(["a", "b"]));
    assert_eq!(
        (&list["count"], &list["total"], &list["limit"]),
        (&json!(2), &json!(2), &json!(1024))
    );
    let list = page(active, "/streaming/channelsz?subs=1&limit=1&offset=1").await;
    assert_eq!(
        (&list["count"], &list["total"], &list["offset"]),
        (&json!(1), &json!(2), &json!(1))
    );
    assert_eq!(list["channels"][0], b);
    let none = page(active, "/streaming/channelsz?offset=10").await;
    assert_eq!(
        (&none["count"], &none["total"], none.get("names")),
        (&json!(0), &json!(2), None)
    );

    let clients = page(active, "/streaming/clientsz").await;
    let ids: Vec<&Value> = clients["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["id"])
        .collect();
    assert_eq!(ids, ["alice", "bob"]);
    assert_eq!(
        keys(&clients["clients"][0]),
        ["hb_inbox", "id", "subs_count"]
    );
    let alone = page(active, "/streaming/clientsz?client=alice&subs=1").await;
    assert_eq!(
        (&alone["id"], &alone["subs_count"]),
        (&json!("alice"), &json!(2))
    );
    assert_eq!(alone["subscriptions"]["b"].as_array().unwrap().len(), 2);
    assert_eq!(alone["hb_inbox"], json!(alice.heartbeat_inbox));

    for server in [active, &pair.standby] {
        for (path, text) in [
            (
                "/streaming/channelsz?channel=nope",
                "Channel nope not found\n",
            ),
            (
                "/streaming/clientsz?client=nope&subs=1",
                "Client nope not found\n",
            ),
        ] {
            assert_eq!(server.get(path).await.unwrap(), (404, text.to_owned()));
        }
    }

    bob.close().await.unwrap();
    let is_offline = |value: &Value| value["subs_count"] == 3;
    let b = wait_for(active, "/streaming/channelsz?channel=b&subs=1", is_offline).await;
    let gone = b["subscriptions"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&gone["is_offline"], &gone["client_id"]),
        (&json!(true), &json!("bob"))
    );
    assert_eq!(
        (&gone["is_stalled"], &gone["pending_count"]),
        (&json!(false), &json!(2))
    );
    wait_for(active, "/streaming/serverz", |server| {
        server["subscriptions"] == 3
    })
    .await;
    assert_eq!(page(active, "/streaming/clientsz").await["total"], 1);

    // What the tables hold of it is the same; who of a group was sent what last is not among it.
    let same = |value: &Value| *value == b;
    wait_for(&pair.standby, "/streaming/channelsz?channel=b&subs=1", same).await;
    let clients = page(&pair.standby, "/streaming/clientsz").await;
    assert_eq!(clients["clients"][0]["id"], "alice");
}

#[tokio::test]
async fn long_lists_are_put_together_from_pages() {
    const CHANNELS: usize = 1500;

    let Some(group) = Group::new(&["-mc", "0"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    let mut publishers = Vec::new();
    for number in 0..CHANNELS {
        let mut publisher = client.publisher(&format!("c{number:04}")).await;
        publisher.send().await;
        publishers.push(publisher);
    }
    for mut publisher in publishers {
        publisher.take_all_acks().await;
    }

    let names = |list: &Value| -> Vec<String> {
        let names = list["names"].as_array().unwrap().iter();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let all: Vec<String> = (0..CHANNELS)
        .map(|number| format!("c{number:04}"))
        .collect();
    assert_eq!(
        names(&page(&server, "/streaming/channelsz?limit=5000").await),
        all
    );
    let list = page(&server, "/streaming/channelsz?offset=100&limit=1200").await;
    assert_eq!(names(&list), all[100..1300]);
    assert_eq!(
        (&list["count"], &list["total"]),
        (&json!(1200), &json!(CHANNELS))
    );
    assert_eq!(
        names(&page(&server, "/streaming/channelsz").await),
        all[..1024]
    );
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

/// What KEDA's scaler for NATS Streaming makes of a channel: whether there is work, and how much.
fn scaled(code: u16, body: &str, durable: &str, queue: &str) -> (bool, u64) {
    if code == 404 {
        return (false, 0); // Not created yet.
    }
    let channel: Value = serde_json::from_str(body).unwrap();
    let wanted = format!("{durable}:{queue}");
    let subscriptions = channel["subscriptions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ours: Vec<Value> = subscriptions
        .into_iter()
        .filter(|subscription| subscription["queue_name"] == *wanted)
        .collect();
    let number = |value: &Value| value.as_u64().unwrap();
    let messages = number(&channel["msgs"]);
    let is_active = if ours.is_empty() {
        messages > 0
    } else {
        ours.iter()
            .any(|subscription| number(&subscription["pending_count"]) > 0)
    };
    let sent = ours
        .iter()
        .map(|subscription| number(&subscription["last_sent"]))
        .max();
    (is_active, messages - sent.unwrap_or(0))
}

#[tokio::test]
async fn an_autoscaler_reads_the_work_that_is_left() {
    const PATH: &str = "/streaming/channelsz?channel=jobs&subs=1";

    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let client = pair.group.client("me").await;
    let reads = async |server: &Server| {
        let (code, body) = server.get(PATH).await.unwrap();
        scaled(code, &body, "group", "workers")
    };
    assert_eq!(reads(&pair.active).await, (false, 0));

    publish(&client, "jobs", 7).await;
    assert_eq!(reads(&pair.active).await, (true, 7), "nobody works yet");

    client.hold("jobs", "workers", "group", 2).await.unwrap();
    client.hold("jobs", "workers", "group", 1).await.unwrap();
    for server in [&pair.active, &pair.standby] {
        wait_until(LIMIT, async || match reads(server).await {
            (true, 4) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

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

/// As NATS Streaming shows it: whoever looks for a backlog that nobody takes wants to know whose it is.
#[tokio::test]
async fn an_empty_durable_group_shows_who_left_it_last() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let (first, last) = (group.client("first").await, group.client("last").await);
    publish(&first, "jobs", 2).await;
    first.hold("jobs", "workers", "shared", 3).await.unwrap();
    last.hold("jobs", "workers", "shared", 7).await.unwrap();
    first.close().await.unwrap();
    last.close().await.unwrap();

    let jobs = page(&server, "/streaming/channelsz?channel=jobs&subs=1").await;

    let [shown] = jobs["subscriptions"].as_array().unwrap().as_slice() else {
        panic!("{jobs}");
    };
    for name in ["inbox", "ack_inbox"] {
        assert!(
            shown[name].as_str().unwrap().starts_with("_INBOX."),
            "{name}: {shown}"
        );
    }
    assert_eq!(
        without(shown.clone(), &["inbox", "ack_inbox"]),
        json!({"client_id": "last", "queue_name": "shared:workers", "is_durable": true, "is_offline": true,
            "max_inflight": 7, "ack_wait": 30, "last_sent": 2, "pending_count": 2, "is_stalled": false})
    );
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
