//! Publishes that wait, handed out in turns per publisher: one that has many thousands under way does not make the
//! others wait for all of them. Publishes of one publisher keep their order.

use std::collections::VecDeque;

/// Publishers share queues by chance when they are more; then they share their turns.
const QUEUES: usize = 1024;

/// Publishes of one publisher before the next has its turn.
const CHUNK: usize = 32;

/// A publisher's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Publisher(usize);

impl Publisher {
    /// By anything that tells publishers apart. FNV-1a: it is a few bytes, for every publish.
    pub(super) fn of(name: &[u8]) -> Self {
        let hash = name.iter().fold(0x811c_9dc5_u32, |hash, &byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        Self((hash ^ (hash >> 16)) as usize % QUEUES)
    }
}

#[derive(Debug)]
pub(super) struct Fair<T> {
    /// Requests with their positions, which grow.
    queues: Vec<VecDeque<(u64, T)>>,
    /// Those that hold something, in the order of their turns.
    turns: VecDeque<usize>,
    /// What the first of them may still give.
    left: usize,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            queues: std::iter::repeat_with(VecDeque::new).take(QUEUES).collect(),
            turns: VecDeque::new(),
            left: CHUNK,
        }
    }
}

impl<T> Fair<T> {
    pub(super) fn push(&mut self, Publisher(number): Publisher, position: u64, request: T) {
        let queue = &mut self.queues[number];
        if queue.is_empty() {
            self.turns.push_back(number);
        }
        queue.push_back((position, request));
    }

    /// The next one before the position `end`.
    pub(super) fn pop(&mut self, end: u64) -> Option<T> {
        for _ in 0..=self.turns.len() {
            let &number = self.turns.front()?;
            let queue = &mut self.queues[number];
            let next = if self.left == 0 {
                None
            } else {
                queue.pop_front_if(|(position, _)| *position < end)
            };
            if queue.is_empty() {
                // A burst leaves no room behind.
                *queue = VecDeque::new();
                self.turns.pop_front();
                self.left = CHUNK;
            } else if next.is_none() {
                self.turns.rotate_left(1);
                self.left = CHUNK;
            } else {
                self.left -= 1;
            }
            if let Some((_, request)) = next {
                return Some(request);
            }
        }
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(fair: &mut Fair<u64>, end: u64) -> Vec<u64> {
        std::iter::from_fn(|| fair.pop(end)).collect()
    }

    #[test]
    fn a_publisher_does_not_wait_for_another_one_s_thousands() {
        let mut fair = Fair::default();
        for position in 0..100_000 {
            fair.push(Publisher::of(b"greedy"), position, position);
        }
        fair.push(Publisher::of(b"modest"), 100_000, 100_000);

        let order = drain(&mut fair, u64::MAX);

        assert_eq!(order.len(), 100_001);
        assert!(order[..=CHUNK].contains(&100_000));
        assert!(fair.is_empty());
    }

    #[test]
    fn publishers_have_equal_shares_however_much_each_has_waiting() {
        let mut fair = Fair::default();
        for (publisher, count) in [5000, 3000, 1000].into_iter().enumerate() {
            for position in 0..count {
                fair.push(Publisher(publisher), position, publisher);
            }
        }

        let mut first = [0; 3];
        for _ in 0..30 * CHUNK {
            first[fair.pop(u64::MAX).unwrap()] += 1;
        }

        assert_eq!(first, [10 * CHUNK; 3]);
    }

    #[test]
    fn what_comes_after_the_end_waits_and_keeps_its_order() {
        let mut fair = Fair::default();
        for (position, publisher) in (0..900).zip([b"a", b"b", b"c"].into_iter().cycle()) {
            fair.push(Publisher::of(publisher), position, position);
        }

        let mut before = drain(&mut fair, 300);
        assert!(before.iter().filter(|n| *n % 3 == 1).is_sorted());
        before.sort_unstable();
        assert_eq!(before, (0..300).collect::<Vec<_>>());
        assert_eq!(fair.pop(300), None);
        let mut after = drain(&mut fair, u64::MAX);
        after.sort_unstable();
        assert_eq!(after, (300..900).collect::<Vec<_>>());
    }
}
