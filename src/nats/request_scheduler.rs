//! The order in which requests are handed out, for requests of any form.
//!
//! NATS sends everything over one connection, and requests come from there in the order of arrival. They are not
//! handed out like that: a connect or a heartbeat's answer would wait for every publish of a burst, and the
//! client's patience ends after two seconds. Each kind has a queue of its own, and the queues take turns; within a queue
//! senders take turns ([`super::fair_queue`]).
//!
//! What clients may rely on stays: when a close or an unsubscribe is carried out, everything that its client sent before
//! it has been (publishes are stored, acks count), and nothing that the client asked for after it. Those are *barriers*,
//! each for the requests of its client alone: one that sends them without end orders nobody else's. Acks and pings do not
//! name their client, so that a barrier waits for all that came before it; those that came after it may overtake it.
//! A client that closes and connects again without waiting for the answer gets both in this order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use super::fair_queue::{FairQueue, Sender, Waiting};

/// Requests of one queue before the next has its turn.
const CHUNK: usize = 128;

/// And bytes of these; a larger request is a turn of its own.
const CHUNK_BYTES: usize = 256 << 10;

/// The answer to a probe says something about its client whenever it comes.
const PROBES: usize = 0;
const CONNECTS: usize = 1;
const PINGS: usize = 2;
const SUBSCRIBES: usize = 3;
const ACKS: usize = 4;
const PUBLISHES: usize = 5;
const QUEUES: usize = 6;

/// Their turn comes after that of the queues.
const BARRIERS: usize = QUEUES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Publish,
    Subscribe,
    Unsubscribe,
    CloseSubscription,
    CloseClient,
    Ping,
    Ack,
    Probe,
}

impl Kind {
    /// True for requests, other than publishes, that carry a client or connection ID.
    pub(super) fn names_its_sender(self) -> bool {
        match self {
            Self::Connect
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::CloseSubscription
            | Self::CloseClient
            | Self::Ping => true,
            Self::Publish | Self::Ack | Self::Probe => false,
        }
    }
}

/// Requests that name their client: they stay behind its barriers.
fn waits_for_barriers(queue: usize) -> bool {
    matches!(queue, CONNECTS | SUBSCRIBES | PUBLISHES)
}

/// Not limited: what is in here counts in the connection's budget.
#[derive(Debug)]
pub(super) struct RequestScheduler<T> {
    /// How many have come.
    position: u64,
    queues: [FairQueue<(Kind, T)>; QUEUES],
    barriers: Barriers<T>,
    /// The queue that has its turn, and what it may still give.
    turn: usize,
    left: usize,
    left_bytes: usize,
}

/// Barriers by client, in the order of their arrival.
#[derive(Debug)]
struct Barriers<T> {
    waiting: BTreeMap<Sender, VecDeque<Waiting<(Kind, T)>>>,
    /// Whose turn was last.
    last: Sender,
}

impl<T> Default for Barriers<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            last: Sender::default(),
        }
    }
}

impl<T> Default for RequestScheduler<T> {
    fn default() -> Self {
        Self {
            position: 0,
            queues: std::array::from_fn(|_| FairQueue::default()),
            barriers: Barriers::default(),
            turn: 0,
            left: CHUNK,
            left_bytes: CHUNK_BYTES,
        }
    }
}

impl<T> RequestScheduler<T> {
    /// Takes requests in the order of their arrival. `sender` is the client, where the kind of request names it.
    pub(super) fn push(&mut self, kind: Kind, sender: Sender, bytes: usize, request: T) {
        self.position += 1;
        let waiting = Waiting {
            position: self.position,
            bytes,
            request: (kind, request),
        };
        let queue = match kind {
            Kind::Probe => PROBES,
            Kind::Connect => CONNECTS,
            Kind::Ping => PINGS,
            Kind::Subscribe => SUBSCRIBES,
            Kind::Ack => ACKS,
            Kind::Publish => PUBLISHES,
            Kind::Unsubscribe | Kind::CloseSubscription | Kind::CloseClient => {
                let of_sender = self.barriers.waiting.entry(sender).or_default();
                return of_sender.push_back(waiting);
            }
        };
        self.queues[queue].push(sender, waiting);
    }

    pub(super) fn pop(&mut self) -> Option<(Kind, T)> {
        // One more than there are: the queue that has its turn may have used it up and be the only one.
        for _ in 0..=BARRIERS + 1 {
            let next = if self.left == 0 || self.left_bytes == 0 {
                None
            } else {
                self.next_of(self.turn)
            };
            if let Some(next) = next {
                self.left -= 1;
                self.left_bytes = self.left_bytes.saturating_sub(next.bytes);
                return Some(next.request);
            }
            self.turn = (self.turn + 1) % (BARRIERS + 1);
            (self.left, self.left_bytes) = (CHUNK, CHUNK_BYTES);
        }
        None
    }

    /// The next one of a sender of whom nothing of its kind waited when it came.
    pub(super) fn pop_new(&mut self) -> Option<(Kind, T)> {
        let Self {
            queues, barriers, ..
        } = self;
        let next = queues.iter_mut().enumerate().find_map(|(number, queue)| {
            let waits_for_barriers = waits_for_barriers(number);
            queue.pop_new(|sender, position| {
                !waits_for_barriers || barriers.is_after(sender, position)
            })
        });
        next.map(|next| next.request)
    }

    fn next_of(&mut self, queue: usize) -> Option<Waiting<(Kind, T)>> {
        let Self {
            queues, barriers, ..
        } = self;
        match queue {
            BARRIERS => barriers.pop(queues),
            queue if waits_for_barriers(queue) && !barriers.waiting.is_empty() => {
                queues[queue].pop(|sender, position| barriers.is_after(sender, position))
            }
            _ => queues[queue].pop(|_, _| true),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.barriers.waiting.is_empty() && self.queues.iter().all(FairQueue::is_empty)
    }
}

impl<T> Barriers<T> {
    /// The sender's next barrier comes after this position.
    fn is_after(&self, sender: Sender, position: u64) -> bool {
        let of_sender = self.waiting.get(&sender);
        let next = of_sender.and_then(|of_sender| of_sender.front());
        next.is_none_or(|barrier| position < barrier.position)
    }

    /// One that nothing has to precede. Clients take turns.
    fn pop(&mut self, queues: &[FairQueue<(Kind, T)>; QUEUES]) -> Option<Waiting<(Kind, T)>> {
        if self.waiting.is_empty() {
            return None;
        }
        let oldest_of_anybody = [&queues[ACKS], &queues[PINGS]].map(FairQueue::first);
        let is_free = |sender: Sender, waiting: &VecDeque<Waiting<(Kind, T)>>| {
            let own = [&queues[CONNECTS], &queues[SUBSCRIBES], &queues[PUBLISHES]];
            let own = own.map(|queue| queue.first_of(sender));
            let before = own.iter().chain(&oldest_of_anybody).flatten();
            let barrier = waiting.front();
            barrier.is_some_and(|barrier| before.copied().all(|first| barrier.position < first))
        };
        let after = (Bound::Excluded(self.last), Bound::Unbounded);
        let upto = (Bound::Unbounded, Bound::Included(self.last));
        let mut in_turn = self.waiting.range(after).chain(self.waiting.range(upto));
        let (&sender, _) = in_turn.find(|(sender, waiting)| is_free(**sender, waiting))?;
        self.last = sender;
        let of_sender = self.waiting.get_mut(&sender)?;
        let barrier = of_sender.pop_front();
        if of_sender.is_empty() {
            self.waiting.remove(&sender);
        }
        barrier
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const KINDS: [Kind; 9] = [
        Kind::Connect,
        Kind::Publish,
        Kind::Subscribe,
        Kind::Unsubscribe,
        Kind::CloseSubscription,
        Kind::CloseClient,
        Kind::Ping,
        Kind::Ack,
        Kind::Probe,
    ];

    fn is_barrier(kind: Kind) -> bool {
        matches!(
            kind,
            Kind::Unsubscribe | Kind::CloseSubscription | Kind::CloseClient
        )
    }

    /// They do not name their client.
    fn is_anybody_s(kind: Kind) -> bool {
        matches!(kind, Kind::Ack | Kind::Ping)
    }

    fn push(scheduler: &mut RequestScheduler<usize>, kind: Kind, number: usize) {
        scheduler.push(kind, sender(number), 100, number);
    }

    fn scheduler(kinds: impl IntoIterator<Item = Kind>) -> RequestScheduler<usize> {
        let mut scheduler = RequestScheduler::default();
        for (number, kind) in kinds.into_iter().enumerate() {
            push(&mut scheduler, kind, number);
        }
        scheduler
    }

    /// One of three senders.
    fn sender(number: usize) -> Sender {
        Sender::of([&b"a"[..], b"b", b"c"][number % 3])
    }

    fn all(mut scheduler: RequestScheduler<usize>) -> Vec<(Kind, usize)> {
        std::iter::from_fn(|| scheduler.pop()).collect()
    }

    #[test]
    fn a_connect_does_not_wait_for_a_burst_of_publishes() {
        let burst = std::iter::repeat_n(Kind::Publish, 100_000);
        let mut scheduler = scheduler(burst.chain([Kind::Connect, Kind::Subscribe, Kind::Probe]));

        let first = (0..4 * CHUNK).filter_map(|_| scheduler.pop());

        let first: Vec<Kind> = first.map(|(kind, _)| kind).collect();
        for kind in [Kind::Connect, Kind::Subscribe, Kind::Probe, Kind::Publish] {
            assert!(first.contains(&kind), "{kind:?}");
        }
    }

    #[test]
    fn a_ping_does_not_wait_for_megabytes_of_publishes() {
        let mut scheduler = RequestScheduler::default();
        for number in 0..CHUNK {
            scheduler.push(Kind::Publish, sender(number), 1 << 20, number);
        }
        push(&mut scheduler, Kind::Ping, CHUNK);
        scheduler.turn = PUBLISHES;

        let order = all(scheduler);

        assert_eq!(order[1].0, Kind::Ping);
    }

    #[test]
    fn a_close_does_not_wait_for_what_comes_after_it() {
        let burst = || std::iter::repeat_n(Kind::Publish, 300);
        let order = all(scheduler(burst().chain([Kind::CloseClient]).chain(burst())));

        let close = order
            .iter()
            .position(|(kind, _)| *kind == Kind::CloseClient);
        let mut before = order[..close.unwrap()].iter();
        assert!(before.all(|&(_, number)| number < 300 || sender(number) != sender(300)));
    }

    #[test]
    fn an_answered_probe_does_not_wait_for_a_close() {
        let burst = std::iter::repeat_n(Kind::Publish, 300);
        let order = all(scheduler(burst.chain([Kind::CloseClient, Kind::Probe])));

        assert_eq!(order[0], (Kind::Probe, 301));
    }

    #[test]
    fn unsubscribes_without_end_put_nobody_else_in_order() {
        let mut scheduler = RequestScheduler::default();
        for number in 0..10_000 {
            for kind in [Kind::Publish, Kind::Publish, Kind::Unsubscribe] {
                scheduler.push(kind, Sender::of(b"greedy"), 100, number);
            }
        }
        let last = [Kind::Ping, Kind::Publish, Kind::Subscribe, Kind::Connect];
        for kind in last {
            scheduler.push(kind, Sender::of(b"modest"), 100, usize::MAX);
        }

        let first = (0..4 * CHUNK).filter_map(|_| scheduler.pop());
        let modest = first.filter(|(_, number)| *number == usize::MAX);
        let modest: Vec<Kind> = modest.map(|(kind, _)| kind).collect();

        for kind in last {
            assert!(modest.contains(&kind), "{kind:?} waits: {modest:?}");
        }
    }

    proptest! {
        #[test]
        fn barriers_divide_what_their_client_sent_before_from_what_it_sent_after(
            kinds in vec(prop::sample::select(&KINDS[..]), 0..600),
            early in 0_usize..300,
        ) {
            // Some are taken before the rest has come.
            let mut some = scheduler(kinds.iter().copied().take(300));
            let next = |turn: usize, some: &mut RequestScheduler<usize>| match turn % 3 {
                0 => some.pop_new(),
                _ => some.pop(),
            };
            let early = (0..early).filter_map(|turn| next(turn, &mut some));
            let mut order: Vec<(Kind, usize)> = early.collect();
            for (number, &kind) in kinds.iter().enumerate().skip(300) {
                push(&mut some, kind, number);
            }
            order.extend((0..kinds.len()).filter_map(|turn| next(turn, &mut some)));
            order.extend(std::iter::from_fn(|| some.pop()));

            prop_assert!(some.is_empty());
            let mut numbers: Vec<usize> = order.iter().map(|(_, number)| *number).collect();
            for (at, &(kind, number)) in order.iter().enumerate() {
                prop_assert_eq!(kind, kinds[number]);
                if is_barrier(kind) {
                    for &(_, earlier) in &order[..at] {
                        let (other, its) = (kinds[earlier], sender(earlier));
                        let is_bound = its == sender(number) && other != Kind::Probe && !is_anybody_s(other);
                        prop_assert!(earlier < number || !is_bound);
                    }
                    for &(other, later) in &order[at..] {
                        let is_bound = sender(later) == sender(number) && other != Kind::Probe;
                        prop_assert!(later >= number || !(is_bound || is_anybody_s(other)));
                    }
                }
                // In its queue, nothing of a sender overtakes another of its requests.
                let mut same = order[at + 1..].iter().filter(|(other, later)| {
                    *other == kind && sender(*later) == sender(number)
                });
                prop_assert!(same.all(|(_, later)| *later > number));
            }
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..kinds.len()).collect::<Vec<_>>());
        }
    }
}
