//! The core's surface.

use super::batch::Batch;
use super::event::Event;
use super::limits::Settings;
use super::load::Load;
use super::outbound::Outbound;
use super::snapshot::Snapshot;
use super::time::{Instant, Now};

#[derive(Debug)]
pub struct Broker {
    _settings: Settings,
}

impl Broker {
    /// Takes up where the tables stand.
    pub fn restore(_snapshot: Snapshot, settings: Settings, _now: Now) -> Self {
        Self {
            _settings: settings,
        }
    }

    pub fn handle(&mut self, _event: Event, _now: Now) {}

    /// To be called when `next_timeout` has passed.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// When something is due next, whatever events come.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// A message that may leave the node.
    pub fn poll_outbound(&mut self) -> Option<Outbound> {
        None
    }

    /// A read that the store should make; answered by `Event::Loaded` or `Event::LoadFailed`.
    pub fn poll_load(&mut self) -> Option<Load> {
        None
    }

    /// The writes to commit next; `None` while a batch is out or nothing needs one. Answered by
    /// `Event::Committed`; a batch that fails ends the term, and with it this broker.
    pub fn poll_batch(&mut self) -> Option<Batch> {
        None
    }

    /// False when so much waits for the next commit that no more requests should be handed in.
    pub fn has_room(&self) -> bool {
        true
    }

    /// True when no batch is out or needed and nothing waits to be sent.
    pub fn is_drained(&self) -> bool {
        true
    }

    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}

/// How much there is of everything, for the status page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub clients: usize,
    pub channels: usize,
    /// Online subscriptions, queue members, offline durables and empty durable groups (one each).
    pub subscriptions: usize,
    pub messages: u64,
    pub bytes: u64,
    pub in_messages: u64,
    pub in_bytes: u64,
    pub out_messages: u64,
    pub out_bytes: u64,
}
