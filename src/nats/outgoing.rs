//! What waits to be written to NATS, in two classes. Answers, probes and what the protocol itself has to say go first and
//! wait for nothing; deliveries go when NATS has taken most of what left before ([`super::window`]).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::window::{Question, Window};
use super::wire::encode;
use crate::core::time::Instant;

/// Deliveries that are written in one go, in bytes; a larger message goes by itself.
const PIECE_BYTES: usize = 64 << 10;

/// Answers that were handed over so long before the end of their connection are taken to have arrived.
const RECENT: Duration = Duration::from_secs(2);

/// The same, in bytes.
const RECENT_BYTES: usize = 4 << 20;

/// What is sent again later, in bytes: a slow link is not to be filled with it.
const REPEATED_BYTES: usize = 64 << 10;

/// So long after a new connection the answers of before and since are sent again: clients lose a NATS server, too, and may be
/// back later than this side. The libraries of NATS wait 2 s before they try again.
const REPEATS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(8)];

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
    /// Messages that wait, and those in the piece that is being written.
    messages: u64,
    window: Window,
    /// A piece has left, and NATS is not asked yet whether it has come.
    asks: bool,
    recent: VecDeque<(Instant, Bytes)>,
    recent_bytes: usize,
    /// What was answered shortly before the last connection ended and since, up to [`REPEATED_BYTES`], and the moments at
    /// which that leaves again.
    repeated: Vec<Bytes>,
    repeated_bytes: usize,
    repeats: VecDeque<Instant>,
    has_ended: bool,
}

impl Outgoing {
    /// A connection begins, with what NATS has to know. What was answered shortly before the last one ended may have
    /// died with its server, and what was answered since had none: both come next.
    pub(super) fn begin(&mut self, first: BytesMut, now: Instant) {
        self.drop_all();
        self.urgent = first;
        for (_, answers) in &self.recent {
            self.urgent.extend_from_slice(answers);
        }
        // Nobody has missed anything before the first connection.
        if std::mem::take(&mut self.has_ended) {
            let is_new = self.repeats.is_empty();
            self.repeats = REPEATS.iter().map(|&after| now + after).collect();
            if is_new {
                self.repeated_bytes = 0;
                for answers in self.recent.clone() {
                    self.repeat_later(answers.1);
                }
            }
        }
    }

    /// Answers of around the begin of the connection leave again when it is time. To be called now and then.
    pub(super) fn repeat(&mut self, now: Instant) {
        if self.repeats.front().is_some_and(|&due| due <= now) {
            self.repeats.pop_front();
            self.send_repeated();
        }
        if self.repeats.is_empty() {
            self.repeated = Vec::new();
        }
    }

    fn send_repeated(&mut self) {
        for answers in &self.repeated {
            self.urgent.extend_from_slice(answers);
        }
    }

    /// Another connection goes on where the last one was left in order; what it has to say first.
    pub(super) fn go_on(&mut self, mut first: BytesMut) {
        first.extend_from_slice(&self.urgent);
        self.urgent = first;
        self.window = Window::default();
        self.asks = false;
    }

    /// A connection has ended: what waited is lost, but for answers. Returns how many messages.
    pub(super) fn end(&mut self, now: Instant) -> u64 {
        self.has_ended = true;
        self.forget_old(now);
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
        self.recent.clear();
        self.recent_bytes = 0;
        self.repeated = Vec::new();
        self.repeated_bytes = 0;
    }

    /// Frames of the protocol itself, which go first.
    pub(super) fn urgent(&mut self) -> &mut BytesMut {
        &mut self.urgent
    }

    /// Takes over `out`, whole messages of one class, which is empty afterwards.
    pub(super) fn put(&mut self, class: Class, out: &mut BytesMut, messages: u64, now: Instant) {
        self.messages += messages;
        match class {
            Class::Delivery => {
                self.pieces.push_back(out.len());
                append(&mut self.deliveries, out);
            }
            Class::Urgent => append(&mut self.urgent, out),
            Class::Answer => {
                self.remember(Bytes::copy_from_slice(out), now);
                self.forget_old(now);
                append(&mut self.urgent, out);
            }
        }
    }

    /// Takes over `out`, answers that were given without a connection. They have all the time that there is none, and
    /// leave with the next one.
    pub(super) fn keep(&mut self, out: &mut BytesMut, now: Instant) {
        self.remember(out.split().freeze(), now);
    }

    fn remember(&mut self, answers: Bytes, now: Instant) {
        self.repeat_later(answers.clone());
        self.recent_bytes += answers.len();
        self.recent.push_back((now, answers));
        while self.recent_bytes > RECENT_BYTES {
            self.forget_oldest();
        }
    }

    fn repeat_later(&mut self, answers: Bytes) {
        if !self.repeats.is_empty() && self.repeated_bytes + answers.len() <= REPEATED_BYTES {
            self.repeated_bytes += answers.len();
            self.repeated.push(answers);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((at, _)) = self.recent.front()
            && now.since(*at) > RECENT
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, answers)) = self.recent.pop_front() {
            self.recent_bytes -= answers.len();
        }
    }

    pub(super) fn urgent_bytes(&self) -> usize {
        self.urgent.len()
    }

    pub(super) fn delivery_bytes(&self) -> usize {
        self.deliveries.len()
    }

    /// Deliveries that should be gathered here at most: what leaves soon, and no more, so that the choice of what goes
    /// next is made late.
    pub(super) fn delivery_room(&self) -> usize {
        self.window.bytes()
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
            std::mem::swap(&mut self.urgent, spare);
            return Some(Next { asked });
        }
        if self.pieces.is_empty() || !self.window.has_room() {
            return None;
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

    pub(super) fn answered(&mut self, question: Question, took: Duration) {
        self.window.answered(question, took);
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
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn put(outgoing: &mut Outgoing, class: Class, text: &[u8], seconds: u64) {
        outgoing.put(class, &mut BytesMut::from(text), 1, at(seconds));
    }

    fn all(outgoing: &mut Outgoing) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut spare = BytesMut::new();
            if outgoing.next(&mut spare).is_none() {
                return all;
            }
            all.extend_from_slice(&spare);
        }
    }

    #[test]
    fn answers_go_before_deliveries_and_each_class_keeps_its_order() {
        let mut outgoing = Outgoing::default();
        for (class, text) in [
            (Class::Delivery, &b"d1 "[..]),
            (Class::Answer, b"a1 "),
            (Class::Delivery, b"d2 "),
            (Class::Urgent, b"p1 "),
            (Class::Answer, b"a2 "),
        ] {
            put(&mut outgoing, class, text, 1);
        }

        assert_eq!(all(&mut outgoing), b"a1 p1 a2 d1 d2 ");
    }

    #[test]
    fn deliveries_wait_until_nats_has_taken_those_before() {
        let mut outgoing = Outgoing::default();
        let delivery = vec![b'd'; 100_000];
        for _ in 0..64 {
            put(&mut outgoing, Class::Delivery, &delivery, 1);
        }
        let (mut left, mut question) = (0, None);
        loop {
            let mut spare = BytesMut::new();
            let Some(next) = outgoing.next(&mut spare) else {
                break;
            };
            left += spare.len();
            question = next.asked.or(question);
        }
        assert!((1_000_000..2_000_000).contains(&left), "{left}");
        put(&mut outgoing, Class::Answer, b"a1 ", 1);
        assert!(
            all(&mut outgoing).starts_with(b"a1 "),
            "answers do not wait"
        );

        outgoing.answered(question.unwrap(), Duration::from_millis(5));
        assert!(all(&mut outgoing).len() > 500_000);
    }

    #[test]
    fn answers_of_the_last_moments_are_sent_again_after_a_reconnect() {
        let mut outgoing = Outgoing::default();
        put(&mut outgoing, Class::Answer, b"old ", 1);
        put(&mut outgoing, Class::Answer, b"sent ", 9);
        assert_eq!(all(&mut outgoing), b"old sent ");
        put(&mut outgoing, Class::Answer, b"waiting ", 10);
        put(&mut outgoing, Class::Urgent, b"probe ", 10);
        put(&mut outgoing, Class::Delivery, b"delivery ", 10);

        outgoing.end(at(10));
        outgoing.begin(BytesMut::from(&b"SUB "[..]), at(10));
        assert_eq!(all(&mut outgoing), b"SUB sent waiting ");

        outgoing.forget_answers();
        outgoing.begin(BytesMut::new(), at(10));
        assert_eq!(all(&mut outgoing), b"");
    }

    #[test]
    fn answers_that_were_to_be_repeated_are_when_the_connection_ends_before() {
        let mut outgoing = Outgoing::default();
        put(&mut outgoing, Class::Answer, b"first ", 9);
        outgoing.end(at(10));
        outgoing.begin(BytesMut::new(), at(10));
        outgoing.end(at(12));
        outgoing.keep(&mut BytesMut::from(&b"second "[..]), at(12));
        outgoing.begin(BytesMut::new(), at(12));
        all(&mut outgoing);

        outgoing.repeat(at(15));
        assert_eq!(all(&mut outgoing), b"first second ");
    }

    #[test]
    fn answers_given_without_a_connection_leave_with_the_next_one_however_late_it_comes() {
        let mut outgoing = Outgoing::default();
        put(&mut outgoing, Class::Answer, b"before ", 9);
        outgoing.end(at(10));
        outgoing.keep(&mut BytesMut::from(&b"between "[..]), at(10));
        assert_eq!(all(&mut outgoing), b"");

        outgoing.begin(BytesMut::from(&b"SUB "[..]), at(10));
        assert_eq!(all(&mut outgoing), b"SUB before between ");
    }

    #[test]
    fn clients_that_are_back_later_than_this_side_get_the_answers_of_before_again() {
        let mut outgoing = Outgoing::default();
        put(&mut outgoing, Class::Answer, b"before ", 9);
        outgoing.end(at(10));
        outgoing.begin(BytesMut::from(&b"SUB "[..]), at(10));
        put(&mut outgoing, Class::Answer, b"after ", 11);
        all(&mut outgoing);

        let mut left = Vec::new();
        for second in 11..30 {
            outgoing.repeat(at(second));
            let repeated = all(&mut outgoing);
            if !repeated.is_empty() {
                assert_eq!(repeated, b"before after ");
                left.push(second);
            }
            put(&mut outgoing, Class::Delivery, b"delivery ", second);
            all(&mut outgoing);
        }
        assert_eq!(left, [13, 18]);
        put(&mut outgoing, Class::Answer, b"much later ", 30);
        assert!(outgoing.repeated.is_empty(), "and are kept no longer");

        outgoing.end(at(30));
        outgoing.begin(BytesMut::new(), at(30));
        assert_eq!(all(&mut outgoing), b"much later ");
        outgoing.forget_answers();
        outgoing.repeat(at(40));
        assert_eq!(all(&mut outgoing), b"", "somebody else answers now");
    }

    #[test]
    fn answers_that_wait_for_a_connection_are_bounded_in_bytes_and_the_oldest_go_first() {
        let mut outgoing = Outgoing::default();
        for text in [b"1", b"2", b"3"] {
            let mut answers = BytesMut::from(&text.repeat(RECENT_BYTES / 2)[..]);
            outgoing.keep(&mut answers, at(1));
        }

        outgoing.begin(BytesMut::new(), at(10));
        let left = all(&mut outgoing);
        assert_eq!(left.len(), RECENT_BYTES);
        assert!(left.starts_with(b"2"), "the oldest are dropped");
    }
}
