//! Who is connected to the pages: so many in all and from one address. A further one is let in nevertheless, and the
//! connection that has asked for nothing for the longest is closed for it: probes get their answer while strangers
//! hold every place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Connections over HTTP and HTTPS together.
pub(super) const CONNECTIONS_MAX: usize = 128;

/// From one IPv4 address, or from one /64 of IPv6, which is what one host is given.
pub(super) const PER_ADDRESS_MAX: usize = 64;

/// How many are connected, and what happened since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Visits {
    pub(super) connections: usize,
    /// Closed for a newer one.
    pub(super) evicted: u64,
    /// Closed because they neither sent a request nor took an answer in time.
    pub(super) slow: u64,
    /// Came while no file descriptor was left.
    pub(super) starved: u64,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    connections: Arc<Mutex<Connections>>,
}

#[derive(Debug, Default)]
struct Connections {
    by_number: BTreeMap<u64, Connection>,
    /// Counts arrivals and requests; the lower one is the longer ago.
    turn: u64,
    evicted: u64,
    slow: u64,
    starved: u64,
}

#[derive(Debug)]
struct Connection {
    from: IpAddr,
    /// The turn of its last request, or of its arrival.
    turn: u64,
    evicted: CancellationToken,
}

/// A place among the connections, until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    number: u64,
    evicted: CancellationToken,
    admission: Admission,
}

impl Admission {
    pub(super) fn admit(&self, from: IpAddr) -> Admitted {
        let from = host(from);
        let evicted = CancellationToken::new();
        let number = self.with(|connections| {
            connections.make_room(from);
            connections.turn += 1;
            let number = connections.turn;
            let connection = Connection {
                from,
                turn: number,
                evicted: evicted.clone(),
            };
            connections.by_number.insert(number, connection);
            number
        });
        Admitted {
            number,
            evicted,
            admission: self.clone(),
        }
    }

    pub(super) fn visits(&self) -> Visits {
        self.with(|connections| Visits {
            connections: connections.by_number.len(),
            evicted: connections.evicted,
            slow: connections.slow,
            starved: connections.starved,
        })
    }

    /// No file descriptor was left for a connection.
    pub(super) fn was_starved(&self) {
        self.with(|connections| connections.starved += 1);
    }

    /// Closes the connection that has asked for nothing for the longest, of those who have the most.
    pub(super) fn make_room(&self) {
        self.with(|connections| {
            if let Some(crowd) = connections.largest_crowd() {
                connections.evict_one_of(crowd);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Connections) -> T) -> T {
        // Each change is a single step, so a panic elsewhere leaves nothing half done.
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        act(&mut connections)
    }
}

impl Connections {
    fn make_room(&mut self, from: IpAddr) {
        let crowd = if self.count(from) >= PER_ADDRESS_MAX {
            Some(from)
        } else if self.by_number.len() >= CONNECTIONS_MAX {
            // Who has the most places gives one up.
            self.largest_crowd()
        } else {
            None
        };
        if let Some(crowd) = crowd {
            self.evict_one_of(crowd);
        }
    }

    fn count(&self, host: IpAddr) -> usize {
        let connections = self.by_number.values();
        connections.filter(|it| it.from == host).count()
    }

    fn largest_crowd(&self) -> Option<IpAddr> {
        let hosts = self.by_number.values().map(|connection| connection.from);
        hosts.max_by_key(|host| self.count(*host))
    }

    fn evict_one_of(&mut self, crowd: IpAddr) {
        let theirs = self.by_number.iter().filter(|(_, v)| v.from == crowd);
        let longest_ago = theirs.min_by_key(|(_, connection)| connection.turn);
        let Some(number) = longest_ago.map(|(number, _)| *number) else {
            return;
        };
        if let Some(connection) = self.by_number.remove(&number) {
            connection.evicted.cancel();
            self.evicted += 1;
        }
    }
}

impl Admitted {
    /// A request has arrived on it.
    pub(super) fn asks(&self) {
        self.admission.with(|connections| {
            connections.turn += 1;
            let turn = connections.turn;
            if let Some(connection) = connections.by_number.get_mut(&self.number) {
                connection.turn = turn;
            }
        });
    }

    /// Its connection ended because it was too slow.
    pub(super) fn was_slow(&self) {
        self.admission.with(|connections| connections.slow += 1);
    }

    pub(super) fn evicted(&self) -> WaitForCancellationFuture<'_> {
        self.evicted.cancelled()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission
            .with(|connections| connections.by_number.remove(&self.number));
    }
}

fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(admitted: &Admitted) -> bool {
        admitted.evicted.is_cancelled()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn an_address_that_has_all_its_places_gives_up_the_one_that_asked_longest_ago() {
        let admission = Admission::default();
        let other = admission.admit(address("10.0.0.1"));
        let places: Vec<_> = (0..PER_ADDRESS_MAX)
            .map(|_| admission.admit(address("10.0.0.2")))
            .collect();
        places[0].asks();

        let newest = admission.admit(address("::ffff:10.0.0.2"));

        let evicted: Vec<_> = places.iter().map(is_evicted).collect();
        assert_eq!(evicted.iter().position(|evicted| *evicted), Some(1));
        assert_eq!(evicted.iter().filter(|evicted| **evicted).count(), 1);
        assert!(!is_evicted(&newest) && !is_evicted(&other));
        assert_eq!(admission.visits().connections, PER_ADDRESS_MAX + 1);
        assert_eq!(admission.visits().evicted, 1);
    }

    #[test]
    fn when_all_places_are_taken_the_address_with_the_most_gives_one_up() {
        let admission = Admission::default();
        let few: Vec<_> = (0..PER_ADDRESS_MAX - 2)
            .map(|_| admission.admit(address("fd00::1")))
            .collect();
        let many: Vec<_> = (0..PER_ADDRESS_MAX)
            .map(|number| admission.admit(address(&format!("fd00:0:0:1::{number:x}"))))
            .collect();
        let third = [
            admission.admit(address("10.0.0.1")),
            admission.admit(address("10.0.0.1")),
        ];
        assert_eq!(admission.visits().connections, CONNECTIONS_MAX);

        let newest = admission.admit(address("10.0.0.3"));

        assert!(is_evicted(&many[0]));
        let rest = few.iter().chain(&many[1..]).chain(&third).chain([&newest]);
        assert_eq!(rest.filter(|admitted| is_evicted(admitted)).count(), 0);
        drop(many);
        drop(newest);
        assert_eq!(admission.visits().connections, few.len() + third.len());
    }
}
