//! What the core wants sent, published in its order on the node's one connection. Whether the node is still
//! trusted to send is for the caller to check before each message.

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::connection::Connection;
use super::link::SEND_BYTES;
use super::probes::ProbeInbox;
use super::wire::encode as wire;
use crate::core::{Outbound, ids};
use crate::protocol::{Subjects, encode};

/// Deliveries wait in the core while more than this waits for the socket: what does not fit into it yet would be in the
/// way of answers, and of the probes by which clients are found to be alive.
const DELIVERY_BYTES: usize = 512 << 10;

/// Payloads are cut from blocks of this size.
const BLOCK_BYTES: usize = 64 * 1024;

/// So much is not held back until the turn is over: the socket can begin with it.
const EAGER_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub struct Egress {
    connection: Connection,
    connected: watch::Receiver<bool>,
    subjects: Subjects,
    probes: ProbeInbox,
    payloads: BytesMut,
    /// Protocol lines of this turn.
    out: BytesMut,
    /// Messages in `out`.
    messages: u64,
    /// Bytes that waited for the socket when this was last looked at.
    waiting: usize,
}

impl Egress {
    /// `probes`: the inbox of the ingress that reads the answers.
    pub fn new(connection: Connection, subjects: Subjects, probes: ProbeInbox) -> Self {
        let connected = connection.connected();
        Self {
            connection,
            connected,
            subjects,
            probes,
            payloads: BytesMut::with_capacity(BLOCK_BYTES),
            out: BytesMut::new(),
            messages: 0,
            waiting: 0,
        }
    }

    /// False when so much waits for the socket that nothing should be sent before [`Self::room`].
    pub fn has_room(&self) -> bool {
        self.out.len() + self.waiting < SEND_BYTES
    }

    /// False when deliveries should wait: answers may still go.
    pub fn has_room_for_deliveries(&self) -> bool {
        self.out.len() + self.waiting < DELIVERY_BYTES
    }

    /// Waits until there is room for anything again, or no connection that could ever need it.
    pub async fn room(&mut self) {
        self.flush();
        self.connection.link().room(DELIVERY_BYTES).await;
        self.waiting = 0;
    }

    /// Grows whenever something that waited is on its way to NATS.
    pub fn moved(&self) -> u64 {
        self.connection.link().taken()
    }

    /// Appends a message to what leaves with the next [`Self::flush`].
    ///
    /// While NATS is not connected, and when the message is larger than NATS takes, the message is dropped and
    /// counted: deliveries are made again when their ack wait is over, and whoever waits for a reply sees a
    /// timeout, as with NATS Streaming.
    pub fn send(&mut self, message: Outbound) {
        match message {
            Outbound::Reply { to, reply } => {
                let payload = encode::reply(&reply, &self.subjects, &mut self.payloads);
                if self.fits(&payload) {
                    return self.publish(&to, None, &payload);
                }
                tracing::error!(
                    size_bytes = payload.len(),
                    max_bytes = self.connection.max_payload(),
                    "a reply is larger than the NATS server allows; raise its max_payload"
                );
            }
            Outbound::Deliver {
                inbox,
                channel,
                message,
                redelivery_count,
            } => {
                let payload =
                    encode::delivery(&channel, &message, redelivery_count, &mut self.payloads);
                if self.fits(&payload) {
                    return self.publish(&inbox, None, &payload);
                }
                tracing::error!(
                    channel = channel.as_str(),
                    sequence = message.sequence.0,
                    size_bytes = payload.len(),
                    max_bytes = self.connection.max_payload(),
                    "a message is larger than the NATS server allows and cannot be delivered; raise its \
                     max_payload"
                );
            }
            Outbound::Probe { probe, inbox } => {
                let reply_to = self.probes.reply_to(probe);
                self.publish(&inbox, Some(reply_to.as_bytes()), &Bytes::new());
            }
        }
    }

    /// Hands everything to the connection, which writes it in one go. Does not wait for NATS.
    pub fn flush(&mut self) {
        if self.messages > 0 {
            let messages = std::mem::take(&mut self.messages);
            self.waiting = self.connection.link().send(&mut self.out, messages);
        } else if self.waiting > 0 {
            self.waiting = self.connection.link().waiting();
        }
    }

    fn fits(&self, payload: &Bytes) -> bool {
        let fits = payload.len() <= self.connection.max_payload();
        if !fits {
            self.connection.link().counters.add_oversized();
        }
        fits
    }

    fn publish(&mut self, to: &ids::Subject, reply_to: Option<&[u8]>, payload: &[u8]) {
        if !*self.connected.borrow() {
            self.connection.link().counters.add_unsent(1);
            return;
        }
        wire::publish(to.as_str().as_bytes(), reply_to, payload, &mut self.out);
        self.messages += 1;
        if self.out.len() >= EAGER_BYTES {
            self.flush();
        }
    }
}
