//! What the handles of a connection share with the task that runs it: what is to be written, the subscriptions,
//! the round trips under way, and whether NATS is there. Every method is short and waits for nothing, except
//! those that say so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::sync::{Notify, oneshot, watch};

use super::budget::Budget;
use super::counters::Counters;
use super::error::Error;
use super::queue::Queue;
use super::wire::encode;

/// Bytes that may wait to be written before senders are told to wait. As much again may be on its way.
pub(super) const SEND_BYTES: usize = 4 << 20;

/// A buffer that has grown beyond this is not kept for the next burst.
const KEPT_BYTES: usize = 1 << 20;

/// Round trips that may be under way at once.
const ROUND_TRIPS_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Link {
    state: Mutex<State>,
    /// There is something to write.
    to_write: Notify,
    /// Something has been written, or will never be.
    written: Notify,
    health: watch::Sender<bool>,
    /// Counts changes of the subscriptions.
    generation: AtomicU64,
    /// Counts buffers that were taken to be written.
    taken: AtomicU64,
    max_payload: AtomicUsize,
    pub(super) budget: Arc<Budget>,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    closed: bool,
    out: BytesMut,
    /// Of those in `out`.
    messages: u64,
    /// Of the buffer that is being written.
    writing: u64,
    /// Answers to these come in this order.
    pings: VecDeque<Ping>,
    /// Round trips that wait for a connection.
    early: Vec<oneshot::Sender<()>>,
    subscriptions: BTreeMap<u64, Subscription>,
    last_sid: u64,
}

#[derive(Debug)]
enum Ping {
    KeepAlive,
    RoundTrip(oneshot::Sender<()>),
}

#[derive(Clone, Debug)]
struct Subscription {
    subject: String,
    queue: Arc<Queue>,
}

/// Where messages of the subscriptions go that have had any.
pub(super) type Routes = BTreeMap<u64, Arc<Queue>>;

impl Link {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            state: Mutex::default(),
            to_write: Notify::new(),
            written: Notify::new(),
            health: watch::Sender::new(false),
            generation: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            max_payload: AtomicUsize::new(0),
            budget: Arc::new(budget),
            counters: Counters::default(),
        }
    }

    pub(super) fn health(&self) -> watch::Receiver<bool> {
        self.health.subscribe()
    }

    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.load(Relaxed)
    }

    pub(super) fn set_max_payload(&self, bytes: usize) {
        self.max_payload.store(bytes, Relaxed);
    }

    /// A connection begins: what NATS has to know comes first.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.out.clear();
        for (&sid, subscription) in &state.subscriptions {
            encode::subscribe(&subscription.subject, sid, &mut state.out);
        }
        for round_trip in state.early.drain(..) {
            state.out.extend_from_slice(encode::PING);
            state.pings.push_back(Ping::RoundTrip(round_trip));
        }
        state.connected = true;
        self.health.send_replace(true);
        self.to_write.notify_one();
    }

    /// A connection has ended: what waited to be written is lost, and so are the answers that were to come.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.connected = false;
        self.counters.add_unsent(state.messages + state.writing);
        state.messages = 0;
        state.writing = 0;
        state.out = BytesMut::new();
        state.pings.clear();
        self.health.send_replace(false);
        self.written.notify_waiters();
    }

    /// For good: there will be no other connection.
    pub(super) fn close(&self) {
        self.end();
        let mut state = self.lock();
        state.closed = true;
        state.early.clear();
        for subscription in state.subscriptions.values() {
            subscription.queue.close();
        }
    }

    /// Takes over all of `out`, which is empty afterwards, with its number of messages. Tells how many bytes wait
    /// to be written. Without a connection they are dropped and counted.
    pub(super) fn send(&self, out: &mut BytesMut, messages: u64) -> usize {
        let mut state = self.lock();
        if !state.connected {
            drop(state);
            out.clear();
            self.counters.add_unsent(messages);
            return 0;
        }
        if state.out.is_empty() {
            std::mem::swap(&mut state.out, out);
        } else {
            state.out.extend_from_slice(out);
        }
        out.clear();
        state.messages += messages;
        let waiting = state.out.len();
        drop(state);
        self.to_write.notify_one();
        waiting
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.lock().out.len()
    }

    /// Grows whenever something that waited is on its way to the socket.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Waits until less than `bytes` wait to be written.
    pub(super) async fn room(&self, bytes: usize) {
        loop {
            let written = self.written.notified();
            if self.lock().out.len() < bytes {
                return;
            }
            written.await;
        }
    }

    /// Waits for bytes to write and exchanges them for `spare`, an empty buffer.
    pub(super) async fn to_write(&self, spare: &mut BytesMut) {
        loop {
            {
                let mut state = self.lock();
                state.writing = 0;
                if !state.out.is_empty() {
                    std::mem::swap(&mut state.out, spare);
                    state.writing = std::mem::take(&mut state.messages);
                    self.taken.fetch_add(1, Relaxed);
                    break;
                }
            }
            self.to_write.notified().await;
        }
        self.written.notify_waiters();
    }

    /// Gives a written buffer back to be used again.
    pub(super) fn recycle(buffer: &mut BytesMut) {
        buffer.clear();
        if buffer.capacity() > KEPT_BYTES {
            *buffer = BytesMut::new();
        }
    }

    /// Sends a ping whose answer ends the wait of the receiver. Everything that NATS sent before the answer is in
    /// its queue by then. Without a connection it waits for the next one; with the end of a connection it ends
    /// without an answer.
    pub(super) fn round_trip(&self) -> Result<oneshot::Receiver<()>, Error> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        state.early.retain(|waiting| !waiting.is_closed());
        if state.early.len() + state.pings.len() >= ROUND_TRIPS_MAX {
            return Err(Error::Lost);
        }
        if state.connected {
            state.out.extend_from_slice(encode::PING);
            state.pings.push_back(Ping::RoundTrip(sender));
            self.to_write.notify_one();
        } else {
            state.early.push(sender);
        }
        Ok(receiver)
    }

    /// Asks NATS for a sign of life. With `open_max` questions open already, or round trips, it only says something
    /// that needs no answer: writing finds out that a connection is gone when nothing is read.
    pub(super) fn keep_alive(&self, open_max: usize) {
        let mut state = self.lock();
        if state.pings.len() < open_max {
            state.out.extend_from_slice(encode::PING);
            state.pings.push_back(Ping::KeepAlive);
        } else if state.out.is_empty() {
            state.out.extend_from_slice(encode::PONG);
        }
        self.to_write.notify_one();
    }

    /// NATS has answered a ping.
    pub(super) fn pong(&self) {
        if let Some(Ping::RoundTrip(waiting)) = self.lock().pings.pop_front() {
            // Nobody waits any more: its time was over.
            waiting.send(()).ok();
        }
    }

    /// NATS asks for a sign of life.
    pub(super) fn answer_ping(&self) {
        let mut state = self.lock();
        // One that asks without end and takes no answers gets none.
        if state.out.len() < SEND_BYTES {
            state.out.extend_from_slice(encode::PONG);
            self.to_write.notify_one();
        }
    }

    /// From here on messages to `subject` go to `queue`, over reconnects too.
    pub(super) fn subscribe(&self, subject: &str, queue: &Arc<Queue>) -> Result<u64, Error> {
        ensure_subject(subject)?;
        let mut state = self.lock();
        let state = &mut *state;
        if state.closed {
            return Err(Error::Closed);
        }
        state.last_sid += 1;
        let subscription = Subscription {
            subject: subject.to_owned(),
            queue: Arc::clone(queue),
        };
        state.subscriptions.insert(state.last_sid, subscription);
        self.generation.fetch_add(1, SeqCst);
        if state.connected {
            encode::subscribe(subject, state.last_sid, &mut state.out);
            self.to_write.notify_one();
        }
        Ok(state.last_sid)
    }

    pub(super) fn unsubscribe(&self, sids: &[u64]) {
        let mut state = self.lock();
        let state = &mut *state;
        for &sid in sids {
            let known = state.subscriptions.remove(&sid).is_some();
            if known && state.connected {
                encode::unsubscribe(sid, &mut state.out);
            }
        }
        self.generation.fetch_add(1, SeqCst);
        self.to_write.notify_one();
    }

    /// Forgets `routes` when the subscriptions have changed since `generation`.
    pub(super) fn refresh(&self, routes: &mut Routes, generation: &mut u64) {
        let latest = self.generation.load(SeqCst);
        if latest != *generation {
            *generation = latest;
            routes.clear();
        }
    }

    /// Where messages of this subscription go; `None` when it has been given up.
    pub(super) fn route(&self, sid: u64) -> Option<Arc<Queue>> {
        let state = self.lock();
        let subscription = state.subscriptions.get(&sid)?;
        Some(Arc::clone(&subscription.queue))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Anything else could put a second line into the protocol.
pub(super) fn ensure_subject(subject: &str) -> Result<(), Error> {
    if subject.is_empty() || !subject.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        return Err(Error::InvalidSubject {
            subject: subject.to_owned(),
        });
    }
    Ok(())
}
