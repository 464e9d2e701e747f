//! NATS as clients and nodes see it: at most once, in order per sender and receiver, nobody listening means
//! lost. A node that is frozen gets everything when it wakes up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stanby::core::active::End;
use stanby::core::{Event, Outbound, Request};

use crate::client::ToClient;
use crate::links::bytes_of;
use crate::node::Input;
use crate::wire::Wire;
use crate::world::{Step, Time, World, nanos};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Node(usize),
    Client(usize),
}

/// Some of what a party sends and is sent gets lost.
#[derive(Debug)]
struct Loss {
    party: Party,
    per_mille: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Nats {
    /// Who listens where: client and its instance.
    interest: BTreeMap<String, (usize, u64)>,
    /// When the last message of a link arrives.
    links: BTreeMap<(Party, Party), Time>,
    losses: BTreeMap<u64, Loss>,
    /// Cut in both directions.
    cuts: BTreeMap<u64, (Party, Party)>,
    /// Until when, and how much longer it takes.
    slow: BTreeMap<(Party, Party), (Time, Time)>,
    was_slow: bool,
    /// Those that have left their own server for the other one.
    elsewhere: BTreeSet<Party>,
    /// Until when a server does nothing, and since when.
    frozen: BTreeMap<usize, (Time, Time)>,
    freezes: u64,
    routes_cut_until: Time,
    pub(crate) losses_begun: u64,
}

impl Nats {
    pub(crate) fn listen(&mut self, subject: String, client: usize, instance: u64) {
        self.interest.insert(subject, (client, instance));
    }

    pub(crate) fn unlisten(&mut self, subject: &str) {
        self.interest.remove(subject);
    }

    pub(crate) fn disconnect(&mut self, client: usize) {
        self.interest
            .retain(|_, &mut (listener, _)| listener != client);
    }

    pub(crate) fn begin_loss(&mut self, party: Party, per_mille: u64) -> u64 {
        self.losses_begun += 1;
        self.losses
            .insert(self.losses_begun, Loss { party, per_mille });
        self.losses_begun
    }

    pub(crate) fn cut(&mut self, one: Party, other: Party) -> u64 {
        self.losses_begun += 1;
        self.cuts.insert(self.losses_begun, (one, other));
        self.losses_begun
    }

    /// Of two.
    fn server_of(&self, party: Party) -> usize {
        let (Party::Node(number) | Party::Client(number)) = party;
        (number + usize::from(self.elsewhere.contains(&party))) % 2
    }

    fn is_cut(&self, one: Party, other: Party) -> bool {
        let cut = |&(a, b): &(Party, Party)| (a, b) == (one, other) || (b, a) == (one, other);
        self.cuts.values().any(cut)
    }

    /// From now on something may come late.
    pub(crate) fn slows(&mut self) {
        self.was_slow = true;
    }

    pub(crate) fn slow(&mut self, from: Party, to: Party, until: Time, extra: Time) {
        self.slow.insert((from, to), (until, extra));
        self.was_slow = true;
    }

    pub(crate) fn end_loss(&mut self, number: u64) {
        self.losses.remove(&number);
        self.cuts.remove(&number);
    }

    /// True when nothing was ever lost or slow.
    pub(crate) fn is_perfect(&self) -> bool {
        self.losses_begun == 0 && !self.was_slow && self.freezes == 0
    }

    pub(crate) fn end_losses(&mut self) {
        self.losses.clear();
        self.cuts.clear();
        self.slow.clear();
        self.frozen.clear();
        self.routes_cut_until = 0;
    }
}

impl World {
    /// True when the party's connection loses a message.
    fn loses(&mut self, party: Party) -> bool {
        let losses = self.nats.losses.values().filter(|loss| loss.party == party);
        let chances: Vec<u64> = losses.map(|loss| loss.per_mille).collect();
        chances
            .into_iter()
            .any(|per_mille| self.rng.chance(per_mille))
    }

    /// A NATS server does nothing for so long.
    pub(crate) fn nats_freezes(&mut self, server: usize, duration: Duration) {
        self.note(|| format!("NATS server {server} freezes for {duration:?}"));
        self.nats.freezes += 1;
        let until = self.time + nanos(duration);
        self.nats.frozen.insert(server, (self.time, until));
        let freeze = self.nats.freezes;
        self.after(self.plan.lease, Step::LeaveNats { server, freeze });
    }

    /// Who has received nothing for a lease goes to the other server. An active gives the lock to those that hear.
    pub(crate) fn leave_nats(&mut self, server: usize, freeze: u64) {
        let frozen = self.nats.frozen.get(&server);
        let lasts = frozen.is_some_and(|&(_, until)| self.time < until);
        if self.nats.freezes != freeze || !lasts {
            return;
        }
        let nodes = (0..self.nodes.len()).map(Party::Node);
        let clients = (0..self.clients.len()).map(Party::Client);
        let there = |party: &Party| self.nats.server_of(*party) == server;
        let leavers: Vec<Party> = nodes.chain(clients).filter(there).collect();
        for party in leavers {
            if !self.nats.elsewhere.remove(&party) {
                self.nats.elsewhere.insert(party);
            }
            if let Party::Node(node) = party
                && self.nodes[node].up
            {
                let incarnation = self.nodes[node].incarnation;
                self.node_hears(node, incarnation, Input::Gap);
                if !self.nodes[node].frozen && self.nodes[node].term.is_some() {
                    self.gives_up(node, &End::NatsSilent);
                }
            }
        }
    }

    pub(crate) fn routes_are_cut(&mut self, duration: Duration) {
        self.note(|| format!("the routes between the NATS servers are cut for {duration:?}"));
        self.nats.freezes += 1;
        self.nats.routes_cut_until = self.time + nanos(duration);
    }

    /// Until when a message waits that a frozen server has to pass on; `None` where it never arrives: its sender or its
    /// receiver has left that server by then, or the servers do not hear each other.
    fn held_by_servers(&self, from: Party, to: Party) -> Option<Time> {
        let servers = [self.nats.server_of(from), self.nats.server_of(to)];
        if servers[0] != servers[1] && self.time < self.nats.routes_cut_until {
            return None;
        }
        let mut held = self.time;
        for server in servers {
            let Some(&(since, until)) = self.nats.frozen.get(&server) else {
                continue;
            };
            if self.time < until && since + nanos(self.plan.lease) < until {
                return None;
            }
            held = held.max(until);
        }
        Some(held)
    }

    fn servers_pass(&self, from: Party, to: Party) -> bool {
        !self.plan.two_nats || self.held_by_servers(from, to).is_some()
    }

    /// When a message arrives that leaves then.
    fn travel(&mut self, from: Party, to: Party, leaves: Time) -> Time {
        let (low, high) = self.plan.network_time;
        let slow = self.nats.slow.get(&(from, to));
        let extra = slow.map_or(
            0,
            |&(until, extra)| if self.time < until { extra } else { 0 },
        );
        let held = self
            .held_by_servers(from, to)
            .filter(|_| self.plan.two_nats);
        let leaves = leaves.max(held.unwrap_or(self.time));
        let arrival = leaves + extra + nanos(self.rng.millis(low, high));
        let last = self.nats.links.entry((from, to)).or_default();
        *last = arrival.max(*last + 1);
        *last
    }

    /// A client's request or ack, to every node: standbys listen too.
    pub(crate) fn send_to_nodes(&mut self, client: usize, request: &Request) {
        if self.loses(Party::Client(client)) {
            return;
        }
        let event = Event::Request(Wire::carry(request));
        for node in 0..self.nodes.len() {
            if !self.nodes[node].up || self.nats.is_cut(Party::Client(client), Party::Node(node)) {
                continue;
            }
            if !self.servers_pass(Party::Client(client), Party::Node(node)) {
                continue;
            }
            let input = if self.loses(Party::Node(node)) {
                Input::Gap
            } else {
                Input::Request(Box::new(event.clone()))
            };
            let incarnation = self.nodes[node].incarnation;
            let time = self.travel(Party::Client(client), Party::Node(node), self.time);
            self.at(
                time,
                Step::Node {
                    node,
                    incarnation,
                    input,
                },
            );
        }
    }

    /// A client's answer to a probe, to the node that asked.
    pub(crate) fn send_pong(&mut self, client: usize, node: usize, incarnation: u64, input: Input) {
        let is_cut = self.nats.is_cut(Party::Client(client), Party::Node(node))
            || !self.servers_pass(Party::Client(client), Party::Node(node));
        if is_cut || self.loses(Party::Client(client)) || self.loses(Party::Node(node)) {
            return;
        }
        let time = self.travel(Party::Client(client), Party::Node(node), self.time);
        self.at(
            time,
            Step::Node {
                node,
                incarnation,
                input,
            },
        );
    }

    pub(crate) fn send_to_client(&mut self, node: usize, term: u64, outbound: Outbound) {
        self.reads(&outbound);
        let leaves = self.leaves_at(node, &outbound);
        let bytes = bytes_of(&outbound);
        let incarnation = self.nodes[node].incarnation;
        let (subject, message) = match outbound {
            Outbound::Reply { to, reply } => (to.clone(), ToClient::Reply { to, reply }),
            Outbound::Deliver {
                inbox,
                channel,
                message,
                redelivery_count: _,
                no_responders_to: _,
            } => (
                inbox.clone(),
                ToClient::Deliver {
                    inbox,
                    channel,
                    message,
                },
            ),
            Outbound::Probe { probe, inbox } => (
                inbox,
                ToClient::Probe {
                    node,
                    incarnation,
                    term,
                    probe,
                },
            ),
        };
        let probe = match &message {
            ToClient::Probe { probe, .. } => Some(*probe),
            ToClient::Reply { .. } | ToClient::Deliver { .. } => None,
        };
        if self.loses(Party::Node(node)) {
            return;
        }
        if let Some((client, instance)) = self.nats.interest.get(subject.as_str()).copied() {
            let is_cut = self.nats.is_cut(Party::Client(client), Party::Node(node))
                || !self.servers_pass(Party::Node(node), Party::Client(client));
            if !is_cut && !self.loses(Party::Client(client)) {
                let arrives = self.travel(Party::Node(node), Party::Client(client), leaves);
                let Some(time) = self.taken_at(client, bytes, arrives) else {
                    return;
                };
                self.at(
                    time,
                    Step::Client {
                        client,
                        instance,
                        message,
                    },
                );
            }
            return;
        }
        // NATS itself answers that nobody is there.
        let back = self.travel(Party::Node(node), Party::Node(node), leaves);
        if let Some(probe) = probe {
            let event = Box::new(Event::Unreachable(probe));
            let input = Input::Received { term, event };
            self.at(
                back,
                Step::Node {
                    node,
                    incarnation,
                    input,
                },
            );
        }
    }
}
