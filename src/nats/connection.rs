//! The node's connection to NATS. It reconnects for as long as it exists; what is published meanwhile is
//! dropped by `egress`. Opening it fails at once when NATS cannot be reached: whether to try again is the
//! caller's decision.

use std::sync::Arc;
use std::time::Duration;
use std::vec;

use bytes::BytesMut;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::counters::Counts;
use super::error::Error;
use super::fair_queue::Sender;
use super::gate::Gate;
use super::link::{Link, ensure_subject};
use super::outgoing::Class;
use super::queue::{Queue, Taker};
use super::random::Random;
use super::reconnect::Reconnect;
use super::settings::Settings;
use super::wire::{Message, encode};

/// A handle; the connection closes when the last one is dropped. What is to arrive before that needs a
/// [`Connection::flush`].
#[derive(Clone, Debug)]
pub struct Connection {
    link: Arc<Link>,
    health: watch::Receiver<bool>,
    /// The version of the NATS server that was reached first.
    server_version: Arc<str>,
    /// Ends the task.
    _open: Arc<DropGuard>,
}

impl Connection {
    pub async fn open(settings: &Settings, tasks: &TaskTracker) -> Result<Self, Error> {
        let budget = Budget::new(settings.receive_queue, settings.receive_bytes);
        let link = Arc::new(Link::new(budget));
        let mut reconnect = Reconnect::new(settings.clone(), Arc::clone(&link))?;
        let line = reconnect.first().await?;

        let health = link.health();
        let server_version = line.info.version.as_str().into();
        let stop = CancellationToken::new();
        tasks.spawn(reconnect.run(line, stop.clone()));
        let open = Arc::new(stop.drop_guard());
        let connection = Self {
            link,
            health,
            server_version,
            _open: open,
        };
        Ok(connection)
    }

    pub fn is_connected(&self) -> bool {
        *self.health.borrow()
    }

    /// As [`Self::is_connected`], to be waited for.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.health.clone()
    }

    /// Waits until NATS has taken everything but deliveries that was sent before, and everything that NATS had sent to this
    /// connection by then is in the queues of its inboxes. Those must be read meanwhile: nothing comes through
    /// full queues.
    pub async fn flush(&self, limit: Duration) -> Result<(), Error> {
        let answer = self.link.round_trip()?;
        timeout(limit, answer)
            .await
            .map_err(|_| Error::NoAnswer(limit))?
            .map_err(|_| Error::Lost)
    }

    /// Why the NATS server does not let this one listen, in its words.
    pub fn forbids(&self) -> Option<String> {
        self.link.forbids()
    }

    /// What it said of a message to a client that it did not take, unless that was long ago.
    pub fn rejects(&self) -> Option<String> {
        self.link.rejects()
    }

    /// Sends nothing to nobody, to learn whether this server may answer in inboxes.
    pub async fn try_inbox(&self) -> Result<(), Error> {
        let subject = self.new_subject();
        self.link.try_subject(subject.clone());
        self.publish(&subject, None, b"").await
    }

    /// False where the NATS server has refused what [`Self::try_inbox`] sent last.
    pub fn may_use_inboxes(&self) -> bool {
        self.link.takes_what_was_tried()
    }

    /// How often a NATS server fell silent without ending the connection: what was sent to it meanwhile is not known.
    pub fn silences(&self) -> u64 {
        self.link.silences()
    }

    /// The ID of the NATS server that is connected, or was last; empty when it has none.
    pub fn server_id(&self) -> String {
        self.link.server_id().borrow().clone()
    }

    /// As [`Self::server_id`], to be waited for.
    pub fn server_ids(&self) -> watch::Receiver<String> {
        self.link.server_id()
    }

    /// Goes to another NATS server of the list or the cluster than that one, if there is one.
    pub fn prefer_another_than(&self, server_id: &str) {
        self.link.avoid(Some(server_id.to_owned()));
        if self.server_id() == server_id {
            self.link.move_away();
        }
    }

    /// The version of the NATS server that was reached first.
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// Largest message that the NATS server takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.link.max_payload()
    }

    /// How late everything is that leaves now, as far as NATS has not answered yet.
    pub fn lag(&self) -> Duration {
        self.link.lag()
    }

    /// Answers of the last moments are sent once more after a reconnect; from here on they are not.
    pub fn forget_answers(&self) {
        self.link.forget_answers();
    }

    pub fn counts(&self) -> Counts {
        self.link.counts()
    }

    /// Hears nothing yet.
    pub fn inbox(&self) -> Inbox {
        let queue = Queue::new(Arc::clone(&self.link.budget));
        Inbox {
            connection: self.clone(),
            taker: Taker::new(Arc::clone(&queue)),
            queue,
            sids: Vec::new(),
            taken: Vec::new().into_iter(),
        }
    }

    /// A subject of our own that nobody can guess.
    pub fn new_subject(&self) -> String {
        let random: Option<[u8; 16]> = Random::new().bytes();
        // A system that has started has random bytes.
        let random = random.unwrap_or_default();
        format!("_INBOX.{}", data_encoding::BASE32_NOPAD.encode(&random))
    }

    /// For what has no need of events: the command line's own publisher and subscriber. Waits while too much waits for
    /// the socket. Without a connection the message is dropped and counted.
    pub async fn publish(
        &self,
        subject: &str,
        reply_to: Option<&str>,
        payload: &[u8],
    ) -> Result<(), Error> {
        for subject in [Some(subject), reply_to].into_iter().flatten() {
            ensure_subject(subject)?;
        }
        if payload.len() > self.max_payload() {
            return Err(Error::TooLarge {
                size: payload.len(),
                max: self.max_payload(),
            });
        }
        let mut out = BytesMut::new();
        let reply_to = reply_to.map(str::as_bytes);
        encode::publish(subject.as_bytes(), reply_to, payload, &mut out);
        self.link.send(Class::Urgent, &mut out, 1);
        self.link.room(Class::Urgent).await;
        Ok(())
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn shared_link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }
}

/// Messages of any number of subscriptions, in the order in which NATS sent them. Ends its subscriptions when
/// dropped.
#[derive(Debug)]
pub struct Inbox {
    connection: Connection,
    queue: Arc<Queue>,
    taker: Taker,
    sids: Vec<u64>,
    /// For those who take one message at a time.
    taken: vec::IntoIter<Message>,
}

impl Inbox {
    pub(super) fn guard(&self, gate: Gate) {
        self.queue.guard(gate);
    }

    /// For the gate: these publishes do not wait any more.
    pub(super) fn release(&self, gone: &[(Sender, usize)]) {
        if let Some(gate) = self.queue.gate() {
            gate.release(gone);
        }
    }

    /// The same of requests of another kind.
    pub(super) fn release_others(&self, gone: &[Sender]) {
        if let Some(gate) = self.queue.gate() {
            gate.release_others(gone);
        }
    }

    /// The subscription's number, which its messages carry. NATS knows of it after the next
    /// [`Connection::flush`]; over reconnects it lasts.
    pub fn subscribe(&mut self, subject: &str) -> Result<u64, Error> {
        let sid = self.connection.link.subscribe(subject, &self.queue)?;
        self.sids.push(sid);
        Ok(sid)
    }

    /// Waits for the next message. Fails when the connection is gone for good. Cancel-safe.
    pub async fn next(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.taken.next() {
                self.give_back(1, message.weight());
                return Ok(message);
            }
            self.ready().await?;
            self.taken = self.take().unwrap_or_default().into_iter();
        }
    }

    /// So many times there is something to take now.
    pub(super) fn waiting(&self) -> usize {
        self.taker.waiting()
    }

    /// Messages that are there already: as many as one read brought. They count as waiting until they are given
    /// back.
    pub(super) fn take(&mut self) -> Option<Vec<Message>> {
        self.taker.take()
    }

    pub(super) fn give_back(&mut self, messages: usize, bytes: usize) {
        self.taker.give_back(messages, bytes);
    }

    /// Waits until there is something to take. Fails when the connection is gone for good. Cancel-safe.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        self.taker.ready().await
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.connection.link.unsubscribe(&self.sids);
    }
}
