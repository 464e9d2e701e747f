//! What monitoring asks for: clients, channels and subscriptions as they stand. Answered in pages, each of them small
//! enough to be made between two turns of the active loop. Decides nothing.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::broker::Broker;
use super::group::Group;
use super::ids::{ChannelId, ChannelName, ClientId, Sequence};
use super::members::Member;
use super::time::{Instant, Timestamp};

/// Channels or clients of one page.
pub const ITEMS_MAX: usize = 1024;

/// A page that holds so many subscriptions takes no further channel or client.
const SUBSCRIPTIONS_ENOUGH: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    Channels {
        from: Start<ChannelName>,
        /// At most [`ITEMS_MAX`] count.
        limit: usize,
        subscriptions: bool,
    },
    Clients {
        from: Start<ClientId>,
        limit: usize,
        subscriptions: bool,
    },
    /// A single one; the page is empty when there is none of this name.
    Channel {
        name: String,
        subscriptions: bool,
    },
    Client {
        id: String,
        subscriptions: bool,
    },
}

/// Where a page begins, in the order of the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start<Name> {
    Offset(usize),
    After(Name),
}

/// Channels, or clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Channels(Items<Channel>),
    Clients(Items<Client>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items<Item> {
    pub items: Vec<Item>,
    /// Totals over all pages.
    pub total: usize,
    /// The page ended before the limit.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub name: ChannelName,
    pub messages: u64,
    pub bytes: u64,
    /// Zero when there are no messages and never were any.
    pub first: Sequence,
    pub last: Sequence,
    pub last_published_at: Timestamp,
    /// Offline durables and empty durable groups count as one each.
    pub subscription_count: usize,
    /// Only where they were asked for.
    pub subscriptions: Vec<Subscription>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub id: ClientId,
    pub heartbeat_inbox: String,
    pub missed_heartbeats: u32,
    pub subscription_count: usize,
    /// By channel; only where they were asked for.
    pub subscriptions: BTreeMap<ChannelName, Vec<Subscription>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The last owner of an offline durable, and who left an empty durable group last; `None` where that was before
    /// this term.
    pub client_id: Option<ClientId>,
    pub inbox: String,
    pub ack_inbox: String,
    pub durable_name: Option<String>,
    pub queue_group: Option<String>,
    pub online: bool,
    pub max_in_flight: u32,
    pub ack_wait: Duration,
    /// The last message sent to this member, or to its group where that is not known.
    pub last_sent: Sequence,
    /// Delivered to this member, or parked for this subscription, and not acked.
    pub in_flight: usize,
    /// The same of all members, and what nobody holds: who held it has left.
    pub group_in_flight: usize,
    pub stalled: bool,
    /// An operator has paused it, or a policy has it wait for one message.
    pub paused: bool,
    /// Messages of the channel that the subscription, or its group, has yet to ack or to be sent.
    pub lag: u64,
    /// How long the oldest message in flight of the subscription or its group has been so, as far as this term
    /// knows.
    pub oldest_unacked: Option<Duration>,
}

impl Broker {
    pub fn report(&self, question: &Question, now: Instant) -> Page {
        match question {
            Question::Channels {
                from,
                limit,
                subscriptions,
            } => {
                let names = self.channels.names();
                let (ids, more) = page(names, from, *limit, |&id| {
                    self.subscriptions_of(id, *subscriptions)
                });
                let items = ids.into_iter();
                let items = items.filter_map(|id| self.channel_report(id, *subscriptions, now));
                Page::Channels(Items {
                    items: items.collect(),
                    total: names.len(),
                    more,
                })
            }
            Question::Clients {
                from,
                limit,
                subscriptions,
            } => {
                let clients = self.clients.all();
                let weigh = |client: &super::registry::Client| {
                    if *subscriptions {
                        client.subscriptions.len()
                    } else {
                        0
                    }
                };
                let (ids, more) = page_of_keys(clients, from, *limit, weigh);
                let items = ids.into_iter();
                let items = items.filter_map(|id| self.client_report(id, *subscriptions, now));
                Page::Clients(Items {
                    items: items.collect(),
                    total: clients.len(),
                    more,
                })
            }
            Question::Channel {
                name,
                subscriptions,
            } => {
                let id = self.channels.find(name);
                let found = id.and_then(|id| self.channel_report(id, *subscriptions, now));
                Page::Channels(Items {
                    items: found.into_iter().collect(),
                    total: self.channels.len(),
                    more: false,
                })
            }
            Question::Client { id, subscriptions } => {
                let found = self.clients.all().get_key_value(id.as_str());
                let found = found.and_then(|(id, _)| self.client_report(id, *subscriptions, now));
                Page::Clients(Items {
                    items: found.into_iter().collect(),
                    total: self.clients.len(),
                    more: false,
                })
            }
        }
    }

    fn subscriptions_of(&self, channel: ChannelId, wanted: bool) -> usize {
        let channel = self.channels.get(channel).filter(|_| wanted);
        let groups = channel.into_iter().flat_map(|channel| &channel.groups);
        let groups = groups.filter_map(|position| self.groups.get(position));
        groups.map(Group::subscriptions).sum()
    }

    fn channel_report(&self, id: ChannelId, subscriptions: bool, now: Instant) -> Option<Channel> {
        let channel = self.channels.get(id)?;
        let row = &channel.row;
        let groups = channel.groups.iter();
        let groups = groups.filter_map(|position| self.groups.get(position));
        let listed = groups.filter(|_| subscriptions);
        Some(Channel {
            name: row.name.clone(),
            messages: row.message_count,
            bytes: row.byte_count,
            first: channel.first(),
            last: row.last_sequence,
            last_published_at: row.last_published_at,
            subscription_count: self.subscriptions_of(id, true),
            subscriptions: listed
                .flat_map(|group| self.group_report(group, now))
                .collect(),
        })
    }

    fn client_report(&self, id: &ClientId, wanted: bool, now: Instant) -> Option<Client> {
        let client = self.clients.get(id.as_str())?;
        let mut subscriptions: BTreeMap<ChannelName, Vec<Subscription>> = BTreeMap::new();
        for (position, subscription) in client.subscriptions.iter().filter(|_| wanted) {
            let group = self.groups.get(position);
            let Some((group, member)) = group.and_then(|g| Some((g, g.members.get(subscription)?)))
            else {
                continue;
            };
            if let Some(channel) = self.channels.get(group.channel) {
                let report = self.member_report(group, Some(member), now);
                let of_channel = subscriptions.entry(channel.row.name.clone());
                of_channel.or_default().push(report);
            }
        }
        Some(Client {
            id: id.clone(),
            heartbeat_inbox: client.row.heartbeat_inbox.to_text().to_string(),
            missed_heartbeats: client.row.heartbeat.missed,
            subscription_count: client.subscriptions.len(),
            subscriptions,
        })
    }

    fn group_report(&self, group: &Group, now: Instant) -> Vec<Subscription> {
        if group.members.is_empty() {
            return vec![self.member_report(group, None, now)];
        }
        let members = group.members.values();
        let reports = members.map(|member| self.member_report(group, Some(member), now));
        reports.collect()
    }

    fn member_report(&self, group: &Group, member: Option<&Member>, now: Instant) -> Subscription {
        let last = self.channels.get(group.channel);
        let (first, last) = last.map_or((Sequence::ZERO, Sequence::ZERO), |channel| {
            (channel.row.first_sequence, channel.row.last_sequence)
        });
        let sent = group.last_sent.max(first.previous());
        let unsent = last.0.saturating_sub(sent.0);
        let in_flight = match member {
            Some(member) if group.is_queue() => member.in_flight as usize,
            Some(_) | None => group.in_flight.len(),
        };
        let since = group.in_flight.values().next();
        let since = since.map(|entry| entry.since.unwrap_or(self.began));
        let member = member.or(group.last_member.as_deref());
        let online = !group.members.is_empty() && member.is_some_and(|member| member.online);
        let max_in_flight = member.map_or(0, |member| member.max_in_flight);
        Subscription {
            client_id: member.map(|member| member.client_id.clone()),
            inbox: member.map_or_else(String::new, |m| m.inbox.to_text().to_string()),
            ack_inbox: member.map_or_else(String::new, |m| m.ack_inbox.to_text().to_string()),
            durable_name: group.durable_name.as_ref().map(ToString::to_string),
            queue_group: group.queue_group.as_ref().map(ToString::to_string),
            online,
            max_in_flight,
            ack_wait: member.map_or(Duration::ZERO, |member| member.ack_wait),
            last_sent: member
                .filter(|_| !group.members.is_empty())
                .map(|member| member.last_sent)
                .filter(|sent| *sent > Sequence::ZERO)
                .unwrap_or(group.last_sent),
            in_flight,
            group_in_flight: group.in_flight.len(),
            stalled: online && (group.held_back || in_flight >= max_in_flight as usize),
            paused: group.paused || group.is_paused(),
            lag: unsent + group.in_flight.len() as u64,
            oldest_unacked: since.map(|since| now.since(since)),
        }
    }
}

/// The values of a page, and whether it ended early.
fn page<'a, Name: Ord + Clone, Value>(
    all: &'a BTreeMap<Name, Value>,
    from: &Start<Name>,
    limit: usize,
    weigh: impl Fn(&Value) -> usize,
) -> (Vec<Value>, bool)
where
    Value: Copy + 'a,
{
    let (keys, more) = page_of_keys(all, from, limit, weigh);
    (keys.into_iter().map(|key| all[key]).collect(), more)
}

fn page_of_keys<'a, Name: Ord + Clone, Value>(
    all: &'a BTreeMap<Name, Value>,
    from: &Start<Name>,
    limit: usize,
    weigh: impl Fn(&Value) -> usize,
) -> (Vec<&'a Name>, bool) {
    let (start, skipped) = match from {
        Start::Offset(offset) => (Bound::Unbounded, *offset),
        Start::After(name) => (Bound::Excluded(name.clone()), 0),
    };
    let rest = all.range((start, Bound::Unbounded)).skip(skipped);
    let mut keys = Vec::new();
    let mut weight = 0;
    for (name, value) in rest {
        if keys.len() == limit {
            return (keys, false);
        }
        if keys.len() == ITEMS_MAX || weight >= SUBSCRIPTIONS_ENOUGH {
            return (keys, true);
        }
        weight += weigh(value);
        keys.push(name);
    }
    (keys, false)
}
