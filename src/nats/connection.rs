//! The node's connection to NATS. It reconnects for as long as it exists; what is published meanwhile is
//! dropped by `egress`. Opening it fails at once when NATS cannot be reached: whether to try again is the
//! caller's decision.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::counters::Counts;
use super::error::Error;
use super::link::Link;
use super::queue::{Queue, Taker};
use super::random::Random;
use super::reconnect::Reconnect;
use super::settings::Settings;
use super::wire::Message;

/// A handle; the connection closes when the last one is dropped. What is to arrive before that needs a
/// [`Connection::flush`].
#[derive(Clone, Debug)]
pub struct Connection {
    link: Arc<Link>,
    health: watch::Receiver<bool>,
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
        let stop = CancellationToken::new();
        tasks.spawn(reconnect.run(line, stop.clone()));
        let open = Arc::new(stop.drop_guard());
        let connection = Self {
            link,
            health,
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

    /// Waits until NATS has taken everything that was sent before, and everything that NATS had sent to this
    /// connection by then is in the queues of its inboxes. Those must be read meanwhile: nothing comes through
    /// full queues.
    pub async fn flush(&self, limit: Duration) -> Result<(), Error> {
        let answer = self.link.round_trip()?;
        timeout(limit, answer)
            .await
            .map_err(|_| Error::NoAnswer(limit))?
            .map_err(|_| Error::Lost)
    }

    /// Largest message that the NATS server takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.link.max_payload()
    }

    pub fn counts(&self) -> Counts {
        self.link.counters.read()
    }

    /// Hears nothing yet.
    pub fn inbox(&self) -> Inbox {
        let queue = Queue::new(Arc::clone(&self.link.budget));
        Inbox {
            connection: self.clone(),
            taker: Taker::new(Arc::clone(&queue)),
            queue,
            sids: Vec::new(),
        }
    }

    /// A subject of our own that nobody can guess.
    pub fn new_subject(&self) -> String {
        let random: Option<[u8; 16]> = Random::new().bytes();
        // A system that has started has random bytes.
        let random = random.unwrap_or_default();
        format!("_INBOX.{}", data_encoding::BASE32_NOPAD.encode(&random))
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
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
}

impl Inbox {
    /// The subscription's number, which its messages carry. NATS knows of it after the next
    /// [`Connection::flush`]; over reconnects it lasts.
    pub fn subscribe(&mut self, subject: &str) -> Result<u64, Error> {
        let sid = self.connection.link.subscribe(subject, &self.queue)?;
        self.sids.push(sid);
        Ok(sid)
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
