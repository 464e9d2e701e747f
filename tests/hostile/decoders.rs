//! One payload through every decoder: it is understood, refused or dropped, and what is understood is something
//! that the core, Postgres and a NATS connection can take.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use prost::Message as _;
use stanby::core::ids::{
    ChannelName, ClientId, DurableName, Guid, NAME_BYTES_MAX, QueueName, Sequence, Subject,
};
use stanby::core::limits::{ChannelLimits, ChannelPattern, Overrides, PerChannel};
use stanby::core::request::{Publisher, StartPosition};
use stanby::core::{Reply, Request};
use stanby::protocol::announcement::Announcement;
use stanby::protocol::subjects::Prefixes;
use stanby::protocol::{Subjects, client, decode, encode, partition_peers, pb};

use super::input::Input;
use super::payloads::payload;

const SEQUENCE_MAX: Sequence = Sequence(i64::MAX.unsigned_abs());

/// # Panics
/// When a decoder does, or lets something through that it must not.
pub(crate) fn feed(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let reply: Option<ByteString> = match input.below(5) {
        0 => None,
        1 => Some("_INBOX.r\r\nPUB x 0".into()),
        2 => Some("foo.>".into()),
        _ => Some("_INBOX.r".into()),
    };
    let payload = payload(&mut input);

    let here = || reply.clone();
    let events = [
        decode::connect(payload.clone(), here()),
        decode::publish(payload.clone(), here()),
        decode::subscribe(payload.clone(), here(), u128::from(input.number())),
        decode::unsubscribe(payload.clone(), here()),
        decode::close_subscription(payload.clone(), here()),
        decode::close_client(payload.clone(), here()),
        decode::ping(payload.clone(), here()),
        decode::ack(payload.clone(), "_INBOX.ack".into()),
    ];
    let to = reply.clone().and_then(Subject::parse);
    for event in events.into_iter().flatten() {
        check(event, to.as_ref());
    }
    if let Some(announcement) = Announcement::decode(&payload) {
        let again = Announcement::decode(&announcement.encode());
        assert_eq!(again, Some(announcement), "what is understood can be said");
    }
    answers(&payload);
    lists(&payload);
    names(&payload);
}

fn check(event: Request, to: Option<&Subject>) {
    let storable = |text: &ByteString| !text.as_bytes().contains(&0);
    match event {
        Request::Connect { request, reply } => {
            assert_eq!(reply.as_ref(), to);
            assert!(ClientId::parse(request.client_id.to_text()).is_some());
            assert!(Subject::parse(request.heartbeat_inbox.to_text()).is_some());
            assert!(request.connection_id.0.len() <= NAME_BYTES_MAX);
        }
        Request::Publish { request, reply } => {
            assert_eq!(reply.as_ref(), to);
            assert!(ChannelName::parse(request.channel.to_text()).is_some());
            assert!(Guid::parse(request.guid.to_text()).is_some());
            assert!(request.guid.as_str().len() <= NAME_BYTES_MAX);
            assert!(storable(&request.reply));
            match request.publisher {
                Publisher::Connection(id) => assert!(!id.is_empty()),
                Publisher::Client(id) => assert!(storable(&id)),
            }
        }
        Request::Subscribe { request, reply } => {
            assert_eq!(reply.as_ref(), to);
            assert!(ClientId::parse(request.client_id.to_text()).is_some());
            assert!(ChannelName::parse(request.channel.to_text()).is_some());
            assert!(Subject::parse(request.inbox.to_text()).is_some());
            let queue = request.queue_group.map(|name| name.to_text());
            assert!(queue.is_none_or(|name| QueueName::parse(name).is_some()));
            let durable = request.durable_name.map(|name| name.to_text());
            assert!(durable.is_none_or(|name| DurableName::parse(name).is_some()));
            assert!(request.max_in_flight >= 1);
            assert!(request.ack_wait >= Duration::from_secs(1));
            match request.start {
                StartPosition::Sequence(sequence) => assert!(sequence <= SEQUENCE_MAX),
                StartPosition::NewOnly
                | StartPosition::LastReceived
                | StartPosition::TimeDelta(_)
                | StartPosition::First => {}
            }
        }
        Request::Unsubscribe { request, reply } | Request::CloseSubscription { request, reply } => {
            assert_eq!(reply.as_ref(), to);
            assert!(ChannelName::parse(request.channel.to_text()).is_some());
            assert!(storable(&request.client_id) && storable(&request.inbox));
        }
        Request::CloseClient { client_id, reply } => {
            assert_eq!(reply.as_ref(), to);
            assert!(storable(&client_id));
        }
        Request::Ping {
            connection_id,
            reply,
        } => {
            assert_eq!(Some(&reply), to);
            assert!(!connection_id.is_empty());
        }
        Request::Ack(ack) => {
            assert!(storable(&ack.channel) && ack.sequence <= SEQUENCE_MAX);
        }
        Request::Answered { answer, reply } => {
            assert_eq!(Some(&reply), to);
            assert!(is_refusal(&answer), "{answer:?}");
        }
        Request::AlreadyStored { .. } => panic!("no client can cause {event:?}"),
    }
}

/// The client sees the refusal as one.
fn is_refusal(answer: &Reply) -> bool {
    let subjects = Subjects::new("test-cluster", &Prefixes::default()).expect("a valid ID");
    let sent = encode::reply(answer, &subjects, &mut BytesMut::new());
    let refused = |error| matches!(error, client::Error::Refused(_));
    match answer {
        Reply::ConnectRefused(_) => client::connect_response(sent).is_err_and(refused),
        // Go clients send and take guids that are not UTF-8.
        Reply::PublishRefused(guid, why) if std::str::from_utf8(guid).is_err() => {
            let without = Reply::PublishRefused(Bytes::new(), why.clone());
            let refusal = encode::reply(&without, &subjects, &mut BytesMut::new());
            let before = sent.strip_suffix(&refusal[..]);
            before.is_some_and(|sent| sent.ends_with(guid)) && is_refusal(&without)
        }
        Reply::PublishRefused(guid, _) => client::publish_ack(sent)
            .is_ok_and(|ack| ack.refusal.is_some() && ack.guid.as_bytes() == &guid[..]),
        Reply::SubscribeRefused(_) => client::subscribe_response(sent).is_err_and(refused),
        Reply::LeaveRefused(_) => client::leave_response(sent).is_err_and(refused),
        Reply::CloseRefused(_) => client::close_response(sent).is_err_and(refused),
        Reply::PingRefused(_) => client::ping_response(sent).is_err_and(refused),
        Reply::Connected { .. }
        | Reply::Published(_)
        | Reply::Subscribed { .. }
        | Reply::Left
        | Reply::ClientClosed
        | Reply::Pong => false,
    }
}

/// The payload as an answer: the other side's decoders.
fn answers(payload: &Bytes) {
    if let Ok(ack) = client::publish_ack(payload.clone()) {
        assert!(ack.refusal.is_none_or(|text| !text.is_empty()));
    }
    if let Ok(delivery) = client::delivery(payload.clone()) {
        assert!(delivery.data.len() <= payload.len());
    }
    drop(client::connect_response(payload.clone()));
    drop(client::subscribe_response(payload.clone()));
    drop(client::leave_response(payload.clone()));
    drop(client::close_response(payload.clone()));
    drop(client::ping_response(payload.clone()));
}

/// The payload as what another group of servers says, and as the list in it.
fn lists(payload: &Bytes) {
    let holding = pb::CtrlMsg {
        msg_type: 4,
        data: payload.clone(),
        ..pb::CtrlMsg::default()
    };
    for said in [payload.clone(), holding.encode_to_vec().into()] {
        if let Some((sender, channels)) = partition_peers::request(said.clone()) {
            let again = partition_peers::requests(&sender, &channels, 1 << 24);
            let again = again.expect("what fits into one message fits into a larger one");
            assert_eq!(
                partition_peers::request(again[0].clone()),
                Some((sender, channels))
            );
        }
        drop(partition_peers::answered(said));
    }
}

/// The payload as a name that an operator configures.
fn names(payload: &Bytes) {
    let text = String::from_utf8_lossy(payload);
    let prefixes = Prefixes {
        discover: Some(text.clone().into_owned()),
        ack: Some(text.clone().into_owned()),
        group: None,
    };
    for (cluster_id, prefixes) in [(&*text, &Prefixes::default()), ("test-cluster", &prefixes)] {
        if let Ok(subjects) = Subjects::new(cluster_id, prefixes) {
            assert!(Subject::parse(subjects.discover().clone()).is_some());
            assert!(Subject::parse(subjects.ack_prefix().clone()).is_some());
        }
    }
    let name = ByteString::from(text.clone().into_owned());
    if let Some(pattern) = ChannelPattern::parse(name.clone()) {
        let entries = vec![(pattern.clone(), Overrides::default())];
        let table = PerChannel::new(entries, ChannelLimits::default());
        if let Some(channel) = ChannelName::parse(name) {
            assert!(pattern.is_literal(), "{pattern:?} is a channel's name");
            assert_eq!(table.of(&channel), Some(ChannelLimits::default()));
        }
    }
}
