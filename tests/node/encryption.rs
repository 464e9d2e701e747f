//! Servers that encrypt what they store: with a pair, a change of keys, and servers that have the wrong one.

use std::collections::BTreeSet;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Server};
use crate::support::wait::wait_until;

const CHANNEL: &str = "orders";
const KEY: &str = "geheim-1-0123456789abcdef";
const NEXT_KEY: &str = "geheim-2-0123456789abcdef";

/// A server with that key, and others to read with.
fn server(group: &Group, key: &str, others: &str) -> Server {
    group.server_changed(|command| {
        command.env("NATS_STREAMING_ENCRYPTION_KEY", key);
        command.env("STANBY_ENCRYPTION_OTHER_KEYS", others);
    })
}

/// Its log, after it has ended by itself because of its key.
async fn refusal(mut server: Server) -> String {
    assert_eq!(server.end().await.code(), Some(1), "{}", server.log());
    let log = server.log();
    assert!(log.contains("Failed to start: "), "{log}");
    assert!(!log.contains("geheim"), "{log}");
    log
}

#[tokio::test]
async fn a_durable_gets_all_that_a_killed_active_had_encrypted() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let active = server(&group, KEY, "");
    active.wait_until_active().await;
    let standby = server(&group, KEY, "");
    group.wait_for_standbys(1).await;
    let client = group.client("alice").await;
    let mut publisher = client.publisher(CHANNEL).await;
    for _ in 0..100 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;

    active.kill().await;
    assert_eq!(standby.wait_until_active().await, 2);
    publisher.send().await;
    publisher.take_all_acks().await;
    let received = client.subscribe(CHANNEL, "", "books").await.unwrap();

    let sequences = wait_until(LIMIT, async || match received.sequences() {
        sequences if sequences.len() == 101 => Ok(sequences),
        sequences => Err(format!("{sequences:?}")),
    })
    .await;
    assert_eq!(sequences, (1..=101).collect::<BTreeSet<u64>>());
    let stored = group.tables().messages(CHANNEL).await;
    assert_eq!(stored.len(), 101);
    let delivered = received.received();
    for row in &stored {
        let delivery = delivered
            .iter()
            .find(|d| d.sequence == row.sequence.cast_unsigned());
        let data = &delivery.unwrap().data;
        assert_eq!(row.data.len(), data.len() + 24);
        assert!(!row.data.windows(data.len()).any(|part| part == &data[..]));
    }
    let metrics = standby.get("/metrics").await.unwrap().1;
    assert!(metrics.contains("stanby_unreadable_messages_total 0\n"));
    for text in [standby.log(), metrics] {
        assert!(!text.contains("geheim"), "{text}");
    }
}

#[tokio::test]
async fn a_server_with_another_key_or_none_says_so_at_its_start() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let active = server(&group, KEY, "");
    active.wait_until_active().await;

    let log = refusal(server(&group, NEXT_KEY, "")).await;
    assert!(
        log.contains("encrypted with another key than this server"),
        "{log}"
    );
    let log = refusal(group.server()).await;
    assert!(log.contains("this server was given no key"), "{log}");
    let mut doctor = Server::command();
    doctor
        .args(["doctor", "--database-url", &group.database_url])
        .args([
            "--nats-server",
            &group.nats_url,
            "--cluster-id",
            &group.cluster_id,
        ]);
    let output = tokio::process::Command::from(doctor)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("this server was given no key"), "{text}");
}

#[tokio::test]
async fn a_standby_that_lacks_a_key_ends_as_soon_as_it_is_in_use() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let without = group.server();
    without.wait_until_active().await;
    // The tables know of no key yet, so none can be wrong.
    let with = server(&group, KEY, "");
    group.wait_for_standbys(1).await;

    let mut step_down = Server::command();
    step_down.args(["step-down", "--database-url", &group.database_url]);
    let output = tokio::process::Command::from(step_down).output().await;
    assert!(output.as_ref().unwrap().status.success(), "{output:?}");
    assert_eq!(with.wait_until_active().await, 2);

    let log = refusal(without).await;
    assert!(log.contains("this server was given no key"), "{log}");
}

#[tokio::test]
async fn keys_are_changed_without_a_moment_without_a_standby() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let first = server(&group, KEY, "");
    first.wait_until_active().await;
    let client = group.client("alice").await;
    let mut publisher = client.publisher(CHANNEL).await;
    publisher.send().await;
    publisher.take_all_acks().await;

    // First every server can read with the next key, then each is started with it, then the former one goes.
    let second = server(&group, KEY, NEXT_KEY);
    group.wait_for_standbys(1).await;
    first.kill().await;
    second.wait_until_active().await;
    let first = server(&group, NEXT_KEY, KEY);
    group.wait_for_standbys(1).await;
    second.kill().await;
    first.wait_until_active().await;
    publisher.send().await;
    publisher.take_all_acks().await;
    let second = server(&group, NEXT_KEY, "");
    group.wait_for_standbys(1).await;
    first.kill().await;
    second.wait_until_active().await;

    let received = client.subscribe(CHANNEL, "", "books").await.unwrap();
    wait_until(LIMIT, async || match received.sequences() {
        sequences if sequences == BTreeSet::from([1, 2]) => Ok(()),
        sequences => Err(format!("{sequences:?}")),
    })
    .await;
    let log = refusal(server(&group, KEY, "")).await;
    assert!(log.contains("number 2"), "{log}");
}

#[tokio::test]
async fn status_tells_the_key_in_use_and_what_is_not_encrypted() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let publish = async |count: usize| {
        let client = group.client("alice").await;
        let mut publisher = client.publisher(CHANNEL).await;
        for _ in 0..count {
            publisher.send().await;
        }
        publisher.take_all_acks().await;
        assert_eq!(client.close().await, Ok(()));
    };
    let plain = group.server();
    plain.wait_until_active().await;
    publish(2).await;
    assert!(status(&group, &[]).await.contains("\nencrypted no\n"));
    plain.kill().await;

    let encrypting = server(&group, KEY, "");
    encrypting.wait_until_active().await;
    publish(1).await;

    let report: serde_json::Value =
        serde_json::from_str(&status(&group, &["--json"]).await).expect("JSON");
    let encryption = &report["encryption"];
    assert_eq!(encryption["writes_with"]["number"], 1, "{report}");
    assert_eq!(encryption["writes_with"]["cipher"], "AES");
    assert_eq!(encryption["keys"], 1);
    assert_eq!(encryption["plain_messages"], 2);
    let text = status(&group, &[]).await;
    for part in [
        "\nencrypted yes, with key 1 (AES) since 2",
        "; 2 messages stand there unencrypted\n",
    ] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
    encrypting.kill().await;

    let reading = server(&group, "", KEY);
    reading.wait_until_active().await;
    let text = status(&group, &[]).await;
    let part =
        "\nencrypted no longer; what was encrypted still needs its key; keys needed to read: 1;";
    assert!(text.contains(part), "{text}");
}

async fn status(group: &Group, more: &[&str]) -> String {
    let command = ["status", "--database-url", &group.database_url];
    let output = stanby(&[&command, more].concat()).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    stdout(&output)
}
