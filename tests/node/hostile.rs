//! Bytes that no client would send, on every subject, while well-behaved clients work on.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use stanby::core::request::StartPosition;
use stanby::protocol::Subjects;
use stanby::protocol::client as wire;
use stanby::protocol::subjects::Prefixes;

use crate::pair::{Group, LIMIT, Pair, Server};
use crate::stan::Publisher;
use crate::support::wait::wait_until;

/// Several times what a debug build needs, and far less than what is thrown at it.
const MEMORY_MAX_KIB: u64 = 256 * 1024;

const MEBIBYTE: usize = 1 << 20;

/// Every subject that servers listen on.
fn subjects(group: &Group) -> Vec<String> {
    let all = Subjects::new(&group.cluster_id, &Prefixes::default()).unwrap();
    [
        all.discover().to_string(),
        all.pings().to_string(),
        format!("{}.orders", all.publish_prefix()),
        format!("{}.a.b.c", all.publish_prefix()),
        all.subscribe().to_string(),
        all.unsubscribe().to_string(),
        all.close_subscription().to_string(),
        all.close_client().to_string(),
        format!("{}.1.2", all.ack_prefix()),
        format!("{}.x", all.ack_prefix()),
    ]
    .into()
}

/// The same on every run.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes.take(length).collect()
}

async fn throw(nats: &Client, subject: &str, payload: Bytes) {
    let (to, reply) = (subject.to_owned(), nats.new_inbox());
    nats.publish(to.clone(), payload.clone()).await.unwrap();
    nats.publish_with_reply(to, reply, payload).await.unwrap();
}

/// A request with a field that nobody knows, of a mebibyte.
fn padded(request: &Bytes) -> Bytes {
    let length = MEBIBYTE - 1024;
    let mut padded = request.to_vec();
    // Field 99, text; the length in groups of seven bits.
    padded.extend([0x9a, 0x06]);
    let group = |shift: u32| u8::try_from(length >> shift & 0x7f).unwrap();
    padded.extend([group(0) | 0x80, group(7) | 0x80, group(14)]);
    padded.resize(padded.len() + length, b'x');
    padded.into()
}

/// The active has read everything that NATS had when this began, and still serves.
async fn assert_serves(nats: &Client, good: &mut Publisher) {
    nats.flush().await.unwrap();
    good.send().await;
    assert!(good.take_ack(LIMIT).await);
    let published = good.published();
    assert_eq!(
        published.acked.len(),
        published.sent.len(),
        "{:?}",
        published.errors
    );
}

fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn nothing_that_is_thrown_at_the_subjects_disturbs_anybody_else() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let client = group.client("good").await;
    let received = client.subscribe("good", "", "books").await.unwrap();
    let mut good = client.publisher("good").await;
    let nats = async_nats::connect(&group.nats_url).await.unwrap();
    let largest = nats.max_payload();

    for subject in subjects(group) {
        throw(&nats, &subject, Bytes::new()).await;
        throw(&nats, &subject, Bytes::from_static(b"dummy")).await;
        for seed in 1..40 {
            throw(
                &nats,
                &subject,
                noise(seed, usize::try_from(seed).unwrap() * 3),
            )
            .await;
        }
        for filler in [0_u8, 10, 0x7f, 0xff] {
            throw(&nats, &subject, vec![filler; largest].into()).await;
        }
        throw(&nats, &subject, noise(7, largest)).await;
        assert_serves(&nats, &mut good).await;
    }

    // Well formed, and each of them a mebibyte of name or of nothing.
    let name = "x".repeat(MEBIBYTE - 1024);
    let subjects = &client.subjects;
    let leave = wire::leave_request("nobody", "good", "x");
    for round in 0..16 {
        for (to, request) in [
            (&subjects.close_client, wire::close_request(&name)),
            (
                &subjects.unsubscribe,
                wire::leave_request(&name, "good", "x"),
            ),
            (
                &subjects.close_subscription,
                wire::leave_request("good", "good", &name),
            ),
            (&subjects.pings, wire::ping_request(name.as_bytes())),
            (
                &subjects.close_client,
                padded(&wire::close_request("nobody")),
            ),
            (&subjects.unsubscribe, padded(&leave)),
            (&subjects.pings, padded(&wire::ping_request(b"nobody"))),
        ] {
            throw(&nats, to, request).await;
        }
        let publish = wire::publish_request(wire::Publish {
            client_id: &name,
            connection_id: b"",
            guid: &format!("hostile-{round}"),
            channel: "good",
            data: Bytes::new(),
        });
        throw(&nats, &format!("{}.good", subjects.publish_prefix), publish).await;
        let inbox = Subjects::new(&group.cluster_id, &Prefixes::default()).unwrap();
        let inbox = format!("{}.1.2", inbox.ack_prefix());
        throw(&nats, &inbox, wire::ack(&name, 1)).await;
        assert_serves(&nats, &mut good).await;
    }

    // Of the standby's memory nothing is asked here: it reads at a pace of its own, and what waits meanwhile is
    // memory, too.
    let peak = memory_kib(&pair.active);
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB at the highest");
    assert_eq!(client.ping().await, Ok(()));
    assert_eq!(pair.active.wait_until_active().await, 1);
    let sent = u64::try_from(good.published().sent.len()).unwrap();
    wait_until(LIMIT, async || match received.sequences() {
        got if got == (1..=sent).collect() => Ok(()),
        got => Err(format!("{} of {sent}", got.len())),
    })
    .await;
    // The standby has heard all of it; none of it keeps it from taking over.
    pair.active.kill().await;
    assert_eq!(pair.standby.wait_until_active().await, 2);
    good.send_until_acked(LIMIT).await;
    assert_eq!(client.ping().await, Ok(()));
}

#[tokio::test]
async fn inboxes_that_are_no_subjects_are_refused() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("good").await;
    let discover = Subjects::new(&group.cluster_id, &Prefixes::default()).unwrap();

    for inbox in ["with space", "a\r\nPUB x 0", "", "a..b", "a.>", "*"] {
        let connect = wire::connect_request(&wire::Connect {
            client_id: "odd",
            heartbeat_inbox: inbox,
            protocol: 1,
            connection_id: b"odd",
            ping_interval: 5,
            ping_max_out: 3,
        });
        let subject = discover.discover().to_string();
        let answer = client.nats.request(subject, connect).await.unwrap();
        assert!(wire::connect_response(answer.payload).is_err(), "{inbox:?}");

        let subscribe = wire::subscribe_request(&wire::Subscribe {
            client_id: "good",
            channel: "orders",
            inbox,
            queue_group: "",
            durable_name: "",
            max_in_flight: 1,
            ack_wait_seconds: 30,
            start: StartPosition::First,
        });
        let subject = client.subjects.subscribe.to_string();
        let answer = client.nats.request(subject, subscribe).await.unwrap();
        assert!(
            wire::subscribe_response(answer.payload).is_err(),
            "{inbox:?}"
        );
    }

    assert_eq!(client.ping().await, Ok(()));
    assert_eq!(group.tables().clients().await.len(), 1);
}

#[tokio::test]
async fn messages_as_large_as_nats_allows_pass_through() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("large").await;
    let received = client.subscribe("large", "", "").await.unwrap();
    let inbox = client.nats.new_inbox();
    let mut acks = client.nats.subscribe(inbox.clone()).await.unwrap();
    // Names and times around the data take their share of what NATS allows.
    let data = noise(3, client.nats.max_payload() - 256);

    for number in 0..4 {
        let request = wire::publish_request(wire::Publish {
            client_id: "large",
            connection_id: client.connection_id.as_bytes(),
            guid: &format!("large-{number}"),
            channel: "large",
            data: data.clone(),
        });
        let to = format!("{}.large", client.subjects.publish_prefix);
        client
            .nats
            .publish_with_reply(to, inbox.clone(), request)
            .await
            .unwrap();
        let ack = acks.next().await.unwrap();
        assert_eq!(wire::publish_ack(ack.payload).unwrap().refusal, None);
    }

    let got = wait_until(LIMIT, async || match received.received() {
        got if got.len() == 4 => Ok(got),
        got => Err(format!("{} of 4", got.len())),
    })
    .await;
    assert!(got.iter().all(|one| one.data == data));
}
