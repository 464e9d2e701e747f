//! Who has how much waiting, and whose publishes are refused once too much waits. NATS cuts off whoever does not read, and
//! what it held is lost for all; so an active reads on, and tells those who have more than their share to come later.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::fair::{QUEUES, Sender};
use super::wire::Message;
use crate::protocol::decode;

/// Answers a publish that is not taken.
pub(super) type Refuse = Box<dyn Fn(&Message) + Send + Sync>;

pub(super) struct Gate {
    /// Subscriptions that publishes come by, growing.
    publishes: Vec<u64>,
    shares: Mutex<Shares>,
    refuse: Refuse,
}

#[derive(Debug)]
struct Shares {
    /// Messages and bytes that wait, by publisher.
    waiting: Vec<(usize, usize)>,
    /// Senders of whom something waits.
    holders: usize,
}

/// More than this, in messages and bytes, may wait only of those who have little.
pub(super) type Limits = (usize, usize);

impl Gate {
    pub(super) fn new(publishes: Vec<u64>, refuse: Refuse) -> Self {
        Self {
            publishes,
            shares: Mutex::new(Shares {
                waiting: vec![(0, 0); QUEUES],
                holders: 0,
            }),
            refuse,
        }
    }

    /// Leaves those in `messages` that are taken. `waiting`: all that waits already; with `limits`, publishes of who has
    /// more than an equal share of them are refused while more than that waits.
    pub(super) fn admit(
        &self,
        messages: &mut Vec<Message>,
        waiting: (usize, usize),
        limits: Option<Limits>,
    ) {
        let (mut count, mut bytes) = waiting;
        let mut refused = Vec::new();
        let mut shares = self.lock();
        messages.retain(|message| {
            let weight = message.weight();
            if self.publishes.binary_search(&message.sid()).is_ok() {
                let publisher = Sender::of(decode::sender(message.payload()));
                let is_refused = limits.is_some_and(|limits| {
                    (count >= limits.0 || bytes >= limits.1)
                        && shares.has_more_than_its_share(publisher, limits)
                });
                if is_refused {
                    refused.push(message.clone());
                    return false;
                }
                shares.add(publisher, weight);
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shares {
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
