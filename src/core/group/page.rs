//! Messages that a group has read ahead from the store.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::core::ids::Sequence;
use crate::core::memory_size;
use crate::core::message::Message;

/// Messages read from the store: it speaks for everything up to `through`.
#[derive(Clone, Debug, Default)]
pub(in crate::core) struct Page {
    pub(in crate::core) messages: VecDeque<Arc<Message>>,
    pub(in crate::core) through: Sequence,
    pub(in crate::core) bytes: usize,
}

impl Page {
    pub(in crate::core) fn new(messages: Vec<Arc<Message>>, through: Sequence) -> Self {
        let bytes = messages
            .iter()
            .map(|message| memory_size::message(message))
            .sum();
        Self {
            messages: messages.into(),
            through,
            bytes,
        }
    }

    /// Drops what lies before `sequence`; returns the bytes dropped.
    pub(in crate::core) fn skip_to(&mut self, sequence: Sequence) -> usize {
        let before = self.bytes;
        while self
            .messages
            .front()
            .is_some_and(|message| message.sequence < sequence)
        {
            if let Some(message) = self.messages.pop_front() {
                self.bytes -= memory_size::message(&message);
            }
        }
        before - self.bytes
    }
}
