//! Messages of an import on their way to the tables, as many as one batch takes.

use std::sync::Arc;

use crate::core::batch::Batch;
use crate::core::ids::ChannelId;
use crate::core::message::Message;

/// Messages and bytes of them that are written in one go.
const BATCH_MESSAGES: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

/// The messages of one batch.
#[derive(Default)]
pub(super) struct Gathered {
    batch: Box<Batch>,
    bytes: usize,
}

impl Gathered {
    /// `bytes`: those of its record in the former store.
    pub(super) fn add(&mut self, channel: ChannelId, message: Message, bytes: usize) {
        self.batch.messages.push((channel, Arc::new(message)));
        self.bytes += bytes;
    }

    /// All of them once they are enough for a batch.
    pub(super) fn full(&mut self) -> Option<Box<Batch>> {
        let is_full = self.batch.messages.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES;
        if is_full { self.rest() } else { None }
    }

    /// All of them, if there are any.
    pub(super) fn rest(&mut self) -> Option<Box<Batch>> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        (!batch.messages.is_empty()).then_some(batch)
    }
}
