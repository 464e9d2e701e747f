//! Messages on their way from the connection's task to whoever takes them, in batches as they were read. How many
//! they may be is the [`Budget`]'s business.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::budget::Budget;
use super::error::Error;
use super::gate::Gate;
use super::wire::Message;
use crate::clock::Clock;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    budget: Arc<Budget>,
    gate: OnceLock<Gate>,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    /// Nothing is put in any more.
    closed: bool,
}

/// What one read brought.
#[derive(Debug, Default)]
struct Batch {
    messages: Vec<Message>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Notify::new(),
            budget,
            gate: OnceLock::new(),
        })
    }

    /// From here on the gate decides what comes in. Only the first one counts.
    pub(super) fn guard(&self, gate: Gate) {
        self.gate.set(gate).ok();
    }

    pub(super) fn gate(&self) -> Option<&Gate> {
        self.gate.get()
    }

    /// Takes over all of `messages`, which is empty afterwards.
    pub(super) fn put(&self, messages: &mut Vec<Message>) {
        if let Some(gate) = self.gate.get() {
            let refusing = self.budget.refusing(Clock.now().monotonic);
            gate.admit(messages, self.budget.used(), refusing);
        }
        if messages.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.closed {
            messages.clear();
            return;
        }
        let bytes = messages.iter().map(Message::weight).sum();
        self.budget.take(messages.len(), bytes);
        let messages = std::mem::take(messages);
        state.batches.push_back(Batch { messages, bytes });
        drop(state);
        self.changed.notify_one();
    }

    /// What waits can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that messages are taken from. What is taken goes on counting until it is given back.
#[derive(Debug)]
pub(super) struct Taker {
    queue: Arc<Queue>,
    /// Messages and bytes taken and not given back.
    taken: (usize, usize),
}

impl Taker {
    /// For one taker per queue.
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            taken: (0, 0),
        }
    }

    /// How many reads are there whose messages can be taken.
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().batches.len()
    }

    /// What the oldest read brought of those that are there.
    pub(super) fn take(&mut self) -> Option<Vec<Message>> {
        let batch = self.queue.lock().batches.pop_front()?;
        self.taken.0 += batch.messages.len();
        self.taken.1 += batch.bytes;
        Some(batch.messages)
    }

    /// Lets as much be read again.
    pub(super) fn give_back(&mut self, messages: usize, bytes: usize) {
        self.taken.0 -= messages;
        self.taken.1 -= bytes;
        self.queue.budget.give_back(messages, bytes);
    }

    /// Waits until there is something to take. Fails when nothing can come any more. Cancel-safe.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        loop {
            {
                let state = self.queue.lock();
                if !state.batches.is_empty() {
                    return Ok(());
                }
                if state.closed {
                    return Err(Error::Closed);
                }
            }
            self.queue.changed.notified().await;
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.closed = true;
        for batch in std::mem::take(&mut state.batches) {
            self.taken.0 += batch.messages.len();
            self.taken.1 += batch.bytes;
        }
        drop(state);
        let (messages, bytes) = self.taken;
        self.queue.budget.give_back(messages, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::wire::{Frame, Parser};

    fn messages(count: usize) -> Vec<Message> {
        let mut parser = Parser::default();
        for _ in 0..count {
            parser.room().extend_from_slice(b"MSG a 1 3\r\nabc\r\n");
        }
        let next = || match parser.next_frame() {
            Ok(Some(Frame::Message(message))) => Some(message),
            _ => None,
        };
        std::iter::from_fn(next).collect()
    }

    fn queue() -> (Arc<Budget>, Arc<Queue>, Taker) {
        let budget = Arc::new(Budget::new(3, 1 << 20));
        let queue = Queue::new(Arc::clone(&budget));
        (budget, Arc::clone(&queue), Taker::new(queue))
    }

    fn weight(messages: &[Message]) -> usize {
        messages.iter().map(Message::weight).sum()
    }

    #[tokio::test]
    async fn there_is_room_again_when_what_was_taken_has_been_given_back() {
        let (budget, queue, mut taker) = queue();
        queue.put(&mut messages(2));
        assert!(budget.has_room());
        queue.put(&mut messages(2));
        let first = taker.take().unwrap();
        assert!(!budget.has_room(), "taken, and still held");

        let work = async {
            taker.ready().await.unwrap();
            let second = taker.take().unwrap();
            taker.give_back(2, weight(&first));
            taker.give_back(2, weight(&second));
        };
        tokio::join!(budget.room(), work);

        assert_eq!(budget.used(), (0, 0));
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_is_left_and_then_says_so() {
        let (_, queue, mut taker) = queue();
        queue.put(&mut messages(1));
        queue.close();
        queue.put(&mut messages(1));

        taker.ready().await.unwrap();
        assert!(taker.take().is_some());
        assert!(matches!(taker.ready().await, Err(Error::Closed)));
    }

    #[test]
    fn a_taker_that_goes_gives_back_what_it_held_and_what_it_left() {
        let (budget, queue, mut taker) = queue();
        queue.put(&mut messages(2));
        queue.put(&mut messages(2));
        taker.take();

        drop(taker);
        queue.put(&mut messages(2));

        assert_eq!(budget.used(), (0, 0));
    }
}
