//! What waits to be written to NATS, in two classes. Answers, probes and what the protocol itself has to say go first and
//! wait for nothing; deliveries go when NATS has taken most of what left before ([`super::window`]).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::recent::RecentAnswers;
use super::window::{Question, Window};
use super::wire::encode;
use crate::core::time::Instant;

mod recent;

/// Bytes that may wait to be written before senders have to wait. As much again may be on its way.
pub(super) const SEND_BYTES: usize = 4 << 20;

/// Deliveries gathered beyond what the link carries in a moment.
const DELIVERY_BYTES: usize = 256 << 10;

/// Deliveries, or answers that are sent again, that are written in one go, in bytes; a larger message goes by itself.
const PIECE_BYTES: usize = 64 << 10;

/// Which way a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// An answer; it is sent once more when the connection is lost soon after, and later where there is none.
    Answer,
    /// As urgent, and not repeated.
    Urgent,
    Delivery,
}

/// There is something to write; this question is in it.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) asked: Option<Question>,
}

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    urgent: BytesMut,
    deliveries: BytesMut,
    /// Lengths of whole messages of `deliveries`, some together.
    pieces: VecDeque<usize>,
    /// Messages that wait, and those in the piece that is being written; answers are not lost with a connection.
    messages: u64,
    window: Window,
    /// A piece has left, and NATS is not asked yet whether it has come.
    asks: bool,
    recent: RecentAnswers,
}

impl Outgoing {
    /// A connection begins, with what NATS has to know. What was answered shortly before the last one ended may have
    /// died with its server, and what was answered since had none: both come next.
    pub(super) fn begin(&mut self, first: BytesMut, now: Instant) {
        self.drop_all();
        self.urgent = first;
        self.recent.begin(now);
    }

    /// Answers of around the begin of the connection leave again when it is time. To be called now and then.
    pub(super) fn repeat(&mut self, now: Instant) {
        self.recent.repeat(&mut self.urgent, now);
    }

    /// Another connection goes on where the last one was left in order; what it has to say first.
    pub(super) fn go_on(&mut self, mut first: BytesMut, now: Instant) {
        self.recent.arrived(u64::MAX, now);
        first.extend_from_slice(&self.urgent);
        self.urgent = first;
        self.window = Window::default();
        self.asks = false;
    }

    /// A connection has ended: what waited is lost, but for answers. Returns how many messages. No subjects may have more than `most`
    /// bytes on the next one.
    pub(super) fn end(&mut self, most: Option<usize>, now: Instant) -> u64 {
        self.recent.end(now);
        if let Some(most) = most {
            self.recent.drop_longer(most);
        }
        self.drop_all()
    }

    fn drop_all(&mut self) -> u64 {
        self.urgent = BytesMut::new();
        self.deliveries = BytesMut::new();
        self.pieces.clear();
        self.window = Window::default();
        self.asks = false;
        std::mem::take(&mut self.messages)
    }

    /// Nothing is repeated any more: somebody else answers now.
    pub(super) fn forget_answers(&mut self) {
        self.recent.forget();
    }

    /// Frames of the protocol itself, which go first.
    pub(super) fn urgent(&mut self) -> &mut BytesMut {
        &mut self.urgent
    }

    /// Takes over `out`, whole messages of one class, which is empty afterwards.
    pub(super) fn put(&mut self, class: Class, out: &mut BytesMut, messages: u64, now: Instant) {
        if class != Class::Answer {
            self.messages += messages;
        }
        match class {
            Class::Delivery => {
                self.pieces.push_back(out.len());
                append(&mut self.deliveries, out);
            }
            Class::Urgent => append(&mut self.urgent, out),
            Class::Answer => {
                let answers = Bytes::copy_from_slice(out);
                if self.recent.put(answers, messages, now) {
                    out.clear();
                } else {
                    append(&mut self.urgent, out);
                }
            }
        }
    }

    /// Takes over `out`, answers that were given without a connection. They have all the time that there is none, and
    /// leave with the next one.
    pub(super) fn keep(&mut self, out: &mut BytesMut, messages: u64) {
        self.recent.keep(out.split().freeze(), messages);
    }

    /// Answers that are not sent again because too many waited, or because one connection after the other ended with them.
    pub(super) fn dropped_answers(&self) -> u64 {
        self.recent.dropped()
    }

    /// False when so much of this class waits that no more of it should be gathered. What waits for a connection takes no room
    /// until that is there: the active hands out nothing meanwhile, and gives up its term when none comes for a lease. So
    /// this only ever waits for a connection to take something, or to end. Commits do not wait for it.
    pub(super) fn has_room(&self, class: Class) -> bool {
        let answers = self.urgent.len() + self.recent.again_bytes();
        match class {
            Class::Urgent => self.urgent.len() < SEND_BYTES,
            Class::Answer => answers < SEND_BYTES,
            // None of them overtakes an answer that waits for its own room.
            Class::Delivery => {
                let room = self.window.bytes().min(DELIVERY_BYTES);
                answers < SEND_BYTES && self.deliveries.len() < room
            }
        }
    }

    pub(super) fn urgent_bytes(&self) -> usize {
        self.urgent.len()
    }

    /// All that is urgent leaves in another way; it is empty afterwards.
    pub(super) fn take_urgent(&mut self) -> BytesMut {
        self.window.sent(self.urgent.len());
        self.recent.leave(self.window.position());
        std::mem::take(&mut self.urgent)
    }

    /// What is to be written next, in exchange for the empty `spare`; a question to be asked of NATS is in it.
    pub(super) fn next(&mut self, spare: &mut BytesMut) -> Option<Next> {
        let mut asked = None;
        if self.asks || (!self.urgent.is_empty() && self.window.wants_question()) {
            self.asks = false;
            self.urgent.extend_from_slice(encode::PING);
            self.window.sent(self.urgent.len());
            asked = Some(self.window.ask());
        } else {
            self.window.sent(self.urgent.len());
        }
        if !self.urgent.is_empty() {
            self.recent.leave(self.window.position());
            std::mem::swap(&mut self.urgent, spare);
            return Some(Next { asked });
        }
        let waits = self.recent.sends_again() || !self.pieces.is_empty();
        if !waits || !self.window.has_room() {
            return None;
        }
        if self.recent.sends_again() {
            // Each piece with a question of its own: a link that carries only some of them has carried these.
            self.recent
                .next_again(spare, PIECE_BYTES, self.window.position());
            spare.extend_from_slice(encode::PING);
            self.window.sent(spare.len());
            let asked = Some(self.window.ask());
            return Some(Next { asked });
        }
        let mut length = 0;
        while let Some(&piece) = self.pieces.front()
            && (length == 0 || length + piece <= PIECE_BYTES)
        {
            length += piece;
            self.pieces.pop_front();
        }
        *spare = self.deliveries.split_to(length);
        self.window.sent(length);
        self.asks = self.window.wants_question() || !self.window.has_room();
        Some(Next { asked: None })
    }

    pub(super) fn written(&mut self) {
        if self.urgent.is_empty() && self.pieces.is_empty() {
            self.messages = 0;
        }
    }

    pub(super) fn answered(&mut self, question: Question, took: Duration, now: Instant) {
        self.window.answered(question, took);
        self.recent.arrived(self.window.confirmed(), now);
    }

    /// A question that is asked anyway confirms as much.
    pub(super) fn ask(&mut self) -> Question {
        self.window.ask()
    }
}

fn append(to: &mut BytesMut, out: &mut BytesMut) {
    if to.is_empty() {
        std::mem::swap(to, out);
    } else {
        to.extend_from_slice(out);
    }
    out.clear();
}

#[cfg(test)]
mod tests;
