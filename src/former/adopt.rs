//! Which rows of ours the former ones make: what nats-streaming-server would go on with after a restart.

use std::collections::BTreeMap;

use super::messages::Totals;
use super::pending::Pending;
use super::records::{Client, Kind, Owner, Subscription};
use crate::core::batch::{
    ChannelRow, ClientRow, Counters, Heartbeat, PositionRow, SubscriptionRow,
};
use crate::core::ids::{
    ChannelId, ChannelName, ClientId, DurableName, PositionId, QueueName, Sequence, SubscriptionId,
};
use crate::core::snapshot::Snapshot;
use crate::core::time::Timestamp;

/// Everything that the former tables hold, with the sum of each channel's messages.
#[derive(Clone, Debug, Default)]
pub struct Former {
    pub clients: Vec<Client>,
    pub channels: BTreeMap<ChannelId, Channel>,
    /// In the order of their numbers.
    pub subscriptions: Vec<Subscription>,
    /// The highest numbers of rows, deleted ones included.
    pub last_channel: u64,
    pub last_subscription: u64,
    /// A channel has been as far as its subscriptions were sent, whatever it holds: so a SQL store has it. Where files
    /// hold less, the former server goes on behind them.
    pub sent_counts: bool,
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub name: ChannelName,
    /// The last sequence when limits had dropped all messages; often lower.
    pub max_sequence: u64,
    pub totals: Totals,
}

/// What is to be stored beside the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    pub snapshot: Snapshot,
    /// What was not taken over, or not as it stood.
    pub notes: Vec<String>,
}

/// What makes subscriptions share a position.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Plain(SubscriptionId),
    Durable(ClientId, DurableName),
    Queue(QueueName),
    DurableQueue(DurableName, QueueName),
}

/// The records of one position.
#[derive(Default)]
struct Group {
    members: Vec<(SubscriptionId, Owner, bool)>,
    /// Pending messages of the members, or of an empty durable group.
    pending: Option<Pending>,
    /// Pending messages of records whose client is gone: they count where there are no others.
    orphaned: Option<Pending>,
}

/// `now` counts as when clients connected.
pub fn adopt(former: Former, now: Timestamp) -> Adopted {
    let mut adopting = Adopting {
        snapshot: Snapshot {
            counters: Counters {
                channel: former.last_channel,
                subscription: former.last_subscription,
            },
            ..Snapshot::default()
        },
        now,
        left_out: 0,
        replaced: 0,
    };
    adopting.clients(former.clients);
    let groups = adopting.groups(former.subscriptions, &former.channels);
    adopting.channels(&former.channels, &groups, former.sent_counts);
    adopting.positions(groups);
    let notes = adopting.notes(&former.channels);
    Adopted {
        snapshot: adopting.snapshot,
        notes,
    }
}

struct Adopting {
    snapshot: Snapshot,
    now: Timestamp,
    left_out: u64,
    replaced: u64,
}

type Groups = BTreeMap<(ChannelId, Key), Group>;

impl Adopting {
    fn clients(&mut self, clients: Vec<Client>) {
        for client in clients {
            let row = ClientRow {
                connection_id: client.connection_id,
                heartbeat_inbox: client.heartbeat_inbox,
                protocol: client.protocol,
                ping_interval: client.ping_interval,
                ping_max_out: client.ping_max_out,
                connected_at: self.now,
                heartbeat: Heartbeat {
                    last_at: self.now,
                    missed: 0,
                },
            };
            self.snapshot.clients.insert(client.id, row);
        }
    }

    fn groups(
        &mut self,
        subscriptions: Vec<Subscription>,
        channels: &BTreeMap<ChannelId, Channel>,
    ) -> Groups {
        let mut groups = Groups::new();
        for subscription in subscriptions {
            // A subscription of a deleted channel goes without a note.
            if !channels.contains_key(&subscription.channel) {
                continue;
            }
            let client_id = subscription.owner.as_ref().map(|owner| &owner.client_id);
            let is_connected = client_id.is_some_and(|id| self.snapshot.clients.contains_key(id));
            let key = match (&subscription.kind, client_id) {
                (Kind::Plain, _) => Key::Plain(subscription.id),
                (Kind::Durable(name), Some(id)) => Key::Durable(id.clone(), name.clone()),
                (Kind::Queue(queue), _) => Key::Queue(queue.clone()),
                (Kind::DurableQueue(name, queue), _) => {
                    Key::DurableQueue(name.clone(), queue.clone())
                }
                // Records are not read without an owner unless they are of a durable queue group.
                (Kind::Durable(_), None) => continue,
            };
            let is_durable = matches!(key, Key::Durable(..) | Key::DurableQueue(..));
            if !is_connected && !is_durable {
                self.left_out += 1;
                continue;
            }
            let replaces = matches!(key, Key::Durable(..));
            let group = groups.entry((subscription.channel, key)).or_default();
            if replaces && !group.members.is_empty() {
                self.replaced += 1;
                *group = Group::default();
            }
            let pending = subscription.pending;
            match subscription.owner {
                Some(owner) if replaces => {
                    let online = is_connected && !subscription.is_closed;
                    group.members.push((subscription.id, owner, online));
                    join(&mut group.pending, &pending);
                }
                Some(owner) if is_connected => {
                    group.members.push((subscription.id, owner, true));
                    join(&mut group.pending, &pending);
                }
                Some(_) => {
                    self.left_out += 1;
                    join(&mut group.orphaned, &pending);
                }
                None => join(&mut group.pending, &pending),
            }
        }
        groups
    }

    /// A channel has been as far as its messages, its own note and its subscriptions say.
    fn channels(
        &mut self,
        channels: &BTreeMap<ChannelId, Channel>,
        groups: &Groups,
        sent_counts: bool,
    ) {
        let mut sent: BTreeMap<ChannelId, u64> = BTreeMap::new();
        for ((channel, _), group) in groups.iter().filter(|_| sent_counts) {
            let sent = sent.entry(*channel).or_default();
            for pending in group.pending.iter().chain(&group.orphaned) {
                *sent = pending.last_sent.max(*sent);
            }
        }
        for (&id, channel) in channels {
            let totals = &channel.totals;
            let sent = sent.get(&id).copied().unwrap_or_default();
            let last = Sequence(totals.last.0.max(channel.max_sequence).max(sent));
            let row = ChannelRow {
                name: channel.name.clone(),
                created_at: self.now,
                deleting: false,
                first_sequence: if totals.count == 0 {
                    last.next()
                } else {
                    totals.first
                },
                last_sequence: last,
                last_published_at: totals.last_published_at,
                message_count: totals.count,
                byte_count: totals.bytes,
            };
            self.snapshot.channels.insert(id, row);
        }
    }

    fn positions(&mut self, groups: Groups) {
        for ((channel, key), group) in groups {
            let pending = group.pending.or(group.orphaned).unwrap_or_default();
            let first = self.snapshot.channels.get(&channel);
            let first = first.map_or(Sequence::ZERO, |channel| channel.first_sequence);
            let (durable_name, queue_group) = match key {
                Key::Plain(_) => (None, None),
                Key::Durable(_, name) => (Some(name), None),
                Key::Queue(queue) => (None, Some(queue)),
                Key::DurableQueue(name, queue) => (Some(name), Some(queue)),
            };
            self.snapshot.counters.subscription += 1;
            let position = PositionId(self.snapshot.counters.subscription);
            let row = PositionRow {
                channel,
                durable_name,
                queue_group,
                progress: pending.progress(first),
            };
            self.snapshot.positions.insert(position, row);
            for (id, owner, online) in group.members {
                let row = SubscriptionRow {
                    position,
                    client_id: owner.client_id,
                    inbox: owner.inbox,
                    ack_inbox: owner.ack_inbox,
                    max_in_flight: owner.max_in_flight,
                    ack_wait: owner.ack_wait,
                    online,
                    since: self.now,
                };
                self.snapshot.subscriptions.insert(id, row);
            }
        }
    }

    fn notes(&self, channels: &BTreeMap<ChannelId, Channel>) -> Vec<String> {
        let mut notes = Vec::new();
        if self.left_out > 0 {
            notes.push(format!(
                "{} left out: no durable name, and the client is gone",
                counted(self.left_out, "subscription")
            ));
        }
        if self.replaced > 0 {
            notes.push(format!(
                "{} left out: there is a newer one of the same name",
                counted(self.replaced, "durable")
            ));
        }
        let raised: u64 = channels.values().map(|it| it.totals.raised_times).sum();
        if raised > 0 {
            notes.push(format!(
                "{} given the time of the message before: times of a channel never go back",
                counted(raised, "message")
            ));
        }
        notes
    }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what} was")
    } else {
        format!("{count} {what}s were")
    }
}

fn join(all: &mut Option<Pending>, one: &Pending) {
    all.get_or_insert_default().join(one);
}

#[cfg(test)]
mod tests;
