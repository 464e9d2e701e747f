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

/// `now` is when clients are told to have connected.
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
                "{} left out: their clients are not connected",
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::ids::{ConnectionId, Subject};
    use crate::core::ranges::Ranges;

    const CHANNEL: ChannelId = ChannelId(4);
    const NOW: Timestamp = Timestamp(1000);

    fn client(id: &str) -> Client {
        Client {
            id: ClientId::parse(id.into()).unwrap(),
            heartbeat_inbox: Subject::parse("hb".into()).unwrap(),
            connection_id: ConnectionId("C".into()),
            protocol: 1,
            ping_interval: 5,
            ping_max_out: 3,
        }
    }

    fn subscription(id: u64, client: &str, kind: Kind, last: u64, pending: &[u64]) -> Subscription {
        let owner = (!client.is_empty()).then(|| Owner {
            client_id: ClientId::parse(client.into()).unwrap(),
            inbox: Subject::parse("inbox".into()).unwrap(),
            ack_inbox: Subject::parse(format!("acks.{id}").into()).unwrap(),
            max_in_flight: 10,
            ack_wait: Duration::from_secs(30),
        });
        Subscription {
            id: SubscriptionId(id),
            channel: CHANNEL,
            kind,
            owner,
            is_closed: false,
            pending: Pending {
                last_sent: last,
                sequences: pending.iter().copied().collect(),
            },
        }
    }

    fn durable() -> Kind {
        Kind::Durable(DurableName::parse("d".into()).unwrap())
    }

    fn group() -> Kind {
        let name = DurableName::parse("d".into()).unwrap();
        Kind::DurableQueue(name, QueueName::parse("q".into()).unwrap())
    }

    fn queue() -> Kind {
        Kind::Queue(QueueName::parse("q".into()).unwrap())
    }

    /// With messages 3 to 9 and `alice` connected.
    fn adopted(subscriptions: Vec<Subscription>) -> Adopted {
        let totals = Totals {
            first: Sequence(3),
            last: Sequence(9),
            count: 7,
            bytes: 70,
            last_published_at: Timestamp(77),
            raised_times: 0,
        };
        let channel = Channel {
            name: ChannelName::parse("orders".into()).unwrap(),
            max_sequence: 0,
            totals,
        };
        let former = Former {
            clients: vec![client("alice")],
            channels: BTreeMap::from([(CHANNEL, channel)]),
            subscriptions,
            last_channel: 6,
            last_subscription: 50,
            sent_counts: true,
        };
        adopt(former, NOW)
    }

    /// Last sent, floor and ranges.
    type Place = (u64, u64, Vec<(u64, u64)>);

    /// The only position, and its members with whether they are online.
    fn only(adopted: &Adopted) -> (Place, Vec<(u64, bool)>) {
        let positions: Vec<_> = adopted.snapshot.positions.values().collect();
        let [position] = positions[..] else {
            panic!("{positions:?}");
        };
        let progress = &position.progress;
        let above = progress.acked_above.iter().map(|(from, to)| (from.0, to.0));
        let subscriptions = adopted.snapshot.subscriptions.iter();
        (
            (
                progress.last_sent.0,
                progress.acked_floor.0,
                above.collect(),
            ),
            subscriptions.map(|(id, row)| (id.0, row.online)).collect(),
        )
    }

    #[test]
    fn a_channel_and_its_clients_are_what_the_tables_say() {
        let adopted = adopted(vec![]);

        let row = &adopted.snapshot.channels[&CHANNEL];
        assert_eq!((row.first_sequence.0, row.last_sequence.0), (3, 9));
        assert_eq!((row.message_count, row.byte_count), (7, 70));
        assert_eq!(row.last_published_at, Timestamp(77));
        let row = &adopted.snapshot.clients["alice"];
        assert_eq!((&row.connection_id.0[..], row.ping_max_out), (&b"C"[..], 3));
        assert_eq!(row.heartbeat.last_at, NOW);
        let counters = Counters {
            channel: 6,
            subscription: 50,
        };
        assert_eq!(adopted.snapshot.counters, counters);
        assert_eq!(adopted.notes, [""; 0]);
    }

    #[test]
    fn a_durable_is_online_when_its_client_is_there_and_has_not_closed_it() {
        let online = subscription(7, "alice", durable(), 8, &[2, 5, 8]);
        assert_eq!(
            only(&adopted(vec![online.clone()])),
            ((8, 4, vec![(6, 7)]), vec![(7, true)])
        );
        let closed = Subscription {
            is_closed: true,
            ..online
        };
        assert_eq!(only(&adopted(vec![closed])).1, [(7, false)]);
        // As older servers left it.
        let gone = subscription(7, "bob", durable(), 8, &[]);
        assert_eq!(
            only(&adopted(vec![gone])),
            ((8, 8, vec![]), vec![(7, false)])
        );
    }

    #[test]
    fn members_of_a_queue_share_the_furthest_position_and_all_that_is_pending() {
        for kind in [queue(), group()] {
            let members = vec![
                subscription(7, "alice", kind.clone(), 6, &[4]),
                subscription(8, "alice", kind.clone(), 9, &[7, 9]),
            ];
            let adopted = adopted(members);
            let expected = ((9, 3, vec![(5, 6), (8, 8)]), vec![(7, true), (8, true)]);
            assert_eq!(only(&adopted), expected);
            assert_eq!(adopted.snapshot.counters.subscription, 51);
        }
    }

    #[test]
    fn a_durable_group_without_members_keeps_its_position() {
        let shadow = adopted(vec![subscription(7, "", group(), 6, &[5])]);
        assert_eq!(only(&shadow), ((6, 4, vec![(6, 6)]), vec![]));
        assert_eq!(shadow.notes, [""; 0]);
        // Its last member's client is not known any more.
        let ghost = adopted(vec![subscription(7, "bob", group(), 6, &[5])]);
        assert_eq!(only(&ghost), ((6, 4, vec![(6, 6)]), vec![]));
        assert!(ghost.notes[0].starts_with("1 subscription was left out"));
        let beside = adopted(vec![
            subscription(7, "bob", group(), 8, &[5, 8]),
            subscription(8, "alice", group(), 7, &[6]),
        ]);
        assert_eq!(only(&beside), ((7, 5, vec![(7, 7)]), vec![(8, true)]));
    }

    #[test]
    fn what_is_not_durable_goes_with_its_client() {
        let left = adopted(vec![
            subscription(7, "bob", Kind::Plain, 6, &[5]),
            subscription(8, "bob", queue(), 6, &[5]),
        ]);
        assert!(left.snapshot.positions.is_empty());
        assert!(left.notes[0].starts_with("2 subscriptions were left out"));
        let kept = adopted(vec![subscription(7, "alice", Kind::Plain, 6, &[])]);
        assert_eq!(only(&kept), ((6, 6, vec![]), vec![(7, true)]));
    }

    #[test]
    fn of_two_durables_of_one_name_the_newer_one_counts() {
        let two = adopted(vec![
            subscription(7, "alice", durable(), 9, &[3]),
            subscription(8, "alice", durable(), 5, &[4]),
        ]);
        assert_eq!(only(&two), ((5, 3, vec![(5, 5)]), vec![(8, true)]));
        assert!(two.notes[0].starts_with("1 durable was left out"));
    }

    #[test]
    fn sequences_go_on_after_the_highest_that_anything_tells_of() {
        let ahead = adopted(vec![subscription(7, "alice", durable(), 20, &[])]);
        let row = &ahead.snapshot.channels[&CHANNEL];
        assert_eq!((row.first_sequence.0, row.last_sequence.0), (3, 20));

        let empty = Channel {
            name: ChannelName::parse("empty".into()).unwrap(),
            max_sequence: 15,
            totals: Totals::default(),
        };
        let former = Former {
            channels: BTreeMap::from([(CHANNEL, empty)]),
            subscriptions: vec![subscription(7, "alice", durable(), 12, &[12])],
            ..Former::default()
        };
        let adopted = adopt(former, NOW);
        let row = &adopted.snapshot.channels[&CHANNEL];
        assert_eq!((row.first_sequence.0, row.last_sequence.0), (16, 15));
        // What was in flight does not exist any more.
        let progress = &adopted.snapshot.positions.values().next().unwrap().progress;
        assert_eq!(progress.acked_floor, Sequence(12));
        assert_eq!(progress.acked_above, Ranges::default());
    }
}
