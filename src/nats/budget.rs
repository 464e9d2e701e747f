//! How much may wait between the socket and those who take it. Over the limit nothing more is read, so that the
//! memory stays bounded and the NATS server learns that this side is slow.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

/// Of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    messages_max: usize,
    bytes_max: usize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    freed: Notify,
}

impl Budget {
    /// At least one of each, or nothing would ever be read.
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self {
            messages_max: messages_max.max(1),
            bytes_max: bytes_max.max(1),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// What is taken in one go may pass the limit: it has been read already.
    pub(super) fn take(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages, SeqCst);
        self.bytes.fetch_add(bytes, SeqCst);
    }

    pub(super) fn give_back(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, SeqCst);
        self.bytes.fetch_sub(bytes, SeqCst);
        if self.has_room() {
            self.freed.notify_one();
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.messages.load(SeqCst) < self.messages_max && self.bytes.load(SeqCst) < self.bytes_max
    }

    /// For one that waits at a time.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            self.freed.notified().await;
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> (usize, usize) {
        (self.messages.load(SeqCst), self.bytes.load(SeqCst))
    }
}
