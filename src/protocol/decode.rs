//! Payloads to events. Checks what can be checked without state, in the order in which NATS Streaming does,
//! because the first check that fails decides the text that the client sees.
//!
//! Every function answers `None` when there is nothing to do and nobody to tell. A reply subject that is
//! missing or that NATS would not take a publish for means: carry out, do not answer.
//!
//! Beyond NATS Streaming's own checks, text that Postgres cannot hold (not UTF-8, or with NUL), names too long
//! for an index and inboxes that are no NATS subjects are refused here, so that no request can make a commit
//! fail or put a second protocol line into the connection to NATS.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message as _;

use super::{pb, publish};
use crate::core::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, Guid, NAME_BYTES_MAX, QueueName,
    SUBJECT_BYTES_MAX, Sequence, Subject,
};
use crate::core::outbound::Reply;
use crate::core::rejection::Rejection;
use crate::core::request::{Ack, AckToken, Connect, Leave, Publish, Publisher, Request};
use crate::core::request::{StartPosition, Subscribe};

/// Postgres' `bigint`: no message has a higher sequence.
const SEQUENCE_MAX: u64 = i64::MAX.unsigned_abs();

pub fn connect(payload: Bytes, reply: Option<ByteString>) -> Option<Request> {
    let reply = reply.and_then(Subject::parse);
    match connect_request(payload) {
        Ok(request) => Some(Request::Connect { request, reply }),
        Err(rejection) => refused(Reply::ConnectRefused(rejection), reply),
    }
}

fn connect_request(payload: Bytes) -> Result<Connect, Rejection> {
    let sent = decoded(payload, pb::ConnectRequest::encoded_len)
        .ok()
        .ok_or(Rejection::InvalidConnectRequest)?;
    let heartbeat_inbox = subject(sent.heartbeat_inbox).ok_or(Rejection::InvalidConnectRequest)?;
    // An index holds it; NUIDs have 22 bytes.
    if sent.conn_id.len() > NAME_BYTES_MAX {
        return Err(Rejection::InvalidConnectRequest);
    }
    let client_id = text(sent.client_id)
        .and_then(ClientId::parse)
        .ok_or(Rejection::InvalidClientId)?;
    Ok(Connect {
        client_id,
        heartbeat_inbox,
        protocol: sent.protocol,
        connection_id: ConnectionId(sent.conn_id),
        ping_interval: sent.ping_interval,
        ping_max_out: sent.ping_max_out,
    })
}

/// Who sent a request, without decoding it: the client ID, or the connection ID of a ping. Empty where it is not the
/// first field, where encoders put it. Not all of one that is longer than 127 bytes.
pub fn sender(payload: &[u8]) -> &[u8] {
    match payload {
        [0x0a, length, rest @ ..] => rest.get(..usize::from(*length)).unwrap_or_default(),
        _ => &[],
    }
}

pub fn publish(payload: Bytes, reply: Option<ByteString>) -> Option<Request> {
    let reply = reply.and_then(Subject::parse);
    let Ok(sent) = publish_request(&payload) else {
        // A stray message between NATS Streaming servers is nobody's publish.
        if pb::CtrlMsg::decode(payload).is_ok() {
            return None;
        }
        return refused(
            Reply::PublishRefused(Bytes::new(), Rejection::InvalidPublish),
            reply,
        );
    };
    let guid = sent.guid;
    let request = text(guid.clone())
        .and_then(Guid::parse)
        // The table holds it.
        .filter(|guid| guid.as_str().len() <= NAME_BYTES_MAX)
        .and_then(|guid| {
            Some(Publish {
                guid,
                channel: channel(sent.subject)?,
                publisher: publisher(sent.conn_id, sent.client_id)?,
                reply: text(sent.reply)?,
                data: sent.data,
            })
        });
    match request {
        Some(request) => Some(Request::Publish { request, reply }),
        None => refused(
            // In memory of its own: the payload is not kept for as long as the answer waits.
            Reply::PublishRefused(Bytes::copy_from_slice(&guid), Rejection::InvalidPublish),
            reply,
        ),
    }
}

/// That of a publish, for a refusal of it; empty where it has none. `None`: it is no publish.
pub fn guid(payload: &Bytes) -> Option<Bytes> {
    publish_request(payload).ok().map(|sent| sent.guid)
}

fn publish_request(payload: &Bytes) -> Result<pb::PubMsg, prost::DecodeError> {
    match publish::read(payload) {
        Some(sent) => Ok(sent),
        None => decoded(payload.clone(), pb::PubMsg::encoded_len),
    }
}

/// No client is called by a longer name.
fn publisher(connection_id: Bytes, client_id: Bytes) -> Option<Publisher> {
    if connection_id.is_empty() {
        let client_id = text(client_id).filter(|id| id.len() <= NAME_BYTES_MAX);
        client_id.map(Publisher::Client)
    } else {
        let fits = connection_id.len() <= NAME_BYTES_MAX;
        fits.then(|| Publisher::Connection(ConnectionId(connection_id)))
    }
}

/// `ack_token`: 128 bits that nobody can guess.
pub fn subscribe(
    payload: Bytes,
    reply: Option<ByteString>,
    ack_token: AckToken,
) -> Option<Request> {
    let reply = reply.and_then(Subject::parse);
    match subscribe_request(payload, ack_token) {
        Ok(request) => Some(Request::Subscribe { request, reply }),
        Err(rejection) => refused(Reply::SubscribeRefused(rejection), reply),
    }
}

fn subscribe_request(payload: Bytes, ack_token: AckToken) -> Result<Subscribe, Rejection> {
    let sent = decoded(payload, pb::SubscriptionRequest::encoded_len)
        .ok()
        .ok_or(Rejection::InvalidSubscribe)?;
    if sent.client_id.is_empty() {
        return Err(Rejection::ClientIdMissing);
    }
    let ack_wait = at_least_one(sent.ack_wait_in_secs).ok_or(Rejection::InvalidAckWait)?;
    let max_in_flight = at_least_one(sent.max_in_flight).ok_or(Rejection::InvalidMaxInFlight)?;
    let start = start_position(
        sent.start_position,
        sent.start_sequence,
        sent.start_time_delta,
    )
    .ok_or(Rejection::InvalidStartPosition)?;
    let channel = channel(sent.subject).ok_or(Rejection::InvalidChannel)?;
    let inbox = subject(sent.inbox).ok_or(Rejection::InvalidSubscribe)?;
    let queue_group =
        optional(sent.q_group, QueueName::parse).ok_or(Rejection::InvalidSubscribe)?;
    let durable_name =
        optional(sent.durable_name, DurableName::parse).ok_or(Rejection::InvalidSubscribe)?;
    let client_id = text(sent.client_id)
        .and_then(ClientId::parse)
        .ok_or(Rejection::UnknownClient)?;
    Ok(Subscribe {
        client_id,
        channel,
        inbox,
        queue_group,
        durable_name,
        max_in_flight,
        ack_wait: Duration::from_secs(ack_wait.into()),
        start,
        ack_token,
    })
}

fn at_least_one(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|&number| number > 0)
}

fn start_position(position: i32, sequence: u64, time_delta: i64) -> Option<StartPosition> {
    match position {
        0 => Some(StartPosition::NewOnly),
        1 => Some(StartPosition::LastReceived),
        2 => Some(StartPosition::TimeDelta(time_delta)),
        3 => Some(StartPosition::Sequence(Sequence(
            sequence.min(SEQUENCE_MAX),
        ))),
        4 => Some(StartPosition::First),
        _ => None,
    }
}

pub fn unsubscribe(payload: Bytes, reply: Option<ByteString>) -> Option<Request> {
    let reply = reply.and_then(Subject::parse);
    match leave_request(payload) {
        Ok(request) => Some(Request::Unsubscribe { request, reply }),
        Err(rejection) => refused(Reply::LeaveRefused(rejection), reply),
    }
}

pub fn close_subscription(payload: Bytes, reply: Option<ByteString>) -> Option<Request> {
    let reply = reply.and_then(Subject::parse);
    match leave_request(payload) {
        Ok(request) => Some(Request::CloseSubscription { request, reply }),
        Err(rejection) => refused(Reply::LeaveRefused(rejection), reply),
    }
}

fn leave_request(payload: Bytes) -> Result<Leave, Rejection> {
    let sent = decoded(payload, pb::UnsubscribeRequest::encoded_len)
        .ok()
        .ok_or(Rejection::InvalidLeave)?;
    // None that are longer were ever accepted or given out.
    let client_id = text(sent.client_id).filter(|id| id.len() <= NAME_BYTES_MAX);
    let client_id = client_id.ok_or(Rejection::InvalidLeave)?;
    let inbox = text(sent.inbox).filter(|inbox| inbox.len() <= SUBJECT_BYTES_MAX);
    let inbox = inbox.ok_or(Rejection::InvalidLeave)?;
    // No channel has a name that is not valid.
    let channel = channel(sent.subject).ok_or(Rejection::UnknownChannel)?;
    Ok(Leave {
        client_id,
        channel,
        inbox,
    })
}

pub fn close_client(payload: Bytes, reply: Option<ByteString>) -> Option<Request> {
    let reply = reply.and_then(Subject::parse);
    let client_id = decoded(payload, pb::CloseRequest::encoded_len)
        .ok()
        .and_then(|sent| text(sent.client_id))
        .filter(|id| id.len() <= NAME_BYTES_MAX);
    match client_id {
        Some(client_id) => Some(Request::CloseClient { client_id, reply }),
        None => refused(Reply::CloseRefused(Rejection::InvalidClose), reply),
    }
}

pub fn ping(payload: Bytes, reply: Option<ByteString>) -> Option<Request> {
    let reply = Subject::parse(reply?)?;
    if payload.is_empty() {
        return None;
    }
    let sent = decoded(payload, pb::Ping::encoded_len).ok()?;
    let connection_id = ConnectionId(sent.conn_id);
    if connection_id.is_empty() || connection_id.0.len() > NAME_BYTES_MAX {
        return refused(Reply::PingRefused(Rejection::ClientReplaced), Some(reply));
    }
    Some(Request::Ping {
        connection_id,
        reply,
    })
}

/// `ack_inbox`: the subject that the ack came on.
pub fn ack(payload: Bytes, ack_inbox: ByteString) -> Option<Request> {
    let sent = decoded(payload, ack_bytes).ok()?;
    let channel = text(sent.subject).filter(|name| name.len() <= NAME_BYTES_MAX)?;
    (sent.sequence <= SEQUENCE_MAX).then(|| {
        Request::Ack(Ack {
            ack_inbox,
            channel,
            sequence: Sequence(sent.sequence),
        })
    })
}

/// Fields are slices of the payload. Where most of that is something else (fields that nobody knows), they are
/// moved out of it: a request is kept for as long as its names are, and must not take up more than those.
/// `kept`: how much of it is fields that are known, in bytes.
fn decoded<M: prost::Message + Default>(
    payload: Bytes,
    kept: impl FnOnce(&M) -> usize,
) -> Result<M, prost::DecodeError> {
    let length = payload.len();
    let message = M::decode(payload)?;
    if length / 2 <= kept(&message) {
        return Ok(message);
    }
    M::decode(Bytes::from(message.encode_to_vec()))
}

/// The length of an ack, which comes with each message that was delivered. `encoded_len` would compare its fields with nothing, which
/// takes longer than decoding them ([`super::encode`]).
fn ack_bytes(sent: &pb::Ack) -> usize {
    // Each with its key, and the length of a name that is not long.
    2 + sent.subject.len() + 1 + prost::encoding::encoded_len_varint(sent.sequence)
}

fn refused(answer: Reply, reply: Option<Subject>) -> Option<Request> {
    reply.map(|reply| Request::Answered { answer, reply })
}

/// Text that Postgres can hold.
fn text(sent: Bytes) -> Option<ByteString> {
    ByteString::try_from(sent)
        .ok()
        .filter(|text| !text.as_bytes().contains(&0))
}

fn subject(sent: Bytes) -> Option<Subject> {
    text(sent).and_then(Subject::parse)
}

fn channel(sent: Bytes) -> Option<ChannelName> {
    text(sent).and_then(ChannelName::parse)
}

/// Empty means absent; the outer `None` means invalid.
#[expect(
    clippy::option_option,
    reason = "absent and invalid are different answers"
)]
fn optional<T>(sent: Bytes, parse: impl FnOnce(ByteString) -> Option<T>) -> Option<Option<T>> {
    if sent.is_empty() {
        Some(None)
    } else {
        text(sent).and_then(parse).map(Some)
    }
}
