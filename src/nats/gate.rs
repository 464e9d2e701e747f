//! How much each client has waiting, and whose requests are refused once too much waits. Requests that wait here are handed out in
//! turns, so that nobody waits for those of others; those that wait in the NATS server are not. So an active reads on, and
//! asks those to come later who have more waiting than any client that waits for answers.
//!
//! From version 2.11 on, NATS also cuts off whoever does not read, and what it held is lost for all. There, publishes of those
//! are refused who have more than their share of what may wait.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::fair_queue::{QUEUES, Sender};
use super::wire::Message;
use crate::protocol::decode;

/// Publishes of one sender that may wait: four times what client libraries send without an answer.
const PUBLISHES_MAX: usize = 65_536;

/// The same of all its other requests together. Libraries wait for the answer to each.
const OTHERS_MAX: usize = 8192;

/// Answers a request that is not taken.
pub(super) type Refuse = Box<dyn Fn(&Message) + Send + Sync>;

pub(super) struct Gate {
    /// Subscriptions that publishes come by, growing.
    publishes: Vec<u64>,
    /// The same of other requests that name their sender.
    others: Vec<u64>,
    shares: Mutex<Shares>,
    refuse: Refuse,
}

#[derive(Debug)]
struct Shares {
    /// Messages and bytes that wait, by publisher.
    waiting: Vec<(usize, usize)>,
    /// Senders of whom something waits.
    holders: usize,
    /// Other requests that wait, by sender.
    others: Vec<usize>,
}

/// More than this, in messages and bytes, may wait only of those who have little.
pub(super) type Limits = (usize, usize);

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusing {
    /// What no client sends that waits for answers.
    Floods,
    /// And more than a share of these.
    BeyondShare(Limits),
}

impl Gate {
    pub(super) fn new(publishes: Vec<u64>, others: Vec<u64>, refuse: Refuse) -> Self {
        Self {
            publishes,
            others,
            shares: Mutex::new(Shares {
                waiting: vec![(0, 0); QUEUES],
                holders: 0,
                others: vec![0; QUEUES],
            }),
            refuse,
        }
    }

    /// Leaves those in `messages` that are taken. `waiting`: all that waits already. `refusing`: `None` takes everything.
    pub(super) fn admit(
        &self,
        messages: &mut Vec<Message>,
        waiting: (usize, usize),
        refusing: Option<Refusing>,
    ) {
        let (mut count, mut bytes) = waiting;
        let mut refused = Vec::new();
        let mut shares = self.lock();
        messages.retain(|message| {
            let weight = message.weight();
            if self.publishes.binary_search(&message.sid()).is_ok() {
                let publisher = Sender::of(decode::sender(message.payload()));
                let is_refused = refusing.is_some_and(|refusing| {
                    shares.publishes(publisher) >= PUBLISHES_MAX
                        || matches!(refusing, Refusing::BeyondShare(limits)
                            if (count >= limits.0 || bytes >= limits.1)
                                && shares.has_more_than_its_share(publisher, limits))
                });
                if is_refused {
                    refused.push(message.clone());
                    return false;
                }
                shares.add(publisher, weight);
            } else if self.others.binary_search(&message.sid()).is_ok() {
                let sender = Sender::of(decode::sender(message.payload()));
                let others = &mut shares.others[sender.index()];
                if refusing.is_some() && *others >= OTHERS_MAX {
                    refused.push(message.clone());
                    return false;
                }
                *others += 1;
            }
            count += 1;
            bytes += weight;
            true
        });
        drop(shares);
        for message in &refused {
            (self.refuse)(message);
        }
    }

    /// Publishes that do not wait any more, each with its weight.
    pub(super) fn release(&self, gone: &[(Sender, usize)]) {
        let mut shares = self.lock();
        for &(publisher, weight) in gone {
            shares.remove(publisher, weight);
        }
    }

    /// The same of a request of another kind.
    pub(super) fn release_others(&self, gone: &[Sender]) {
        let mut shares = self.lock();
        for sender in gone {
            let others = &mut shares.others[sender.index()];
            *others = others.saturating_sub(1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shares {
    fn publishes(&self, publisher: Sender) -> usize {
        self.waiting[publisher.index()].0
    }

    fn has_more_than_its_share(&self, publisher: Sender, limits: Limits) -> bool {
        let (count, bytes) = self.waiting[publisher.index()];
        let holders = self.holders.max(1);
        count > limits.0 / holders || bytes > limits.1 / holders
    }

    fn add(&mut self, publisher: Sender, weight: usize) {
        let share = &mut self.waiting[publisher.index()];
        self.holders += usize::from(share.0 == 0);
        *share = (share.0 + 1, share.1 + weight);
    }

    fn remove(&mut self, publisher: Sender, weight: usize) {
        let share = &mut self.waiting[publisher.index()];
        if share.0 > 0 {
            *share = (share.0 - 1, share.1.saturating_sub(weight));
            self.holders -= usize::from(share.0 == 0);
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::nats::wire::{Frame, Parser};

    const PUBLISHES: u64 = 1;
    const OTHERS: u64 = 2;
    const ACKS: u64 = 3;

    /// As clients send them: the first field names the client.
    fn messages(sid: u64, client: u8, count: usize) -> Vec<Message> {
        let mut parser = Parser::default();
        let one = format!("MSG a {sid} 3\r\n\n\u{1}{}\r\n", char::from(client));
        for _ in 0..count {
            parser.room().extend_from_slice(one.as_bytes());
        }
        let next = || match parser.next_frame() {
            Ok(Some(Frame::Message(message))) => Some(message),
            _ => None,
        };
        std::iter::from_fn(next).collect()
    }

    fn gate() -> (Gate, Arc<AtomicUsize>) {
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&refused);
        let refuse = move |_: &Message| {
            counted.fetch_add(1, SeqCst);
        };
        (
            Gate::new(vec![PUBLISHES], vec![OTHERS], Box::new(refuse)),
            refused,
        )
    }

    /// How many are taken.
    fn admit(gate: &Gate, mut messages: Vec<Message>, refusing: Option<Refusing>) -> usize {
        gate.admit(&mut messages, (0, 0), refusing);
        messages.len()
    }

    #[test]
    fn a_client_that_waits_for_no_answer_is_refused_and_nobody_else() {
        for (sid, most) in [(PUBLISHES, PUBLISHES_MAX), (OTHERS, OTHERS_MAX)] {
            let (gate, refused) = gate();
            let floods = Some(Refusing::Floods);
            assert_eq!(admit(&gate, messages(sid, b'a', most + 10), floods), most);
            assert_eq!(admit(&gate, messages(sid, b'b', 5), floods), 5);
            assert_eq!(refused.load(SeqCst), 10);

            let a = Sender::of(decode::sender(messages(sid, b'a', 1)[0].payload()));
            if sid == PUBLISHES {
                gate.release(&[(a, 1)]);
            } else {
                gate.release_others(&[a]);
            }
            assert_eq!(admit(&gate, messages(sid, b'a', 5), floods), 1);
        }
    }

    #[test]
    fn acks_are_never_refused_and_a_standby_refuses_nothing() {
        let (gate, _) = gate();
        let many = 2 * OTHERS_MAX;
        assert_eq!(
            admit(&gate, messages(ACKS, b'a', many), Some(Refusing::Floods)),
            many
        );
        assert_eq!(admit(&gate, messages(OTHERS, b'a', many), None), many);
    }

    #[test]
    fn where_nats_cuts_off_who_has_more_than_a_share_is_refused() {
        let (gate, refused) = gate();
        let beyond = Some(Refusing::BeyondShare((10, 1 << 20)));
        let mut first = messages(PUBLISHES, b'a', 30);
        gate.admit(&mut first, (0, 0), beyond);
        assert_eq!((first.len(), refused.load(SeqCst)), (11, 19));
        let mut other = messages(PUBLISHES, b'b', 2);
        gate.admit(&mut other, (11, 0), beyond);
        assert_eq!(other.len(), 2);
    }
}
