//! Two NATS servers that both know our subscriptions, for a moment on the way from one to the other: what both have sent is
//! taken once.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::wire::Message;
use crate::core::time::Instant;

/// What both sent comes within this time.
const LASTS: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Overlap {
    /// Digests of what the first server sent, and how often.
    digests: BTreeMap<u64, u32>,
    /// From the end of the first one on.
    until: Option<Instant>,
    /// What the second one sent before it was listened to.
    early: Vec<Message>,
    hasher: RandomState,
}

impl Overlap {
    fn digest(&self, message: &Message) -> u64 {
        let whence = (message.sid(), message.subject(), message.reply());
        self.hasher.hash_one((whence, message.payload()))
    }

    /// The first one has sent this.
    pub(super) fn note(&mut self, message: &Message) {
        let digest = self.digest(message);
        *self.digests.entry(digest).or_default() += 1;
    }

    /// The first one has been left.
    pub(super) fn end(&mut self, early: Vec<Message>, now: Instant) {
        self.early = early;
        self.until = Some(now + LASTS);
    }

    pub(super) fn take_early(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.early)
    }

    /// True for what the first one has sent, too: as often as it has.
    pub(super) fn knows(&mut self, message: &Message, now: Instant) -> bool {
        let Some(until) = self.until else {
            return false;
        };
        if now > until {
            *self = Self::default();
            return false;
        }
        let digest = self.digest(message);
        match self.digests.get_mut(&digest) {
            Some(count @ 1..) => {
                *count -= 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::wire::{Frame, Parser};

    fn message(payload: &str) -> Message {
        let mut parser = Parser::default();
        let frame = format!("MSG a 1 {}\r\n{payload}\r\n", payload.len());
        parser.room().extend_from_slice(frame.as_bytes());
        match parser.next_frame() {
            Ok(Some(Frame::Message(message))) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_both_have_sent_is_known_as_often_as_the_first_one_sent_it() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut overlap = Overlap::default();
        overlap.note(&message("both"));
        overlap.note(&message("first"));
        assert!(!overlap.knows(&message("both"), at(1)), "not left yet");
        overlap.end(Vec::new(), at(1));

        assert!(overlap.knows(&message("both"), at(2)));
        assert!(!overlap.knows(&message("both"), at(2)), "sent once more");
        assert!(!overlap.knows(&message("second"), at(2)));
        assert!(!overlap.knows(&message("first"), at(9)), "too late");
    }
}
