//! Everything that clients send to the server, as events of the core.
//!
//! # Order
//!
//! Clients may rely on this: when a close or an unsubscribe is carried out, everything that reached the server
//! before it has been (publishes are stored, acks count). But each subject is a NATS subscription with a queue
//! of its own, so a close can be taken before the publish that was sent first.
//!
//! The client library fills the queues from one task, in the order of arrival. So whatever came before a
//! message is in its queue by the time that message is taken from its own, and it is enough to empty the other
//! queues before going on:
//!
//! 1. Connects are taken, then closes of clients, then ends of subscriptions. They are held back.
//! 2. The other queues are emptied, each of what it can have held at that moment (its capacity: a publisher
//!    that keeps a queue from ever being empty does not hold a close back for ever).
//! 3. What was held back is handed out: ends of subscriptions, closes, connects. A client that closes and
//!    connects again without waiting for the answer gets both in this order too.
//!
//! Publishes keep their order among each other, and so do acks. A connect with no close beside it waits for
//! nothing.
//!
//! # Limits
//!
//! Every queue is bounded ([`super::connection::Settings::receive_queue`]); what comes when one is full is
//! lost, counted and logged, and its sender sees a timeout. The caller decides how many events it takes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::stream::SelectAll;
use futures_util::{Stream, StreamExt as _};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::task::coop::unconstrained;

use super::connection::Connection;
use super::error::Error;
use super::probes::ProbeInbox;
use crate::core::Event;
use crate::core::request::AckToken;
use crate::protocol::{Subjects, decode};

/// Time that NATS has to confirm the subscriptions.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages of one control subject that are held back at once.
const HELD_MAX: usize = 4096;

/// Messages taken from one queue before the next has its turn.
const CHUNK: usize = 128;

/// The subscriptions of one term, or of one standby. Ends them when dropped.
#[derive(Debug)]
pub struct Ingress {
    connects: Feed,
    closes: Feed,
    leaves: [Feed; 2],
    /// Everything that a close waits for.
    work: [Feed; 6],
    /// The entry of `work` whose turn is next.
    turn: usize,
    held: VecDeque<Event>,
    queue_capacity: usize,
    decoder: Decoder,
}

impl Ingress {
    /// When it returns, NATS delivers to these subscriptions.
    pub async fn subscribe(connection: &Connection, subjects: &Subjects) -> Result<Self, Error> {
        let probes = ProbeInbox::new(connection.client().new_inbox());
        let feed = async |kind, subject: &str| Feed::open(connection, kind, subject).await;
        let ingress = Self {
            connects: feed(Kind::Connect, subjects.discover()).await?,
            closes: feed(Kind::CloseClient, subjects.close_client()).await?,
            leaves: [
                feed(Kind::Unsubscribe, subjects.unsubscribe()).await?,
                feed(Kind::CloseSubscription, subjects.close_subscription()).await?,
            ],
            work: [
                feed(Kind::Probe, &probes.wildcard()).await?,
                feed(Kind::Ping, subjects.pings()).await?,
                feed(Kind::Ack, subjects.ack_wildcard()).await?,
                feed(Kind::Publish, subjects.publish_wildcard()).await?,
                feed(Kind::Subscribe, subjects.subscribe()).await?,
                Feed::of(Kind::Ack, Messages::OfMany(SelectAll::new())),
            ],
            turn: 0,
            held: VecDeque::new(),
            queue_capacity: connection.queue_capacity(),
            decoder: Decoder {
                probes,
                random: SystemRandom::new(),
            },
        };
        connection.flush(SUBSCRIBE_TIMEOUT).await?;
        Ok(ingress)
    }

    /// Hears acks on these inboxes too: they are not under the prefix of this server, because another one gave them
    /// out. When it returns, NATS delivers to them.
    pub async fn hear_acks_on(
        &mut self,
        connection: &Connection,
        inboxes: impl Iterator<Item = &str>,
    ) -> Result<(), Error> {
        let mut subscribers = SelectAll::new();
        for inbox in inboxes {
            subscribers.push(subscriber(connection, inbox).await?);
        }
        if !subscribers.is_empty() {
            connection.flush(SUBSCRIBE_TIMEOUT).await?;
            let [.., others] = &mut self.work;
            others.messages = Messages::OfMany(subscribers);
        }
        Ok(())
    }

    /// For the egress of the same term.
    pub fn probes(&self) -> ProbeInbox {
        self.decoder.probes.clone()
    }

    /// Waits for events and appends those that are there, up to `limit` (at least one). Cancel-safe: what has
    /// not been appended comes with the next call. Fails when the connection is gone for good.
    pub async fn recv(&mut self, into: &mut Vec<Event>, limit: usize) -> Result<(), Error> {
        // A queue must not look empty because this task has used up its turn: see the module's order.
        unconstrained(poll_fn(|cx| self.poll_events(cx, into, limit.max(1)))).await
    }

    /// Appends up to `limit` events (at least one) that are there already. False when the queues were empty at the
    /// end.
    pub async fn recv_waiting(
        &mut self,
        into: &mut Vec<Event>,
        limit: usize,
    ) -> Result<bool, Error> {
        unconstrained(poll_fn(|cx| {
            Poll::Ready(self.take_events(cx, into, limit.max(1)))
        }))
        .await
    }

    fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Event>,
        limit: usize,
    ) -> Poll<Result<(), Error>> {
        let before = into.len();
        let more = self.take_events(cx, into, limit)?;
        if into.len() > before {
            return Poll::Ready(Ok(()));
        }
        // Nothing but undecodable messages so far.
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Tells whether there may be more.
    fn take_events(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Event>,
        limit: usize,
    ) -> Result<bool, Error> {
        let mut room = limit;
        let mut more = false;
        if self.held.is_empty() {
            more |= self.hold_control(cx)?;
        }
        if !self.held.is_empty() {
            self.drain_ahead(cx, into, &mut room)?;
            self.release(into, &mut room);
        }
        if self.held.is_empty() {
            more |= self.take_work(cx, into, &mut room)?;
        }
        Ok(more || room == 0 || !self.held.is_empty())
    }

    /// The highest stage first: what came before one of its messages is then in the queues below. Tells
    /// whether there may be more.
    fn hold_control(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let decoder = &self.decoder;
        let mut more = false;
        let mut hold = |feed: &mut Feed, events: &mut Vec<Event>| {
            more |= !feed.take(cx, HELD_MAX, decoder, events)?.drained;
            Ok::<(), Error>(())
        };
        let (mut connects, mut closes, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
        hold(&mut self.connects, &mut connects)?;
        hold(&mut self.closes, &mut closes)?;
        for feed in &mut self.leaves {
            hold(feed, &mut leaves)?;
        }
        if !(closes.is_empty() && leaves.is_empty()) {
            for feed in &mut self.work {
                feed.ahead = self.queue_capacity;
            }
        }
        self.held
            .extend(leaves.into_iter().chain(closes).chain(connects));
        Ok(more)
    }

    /// Takes what may have come before the messages that are held back.
    fn drain_ahead(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Event>,
        room: &mut usize,
    ) -> Result<(), Error> {
        for feed in &mut self.work {
            let taken = feed.take(cx, feed.ahead.min(*room), &self.decoder, into)?;
            *room -= taken.count;
            feed.ahead = if taken.drained {
                0
            } else {
                feed.ahead - taken.count
            };
        }
        Ok(())
    }

    fn release(&mut self, into: &mut Vec<Event>, room: &mut usize) {
        if self.work.iter().all(|feed| feed.ahead == 0) {
            let count = self.held.len().min(*room);
            into.extend(self.held.drain(..count));
            *room -= count;
        }
    }

    /// Takes from all queues in turn. Tells whether there may be more.
    fn take_work(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Event>,
        room: &mut usize,
    ) -> Result<bool, Error> {
        let mut drained_in_a_row = 0;
        while drained_in_a_row < self.work.len() {
            if *room == 0 {
                return Ok(true);
            }
            let taken = self.work[self.turn].take(cx, CHUNK.min(*room), &self.decoder, into)?;
            *room -= taken.count;
            drained_in_a_row = if taken.drained {
                drained_in_a_row + 1
            } else {
                0
            };
            self.turn = (self.turn + 1) % self.work.len();
        }
        Ok(false)
    }
}

/// One queue, or one for each of several inboxes.
#[derive(Debug)]
struct Feed {
    kind: Kind,
    messages: Messages,
    /// Messages still in the queue that may have come before those that are held back; at most so many.
    ahead: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Connect,
    Publish,
    Subscribe,
    Unsubscribe,
    CloseSubscription,
    CloseClient,
    Ping,
    Ack,
    Probe,
}

/// What a feed reads.
#[derive(Debug)]
enum Messages {
    OfOne(Subscriber),
    /// May be none. Only those are looked at that have something.
    OfMany(SelectAll<Subscriber>),
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        match &mut *self {
            Self::OfOne(subscriber) => subscriber.poll_next_unpin(cx),
            Self::OfMany(subscribers) => match subscribers.poll_next_unpin(cx) {
                // There are none: the end of the connection shows at the others.
                Poll::Ready(None) => Poll::Pending,
                other @ (Poll::Ready(Some(_)) | Poll::Pending) => other,
            },
        }
    }
}

struct Taken {
    count: usize,
    /// The queue was empty at the end, and the task will be woken when it no longer is.
    drained: bool,
}

impl Feed {
    async fn open(connection: &Connection, kind: Kind, subject: &str) -> Result<Self, Error> {
        let messages = Messages::OfOne(subscriber(connection, subject).await?);
        Ok(Self::of(kind, messages))
    }

    fn of(kind: Kind, messages: Messages) -> Self {
        Self {
            kind,
            messages,
            ahead: 0,
        }
    }

    fn take(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        decoder: &Decoder,
        into: &mut Vec<Event>,
    ) -> Result<Taken, Error> {
        for count in 0..limit {
            match self.messages.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => into.extend(decoder.decode(self.kind, message)),
                Poll::Ready(None) => return Err(Error::Closed),
                Poll::Pending => {
                    return Ok(Taken {
                        count,
                        drained: true,
                    });
                }
            }
        }
        Ok(Taken {
            count: limit,
            drained: false,
        })
    }
}

async fn subscriber(connection: &Connection, subject: &str) -> Result<Subscriber, Error> {
    let subscribing = connection.client().subscribe(subject.to_owned());
    subscribing.await.map_err(|error| {
        use async_nats::SubscribeErrorKind::{InvalidQueueName, InvalidSubject, Other};
        match error.kind() {
            InvalidSubject | InvalidQueueName => Error::InvalidSubject {
                subject: subject.to_owned(),
            },
            Other => Error::Closed,
        }
    })
}

#[derive(Debug)]
struct Decoder {
    probes: ProbeInbox,
    random: SystemRandom,
}

impl Decoder {
    fn decode(&self, kind: Kind, message: Message) -> Option<Event> {
        if let Kind::Probe = kind {
            return self.probes.decode(&message);
        }
        let Message {
            subject,
            reply,
            payload,
            ..
        } = message;
        if let Kind::Ack = kind {
            return decode::ack(payload, text(subject));
        }
        let reply = reply.map(text);
        // A payload is a slice of the socket's read buffer. Requests live on in the core, and one of a hundred
        // bytes would keep 64 kB with it.
        let payload = Bytes::copy_from_slice(&payload);
        match kind {
            Kind::Connect => decode::connect(payload, reply),
            Kind::Publish => decode::publish(payload, reply),
            Kind::Subscribe => decode::subscribe(payload, reply, self.ack_token()?),
            Kind::Unsubscribe => decode::unsubscribe(payload, reply),
            Kind::CloseSubscription => decode::close_subscription(payload, reply),
            Kind::CloseClient => decode::close_client(payload, reply),
            Kind::Ping => decode::ping(payload, reply),
            Kind::Ack | Kind::Probe => None,
        }
    }

    fn ack_token(&self) -> Option<AckToken> {
        let mut token = [0; 16];
        if self.random.fill(&mut token).is_err() {
            tracing::error!("the system gives no random bytes; a subscribe request is dropped");
            return None;
        }
        Some(AckToken::from_ne_bytes(token))
    }
}

fn text(subject: Subject) -> ByteString {
    subject.into_string().into()
}
