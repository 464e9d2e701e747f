//! How many bytes may be on their way to NATS at once. What is handed to the socket cannot be overtaken any more: on a
//! slow link it would hold up every answer behind it. So deliveries leave only while NATS has confirmed most of what left
//! before, by answers to pings; how much that may be is learned from how long these take.

use std::time::Duration;

/// Never less: a link that carries less than this in a moment is slow for anybody.
const BYTES_MIN: u64 = 128 << 10;

/// Never more: memory of sockets and proxies on the way.
const BYTES_MAX: u64 = 16 << 20;

const BYTES_AT_FIRST: u64 = 1 << 20;

/// So much longer than on an idle link an answer may take to get through.
const QUEUEING: Duration = Duration::from_millis(100);

/// Bytes that leave between two questions, at most, as a part of the window.
const QUESTIONS_PER_WINDOW: u64 = 4;

#[derive(Debug)]
pub(super) struct Window {
    bytes: u64,
    /// Handed to the socket, and of these confirmed, since the connection began.
    sent: u64,
    confirmed: u64,
    /// Sent when the last question was asked.
    asked_at: u64,
    /// A question from before this position says nothing new about a window that has been made smaller since.
    judged_at: u64,
    /// The round trip of a question on an idle link.
    base: Duration,
    /// Something waited for the window.
    was_full: bool,
}

/// What a question will confirm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    position: u64,
    in_flight: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bytes: BYTES_AT_FIRST,
            sent: 0,
            confirmed: 0,
            asked_at: 0,
            judged_at: 0,
            base: Duration::ZERO,
            was_full: false,
        }
    }
}

impl Window {
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The position of the last byte that was handed to the socket.
    pub(super) fn position(&self) -> u64 {
        self.sent
    }

    /// Up to this position NATS has them.
    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    fn in_flight(&self) -> u64 {
        self.sent - self.confirmed
    }

    /// One message may go over it, or a large one could never leave.
    pub(super) fn has_room(&mut self) -> bool {
        let has_room = self.in_flight() < self.bytes;
        self.was_full |= !has_room;
        has_room
    }

    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// Enough has left that NATS should be asked whether it has come.
    pub(super) fn wants_question(&self) -> bool {
        let since = self.sent - self.asked_at;
        since >= (self.bytes / QUESTIONS_PER_WINDOW).max(BYTES_MIN / 4)
    }

    pub(super) fn ask(&mut self) -> Question {
        self.asked_at = self.sent;
        Question {
            position: self.sent,
            in_flight: self.in_flight(),
        }
    }

    /// The answer came after `took`.
    pub(super) fn answered(&mut self, question: Question, took: Duration) {
        let confirmed = question.position.saturating_sub(self.confirmed);
        self.confirmed = self.confirmed.max(question.position);
        if question.in_flight <= BYTES_MIN {
            self.base = if self.base.is_zero() || took < self.base {
                took
            } else {
                self.base + took.saturating_sub(self.base) / 8
            };
        }
        let bearable = self.base + QUEUEING;
        if took <= bearable {
            if self.was_full {
                let grown = self.bytes.saturating_add(confirmed);
                self.bytes = grown.min(BYTES_MAX);
                self.was_full = false;
            }
        } else if question.position >= self.judged_at {
            // What the link carries in a bearable time.
            let carried =
                u128::from(question.in_flight) * bearable.as_micros() / took.as_micros().max(1);
            let carried = u64::try_from(carried).unwrap_or(u64::MAX);
            self.bytes = carried.clamp(BYTES_MIN, self.bytes.max(BYTES_MIN));
            self.judged_at = self.sent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::cast_precision_loss, reason = "figures of a model")]
    /// A link that carries so many bytes a second, with an idle round trip; returns the longest time that a question took
    /// after the first seconds, and the bytes a second that came through.
    fn run(rate: f64, idle: f64, message: usize) -> (f64, f64) {
        let mut window = Window::default();
        let (mut now, mut free_at, mut longest, mut carried) = (0.0_f64, 0.0_f64, 0.0_f64, 0_u64);
        let mut questions = std::collections::VecDeque::new();
        let first = window.ask();
        window.answered(first, Duration::from_secs_f64(idle));
        while now < 20.0 {
            if window.has_room() {
                window.sent(message);
                free_at = free_at.max(now) + message as f64 / rate;
                if window.wants_question() || !window.has_room() {
                    questions.push_back((window.ask(), now, free_at + idle));
                }
                continue;
            }
            let (question, asked, answered) = questions.pop_front().unwrap();
            now = now.max(answered);
            if asked > 5.0 {
                longest = longest.max(now - asked);
                carried = carried.max(question.position);
            }
            window.answered(question, Duration::from_secs_f64(now - asked));
        }
        (longest, carried as f64 / now)
    }

    #[test]
    fn an_answer_gets_through_a_slow_link_in_a_fraction_of_a_second() {
        for rate in [2e6, 6e6, 50e6] {
            for message in [200, 10_000, 1 << 20] {
                let (longest, carried) = run(rate, 0.001, message);
                // The message under way comes on top.
                let bound = 0.25 + 2.0 * f64::from(u32::try_from(message).unwrap()) / rate;
                assert!(longest < bound, "{rate} {message}: {longest}");
                assert!(carried > 0.7 * rate, "{rate} {message}: {carried}");
            }
        }
    }

    #[test]
    fn a_long_way_is_no_slow_link() {
        let (_, carried) = run(50e6, 0.15, 10_000);
        assert!(carried > 0.6 * 50e6, "{carried}");
    }
}
