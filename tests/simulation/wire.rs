//! What travels is bytes, made and read by the real protocol: requests as a client library makes them and a server
//! reads them, answers and messages the other way.

use bytes::{BufMut, Bytes, BytesMut};
use stanby::core::ids::{ChannelName, QueueName, Subject};
use stanby::core::message::Message;
use stanby::core::request::Publisher;
use stanby::core::{Reply, Request};
use stanby::protocol::subjects::Prefixes;
use stanby::protocol::subjects::Subjects;
use stanby::protocol::{client, decode, encode};

/// No client library sets the field, which anybody may.
fn with_reply(request: Bytes, reply: &[u8]) -> Bytes {
    const FIELD_4_OF_BYTES: u8 = 0x22;
    if reply.is_empty() {
        return request;
    }
    let mut changed = BytesMut::from(&request[..]);
    changed.put_u8(FIELD_4_OF_BYTES);
    let mut rest = reply.len();
    while rest >= 0x80 {
        changed.put_u8(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    changed.put_u8(u8::try_from(rest).expect("seven bits"));
    changed.extend_from_slice(reply);
    changed.freeze()
}

#[derive(Debug)]
pub(crate) struct Wire {
    subjects: Subjects,
    buffer: BytesMut,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            subjects: Subjects::new("simulated", &Prefixes::default())
                .expect("the cluster ID is a token"),
            buffer: BytesMut::new(),
        }
    }
}

impl Wire {
    /// What a server takes the request for.
    ///
    /// # Panics
    /// When it reads something else than was sent, or nothing.
    pub(crate) fn carry(event: &Request) -> Request {
        let carried = match event {
            Request::Connect { request, reply } => {
                let payload = client::connect_request(&client::Connect {
                    client_id: request.client_id.as_str(),
                    heartbeat_inbox: request.heartbeat_inbox.as_str(),
                    protocol: request.protocol,
                    connection_id: &request.connection_id.0,
                    ping_interval: request.ping_interval,
                    ping_max_out: request.ping_max_out,
                });
                decode::connect(payload, reply.as_ref().map(Subject::to_text))
            }
            Request::Publish { request, reply } => {
                let (client_id, connection_id) = match &request.publisher {
                    Publisher::Client(client_id) => (client_id.to_string(), Bytes::new()),
                    Publisher::Connection(connection) => {
                        ("whoever".to_owned(), connection.0.clone())
                    }
                };
                let payload = client::publish_request(client::Publish {
                    client_id: &client_id,
                    connection_id: &connection_id,
                    guid: request.guid.as_str(),
                    channel: request.channel.as_str(),
                    data: request.data.clone(),
                });
                let payload = with_reply(payload, request.reply.as_bytes());
                decode::publish(payload, reply.as_ref().map(Subject::to_text))
            }
            Request::Subscribe { request, reply } => {
                let payload = client::subscribe_request(&client::Subscribe {
                    client_id: request.client_id.as_str(),
                    channel: request.channel.as_str(),
                    inbox: request.inbox.as_str(),
                    queue_group: request.queue_group.as_ref().map_or("", QueueName::as_str),
                    durable_name: request
                        .durable_name
                        .as_ref()
                        .map_or("", |name| name.as_str()),
                    max_in_flight: i32::try_from(request.max_in_flight).expect("a small number"),
                    ack_wait_seconds: i32::try_from(request.ack_wait.as_secs())
                        .expect("a small number"),
                    start: request.start,
                });
                let reply = reply.as_ref().map(Subject::to_text);
                decode::subscribe(payload, reply, request.ack_token)
            }
            Request::Unsubscribe { request, reply } => {
                let payload = client::leave_request(
                    &request.client_id,
                    request.channel.as_str(),
                    &request.inbox,
                );
                decode::unsubscribe(payload, reply.as_ref().map(Subject::to_text))
            }
            Request::CloseSubscription { request, reply } => {
                let payload = client::leave_request(
                    &request.client_id,
                    request.channel.as_str(),
                    &request.inbox,
                );
                decode::close_subscription(payload, reply.as_ref().map(Subject::to_text))
            }
            Request::CloseClient { client_id, reply } => {
                let payload = client::close_request(client_id);
                decode::close_client(payload, reply.as_ref().map(Subject::to_text))
            }
            Request::Ping {
                connection_id,
                reply,
            } => {
                let payload = client::ping_request(&connection_id.0);
                decode::ping(payload, Some(reply.to_text()))
            }
            Request::Ack(ack) => {
                let payload = client::ack(&ack.channel, ack.sequence.0);
                decode::ack(payload, ack.ack_inbox.clone())
            }
            Request::Answered { .. } | Request::AlreadyStored { .. } => {
                panic!("no client sends this: {event:?}")
            }
        };
        assert_eq!(carried.as_ref(), Some(event), "a request is read as sent");
        carried.expect("it was just compared")
    }

    /// Fails when a client library reads something else than the server means.
    pub(crate) fn reads_reply(&mut self, reply: &Reply) -> Result<(), String> {
        let payload = encode::reply(reply, &self.subjects, &mut self.buffer);
        let same = match reply {
            Reply::Connected { protocol, .. } => client::connect_response(payload).is_ok_and(|c| {
                let told = *protocol == 0 || c.protocol == *protocol;
                told && c.subscribe == *self.subjects.subscribe()
            }),
            Reply::ConnectRefused(_) => client::connect_response(payload).is_err(),
            Reply::Published(guid) => client::publish_ack(payload)
                .is_ok_and(|ack| ack.guid == *guid.as_str() && ack.refusal.is_none()),
            Reply::PublishRefused(guid, _) => client::publish_ack(payload)
                .is_ok_and(|ack| ack.guid.as_bytes() == guid && ack.refusal.is_some()),
            Reply::Subscribed { ack_inbox } => {
                client::subscribe_response(payload).is_ok_and(|told| told == *ack_inbox.as_str())
            }
            Reply::SubscribeRefused(_) => client::subscribe_response(payload).is_err(),
            Reply::Left => client::leave_response(payload).is_ok(),
            Reply::LeaveRefused(_) => client::leave_response(payload).is_err(),
            Reply::ClientClosed => client::close_response(payload).is_ok(),
            Reply::CloseRefused(_) => client::close_response(payload).is_err(),
            Reply::Pong => payload.is_empty(),
            Reply::PingRefused(_) => !payload.is_empty(),
        };
        same.then_some(())
            .ok_or_else(|| format!("an answer is read as it was meant: {reply:?} is not"))
    }

    /// Likewise.
    pub(crate) fn reads_delivery(
        &mut self,
        channel: &ChannelName,
        message: &Message,
        count: u32,
    ) -> Result<(), String> {
        let payload = encode::delivery(channel, message, count, &mut self.buffer);
        let same = client::delivery(payload).is_ok_and(|read| {
            read.sequence == message.sequence.0
                && read.channel == *channel.as_str()
                && read.data == message.data
                && read.published_at == message.published_at.0
                && read.redelivered == (count > 0)
                && read.redelivery_count == count
        });
        same.then_some(())
            .ok_or_else(|| format!("a message is read as it was sent: {message:?} is not"))
    }
}
