//! The order in which requests are handed out, for requests of any form.
//!
//! NATS sends everything over one connection, and requests come from there in the order of arrival. They are not
//! handed out like that: a connect or a heartbeat's answer would wait for every publish of a burst, and the
//! client's patience ends after two seconds. Each kind has a lane of its own, and the lanes take turns.
//!
//! What clients may rely on stays: when a close or an unsubscribe is carried out, everything that came before it
//! has been (publishes are stored, acks count), and nothing that came after it. Those are *barriers*. Within a lane
//! the order is that of arrival: acks among each other, and the publishes of one publisher ([`super::fair`]). A client
//! that closes and connects again without waiting for the answer gets both in this order.

use std::collections::VecDeque;

use super::fair::{Fair, Publisher};

/// Requests of one lane before the next has its turn.
const CHUNK: usize = 128;

const LANES: usize = 6;

/// The last of them.
const PUBLISHES: usize = 5;

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

/// Not limited: what is in here counts in the connection's budget.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// How many have come.
    position: u64,
    barriers: VecDeque<(u64, Kind, T)>,
    lanes: [VecDeque<(u64, Kind, T)>; PUBLISHES],
    publishes: Fair<T>,
    /// The lane that has its turn, and what it may still give.
    turn: usize,
    left: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            position: 0,
            barriers: VecDeque::new(),
            lanes: std::array::from_fn(|_| VecDeque::new()),
            publishes: Fair::default(),
            turn: 0,
            left: CHUNK,
        }
    }
}

impl<T> Lanes<T> {
    /// Takes requests in the order of their arrival; of a publish, `publisher` says whose it is.
    pub(super) fn push(&mut self, kind: Kind, publisher: Publisher, request: T) {
        self.position += 1;
        let lane = match kind {
            Kind::Probe => 0,
            Kind::Connect => 1,
            Kind::Ping => 2,
            Kind::Subscribe => 3,
            Kind::Ack => 4,
            Kind::Publish => return self.publishes.push(publisher, self.position, request),
            Kind::Unsubscribe | Kind::CloseSubscription | Kind::CloseClient => {
                self.barriers.push_back((self.position, kind, request));
                return;
            }
        };
        self.lanes[lane].push_back((self.position, kind, request));
    }

    pub(super) fn pop(&mut self) -> Option<(Kind, T)> {
        let barrier = self.barriers.front().map(|(position, ..)| *position);
        // One more than there are: the lane that has its turn may have used it up and be the only one.
        for _ in 0..=LANES {
            if self.turn == PUBLISHES {
                if self.left > 0
                    && let Some(request) = self.publishes.pop(barrier.unwrap_or(u64::MAX))
                {
                    self.left -= 1;
                    return Some((Kind::Publish, request));
                }
                (self.turn, self.left) = (0, CHUNK);
                continue;
            }
            let lane = &mut self.lanes[self.turn];
            let may_go = |(position, kind, _): &mut (u64, Kind, T)| {
                // The answer to a probe says something about its client whenever it comes.
                *kind == Kind::Probe || barrier.is_none_or(|barrier| *position < barrier)
            };
            if self.left > 0
                && let Some((_, kind, request)) = lane.pop_front_if(may_go)
            {
                self.left -= 1;
                return Some((kind, request));
            }
            self.turn += 1;
            self.left = CHUNK;
        }
        let (_, kind, request) = self.barriers.pop_front()?;
        Some((kind, request))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.barriers.is_empty()
            && self.publishes.is_empty()
            && self.lanes.iter().all(VecDeque::is_empty)
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

    fn lanes(kinds: impl IntoIterator<Item = Kind>) -> Lanes<usize> {
        let mut lanes = Lanes::default();
        for (number, kind) in kinds.into_iter().enumerate() {
            lanes.push(kind, publisher(number), number);
        }
        lanes
    }

    /// Of three.
    fn publisher(number: usize) -> Publisher {
        Publisher::of([&b"a"[..], b"b", b"c"][number % 3])
    }

    fn all(mut lanes: Lanes<usize>) -> Vec<(Kind, usize)> {
        std::iter::from_fn(|| lanes.pop()).collect()
    }

    #[test]
    fn a_connect_does_not_wait_for_a_burst_of_publishes() {
        let burst = std::iter::repeat_n(Kind::Publish, 100_000);
        let mut lanes = lanes(burst.chain([Kind::Connect, Kind::Subscribe, Kind::Probe]));

        let first = (0..4 * CHUNK).filter_map(|_| lanes.pop());

        let first: Vec<Kind> = first.map(|(kind, _)| kind).collect();
        for kind in [Kind::Connect, Kind::Subscribe, Kind::Probe, Kind::Publish] {
            assert!(first.contains(&kind), "{kind:?}");
        }
    }

    #[test]
    fn a_close_does_not_wait_for_what_comes_after_it() {
        let burst = || std::iter::repeat_n(Kind::Publish, 300);
        let order = all(lanes(burst().chain([Kind::CloseClient]).chain(burst())));

        assert_eq!(order[300], (Kind::CloseClient, 300));
    }

    #[test]
    fn an_answered_probe_does_not_wait_for_a_close() {
        let burst = std::iter::repeat_n(Kind::Publish, 300);
        let order = all(lanes(burst.chain([Kind::CloseClient, Kind::Probe])));

        assert_eq!(order[0], (Kind::Probe, 301));
    }

    proptest! {
        #[test]
        fn barriers_divide_what_came_before_from_what_came_after(
            kinds in vec(prop::sample::select(&KINDS[..]), 0..600),
            early in 0_usize..300,
        ) {
            // Some are taken before the rest has come.
            let mut some = lanes(kinds.iter().copied().take(300));
            let mut order: Vec<(Kind, usize)> = (0..early).filter_map(|_| some.pop()).collect();
            for (number, &kind) in kinds.iter().enumerate().skip(300) {
                some.push(kind, publisher(number), number);
            }
            order.extend(std::iter::from_fn(|| some.pop()));

            prop_assert!(some.is_empty());
            let mut numbers: Vec<usize> = order.iter().map(|(_, number)| *number).collect();
            for (at, &(kind, number)) in order.iter().enumerate() {
                prop_assert_eq!(kind, kinds[number]);
                if is_barrier(kind) {
                    for &(_, earlier) in &order[..at] {
                        prop_assert!(earlier < number || kinds[earlier] == Kind::Probe);
                    }
                }
                // In its lane, nothing overtakes; of the publishes, none of the same publisher.
                let mut same = order[at + 1..].iter().filter(|(other, later)| {
                    *other == kind
                        && (kind != Kind::Publish || publisher(*later) == publisher(number))
                });
                prop_assert!(same.all(|(_, later)| *later > number));
                // After a barrier comes nothing that came before it.
                if !is_barrier(kind) && kind != Kind::Probe {
                    let mut passed = order[..at].iter().filter(|(other, _)| is_barrier(*other));
                    prop_assert!(passed.all(|(_, barrier)| *barrier < number));
                }
            }
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..kinds.len()).collect::<Vec<_>>());
        }
    }
}
