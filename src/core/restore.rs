//! A new term begins: the state is rebuilt from the tables' rows and from nothing else. Miss counters and ack
//! waits begin again, so that nobody pays for the time without an active.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::batch::{ChannelRow, ClientRow, PageHolders, PositionRow, SubscriptionRow};
use super::broker::Broker;
use super::channels::{Channel, Channels, GroupKey};
use super::commits::Commits;
use super::counts::Traffic;
use super::deadlines::{Deadlines, Timer};
use super::dedup::StoredPublishes;
use super::group::Group;
use super::ids::ClientId;
use super::ids::{ChannelId, PositionId, Sequence, SubscriptionId};
use super::limits::Settings;
use super::loads::Loads;
use super::members::Member;
use super::memory_size;
use super::notice::Notice;
use super::pending_clients::PendingClients;
use super::policy::Policies;
use super::progress::Pages;
use super::registry::{Client, Registry};
use super::retention::Purge;
use super::snapshot::Snapshot;
use super::tail::Tail;
use super::time::Now;

impl Broker {
    /// Takes up where the tables stand.
    pub fn restore(snapshot: Snapshot, settings: Settings, now: Now) -> Self {
        Self::restore_without(snapshot, settings, now, &BTreeSet::new())
    }

    /// The same, but for the limits of channels: they are enforced by timers that are due at once, so that what they write
    /// can be taken back.
    pub fn restore_with_care(snapshot: Snapshot, settings: Settings, now: Now) -> Self {
        let channels = snapshot.channels.keys().copied().collect();
        Self::restore_without(snapshot, settings, now, &channels)
    }

    fn restore_without(
        snapshot: Snapshot,
        settings: Settings,
        now: Now,
        suspended: &BTreeSet<ChannelId>,
    ) -> Self {
        let mut broker = Self {
            tail: Tail::new(settings.limits.tail_bytes),
            settings,
            now,
            received_at: now.monotonic,
            began: now.monotonic,
            counters: snapshot.counters,
            // Late answers to probes of an earlier term carry smaller numbers.
            clients: Registry::new(now.monotonic.as_nanos()),
            connect_rate: super::connect_rate::ConnectRate::default(),
            is_full: false,
            channels: Channels::default(),
            purging: BTreeMap::new(),
            stored_before: StoredPublishes::default(),
            in_doubt: BTreeSet::new(),
            waiting_for_unseen: BTreeSet::new(),
            groups: BTreeMap::new(),
            usage: super::resource_usage::ResourceUsage::default(),
            orphans: BTreeSet::new(),
            ack_inboxes: BTreeMap::new(),
            paged_bytes: 0,
            in_line: VecDeque::new(),
            turns_are_cut: false,
            steps: 0,
            is_draining: false,
            deadlines: Deadlines::default(),
            commits: Commits::default(),
            loads: Loads::default(),
            withheld: super::withheld::Withheld::default(),
            pending_clients: PendingClients::default(),
            outbox: super::outbox::Outbox::default(),
            policies: Policies::new(snapshot.policies),
            admin: super::admin::Admin::default(),
            set_limits: snapshot.limits,
            notices: VecDeque::new(),
            traffic: Traffic::default(),
        };
        broker.suspend_limits(suspended, now.monotonic);
        broker.restore_clients(snapshot.clients);
        broker.restore_channels(snapshot.channels);
        broker.restore_gone(&snapshot.gone, &snapshot.counted);
        let with_pages = snapshot.pages.keys().chain(snapshot.holders.keys());
        let with_pages: BTreeSet<PositionId> = with_pages.copied().collect();
        broker.restore_positions(snapshot.positions, snapshot.pages);
        broker.drop_pages_without_position(with_pages.into_iter());
        broker.restore_paused(&snapshot.paused);
        broker.restore_moved(snapshot.moved.keys());
        broker.restore_subscriptions(snapshot.subscriptions);
        broker.restore_holders(&snapshot.holders);
        broker.drop_memberless_groups();
        broker.restore_policies(snapshot.counts);
        broker.restore_sql_acks(snapshot.sql_acks);
        let groups = broker.groups.values();
        broker.usage.subscriptions_bytes += groups.map(Group::registered_bytes).sum::<usize>();
        broker.wake_up();
        broker
    }

    fn restore_clients(&mut self, rows: BTreeMap<ClientId, ClientRow>) {
        let first_heartbeat = self.now.monotonic + self.settings.heartbeats.interval;
        for (id, mut row) in rows {
            row.heartbeat.missed = 0;
            self.deadlines
                .set(Timer::Heartbeat(id.clone()), first_heartbeat);
            self.usage.clients_bytes += memory_size::client(&id, Some(&row));
            self.clients.insert(id, Client::new(row));
        }
    }

    fn restore_channels(&mut self, rows: BTreeMap<ChannelId, ChannelRow>) {
        let now = self.now.monotonic;
        for (id, row) in rows {
            if row.deleting {
                self.start_purge(id, Purge::new(row, Sequence::ZERO));
            } else {
                let limits = self.limits_of(&row.name);
                let full = self.policies.of_channel(&row.name);
                let mut channel = Channel::new(row, limits, now);
                channel.full = full;
                self.channels.insert(id, channel);
            }
        }
    }

    fn restore_positions(
        &mut self,
        rows: BTreeMap<PositionId, PositionRow>,
        mut pages: BTreeMap<PositionId, Pages>,
    ) {
        for (id, mut row) in rows {
            let Some(channel) = self.channels.get_mut(row.channel) else {
                self.notices
                    .push_back(dropped("positions", id.0, "its channel does not exist"));
                self.commits.put_position(id, None);
                continue;
            };
            let (first, last) = (channel.row.first_sequence, channel.row.last_sequence);
            let progress = std::mem::take(&mut row.progress);
            let pages = pages.remove(&id).unwrap_or_default();
            channel.groups.insert(id);
            let mut group = Group::new(row);
            group.restore_in_flight(progress, pages, first, last);
            self.usage.in_flight += group.in_flight.len();
            self.groups.insert(id, group);
        }
    }

    fn restore_paused(&mut self, paused: &BTreeSet<PositionId>) {
        for &position in paused {
            match self.groups.get_mut(&position) {
                Some(group) => group.paused = true,
                // A server that does not know of pauses has deleted the position.
                None => self.commits.put_paused(position, false),
            }
        }
    }

    /// Before any ack counts: one of what is yet to be sent may be of a delivery before the move.
    fn restore_moved<'a>(&mut self, moved: impl Iterator<Item = &'a PositionId>) {
        for position in moved {
            if let Some(group) = self.groups.get_mut(position) {
                group.was_moved = true;
            }
        }
    }

    fn restore_subscriptions(&mut self, rows: BTreeMap<SubscriptionId, SubscriptionRow>) {
        for (id, mut row) in rows {
            let Some(group) = self.groups.get_mut(&row.position) else {
                self.notices.push_back(dropped(
                    "subscriptions",
                    id.0,
                    "its position does not exist",
                ));
                self.commits.put_subscription(id, None);
                continue;
            };
            let client = self.clients.get_mut(&row.client_id);
            match client {
                Some(client) if row.online => {
                    client.subscriptions.insert((row.position, id));
                    self.ack_inboxes
                        .insert(row.ack_inbox.to_text(), (row.position, id));
                    if let Some(channel) = self.channels.get_mut(group.channel) {
                        let inbox = row.inbox.clone();
                        channel.inboxes.insert((inbox, row.position, id));
                    }
                }
                _ if group.is_durable() && !group.is_queue() => {
                    if row.online {
                        row.online = false;
                        self.commits.put_subscription(id, Some(row.clone()));
                    }
                }
                _ => {
                    self.notices.push_back(dropped(
                        "subscriptions",
                        id.0,
                        "its client is not registered",
                    ));
                    self.commits.put_subscription(id, None);
                    group.last_member = Some(Box::new(Member::from_row(row, false)));
                    continue;
                }
            }
            group.members.insert(id, Member::from_row(row, true));
        }
    }

    fn restore_holders(&mut self, holders: &BTreeMap<PositionId, BTreeMap<u64, PageHolders>>) {
        for (position, pages) in holders {
            if let Some(group) = self.groups.get_mut(position) {
                for (&page, holders) in pages {
                    group.restore_holders(page, holders);
                }
            }
        }
    }

    /// Pages of positions that somebody else deleted: a person, or a server that does not know of them.
    fn drop_pages_without_position(&mut self, positions: impl Iterator<Item = PositionId>) {
        for position in positions {
            if !self.groups.contains_key(&position) {
                self.commits.put_position(position, None);
            }
        }
    }

    /// Only durable queue groups live without members. The others get their keys.
    fn drop_memberless_groups(&mut self) {
        let positions: Vec<PositionId> = self.groups.keys().copied().collect();
        for position in positions {
            let group = &self.groups[&position];
            if group.members.is_empty() && !(group.is_durable() && group.is_queue()) {
                self.notices
                    .push_back(dropped("positions", position.0, "it has no subscription"));
                self.commits.put_position(position, None);
                if let Some(channel) = self.channels.get_mut(group.channel) {
                    channel.groups.remove(&position);
                }
                self.usage.in_flight -= group.in_flight.len();
                self.groups.remove(&position);
                continue;
            }
            let key = restored_key(group);
            if let Some(channel) = self.channels.get_mut(group.channel) {
                channel.keyed.extend(key.map(|key| (key, position)));
            }
        }
    }

    /// Delivers what waits, redelivers what was in flight, and checks the limits, which may be others now.
    fn wake_up(&mut self) {
        let now = self.now.monotonic;
        let positions: Vec<PositionId> = self.groups.keys().copied().collect();
        for position in positions {
            let Some(group) = self.groups.get_mut(&position) else {
                continue;
            };
            group.replaying = group.is_online() && !group.in_flight.is_empty();
            if group.replaying {
                self.arm_redelivery(position, now);
            } else {
                self.deliver(position);
            }
        }
        let channels: Vec<ChannelId> = self.channels.iter().map(|(id, _)| id).collect();
        for id in channels {
            self.enforce_limits(id);
            self.note_activity(id);
        }
    }
}

fn restored_key(group: &Group) -> Option<GroupKey> {
    let durable = group.durable_name.clone();
    match (group.queue_group.clone(), durable) {
        (None, None) => None,
        (None, Some(durable)) => {
            let owner = group.members.values().next()?.client_id.clone();
            Some(GroupKey::Durable(owner, durable))
        }
        (Some(queue), None) => Some(GroupKey::Queue(queue)),
        (Some(queue), Some(durable)) => Some(GroupKey::DurableQueue(queue, durable)),
    }
}

fn dropped(table: &'static str, id: u64, why: &'static str) -> Notice {
    Notice::RowDropped { table, id, why }
}
