//! Requests of one kind that wait, handed out in turns per sender: one that has many thousands under way does not make the
//! others wait for all of them, whether these are many or large. Requests of one sender keep their order.

use std::collections::VecDeque;

/// Senders share queues by chance when they are more; then they share their turns.
pub(super) const QUEUES: usize = 1024;

/// Requests of one sender before the next has its turn.
const CHUNK: usize = 32;

/// And bytes of these; a larger request is a turn of its own.
const CHUNK_BYTES: usize = 128 << 10;

/// A sender's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sender(usize);

impl Sender {
    /// By anything that tells senders apart. Eight bytes at a time: it is done twice for every request.
    pub(super) fn of(name: &[u8]) -> Self {
        let (words, rest) = name.as_chunks();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let words = words.iter().copied().chain([last]);
        let hash = words.fold(name.len() as u64, |hash, word| {
            // An odd number without a pattern; the product's high bits, which all bits of the word reach, come down to the low ones.
            let mixed = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ (mixed >> 32)
        });
        Self(usize::try_from(hash % QUEUES as u64).expect("it is less than QUEUES"))
    }

    /// Less than [`QUEUES`].
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    /// Grows with each that arrives.
    pub(super) position: u64,
    pub(super) bytes: usize,
    pub(super) request: T,
}

#[derive(Debug)]
pub(super) struct Fair<T> {
    queues: Vec<VecDeque<Waiting<T>>>,
    /// Those that hold something, in the order of their turns.
    turns: VecDeque<usize>,
    /// What the first of them may still give.
    left: usize,
    left_bytes: usize,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            queues: std::iter::repeat_with(VecDeque::new).take(QUEUES).collect(),
            turns: VecDeque::new(),
            left: CHUNK,
            left_bytes: CHUNK_BYTES,
        }
    }
}

impl<T> Fair<T> {
    pub(super) fn push(&mut self, Sender(number): Sender, waiting: Waiting<T>) {
        let queue = &mut self.queues[number];
        if queue.is_empty() {
            self.turns.push_back(number);
        }
        queue.push_back(waiting);
    }

    /// The next one of those that may go, which is told of the first of each sender.
    pub(super) fn pop(&mut self, may_go: impl Fn(Sender, u64) -> bool) -> Option<Waiting<T>> {
        for _ in 0..=self.turns.len() {
            let &number = self.turns.front()?;
            let queue = &mut self.queues[number];
            let next = if self.left == 0 || self.left_bytes == 0 {
                None
            } else {
                queue.pop_front_if(|waiting| may_go(Sender(number), waiting.position))
            };
            if queue.is_empty() {
                // A burst leaves no room behind.
                *queue = VecDeque::new();
                self.turns.pop_front();
                self.begin_turn();
            } else if let Some(next) = &next {
                self.left -= 1;
                self.left_bytes = self.left_bytes.saturating_sub(next.bytes);
            } else {
                self.turns.rotate_left(1);
                self.begin_turn();
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    fn begin_turn(&mut self) {
        (self.left, self.left_bytes) = (CHUNK, CHUNK_BYTES);
    }

    /// Of the sender's oldest request.
    pub(super) fn first_of(&self, Sender(number): Sender) -> Option<u64> {
        Some(self.queues[number].front()?.position)
    }

    /// Of the oldest request of all.
    pub(super) fn first(&self) -> Option<u64> {
        let senders = self.turns.iter();
        senders
            .filter_map(|&number| self.first_of(Sender(number)))
            .min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request is its position.
    fn push(fair: &mut Fair<u64>, sender: Sender, position: u64, bytes: usize) {
        let waiting = Waiting {
            position,
            bytes,
            request: position,
        };
        fair.push(sender, waiting);
    }

    fn drain(fair: &mut Fair<u64>, end: u64) -> Vec<u64> {
        let next = || fair.pop(|_, position| position < end);
        std::iter::from_fn(next).map(|next| next.request).collect()
    }

    #[test]
    fn a_sender_does_not_wait_for_another_one_s_thousands() {
        let mut fair = Fair::default();
        for position in 0..100_000 {
            push(&mut fair, Sender::of(b"greedy"), position, 100);
        }
        push(&mut fair, Sender::of(b"modest"), 100_000, 100);

        let order = drain(&mut fair, u64::MAX);

        assert_eq!(order.len(), 100_001);
        assert!(order[..=CHUNK].contains(&100_000));
        assert!(fair.is_empty());
    }

    #[test]
    fn a_sender_does_not_wait_for_another_one_s_megabytes() {
        let mut fair = Fair::default();
        for position in 0..64 {
            push(&mut fair, Sender::of(b"greedy"), position, 1 << 20);
        }
        push(&mut fair, Sender::of(b"modest"), 64, 100);

        assert_eq!(drain(&mut fair, u64::MAX)[1], 64);
    }

    #[test]
    fn senders_have_equal_shares_however_much_each_has_waiting() {
        let mut fair = Fair::default();
        for (sender, count) in [5000, 3000, 1000].into_iter().enumerate() {
            for position in 0..count {
                let waiting = Waiting {
                    position,
                    bytes: 100,
                    request: sender,
                };
                fair.push(Sender(sender), waiting);
            }
        }

        let mut first = [0; 3];
        for _ in 0..30 * CHUNK {
            first[fair.pop(|_, _| true).unwrap().request] += 1;
        }

        assert_eq!(first, [10 * CHUNK; 3]);
    }

    #[test]
    fn what_comes_after_the_end_waits_and_keeps_its_order() {
        let mut fair = Fair::default();
        for (position, sender) in (0..900).zip([b"a", b"b", b"c"].into_iter().cycle()) {
            push(&mut fair, Sender::of(sender), position, 100);
        }

        let mut before = drain(&mut fair, 300);
        assert!(before.iter().filter(|n| *n % 3 == 1).is_sorted());
        before.sort_unstable();
        assert_eq!(before, (0..300).collect::<Vec<_>>());
        assert_eq!(fair.first(), Some(300));
        assert_eq!(fair.first_of(Sender::of(b"b")), Some(301));
        assert!(fair.pop(|_, position| position < 300).is_none());
        let mut after = drain(&mut fair, u64::MAX);
        after.sort_unstable();
        assert_eq!(after, (300..900).collect::<Vec<_>>());
    }
}
