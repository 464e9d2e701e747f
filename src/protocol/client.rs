//! The client's side of the protocol: what `stanby pub`, `stanby sub` and the tests send and understand. Keeps
//! no state; a caller brings its own NATS connection.

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message as _;
use thiserror::Error;

use super::pb;
use crate::core::request::StartPosition;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error(
        "the server's answer is not a {0} of the NATS Streaming protocol; is another program answering?"
    )]
    Malformed(&'static str),
    /// The server's own words.
    #[error("the server refuses: {0}")]
    Refused(String),
}

/// Where a connected client sends its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Publishes go to this, a dot and the channel.
    pub publish_prefix: ByteString,
    pub subscribe: ByteString,
    pub unsubscribe: ByteString,
    pub close_subscription: ByteString,
    pub close_client: ByteString,
    /// Empty when the request asked for protocol 0.
    pub pings: ByteString,
    pub ping_interval: i32,
    pub ping_max_out: i32,
    pub protocol: i32,
}

#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    pub client_id: &'a str,
    pub heartbeat_inbox: &'a str,
    pub protocol: i32,
    pub connection_id: &'a [u8],
    /// In seconds.
    pub ping_interval: i32,
    pub ping_max_out: i32,
}

pub fn connect_request(request: &Connect<'_>) -> Bytes {
    encoded(&pb::ConnectRequest {
        client_id: copied(request.client_id),
        heartbeat_inbox: copied(request.heartbeat_inbox),
        protocol: request.protocol,
        conn_id: Bytes::copy_from_slice(request.connection_id),
        ping_interval: request.ping_interval,
        ping_max_out: request.ping_max_out,
    })
}

pub fn connect_response(payload: Bytes) -> Result<Connected, Error> {
    let what = "connect response";
    let sent = pb::ConnectResponse::decode(payload)
        .ok()
        .ok_or(Error::Malformed(what))?;
    ensure_accepted(&sent.error)?;
    Ok(Connected {
        publish_prefix: text(sent.pub_prefix, what)?,
        subscribe: text(sent.sub_requests, what)?,
        unsubscribe: text(sent.unsub_requests, what)?,
        close_subscription: text(sent.sub_close_requests, what)?,
        close_client: text(sent.close_requests, what)?,
        pings: text(sent.ping_requests, what)?,
        ping_interval: sent.ping_interval,
        ping_max_out: sent.ping_max_out,
        protocol: sent.protocol,
    })
}

#[derive(Clone, Debug)]
pub struct Publish<'a> {
    pub client_id: &'a str,
    pub connection_id: &'a [u8],
    pub guid: &'a str,
    pub channel: &'a str,
    pub data: Bytes,
}

pub fn publish_request(request: Publish<'_>) -> Bytes {
    encoded(&pb::PubMsg {
        client_id: copied(request.client_id),
        guid: copied(request.guid),
        subject: copied(request.channel),
        data: request.data,
        conn_id: Bytes::copy_from_slice(request.connection_id),
        ..Default::default()
    })
}

/// What became of one publish. A refusal may come without the guid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishAck {
    pub guid: ByteString,
    pub refusal: Option<String>,
}

pub fn publish_ack(payload: Bytes) -> Result<PublishAck, Error> {
    let what = "publish ack";
    let sent = pb::PubAck::decode(payload)
        .ok()
        .ok_or(Error::Malformed(what))?;
    let refusal = (!sent.error.is_empty()).then(|| lossy(&sent.error));
    Ok(PublishAck {
        guid: text(sent.guid, what)?,
        refusal,
    })
}

#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    pub client_id: &'a str,
    pub channel: &'a str,
    pub inbox: &'a str,
    /// Empty for none.
    pub queue_group: &'a str,
    /// Empty for none.
    pub durable_name: &'a str,
    pub max_in_flight: i32,
    pub ack_wait_seconds: i32,
    pub start: StartPosition,
}

pub fn subscribe_request(request: &Subscribe<'_>) -> Bytes {
    let (start_position, start_sequence, start_time_delta) = match request.start {
        StartPosition::NewOnly => (0, 0, 0),
        StartPosition::LastReceived => (1, 0, 0),
        StartPosition::TimeDelta(nanos) => (2, 0, nanos),
        StartPosition::Sequence(sequence) => (3, sequence.0, 0),
        StartPosition::First => (4, 0, 0),
    };
    encoded(&pb::SubscriptionRequest {
        client_id: copied(request.client_id),
        subject: copied(request.channel),
        q_group: copied(request.queue_group),
        inbox: copied(request.inbox),
        max_in_flight: request.max_in_flight,
        ack_wait_in_secs: request.ack_wait_seconds,
        durable_name: copied(request.durable_name),
        start_position,
        start_sequence,
        start_time_delta,
    })
}

/// The ack inbox.
pub fn subscribe_response(payload: Bytes) -> Result<ByteString, Error> {
    let what = "subscription response";
    let sent = pb::SubscriptionResponse::decode(payload)
        .ok()
        .ok_or(Error::Malformed(what))?;
    ensure_accepted(&sent.error)?;
    text(sent.ack_inbox, what)
}

/// A message as a subscriber receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub sequence: u64,
    pub channel: ByteString,
    pub reply: ByteString,
    pub data: Bytes,
    /// Nanoseconds since the Unix epoch.
    pub published_at: i64,
    pub redelivered: bool,
    pub redelivery_count: u32,
}

pub fn delivery(payload: Bytes) -> Result<Delivery, Error> {
    let what = "message";
    let sent = pb::MsgProto::decode(payload)
        .ok()
        .ok_or(Error::Malformed(what))?;
    Ok(Delivery {
        sequence: sent.sequence,
        channel: text(sent.subject, what)?,
        reply: text(sent.reply, what)?,
        data: sent.data,
        published_at: sent.timestamp,
        redelivered: sent.redelivered,
        redelivery_count: sent.redelivery_count,
    })
}

pub fn ack(channel: &str, sequence: u64) -> Bytes {
    encoded(&pb::Ack {
        subject: copied(channel),
        sequence,
    })
}

/// Unsubscribes or closes, by the subject that it is sent to.
pub fn leave_request(client_id: &str, channel: &str, ack_inbox: &str) -> Bytes {
    encoded(&pb::UnsubscribeRequest {
        client_id: copied(client_id),
        subject: copied(channel),
        inbox: copied(ack_inbox),
        durable_name: Bytes::new(),
    })
}

pub fn leave_response(payload: Bytes) -> Result<(), Error> {
    let sent = pb::SubscriptionResponse::decode(payload)
        .ok()
        .ok_or(Error::Malformed("unsubscribe response"))?;
    ensure_accepted(&sent.error)
}

pub fn close_request(client_id: &str) -> Bytes {
    encoded(&pb::CloseRequest {
        client_id: copied(client_id),
    })
}

pub fn close_response(payload: Bytes) -> Result<(), Error> {
    let sent = pb::CloseResponse::decode(payload)
        .ok()
        .ok_or(Error::Malformed("close response"))?;
    ensure_accepted(&sent.error)
}

pub fn ping_request(connection_id: &[u8]) -> Bytes {
    encoded(&pb::Ping {
        conn_id: Bytes::copy_from_slice(connection_id),
    })
}

pub fn ping_response(payload: Bytes) -> Result<(), Error> {
    let sent = pb::PingResponse::decode(payload)
        .ok()
        .ok_or(Error::Malformed("ping response"))?;
    ensure_accepted(&sent.error)
}

fn ensure_accepted(error: &Bytes) -> Result<(), Error> {
    if error.is_empty() {
        Ok(())
    } else {
        Err(Error::Refused(lossy(error)))
    }
}

fn lossy(text: &Bytes) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn text(sent: Bytes, what: &'static str) -> Result<ByteString, Error> {
    ByteString::try_from(sent)
        .ok()
        .ok_or(Error::Malformed(what))
}

fn copied(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn encoded(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}
