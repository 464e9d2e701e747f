//! What the handles of a connection share with the task that runs it: what is to be written, the subscriptions,
//! the round trips under way, and whether NATS is there. Every method is short and waits for nothing, except
//! those that say so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Notify, oneshot, watch};

use self::server_change::Move;
use self::subscriptions::Subscription;
pub(super) use self::subscriptions::{Routes, ensure_subject};
use super::budget::Budget;
use super::counters::{Counters, Counts};
use super::error::Error;
use super::forbidden::Forbidden;
use super::outgoing::{Class, Outgoing, SEND_BYTES};
use super::rejections::Rejections;
use super::window::Question;
use super::wire::encode;
use crate::clock::Clock;
use crate::core::time::Instant;

mod permissions;
mod server_change;
mod subscriptions;

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
    /// Times that a NATS server fell silent, without ending the connection.
    silences: AtomicU64,
    /// Another server is wanted.
    away: Notify,
    server_id: watch::Sender<String>,
    /// The ID of a server that others are preferred to.
    avoided: Mutex<Option<String>>,
    /// The NATS server cuts off who does not read, without holding back those who send.
    cuts_off: AtomicBool,
    /// This side answers, and so can refuse.
    may_refuse: AtomicBool,
    forbidden: Mutex<Forbidden>,
    rejections: Mutex<Rejections>,
    pub(super) budget: Arc<Budget>,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    closed: bool,
    out: Outgoing,
    /// Answers to these come in this order.
    pings: VecDeque<Ping>,
    /// Round trips that wait for a connection.
    early: Vec<oneshot::Sender<()>>,
    subscriptions: BTreeMap<u64, Subscription>,
    last_sid: u64,
    moving: Option<Move>,
}

#[derive(Debug)]
struct Ping {
    at: Instant,
    confirms: Question,
    waiting: Option<oneshot::Sender<()>>,
}

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
            forbidden: Mutex::default(),
            rejections: Mutex::default(),
            silences: AtomicU64::new(0),
            away: Notify::new(),
            server_id: watch::Sender::default(),
            avoided: Mutex::default(),
            cuts_off: AtomicBool::new(false),
            may_refuse: AtomicBool::new(false),
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

    pub(super) fn set_cuts_off(&self, cuts_off: bool) {
        self.cuts_off.store(cuts_off, SeqCst);
        self.settle();
    }

    /// Where reading may not pause, requests of clients that send too much are refused from here on.
    pub(super) fn may_refuse(&self, may: bool) {
        self.may_refuse.store(may, SeqCst);
        self.settle();
    }

    fn settle(&self) {
        let (refuses, cuts_off) = (self.may_refuse.load(SeqCst), self.cuts_off.load(SeqCst));
        self.budget.refuse(refuses, cuts_off);
    }

    /// Clients that were away longer than this side get the answers of before again. To be called now and then.
    pub(super) fn repeat_answers(&self) {
        let mut state = self.lock();
        if state.connected && state.moving.is_none() {
            state.out.repeat(Clock.now().monotonic);
            self.to_write.notify_one();
        }
    }

    pub(super) fn note_silence(&self) {
        self.silences.fetch_add(1, SeqCst);
    }

    pub(super) fn silences(&self) -> u64 {
        self.silences.load(SeqCst)
    }

    /// Asks for another server; nothing changes where there is none.
    pub(super) fn move_away(&self) {
        self.away.notify_one();
    }

    pub(super) async fn wants_away(&self) {
        self.away.notified().await;
    }

    pub(super) fn set_server_id(&self, id: &str) {
        self.server_id.send_if_modified(|known| {
            let is_other = known != id;
            id.clone_into(known);
            is_other
        });
    }

    pub(super) fn server_id(&self) -> watch::Receiver<String> {
        self.server_id.subscribe()
    }

    /// From here on that server is taken last.
    pub(super) fn avoid(&self, server_id: Option<String>) {
        *self.avoided.lock().unwrap_or_else(PoisonError::into_inner) = server_id;
    }

    pub(super) fn is_avoided(&self, server_id: &str) -> bool {
        let avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.as_deref() == Some(server_id)
    }

    /// A connection begins: what NATS has to know comes first.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let mut first = BytesMut::new();
        for (&sid, subscription) in &state.subscriptions {
            encode::subscribe(&subscription.subject, sid, &mut first);
        }
        state.out.begin(first, Clock.now().monotonic);
        for round_trip in std::mem::take(&mut state.early) {
            state.ping(Some(round_trip));
        }
        state.connected = true;
        self.health.send_replace(true);
        self.to_write.notify_one();
    }

    /// A connection has ended: what waited to be written is lost, but for answers, and so is what NATS was to say.
    pub(super) fn end(&self) {
        let now = Clock.now().monotonic;
        let most = self.rejections().most(now);
        let mut state = self.lock();
        state.connected = false;
        state.moving = None;
        self.counters.add_unsent(state.out.end(most, now));
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

    /// Takes over all of `out`, which is empty afterwards, with its number of messages. Without a connection answers wait
    /// for the next one, and all else is dropped and counted.
    pub(super) fn send(&self, class: Class, out: &mut BytesMut, messages: u64) {
        let mut state = self.lock();
        if !state.connected {
            if class == Class::Answer && !state.closed {
                state.out.keep(out, messages);
                return;
            }
            drop(state);
            out.clear();
            self.counters.add_unsent(messages);
            return;
        }
        state.out.put(class, out, messages, Clock.now().monotonic);
        drop(state);
        self.to_write.notify_one();
    }

    /// False when so much of this class waits that no more of it should be gathered.
    pub(super) fn has_room(&self, class: Class) -> bool {
        self.lock().out.has_room(class)
    }

    pub(super) fn counts(&self) -> Counts {
        let dropped_answers = self.lock().out.dropped_answers();
        self.counters.read(dropped_answers)
    }

    /// Grows whenever something that waited is on its way to the socket.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Waits until [`Self::has_room`], or there is no connection.
    pub(super) async fn room(&self, class: Class) {
        loop {
            let written = self.written.notified();
            {
                let state = self.lock();
                if !state.connected || state.out.has_room(class) {
                    return;
                }
            }
            written.await;
        }
    }

    /// For how long NATS has left a question unanswered: how late everything is that leaves now.
    pub(super) fn lag(&self) -> Duration {
        let now = Clock.now().monotonic;
        let state = self.lock();
        let oldest = state.pings.front();
        oldest.map_or(Duration::ZERO, |ping| now.since(ping.at))
    }

    /// The term is over: what it answered is not repeated.
    pub(super) fn forget_answers(&self) {
        self.lock().out.forget_answers();
    }

    /// Waits for bytes to write and exchanges them for `spare`, an empty buffer.
    pub(super) async fn to_write(&self, spare: &mut BytesMut) {
        loop {
            {
                let mut state = self.lock();
                let state = &mut *state;
                state.out.written();
                if let Some(moving) = &mut state.moving {
                    if !moving.farewell.is_empty() {
                        std::mem::swap(&mut moving.farewell, spare);
                        self.taken.fetch_add(1, Relaxed);
                        break;
                    }
                } else if let Some(next) = state.out.next(spare) {
                    self.taken.fetch_add(1, Relaxed);
                    if let Some(confirms) = next.asked {
                        state.note_ping(confirms, None);
                    }
                    break;
                }
            }
            // Room in the window counts, too.
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
        if state.connected && state.moving.is_none() {
            state.ping(Some(sender));
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
            state.ping(None);
        } else if state.out.urgent_bytes() == 0 {
            state.out.urgent().extend_from_slice(encode::PONG);
        }
        self.to_write.notify_one();
    }

    /// When the ping was sent that has waited longest for its answer.
    pub(super) fn oldest_ping(&self) -> Option<Instant> {
        self.lock().pings.front().map(|ping| ping.at)
    }

    /// NATS has answered a ping.
    pub(super) fn pong(&self) {
        let mut state = self.lock();
        let Some(ping) = state.pings.pop_front() else {
            return;
        };
        let now = Clock.now().monotonic;
        state.out.answered(ping.confirms, now.since(ping.at), now);
        drop(state);
        self.to_write.notify_one();
        if let Some(waiting) = ping.waiting {
            // Nobody waits any more: its time was over.
            waiting.send(()).ok();
        }
    }

    /// NATS asks for a sign of life.
    pub(super) fn answer_ping(&self) {
        let mut state = self.lock();
        // One that asks without end and takes no answers gets none.
        if state.out.urgent_bytes() < SEND_BYTES {
            state.out.urgent().extend_from_slice(encode::PONG);
            self.to_write.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Behind everything urgent.
    fn ping(&mut self, waiting: Option<oneshot::Sender<()>>) {
        self.out.urgent().extend_from_slice(encode::PING);
        let confirms = self.out.ask();
        self.note_ping(confirms, waiting);
    }

    fn note_ping(&mut self, confirms: Question, waiting: Option<oneshot::Sender<()>>) {
        self.pings.push_back(Ping {
            at: Clock.now().monotonic,
            confirms,
            waiting,
        });
    }
}
