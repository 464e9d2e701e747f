//! Subscriptions keep the ack inboxes that they were given, whoever serves them later.

use futures_util::StreamExt as _;
use stanby::core::request::StartPosition;
use stanby::protocol::client;
use tokio::time::timeout;

use crate::pair::{Group, LIMIT};
use crate::support::wait::wait_until;

const CHANNEL: &str = "orders";

#[tokio::test]
async fn acks_count_on_inboxes_that_another_server_gave_out() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("reader").await;
    let mut publisher = client.publisher(CHANNEL).await;
    let _acking = client.subscribe(CHANNEL, "", "").await.unwrap();
    publisher.send_until_acked(LIMIT).await;
    wait_for_acks_up_to(&group, 1).await;

    // Another prefix.
    server.kill().await;
    let server = group.server_with(&["--ack-prefix", "_OTHER.acks"]);
    server.wait_until_active().await;
    publisher.send_until_acked(LIMIT).await;
    wait_for_acks_up_to(&group, 2).await;
    let _acking_too = client.subscribe("others", "", "").await.unwrap();
    let given_out =
        "SELECT count(*) FROM stanby.subscriptions WHERE ack_inbox LIKE '\\_OTHER.acks.%'";
    assert_eq!(group.tables().number(given_out).await, 1);

    // Tables that came from elsewhere.
    server.kill().await;
    let imported = "UPDATE stanby.subscriptions SET ack_inbox = '_IMPORTED.' || subscription_id";
    group.tables().execute(imported).await;
    let server = group.server();
    server.wait_until_active().await;
    publisher.send_until_acked(LIMIT).await;
    let first = "SELECT min(subscription_id) FROM stanby.subscriptions";
    let inbox = format!("_IMPORTED.{}", group.tables().number(first).await);
    for sequence in 1..=10 {
        client
            .nats
            .publish(inbox.clone(), client::ack(CHANNEL, sequence))
            .await
            .unwrap();
    }
    wait_for_acks_up_to(&group, 3).await;
}

/// A slow route may bring a close, and then the subscribe that was carried out long ago, to the next active only.
#[tokio::test]
async fn a_request_that_is_carried_out_by_two_actives_gets_one_ack_inbox() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("reader").await;
    let request = client::subscribe_request(&client::Subscribe {
        client_id: &client.id,
        channel: CHANNEL,
        inbox: &client.nats.new_inbox(),
        queue_group: "",
        durable_name: "",
        max_in_flight: 1,
        ack_wait_seconds: 30,
        start: StartPosition::NewOnly,
    });
    let reply = client.nats.new_inbox();
    let mut answers = client.nats.subscribe(reply.clone()).await.unwrap();
    let mut ask = async || {
        let subject = client.subjects.subscribe.to_string();
        let sent = (client.nats).publish_with_reply(subject, reply.clone(), request.clone());
        sent.await.unwrap();
        let answer = timeout(LIMIT, answers.next()).await.unwrap().unwrap();
        client::subscribe_response(answer.payload).unwrap()
    };
    let told = ask().await;

    server.kill().await;
    let forget = "DELETE FROM stanby.subscriptions; DELETE FROM stanby.positions";
    group.tables().execute(forget).await;
    let server = group.server();
    server.wait_until_active().await;

    assert_eq!(ask().await, told);
}

async fn wait_for_acks_up_to(group: &Group, sequence: i64) {
    // A publisher that got no ack in time has published again: all there is.
    let query = "SELECT CASE WHEN acked_floor = last_sequence THEN acked_floor ELSE -1 END
        FROM stanby.positions JOIN stanby.channels USING (channel_id) WHERE name = 'orders'";
    wait_until(LIMIT, async || match group.tables().number(query).await {
        floor if floor >= sequence => Ok(()),
        floor => Err(format!(
            "acked up to {floor}, not all of {sequence} or more"
        )),
    })
    .await;
}
