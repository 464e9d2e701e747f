//! A client of the former server that only reads. All that comes to it comes through one queue, so that nothing waits for
//! an answer that is stuck behind messages.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::error::ClientError;
use crate::core::ids::Sequence;
use crate::core::request::StartPosition;
use crate::nats::wire::Message;
use crate::nats::{self, Connection, Inbox};
use crate::protocol::client::{self, Connected};

/// The server probes the inbox of a client of the same name first.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What has not been acked is sent again: soon, where NATS has lost it.
const ACK_WAIT_SECONDS: i32 = 5;

/// Last parts of subjects, before the number of a subscription.
const HEARTBEATS: &str = "h";
const MESSAGES: &str = "m";
const ANSWERS: &str = "a";
const IGNORED: &str = "x";

pub(super) struct Client {
    nats: Connection,
    inbox: Inbox,
    base: String,
    id: String,
    server: Connected,
    last_number: u64,
}

/// By the number of the subscription.
pub(super) enum Received {
    Message(u64, Bytes),
    /// `None` when nobody listened to the request.
    Answer(u64, Option<Bytes>),
    /// Somebody has published to this channel.
    Published(String),
    /// It was answered already, or is nobody's.
    Nothing,
}

impl Client {
    pub(super) async fn connect(
        nats: &Connection,
        discover: &str,
        cluster_id: &str,
    ) -> Result<Self, ClientError> {
        let base = nats.new_subject();
        let mut inbox = nats.inbox();
        inbox.subscribe(&format!("{base}.*"))?;
        let unique = base.rsplit('.').next().unwrap_or(&base);
        let id = format!("stanby-import-{unique}");
        let request = client::connect_request(&client::Connect {
            client_id: &id,
            heartbeat_inbox: &format!("{base}.{HEARTBEATS}"),
            // It sends no pings: the pages tell whether the server is there.
            protocol: 0,
            connection_id: b"",
            ping_interval: 0,
            ping_max_out: 0,
        });
        let reply = format!("{base}.{ANSWERS}0");
        nats.publish(discover, Some(&reply), &request).await?;
        let nobody = || ClientError::Nobody {
            cluster_id: cluster_id.to_owned(),
        };
        let answer = async {
            loop {
                let message = inbox.next().await?;
                if message.subject() == reply.as_bytes() {
                    return Ok::<_, nats::Error>(message);
                }
                answer_heartbeat(nats, &message).await?;
            }
        };
        let answer = timeout(ANSWER_LIMIT, answer)
            .await
            .map_err(|_| nobody())??;
        if answer.is_no_responders() {
            return Err(nobody());
        }
        let server = client::connect_response(answer.detached().1)?;
        // A channel that begins in the last moment is on no page. Where NATS does not let us listen, pages have to do.
        inbox.subscribe(&format!("{}.>", server.publish_prefix))?;
        Ok(Self {
            nats: nats.clone(),
            inbox,
            base,
            id,
            server,
            last_number: 0,
        })
    }

    /// To a channel, from a sequence on. The answer comes with this number.
    pub(super) async fn subscribe(
        &mut self,
        channel: &str,
        from: u64,
        max_in_flight: i32,
    ) -> Result<u64, nats::Error> {
        self.last_number += 1;
        let number = self.last_number;
        let request = client::subscribe_request(&client::Subscribe {
            client_id: &self.id,
            channel,
            inbox: &format!("{}.{MESSAGES}{number}", self.base),
            queue_group: "",
            durable_name: "",
            max_in_flight,
            ack_wait_seconds: ACK_WAIT_SECONDS,
            start: if from <= 1 {
                StartPosition::First
            } else {
                StartPosition::Sequence(Sequence(from))
            },
        });
        let reply = format!("{}.{ANSWERS}{number}", self.base);
        let to = &self.server.subscribe;
        self.nats.publish(to, Some(&reply), &request).await?;
        Ok(number)
    }

    /// Gives up on the answer. Anything that still comes has a number that is no longer expected.
    pub(super) async fn leave(&self, channel: &str, ack_inbox: &str) -> Result<(), nats::Error> {
        let request = client::leave_request(&self.id, channel, ack_inbox);
        let reply = format!("{}.{IGNORED}", self.base);
        let to = &self.server.unsubscribe;
        self.nats.publish(to, Some(&reply), &request).await
    }

    pub(super) async fn ack(
        &self,
        ack_inbox: &str,
        channel: &str,
        sequence: u64,
    ) -> Result<(), nats::Error> {
        let ack = client::ack(channel, sequence);
        self.nats.publish(ack_inbox, None, &ack).await
    }

    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Message, nats::Error> {
        self.inbox.next().await
    }

    /// What that is. Answers heartbeats.
    pub(super) async fn understand(&self, message: Message) -> Result<Received, nats::Error> {
        let subject = String::from_utf8_lossy(message.subject());
        let below = |base: &str| subject.strip_prefix(base)?.strip_prefix('.');
        let Some(part) = below(&self.base) else {
            let channel = below(&self.server.publish_prefix);
            return Ok(channel.map_or(Received::Nothing, |it| Received::Published(it.to_owned())));
        };
        let number = |kind: &str| part.strip_prefix(kind)?.parse::<u64>().ok();
        if let Some(number) = number(MESSAGES) {
            return Ok(Received::Message(number, message.detached().1));
        }
        if let Some(number) = number(ANSWERS) {
            let is_there = !message.is_no_responders();
            return Ok(Received::Answer(
                number,
                is_there.then(|| message.detached().1),
            ));
        }
        if part == HEARTBEATS {
            answer_heartbeat(&self.nats, &message).await?;
        }
        Ok(Received::Nothing)
    }

    /// Takes leave, so that the server need not find out by heartbeats.
    pub(super) async fn close(self) {
        let request = client::close_request(&self.id);
        let reply = format!("{}.{IGNORED}", self.base);
        let to = &self.server.close_client;
        // It finds out anyway.
        if self.nats.publish(to, Some(&reply), &request).await.is_ok() {
            self.nats.flush(Duration::from_secs(1)).await.ok();
        }
    }
}

async fn answer_heartbeat(nats: &Connection, message: &Message) -> Result<(), nats::Error> {
    let reply = message.reply().and_then(|it| std::str::from_utf8(it).ok());
    if let Some(reply) = reply {
        nats.publish(reply, None, b"").await?;
    }
    Ok(())
}
