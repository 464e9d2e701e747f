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
    /// By anything that distinguishes senders. Eight bytes at a time: it is done twice for every request.
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
pub(super) struct FairQueue<T> {
    queues: Vec<VecDeque<Waiting<T>>>,
    /// Requests in all queues.
    waiting: usize,
    /// The queue has its place in one of the two lines.
    is_in_line: Vec<bool>,
    /// Queues that were empty when the first of their requests came, and have not had a turn since. They go first.
    new: Line,
    /// The others, in the order of their turns. One that is empty keeps its place until its turn comes, so that a sender is
    /// not new over and over while others wait.
    old: Line,
}

/// Queues that take turns.
#[derive(Debug)]
struct Line {
    turns: VecDeque<usize>,
    /// What the first of them may still give.
    left: usize,
    left_bytes: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            left: CHUNK,
            left_bytes: CHUNK_BYTES,
        }
    }
}

impl Line {
    /// Takes the first out.
    fn end_turn(&mut self) -> Option<usize> {
        (self.left, self.left_bytes) = (CHUNK, CHUNK_BYTES);
        self.turns.pop_front()
    }

    fn give(&mut self, bytes: usize) {
        self.left -= 1;
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
    }

    fn is_over(&self) -> bool {
        self.left == 0 || self.left_bytes == 0
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            queues: std::iter::repeat_with(VecDeque::new).take(QUEUES).collect(),
            waiting: 0,
            is_in_line: vec![false; QUEUES],
            new: Line::default(),
            old: Line::default(),
        }
    }
}

impl<T> FairQueue<T> {
    pub(super) fn push(&mut self, Sender(number): Sender, waiting: Waiting<T>) {
        if !std::mem::replace(&mut self.is_in_line[number], true) {
            self.new.turns.push_back(number);
        }
        self.waiting += 1;
        self.queues[number].push_back(waiting);
    }

    /// The next one of those that may go, which is given the first of each sender.
    pub(super) fn pop(&mut self, may_go: impl Fn(Sender, u64) -> bool) -> Option<Waiting<T>> {
        if let Some(next) = self.pop_new(&may_go) {
            return Some(next);
        }
        for _ in 0..=self.old.turns.len() {
            let &number = self.old.turns.front()?;
            let is_over = self.old.is_over();
            let next = (!is_over).then(|| self.take(number, &may_go)).flatten();
            if let Some(next) = &next {
                self.old.give(next.bytes);
            }
            if self.queues[number].is_empty() {
                self.old.end_turn();
                self.is_in_line[number] = false;
            } else if next.is_none() {
                self.old.end_turn();
                self.old.turns.push_back(number);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// The same of senders of whom nothing waited when the request came.
    pub(super) fn pop_new(&mut self, may_go: impl Fn(Sender, u64) -> bool) -> Option<Waiting<T>> {
        while let Some(&number) = self.new.turns.front() {
            let is_over = self.new.is_over();
            if let Some(next) = (!is_over).then(|| self.take(number, &may_go)).flatten() {
                self.new.give(next.bytes);
                return Some(next);
            }
            self.new.end_turn();
            self.old.turns.push_back(number);
        }
        None
    }

    fn take(&mut self, number: usize, may_go: impl Fn(Sender, u64) -> bool) -> Option<Waiting<T>> {
        let queue = &mut self.queues[number];
        let next = queue.pop_front_if(|waiting| may_go(Sender(number), waiting.position))?;
        self.waiting -= 1;
        if queue.is_empty() {
            // A burst leaves no room behind.
            *queue = VecDeque::new();
        }
        Some(next)
    }

    /// The position of the sender's oldest request.
    pub(super) fn first_of(&self, Sender(number): Sender) -> Option<u64> {
        Some(self.queues[number].front()?.position)
    }

    /// The position of the oldest request of all.
    pub(super) fn first(&self) -> Option<u64> {
        let senders = self.new.turns.iter().chain(&self.old.turns);
        senders
            .filter_map(|&number| self.first_of(Sender(number)))
            .min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request is its position.
    fn push(queue: &mut FairQueue<u64>, sender: Sender, position: u64, bytes: usize) {
        let waiting = Waiting {
            position,
            bytes,
            request: position,
        };
        queue.push(sender, waiting);
    }

    fn drain(queue: &mut FairQueue<u64>, end: u64) -> Vec<u64> {
        let next = || queue.pop(|_, position| position < end);
        std::iter::from_fn(next).map(|next| next.request).collect()
    }

    #[test]
    fn a_sender_does_not_wait_for_another_one_s_thousands() {
        let mut queue = FairQueue::default();
        for position in 0..100_000 {
            push(&mut queue, Sender::of(b"greedy"), position, 100);
        }
        push(&mut queue, Sender::of(b"modest"), 100_000, 100);

        let order = drain(&mut queue, u64::MAX);

        assert_eq!(order.len(), 100_001);
        assert!(order[..=CHUNK].contains(&100_000));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_sender_of_whom_nothing_waited_goes_first() {
        let mut queue = FairQueue::default();
        for position in 0..1000 {
            push(&mut queue, Sender::of(b"greedy"), position, 100);
        }
        for _ in 0..=CHUNK {
            queue.pop(|_, _| true).unwrap();
        }
        assert!(queue.pop_new(|_, _| true).is_none());
        push(&mut queue, Sender::of(b"modest"), 1000, 100);

        assert_eq!(queue.pop_new(|_, _| true).unwrap().request, 1000);
        assert!(queue.pop_new(|_, _| true).is_none());
        assert_eq!(drain(&mut queue, u64::MAX).len(), 1000 - CHUNK - 1);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_sender_that_comes_again_and_again_has_its_share_and_no_more() {
        let mut queue = FairQueue::default();
        for position in 0..10_000 {
            push(&mut queue, Sender::of(b"greedy"), position, 100);
        }
        let mut again = 0;
        for position in 10_000..11_000 {
            if queue.first_of(Sender::of(b"again")).is_none() {
                push(&mut queue, Sender::of(b"again"), position, 100);
            }
            again += usize::from(queue.pop(|_, _| true).unwrap().request >= 10_000);
        }

        assert!((400..600).contains(&again), "{again} of 1000");
    }

    #[test]
    fn a_sender_does_not_wait_for_another_one_s_megabytes() {
        let mut queue = FairQueue::default();
        for position in 0..64 {
            push(&mut queue, Sender::of(b"greedy"), position, 1 << 20);
        }
        push(&mut queue, Sender::of(b"modest"), 64, 100);

        assert_eq!(drain(&mut queue, u64::MAX)[1], 64);
    }

    #[test]
    fn senders_have_equal_shares_however_much_each_has_waiting() {
        let mut queue = FairQueue::default();
        for (sender, count) in [5000, 3000, 1000].into_iter().enumerate() {
            for position in 0..count {
                let waiting = Waiting {
                    position,
                    bytes: 100,
                    request: sender,
                };
                queue.push(Sender(sender), waiting);
            }
        }

        let mut first = [0; 3];
        for _ in 0..30 * CHUNK {
            first[queue.pop(|_, _| true).unwrap().request] += 1;
        }

        assert_eq!(first, [10 * CHUNK; 3]);
    }

    #[test]
    fn what_comes_after_the_end_waits_and_keeps_its_order() {
        let mut queue = FairQueue::default();
        for (position, sender) in (0..900).zip([b"a", b"b", b"c"].into_iter().cycle()) {
            push(&mut queue, Sender::of(sender), position, 100);
        }

        let mut before = drain(&mut queue, 300);
        assert!(before.iter().filter(|n| *n % 3 == 1).is_sorted());
        before.sort_unstable();
        assert_eq!(before, (0..300).collect::<Vec<_>>());
        assert_eq!(queue.first(), Some(300));
        assert_eq!(queue.first_of(Sender::of(b"b")), Some(301));
        assert!(queue.pop(|_, position| position < 300).is_none());
        let mut after = drain(&mut queue, u64::MAX);
        after.sort_unstable();
        assert_eq!(after, (300..900).collect::<Vec<_>>());
    }
}
