//! Links that carry so many bytes in a second: from an active to NATS, and from NATS to a client. What an active hands to a
//! link that has not taken what was sent before waits there; NATS cuts a client off that takes too little.

use std::collections::VecDeque;
use std::time::Duration;

use stanby::core::Outbound;

use crate::world::{Time, World, nanos};

/// Of answers that NATS has not taken, where the link is slow; deliveries wait longer for their turn.
const ANSWERS_ROOM: usize = 16 << 10;
const DELIVERIES_ROOM: usize = 2 << 10;

/// What NATS keeps for a client before it cuts it off, by how long it would take.
const PENDING_MAX: Duration = Duration::from_secs(2);

/// Beside the payload.
const HEADER_BYTES: usize = 100;

/// Of a node to NATS.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Bytes per second, until then.
    narrow: (Time, u64),
    free_at: Time,
    /// When it leaves, its bytes, and when it was handed over.
    waiting: VecDeque<(Time, usize, Time)>,
    bytes: usize,
    taken: u64,
}

impl Outgoing {
    fn look(&mut self, now: Time) {
        while let Some(&(leaves, bytes, _)) = self.waiting.front()
            && leaves <= now
        {
            self.waiting.pop_front();
            self.bytes -= bytes;
            self.taken += 1;
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes < ANSWERS_ROOM
    }

    pub(crate) fn has_room_for_deliveries(&self) -> bool {
        self.bytes < DELIVERIES_ROOM
    }

    /// For how long NATS has not taken what was handed over first.
    pub(crate) fn lag(&self, now: Time) -> Duration {
        let first = self.waiting.front();
        first.map_or(Duration::ZERO, |&(_, _, since)| {
            Duration::from_nanos(now - since)
        })
    }

    pub(crate) fn moved(&self) -> u64 {
        self.taken
    }

    /// When the next of what waits leaves.
    pub(crate) fn moves_at(&self) -> Option<Time> {
        self.waiting.front().map(|&(leaves, _, _)| leaves)
    }
}

/// Of NATS to a client.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    narrow: (Time, u64),
    free_at: Time,
}

pub(crate) fn bytes_of(outbound: &Outbound) -> usize {
    HEADER_BYTES
        + match outbound {
            Outbound::Deliver { message, .. } => message.bytes(),
            Outbound::Reply { .. } | Outbound::Probe { .. } => 0,
        }
}

fn time_for(bytes: usize, rate: u64) -> Time {
    bytes as u64 * 1_000_000_000 / rate
}

impl World {
    pub(crate) fn nats_takes_nothing(&mut self, node: usize, duration: Duration) {
        self.note(|| format!("NATS takes nothing from node {node} for {duration:?}"));
        let until = self.time + nanos(duration);
        let link = &mut self.nodes[node].outgoing;
        link.free_at = link.free_at.max(until);
        link.narrow = (until, u64::MAX);
        self.nats.slows();
        self.disturbed_until(self.nodes[node].outgoing.free_at);
    }

    pub(crate) fn nats_takes_little(&mut self, node: usize, rate: u64, duration: Duration) {
        self.note(|| format!("NATS takes {rate} bytes a second from node {node} for {duration:?}"));
        self.nodes[node].outgoing.narrow = (self.time + nanos(duration), rate);
        self.nats.slows();
        self.disturb(duration);
    }

    pub(crate) fn client_reads_slowly(&mut self, client: usize, rate: u64, duration: Duration) {
        self.note(|| format!("client {client} takes {rate} bytes a second for {duration:?}"));
        self.clients[client].incoming.narrow = (self.time + nanos(duration), rate);
        self.nats.slows();
        self.disturb(duration);
    }

    /// What the node's link has taken by now.
    pub(crate) fn look_at_link(&mut self, node: usize) {
        let now = self.time;
        self.nodes[node].outgoing.look(now);
    }

    /// True where NATS does not answer in the second that a standby waits for it.
    pub(crate) fn is_nats_late(&self, node: usize) -> bool {
        self.nodes[node].outgoing.free_at > self.time + 1_000_000_000
    }

    /// A process begins with a connection of its own.
    pub(crate) fn connects_to_nats(&mut self, node: usize) {
        self.nodes[node].outgoing = Outgoing::default();
    }

    /// When what is handed over now has left the node.
    pub(crate) fn leaves_at(&mut self, node: usize, outbound: &Outbound) -> Time {
        let (now, is_calm) = (self.time, self.calm);
        let link = &mut self.nodes[node].outgoing;
        let is_narrow = now < link.narrow.0 && !is_calm;
        if !is_narrow && link.free_at <= now {
            return now;
        }
        let bytes = bytes_of(outbound);
        let took = if is_narrow {
            time_for(bytes, link.narrow.1)
        } else {
            0
        };
        link.free_at = link.free_at.max(now) + took;
        link.waiting.push_back((link.free_at, bytes, now));
        link.bytes += bytes;
        let leaves = link.free_at;
        self.disturbed_until(leaves);
        let ack_wait_max = 3_000_000_000;
        self.checks.late_until = self.checks.late_until.max(leaves + ack_wait_max);
        leaves
    }

    /// When the client has taken what reaches NATS at that time; `None`: NATS has cut it off.
    pub(crate) fn taken_at(&mut self, client: usize, bytes: usize, arrives: Time) -> Option<Time> {
        let (now, is_calm) = (self.time, self.calm);
        let link = &mut self.clients[client].incoming;
        let is_narrow = now < link.narrow.0 && !is_calm;
        if !is_narrow && link.free_at <= arrives {
            return Some(arrives);
        }
        let took = if is_narrow {
            time_for(bytes, link.narrow.1)
        } else {
            0
        };
        link.free_at = link.free_at.max(arrives) + took;
        let taken = link.free_at;
        if taken > arrives + nanos(PENDING_MAX) {
            self.clients[client].incoming = Incoming::default();
            self.note(|| format!("NATS cuts client {client} off, which is slow"));
            self.client_crashes(client);
            return None;
        }
        self.disturbed_until(taken);
        Some(taken)
    }
}
