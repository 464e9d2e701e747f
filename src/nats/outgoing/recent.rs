//! Answers that clients may not have yet. When the connection to NATS is lost they are sent again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{PIECE_BYTES, SEND_BYTES};
use crate::core::time::Instant;
use crate::nats::wire::encode;

/// Answers that NATS had so long before the end of their connection are taken to have reached their clients.
const RECENT: Duration = Duration::from_secs(2);

/// The same, in bytes. More than senders have to wait at, by what they may have gathered by then: while they wait,
/// none is dropped.
pub(super) const RECENT_BYTES: usize = SEND_BYTES + 2 * PIECE_BYTES;

/// An answer that so many connections have ended with on the way is forgotten: it may be what NATS ends them for.
const LOST_MAX: u8 = 3;

/// What is sent again later, in bytes: a slow link is not to be filled with it.
const REPEATED_BYTES: usize = 64 << 10;

/// So long after a new connection the answers of before and since are sent again: clients lose a NATS server, too, and may be
/// back later than this side. The libraries of NATS wait 2 s before they try again.
const REPEATS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(8)];

#[derive(Debug, Default)]
pub(super) struct RecentAnswers {
    /// From the oldest on. Those at NATS come first, those on the way next, and then either those that are to be sent again or
    /// those that wait to be written for the first time.
    recent: VecDeque<Recent>,
    bytes: usize,
    /// How many are to be sent again, and their bytes.
    again: usize,
    again_bytes: usize,
    /// Messages of those that were not sent, or not sent again, and never will be.
    dropped: u64,
    /// Those that had to go while they were on the way, by their last positions on the connection, with their messages: where it
    /// ends first, they are not sent again.
    unkept: VecDeque<(u64, u64)>,
    /// What was answered shortly before the last connection ended and since, up to [`REPEATED_BYTES`], and the moments at
    /// which that leaves again.
    repeated: Vec<Bytes>,
    repeated_bytes: usize,
    repeats: VecDeque<Instant>,
    has_ended: bool,
}

#[derive(Debug)]
struct Recent {
    answers: Bytes,
    messages: u64,
    at: At,
    /// Connections that ended with it on the way.
    lost: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Here and nowhere else: it is given out by [`RecentAnswers::next_again`].
    Again,
    /// Among what waits to be written, or for a connection.
    Home,
    /// On the way, as bytes of the connection up to this position.
    Wire(u64),
    /// At NATS, which has said so then.
    Nats(Instant),
}

impl RecentAnswers {
    /// False where they are to be written by who calls; otherwise they follow those that are sent again.
    pub(super) fn put(&mut self, answers: Bytes, messages: u64, now: Instant) -> bool {
        let follows = self.again > 0;
        if follows {
            self.again += 1;
            self.again_bytes += answers.len();
        }
        self.push(
            answers,
            messages,
            if follows { At::Again } else { At::Home },
        );
        self.limit(|at| at == At::Again);
        self.forget_old(now);
        follows
    }

    /// They wait for a connection, and have all the time that there is none.
    pub(super) fn keep(&mut self, answers: Bytes, messages: u64) {
        self.push(answers, messages, At::Home);
        self.limit(|at| !matches!(at, At::Nats(_)));
    }

    fn push(&mut self, answers: Bytes, messages: u64, at: At) {
        self.repeat_later(answers.clone());
        self.bytes += answers.len();
        self.recent.push_back(Recent {
            answers,
            messages,
            at,
            lost: 0,
        });
    }

    /// The oldest go where there are too many.
    fn limit(&mut self, is_missed: impl Fn(At) -> bool) {
        while self.bytes > RECENT_BYTES
            && let Some(oldest) = self.forget_oldest()
        {
            match oldest.at {
                at if is_missed(at) => self.dropped += oldest.messages,
                At::Wire(last) => self.note_unkept(last, oldest.messages),
                At::Again | At::Home | At::Nats(_) => {}
            }
        }
    }

    /// In steps of a piece, so that few entries do for a link that is far behind.
    fn note_unkept(&mut self, last: u64, messages: u64) {
        let piece = |position: u64| position / PIECE_BYTES as u64;
        match self.unkept.back_mut() {
            Some((other, count)) if piece(*other) == piece(last) => {
                *other = last;
                *count += messages;
            }
            _ => self.unkept.push_back((last, messages)),
        }
    }

    /// Some of those that are to be sent again, up to `most` bytes, follow in `out`, which is empty and leaves after `position`.
    /// One that is larger goes by itself.
    pub(super) fn next_again(&mut self, out: &mut BytesMut, most: usize, position: u64) {
        let first = self.recent.len() - self.again;
        let mut count = 0;
        for recent in self.recent.range(first..) {
            if count > 0 && out.len() + recent.answers.len() > most {
                break;
            }
            out.extend_from_slice(&recent.answers);
            count += 1;
        }
        for recent in self.recent.range_mut(first..first + count) {
            recent.at = At::Wire(position + out.len() as u64);
        }
        self.again -= count;
        self.again_bytes -= out.len();
    }

    pub(super) fn sends_again(&self) -> bool {
        self.again > 0
    }

    pub(super) fn again_bytes(&self) -> usize {
        self.again_bytes
    }

    /// Messages, since the beginning.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// All that waited are in what is written next, up to this position of the connection.
    pub(super) fn leave(&mut self, position: u64) {
        for recent in self.recent.iter_mut().rev() {
            if recent.at != At::Home {
                break;
            }
            recent.at = At::Wire(position);
        }
    }

    /// NATS has everything up to this position.
    pub(super) fn arrived(&mut self, position: u64, now: Instant) {
        let had = self.unkept.partition_point(|&(last, _)| last <= position);
        self.unkept.drain(..had);
        let had = self
            .recent
            .partition_point(|recent| matches!(recent.at, At::Nats(_)));
        for recent in self.recent.range_mut(had..) {
            match recent.at {
                At::Wire(last) if last <= position => recent.at = At::Nats(now),
                At::Wire(_) | At::Again | At::Home | At::Nats(_) => break,
            }
        }
    }

    /// A connection has ended.
    pub(super) fn end(&mut self, now: Instant) {
        self.has_ended = true;
        self.dropped += self.unkept.drain(..).map(|(_, count)| count).sum::<u64>();
        // They wait for the next connection, with those that come meanwhile.
        let waiting = self.recent.len() - self.again;
        for recent in self.recent.range_mut(waiting..) {
            recent.at = At::Home;
        }
        self.again = 0;
        self.again_bytes = 0;
        self.forget_old(now);
    }

    /// Those whose subjects have more than `most` bytes would end the next connection, too. To be called between two connections.
    pub(super) fn drop_longer(&mut self, most: usize) {
        for recent in &mut self.recent {
            if let Some((kept, dropped)) = encode::without_longer(&recent.answers, most) {
                recent.answers = kept;
                recent.messages = recent.messages.saturating_sub(dropped);
                self.dropped += dropped;
            }
        }
        self.recent.retain(|recent| !recent.answers.is_empty());
        self.bytes = self.recent.iter().map(|one| one.answers.len()).sum();
        for answers in &mut self.repeated {
            if let Some((kept, _)) = encode::without_longer(answers, most) {
                *answers = kept;
            }
        }
    }

    /// A connection begins: all are to be sent again.
    pub(super) fn begin(&mut self, now: Instant) {
        for recent in &mut self.recent {
            recent.lost += u8::from(matches!(recent.at, At::Wire(_)));
            recent.at = At::Again;
        }
        self.recent.retain(|recent| {
            let is_kept = recent.lost < LOST_MAX;
            self.dropped += if is_kept { 0 } else { recent.messages };
            is_kept
        });
        self.bytes = self.recent.iter().map(|one| one.answers.len()).sum();
        self.again = self.recent.len();
        self.again_bytes = self.bytes;
        // Nobody has missed anything before the first connection.
        if std::mem::take(&mut self.has_ended) {
            let is_new = self.repeats.is_empty();
            self.repeats = REPEATS.iter().map(|&after| now + after).collect();
            if is_new {
                self.repeated_bytes = 0;
                let recent: Vec<Bytes> =
                    self.recent.iter().map(|one| one.answers.clone()).collect();
                for answers in recent {
                    self.repeat_later(answers);
                }
            }
        }
    }

    /// Those of around the begin of the connection follow in `out` when it is time.
    pub(super) fn repeat(&mut self, out: &mut BytesMut, now: Instant) {
        if self.repeats.front().is_some_and(|&due| due <= now) {
            self.repeats.pop_front();
            for answers in &self.repeated {
                out.extend_from_slice(answers);
            }
        }
        if self.repeats.is_empty() {
            self.repeated = Vec::new();
        }
    }

    /// Nothing is sent again any more.
    pub(super) fn forget(&mut self) {
        self.recent.clear();
        self.unkept.clear();
        self.bytes = 0;
        self.again = 0;
        self.again_bytes = 0;
        self.repeated = Vec::new();
        self.repeated_bytes = 0;
    }

    fn repeat_later(&mut self, answers: Bytes) {
        if !self.repeats.is_empty() && self.repeated_bytes + answers.len() <= REPEATED_BYTES {
            self.repeated_bytes += answers.len();
            self.repeated.push(answers);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(oldest) = self.recent.front()
            && let At::Nats(since) = oldest.at
            && now.since(since) > RECENT
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> Option<Recent> {
        let oldest = self.recent.pop_front()?;
        self.bytes -= oldest.answers.len();
        if oldest.at == At::Again {
            self.again -= 1;
            self.again_bytes -= oldest.answers.len();
        }
        Some(oldest)
    }

    #[cfg(test)]
    pub(super) fn repeats_nothing(&self) -> bool {
        self.repeated.is_empty()
    }
}
