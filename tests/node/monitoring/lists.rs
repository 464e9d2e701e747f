//! `/streaming/channelsz` and `/streaming/clientsz`, and an autoscaler that reads them.

use serde_json::{Value, json};

use super::{keys, page, publish, wait_for};
use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::wait::wait_until;

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
