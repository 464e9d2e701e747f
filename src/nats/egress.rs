//! What the core wants sent, published on the node's one connection: answers in their order, deliveries in theirs, and
//! answers before deliveries. Whether the node is still
//! trusted to send is for the caller to check before each message.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::connection::Connection;
use super::outgoing::Class;
use super::probes::ProbeInbox;
use super::wire::encode as wire;
use crate::core::{Outbound, ids};
use crate::protocol::{Subjects, encode};

/// Payloads are cut from blocks of this size.
const BLOCK_BYTES: usize = 64 * 1024;

/// So much is not held back until the turn is over: the socket can begin with it. Deliveries that are handed over
/// together leave together.
const EAGER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Egress {
    connection: Connection,
    connected: watch::Receiver<bool>,
    subjects: Subjects,
    probes: ProbeInbox,
    payloads: BytesMut,
    answers: Gathered,
    urgent: Gathered,
    deliveries: Gathered,
}

/// Protocol lines of this turn, and how many messages they are.
#[derive(Debug, Default)]
struct Gathered {
    out: BytesMut,
    messages: u64,
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
            answers: Gathered::default(),
            urgent: Gathered::default(),
            deliveries: Gathered::default(),
        }
    }

    /// False when so much waits for the socket that no answer should be sent before [`Self::room`].
    pub fn has_room(&self) -> bool {
        self.connection.link().has_room(Class::Answer)
    }

    /// False while NATS has not taken most of the deliveries that left before: those that are sent now would only
    /// lengthen the queue. Answers need not wait for that.
    pub fn has_room_for_deliveries(&self) -> bool {
        self.deliveries.out.len() < EAGER_BYTES && self.connection.link().has_room(Class::Delivery)
    }

    /// Waits until there is room for answers, or, where there is, for deliveries; or no connection that could ever need it.
    pub async fn room(&mut self) {
        self.flush();
        let class = if self.has_room() {
            Class::Delivery
        } else {
            Class::Answer
        };
        self.connection.link().room(class).await;
    }

    /// For how long NATS has not answered: how late everything is that leaves now.
    pub fn lag(&self) -> Duration {
        self.connection.lag()
    }

    /// Grows whenever something that waited is on its way to NATS.
    pub fn moved(&self) -> u64 {
        self.connection.link().taken()
    }

    /// Appends a message to what leaves with the next [`Self::flush`].
    ///
    /// While NATS is not connected, answers wait for the next connection, and all else is dropped and counted:
    /// deliveries are made again when their ack wait is over. A message that is larger than NATS takes is dropped and
    /// counted, too, and so is one to a subject that is too long for it; whoever waits for such a reply sees a timeout, as with NATS Streaming.
    pub fn send(&mut self, message: Outbound) {
        match message {
            Outbound::Reply { to, reply } => {
                let payload = encode::reply(&reply, &self.subjects, &mut self.payloads);
                if self.fits(&payload) {
                    return self.publish(Class::Answer, &to, None, &payload);
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
                no_responders_to,
            } => {
                let payload =
                    encode::delivery(&channel, &message, redelivery_count, &mut self.payloads);
                if self.fits(&payload) {
                    let reply_to = no_responders_to
                        .as_ref()
                        .map(|inbox| inbox.as_str().as_bytes());
                    return self.publish(Class::Delivery, &inbox, reply_to, &payload);
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
                let reply_to = Some(reply_to.as_bytes());
                self.publish(Class::Urgent, &inbox, reply_to, &Bytes::new());
            }
        }
    }

    /// Hands everything to the connection. Does not wait for NATS.
    pub fn flush(&mut self) {
        for class in [Class::Answer, Class::Urgent, Class::Delivery] {
            self.hand_over(class);
        }
    }

    fn hand_over(&mut self, class: Class) {
        let gathered = match class {
            Class::Answer => &mut self.answers,
            Class::Urgent => &mut self.urgent,
            Class::Delivery => &mut self.deliveries,
        };
        if gathered.messages > 0 {
            let messages = std::mem::take(&mut gathered.messages);
            let link = self.connection.link();
            link.send(class, &mut gathered.out, messages);
        }
    }

    fn fits(&self, payload: &Bytes) -> bool {
        let fits = payload.len() <= self.connection.max_payload();
        if !fits {
            self.connection.link().counters.add_rejected();
        }
        fits
    }

    fn publish(
        &mut self,
        class: Class,
        to: &ids::Subject,
        reply_to: Option<&[u8]>,
        payload: &[u8],
    ) {
        if class != Class::Answer && !*self.connected.borrow() {
            self.connection.link().counters.add_unsent(1);
            return;
        }
        let to = to.as_str().as_bytes();
        let link = self.connection.link();
        if !link.takes_subjects(to.len() + reply_to.map_or(0, <[u8]>::len)) {
            return link.counters.add_rejected();
        }
        let gathered = match class {
            Class::Answer => &mut self.answers,
            Class::Urgent => &mut self.urgent,
            Class::Delivery => &mut self.deliveries,
        };
        wire::publish(to, reply_to, payload, &mut gathered.out);
        gathered.messages += 1;
        if gathered.out.len() >= EAGER_BYTES {
            // With the answers before them: a client must know of its subscription before it gets a message.
            self.flush();
        }
    }
}
