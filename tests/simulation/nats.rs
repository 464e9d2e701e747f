//! NATS as clients and nodes see it: at most once, in order per sender and receiver, nobody listening means
//! lost. A node that is frozen gets everything when it wakes up.

use std::collections::BTreeMap;

use stanby::core::{Event, Outbound};

use crate::client::ToClient;
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

    fn is_cut(&self, one: Party, other: Party) -> bool {
        let cut = |&(a, b): &(Party, Party)| (a, b) == (one, other) || (b, a) == (one, other);
        self.cuts.values().any(cut)
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
        self.losses_begun == 0 && !self.was_slow
    }

    pub(crate) fn end_losses(&mut self) {
        self.losses.clear();
        self.cuts.clear();
        self.slow.clear();
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

    /// When a message arrives that leaves now.
    fn travel(&mut self, from: Party, to: Party) -> Time {
        let (low, high) = self.plan.network_time;
        let slow = self.nats.slow.get(&(from, to));
        let extra = slow.map_or(
            0,
            |&(until, extra)| if self.time < until { extra } else { 0 },
        );
        let arrival = self.time + extra + nanos(self.rng.millis(low, high));
        let last = self.nats.links.entry((from, to)).or_default();
        *last = arrival.max(*last + 1);
        *last
    }

    /// A client's request or ack, to every node: standbys listen too.
    pub(crate) fn send_to_nodes(&mut self, client: usize, event: &Event) {
        if self.loses(Party::Client(client)) {
            return;
        }
        let event = Wire::carry(event);
        for node in 0..self.nodes.len() {
            if !self.nodes[node].up || self.nats.is_cut(Party::Client(client), Party::Node(node)) {
                continue;
            }
            let input = if self.loses(Party::Node(node)) {
                Input::Gap
            } else {
                Input::Request(Box::new(event.clone()))
            };
            let incarnation = self.nodes[node].incarnation;
            let time = self.travel(Party::Client(client), Party::Node(node));
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
        let is_cut = self.nats.is_cut(Party::Client(client), Party::Node(node));
        if is_cut || self.loses(Party::Client(client)) || self.loses(Party::Node(node)) {
            return;
        }
        let time = self.travel(Party::Client(client), Party::Node(node));
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
        let incarnation = self.nodes[node].incarnation;
        let (subject, message) = match outbound {
            Outbound::Reply { to, reply } => (to.clone(), ToClient::Reply { to, reply }),
            Outbound::Deliver {
                inbox,
                channel,
                message,
                redelivery_count: _,
                unheard_at: _,
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
            let is_cut = self.nats.is_cut(Party::Client(client), Party::Node(node));
            if !is_cut && !self.loses(Party::Client(client)) {
                let time = self.travel(Party::Node(node), Party::Client(client));
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
        let back = self.travel(Party::Node(node), Party::Node(node));
        if let Some(probe) = probe {
            let event = Box::new(Event::Unreachable(probe));
            let input = Input::Heard { term, event };
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
