//! Requests that a client gave up during a freeze, and asks again; and GUIDs that were used before.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use stanby::core::request::StartPosition;
use stanby::protocol::client;
use tokio::time::timeout;

use crate::pair::{LIMIT, Pair};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

const CHANNEL: &str = "orders";

/// As libraries wait for a subscription, and longer than clients have to for an answer to be late.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The freeze is over when the client has given up.
const FLAGS: [&str; 2] = ["--lease", "3s"];

impl StanClient {
    /// Asks for a subscription, and stops listening when there is no answer in time.
    async fn give_up_subscribing(&self, queue: &str, durable: &str) {
        let inbox = self.nats.new_inbox();
        let listening = self.nats.subscribe(inbox.clone()).await.unwrap();
        let request = client::subscribe_request(&client::Subscribe {
            client_id: &self.id,
            channel: CHANNEL,
            inbox: &inbox,
            queue_group: queue,
            durable_name: durable,
            max_in_flight: 64,
            ack_wait_seconds: 1,
            start: StartPosition::First,
        });
        let reply = self.nats.new_inbox();
        let mut answers = self.nats.subscribe(reply.clone()).await.unwrap();
        let to = self.subjects.subscribe.to_string();
        self.nats
            .publish_with_reply(to, reply, request)
            .await
            .unwrap();
        let answer = timeout(PATIENCE, answers.next()).await;
        assert!(answer.is_err(), "the active is frozen: {answer:?}");
        drop((listening, answers));
        self.nats.flush().await.unwrap();
    }

    /// Publishes with this GUID and waits for the ack.
    async fn publish_as(&self, guid: &str, data: &'static [u8], reply: &str) {
        let request = client::publish_request(client::Publish {
            client_id: &self.id,
            connection_id: self.connection_id.as_bytes(),
            guid,
            channel: CHANNEL,
            data: Bytes::from_static(data),
        });
        let to = format!("{}.{CHANNEL}", self.subjects.publish_prefix);
        self.nats
            .publish_with_reply(to, reply.to_owned(), request)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_subscription_that_timed_out_during_a_freeze_can_be_asked_for_again() {
    let Some(pair) = Pair::new(&FLAGS).await else {
        return;
    };
    let alice = pair.group.client("alice").await;
    let bob = pair.group.client("bob").await;
    let mut publisher = bob.publisher(CHANNEL).await;

    pair.active.signal(Signal::SIGSTOP);
    tokio::join!(
        alice.give_up_subscribing("", "books"),
        alice.give_up_subscribing("workers", ""),
    );
    assert_eq!(pair.standby.wait_until_active().await, 2);
    let durable = alice.subscribe(CHANNEL, "", "books").await.unwrap();
    let worker = alice.subscribe(CHANNEL, "workers", "").await.unwrap();

    // The member of the group that nobody listens to gets its share, and then another message, and is gone.
    let leaving = async {
        loop {
            publisher.send().await;
            publisher.take_all_acks().await;
            let members = "SELECT count(*) FROM stanby.subscriptions";
            if pair.group.tables().number(members).await == 2 {
                break;
            }
        }
    };
    timeout(LIMIT, leaving).await.expect("the member leaves");
    let sent = publisher.published().sent.len();
    wait_until(LIMIT, async || {
        let got = (durable.sequences().len(), worker.sequences().len());
        let everything = got == (sent, sent);
        everything.then_some(()).ok_or(format!("{got:?} of {sent}"))
    })
    .await;
    assert!(pair.standby.log().contains("its client no longer listens"));
    // Whoever has used a subscription keeps it.
    let again = alice.subscribe(CHANNEL, "", "books").await;
    assert!(again.is_err_and(|refusal| refusal.contains("duplicate durable")));
    pair.active.signal(Signal::SIGCONT);
}

#[tokio::test]
async fn a_guid_that_another_client_used_makes_no_publish_disappear_in_a_takeover() {
    let Some(pair) = Pair::new(&FLAGS).await else {
        return;
    };
    let alice = pair.group.client("alice").await;
    let bob = pair.group.client("bob").await;
    let reply = alice.nats.new_inbox();
    let mut acks = alice.nats.subscribe(reply.clone()).await.unwrap();
    alice.nats.flush().await.unwrap();
    alice.publish_as("g", b"one", &reply).await;
    timeout(LIMIT, acks.next()).await.unwrap().unwrap();

    pair.active.signal(Signal::SIGSTOP);
    alice.publish_as("g", b"two", &reply).await;
    bob.publish_as("g", b"one", &reply).await;
    alice.nats.flush().await.unwrap();
    bob.nats.flush().await.unwrap();
    assert_eq!(pair.standby.wait_until_active().await, 2);
    // Also after the takeover, for as long as late copies are expected.
    bob.publish_as("g", b"three", &reply).await;
    // What the first active has answered is answered once more.
    for _ in 0..4 {
        timeout(LIMIT, acks.next()).await.unwrap().unwrap();
    }

    let stored =
        "SELECT client_id || ' ' || convert_from(data, 'UTF8') FROM stanby.messages ORDER BY 1";
    let expected = ["alice one", "alice two", "bob one", "bob three"];
    assert_eq!(pair.group.tables().texts(stored).await, expected);
    pair.active.signal(Signal::SIGCONT);
}
