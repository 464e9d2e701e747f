//! How often the messages of a group were delivered, over takeovers, too. Groups without a policy have nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytestring::ByteString;

use super::group::{Group, InFlight};
use super::ids::Sequence;
use super::policy::{Count, Delivery};

/// Delivery attempts of a group that has a policy.
#[derive(Clone, Debug, Default)]
pub(super) struct DeliveryAttempts {
    pub(super) policy: Arc<Delivery>,
    /// In the tables.
    pub(super) stored: BTreeSet<Sequence>,
    /// Delivered again, or refused, since the last batch.
    pub(super) changed: BTreeSet<Sequence>,
    /// What consumers have said who refused them.
    pub(super) reasons: BTreeMap<Sequence, ByteString>,
    /// Dead letters to be: acks in SQL come too late.
    pub(super) given_up: BTreeSet<Sequence>,
    /// The message that the group waits for.
    pub(super) paused_by: Option<Sequence>,
}

impl DeliveryAttempts {
    pub(super) fn new(policy: Arc<Delivery>) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    pub(super) fn delivered_again(&mut self, sequence: Sequence) {
        if self.policy.max.is_some() {
            self.changed.insert(sequence);
        }
    }

    /// False when it is given up already.
    pub(super) fn give_up(&mut self, sequence: Sequence) -> bool {
        let is_new = self.given_up.insert(sequence);
        if is_new {
            self.changed.insert(sequence);
        }
        is_new
    }

    pub(super) fn is_given_up(&self, sequence: Sequence) -> bool {
        self.given_up.contains(&sequence)
    }

    /// What the tables say of messages that are given up or waited for is taken back. True when the group was waiting.
    fn reset(&mut self) -> bool {
        self.changed.append(&mut self.given_up);
        let awaited = self.paused_by.take();
        self.changed.extend(awaited);
        awaited.is_some()
    }

    /// True when the group was waiting for it.
    pub(super) fn settled(&mut self, sequence: Sequence) -> bool {
        self.reasons.remove(&sequence);
        self.given_up.remove(&sequence);
        if self.stored.contains(&sequence) || self.changed.contains(&sequence) {
            self.changed.insert(sequence);
        }
        let was_paused = self.paused_by == Some(sequence);
        if was_paused {
            self.paused_by = None;
        }
        was_paused
    }

    pub(super) fn refused(&mut self, sequence: Sequence, reason: ByteString) {
        self.given_up.remove(&sequence);
        if self.policy.max.is_some() {
            self.reasons.insert(sequence, reason);
            self.changed.insert(sequence);
        }
        if self.paused_by == Some(sequence) {
            self.paused_by = None;
        }
    }

    /// What is to be written. To be called once per batch, which takes it.
    pub(super) fn take_changes(
        &mut self,
        in_flight: &BTreeMap<Sequence, InFlight>,
    ) -> Vec<(Sequence, Option<Count>)> {
        let mut changes = Vec::new();
        for sequence in std::mem::take(&mut self.changed) {
            let reason = self.reasons.get(&sequence);
            let entry = in_flight
                .get(&sequence)
                .filter(|_| self.policy.max.is_some());
            if let Some(entry) = entry {
                self.stored.insert(sequence);
                let count = Count {
                    deliveries: entry.deliveries,
                    reason: reason.cloned().unwrap_or_default(),
                    is_given_up: self.given_up.contains(&sequence),
                    is_awaited: self.paused_by == Some(sequence),
                };
                changes.push((sequence, Some(count)));
            } else if self.stored.remove(&sequence) {
                changes.push((sequence, None));
            }
        }
        changes
    }
}

impl Group {
    pub(super) fn is_paused(&self) -> bool {
        let attempts = self.attempts.as_ref();
        attempts.is_some_and(|attempts| attempts.paused_by.is_some())
    }

    /// The tables say of a message that it is given up, or waited for.
    pub(super) fn is_marked(&self) -> bool {
        let attempts = self.attempts.as_ref();
        self.is_paused() || attempts.is_some_and(|attempts| !attempts.given_up.is_empty())
    }

    /// An operator has moved the position: nothing counts as delivered, and there is nothing to wait for.
    pub(super) fn reset_attempts(&mut self) {
        if let Some(attempts) = &mut self.attempts {
            attempts.reset();
            attempts.reasons.clear();
            let stored = attempts.stored.iter().copied();
            attempts.changed.extend(stored);
        }
    }

    /// From here on, or never again. True when the group was paused, and goes on.
    pub(super) fn set_policy(&mut self, policy: Option<Arc<Delivery>>) -> bool {
        match (&mut self.attempts, policy) {
            (None, None) => false,
            (None, Some(policy)) => {
                self.attempts = Some(Box::new(DeliveryAttempts::new(policy)));
                false
            }
            (Some(attempts), policy) => {
                let policy = policy.unwrap_or_default();
                if attempts.policy == policy {
                    return false;
                }
                attempts.policy = policy;
                if attempts.policy.max.is_none() {
                    let stored = attempts.stored.iter().copied();
                    attempts.changed.extend(stored);
                }
                attempts.reset()
            }
        }
    }
}
