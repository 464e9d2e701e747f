//! What the log makes of clients, channels, subscriptions and positions: entries are applied one after the other, as each
//! node does when it starts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;

use super::records::{
    self, ChannelSnapshot, Connect, Leave, Operation, Request, SentAndAcked, Snapshot, Subscribe,
    SubscriptionState,
};
use crate::core::ids::{ChannelId, SubscriptionId};
use crate::former::Broken;
use crate::former::pending::Pending;
use crate::former::records::{Client, Subscription};
use crate::protocol::client::delivery;

/// Between the two names of a durable queue group.
const SEPARATOR: &str = ":";

#[derive(Clone, Debug, Default)]
pub struct State {
    clients: BTreeMap<String, Client>,
    pub channels: BTreeMap<String, Channel>,
}

#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// Zero where it is not known.
    pub id: u64,
    /// Its messages in the file store are those of this channel, and not of one of the same name before it.
    pub is_stored: bool,
    /// The sequence of its first message, wherever the messages are.
    pub first: u64,
    pub last: u64,
    /// Sequence and time of the last message that is in the log and in the file store.
    pub in_both: Option<(u64, i64)>,
    /// Messages that are in the log and not in the file store, by sequence.
    pub added: Vec<(u64, Bytes)>,
    subscriptions: BTreeMap<u64, Member>,
    /// Highest sequence that each queue group was sent.
    groups: BTreeMap<String, u64>,
    next_subscription: u64,
}

#[derive(Clone, Debug)]
struct Member {
    state: SubscriptionState,
    pending: BTreeSet<u64>,
    is_online: bool,
}

/// A channel of the file store.
#[derive(Clone, Debug)]
pub struct Stored {
    pub name: String,
    pub id: u64,
    pub first: u64,
    pub last: u64,
}

impl State {
    /// Fails when the store has less than the snapshot says.
    pub fn new(stored: Vec<Stored>, snapshot: Option<&Snapshot>) -> Result<Self, Broken> {
        let mut state = Self::default();
        for Stored {
            name,
            id,
            first,
            last,
        } in stored
        {
            let channel = Channel {
                id,
                is_stored: true,
                first,
                last,
                next_subscription: 1,
                ..Channel::default()
            };
            state.channels.insert(name, channel);
        }
        if let Some(snapshot) = snapshot {
            for client in &snapshot.clients {
                let client = Client::of_record(client)
                    .map_err(|why| format!("a client of its snapshot: {why}"))?;
                state.clients.insert(client.id.to_string(), client);
            }
            for channel in &snapshot.channels {
                state.restore(channel)?;
            }
        }
        Ok(state)
    }

    fn restore(&mut self, snapshot: &ChannelSnapshot) -> Result<(), Broken> {
        // The channel may have been deleted since.
        let found = self.channels.get_mut(&snapshot.name);
        let Some(channel) = found.filter(|it| it.id == snapshot.id) else {
            return Ok(());
        };
        if channel.last < snapshot.last {
            if channel.last > 0 {
                return Err(format!(
                    "channel {:?} ends with message {} in its store, and its snapshot says {}: it was stopped while it \
                     fetched messages",
                    snapshot.name, channel.last, snapshot.last
                )
                .into());
            }
            channel.last = snapshot.last;
            channel.first = snapshot.last + 1;
        }
        channel.next_subscription = snapshot.next_subscription.max(1);
        for subscription in &snapshot.subscriptions {
            let Some(state) = subscription.state.clone() else {
                continue;
            };
            if !state.queue.is_empty() {
                let group = channel.groups.entry(state.queue.clone()).or_default();
                *group = state.last_sent.max(*group);
            }
            let member = Member {
                is_online: !state.client_id.is_empty() && !state.is_closed,
                pending: subscription.pending.iter().copied().collect(),
                state,
            };
            channel.note_number(member.state.id);
            channel.subscriptions.insert(member.state.id, member);
        }
        Ok(())
    }

    /// Applies an entry of the log, decrypted.
    pub fn apply(&mut self, command: &Bytes) -> Result<(), Broken> {
        let operation = Operation::decode(command.clone())?;
        match operation.kind {
            records::PUBLISH => self.publish(&operation),
            records::SUBSCRIBE => {
                if let Some(subscribe) = &operation.subscribe {
                    self.subscribe(subscribe, operation.channel_id);
                }
                Ok(())
            }
            records::REMOVE | records::CLOSE => {
                if let Some(leave) = &operation.leave {
                    self.leave(leave, operation.kind == records::REMOVE);
                }
                Ok(())
            }
            records::SENT_AND_ACKED => {
                if let Some(progress) = &operation.progress {
                    self.progress(progress)?;
                }
                Ok(())
            }
            records::CONNECT => match operation.connect {
                Some(connect) => self.connect(connect),
                None => Ok(()),
            },
            records::DISCONNECT => {
                if let Some(disconnect) = &operation.disconnect {
                    self.disconnect(&disconnect.client_id);
                }
                Ok(())
            }
            records::DELETE_CHANNEL => {
                let found = self.channels.get(&operation.channel);
                let is_meant = |it: &Channel| is_same(it.id, operation.channel_id);
                if found.is_some_and(is_meant) {
                    self.channels.remove(&operation.channel);
                }
                Ok(())
            }
            kind => Err(format!("an operation of kind {kind} is not known").into()),
        }
    }

    /// `None` when the entry is about one of the same name before this one.
    fn channel(&mut self, name: &str, id: u64) -> Option<&mut Channel> {
        let fresh = || Channel {
            id,
            next_subscription: 1,
            ..Channel::default()
        };
        let channel = self.channels.entry(name.to_owned()).or_insert_with(fresh);
        if !is_same(channel.id, id) {
            if channel.id > id {
                return None;
            }
            *channel = fresh();
        }
        Some(channel)
    }

    fn publish(&mut self, operation: &Operation) -> Result<(), Broken> {
        let messages = operation.publish.iter().flat_map(|it| &it.messages);
        for record in messages {
            let message = delivery(record.clone())?;
            let Some(channel) = self.channel(&message.channel, operation.channel_id) else {
                continue;
            };
            if message.sequence <= channel.last {
                if channel.is_stored && channel.added.is_empty() {
                    channel.in_both = Some((message.sequence, message.published_at));
                }
                continue;
            }
            if channel.first == 0 {
                channel.first = message.sequence;
            }
            channel.last = message.sequence;
            channel.added.push((message.sequence, record.clone()));
        }
        Ok(())
    }

    fn connect(&mut self, connect: Connect) -> Result<(), Broken> {
        let Some(request) = connect.request else {
            return Ok(());
        };
        if connect.replaces {
            self.disconnect(&request.id);
        }
        if self.clients.contains_key(&request.id) {
            return Ok(());
        }
        let client = Client::new(
            &request.id,
            &request.heartbeat_inbox,
            request.connection_id,
            [
                request.protocol,
                request.ping_interval,
                request.ping_max_out,
            ],
        )?;
        self.clients.insert(request.id, client);
        Ok(())
    }

    fn disconnect(&mut self, client: &str) {
        if self.clients.remove(client).is_none() {
            return;
        }
        for channel in self.channels.values_mut() {
            let members = channel.subscriptions.iter();
            let own = members.filter(|(_, it)| it.is_online && it.state.client_id == client);
            let own: Vec<u64> = own.map(|(&id, _)| id).collect();
            for id in own {
                channel.left(id, false);
            }
        }
    }

    fn subscribe(&mut self, subscribe: &Subscribe, channel_id: u64) {
        let Some(request) = &subscribe.request else {
            return;
        };
        if !self.clients.contains_key(&request.client_id) {
            return;
        }
        if let Some(channel) = self.channel(&request.channel, channel_id) {
            channel.subscribe(request, subscribe);
        }
    }

    fn leave(&mut self, leave: &Leave, removes: bool) {
        let Some(channel) = self.channels.get_mut(&leave.channel) else {
            return;
        };
        let used = || channel.subscriptions.iter().filter(|(_, it)| it.is_online);
        let by_acks = used().find(|(_, it)| it.state.ack_inbox == leave.inbox);
        let found = by_acks.or_else(|| used().find(|(_, it)| it.state.inbox == leave.inbox));
        let own = found.filter(|(_, it)| it.state.client_id == leave.client_id);
        if let Some((&id, _)) = own {
            channel.left(id, removes);
        }
    }

    fn progress(&mut self, record: &SentAndAcked) -> Result<(), Broken> {
        let Some(channel) = self.channel(&record.channel, 0) else {
            return Ok(());
        };
        let mut members = channel.subscriptions.values_mut();
        let found = members.find(|it| it.is_online && it.state.ack_inbox == record.ack_inbox);
        let Some(member) = found else {
            return Ok(());
        };
        // Checks each sequence as it is read.
        let mut sent = Pending::default();
        for &sequence in &record.sent {
            sent.sent(sequence)?;
        }
        member.state.last_sent = member.state.last_sent.max(sent.last_sent);
        member.pending.extend(sent.sequences);
        for sequence in &record.acked {
            member.pending.remove(sequence);
        }
        if !member.state.queue.is_empty() {
            let group = channel.groups.entry(member.state.queue.clone());
            let group = group.or_default();
            *group = sent.last_sent.max(*group);
        }
        Ok(())
    }

    pub fn clients(&self) -> Vec<Client> {
        self.clients.values().cloned().collect()
    }
}

/// One of them may not be known.
pub fn is_same(one: u64, other: u64) -> bool {
    one == 0 || other == 0 || one == other
}

impl Channel {
    fn note_number(&mut self, id: u64) {
        self.next_subscription = self.next_subscription.max(id + 1);
    }

    fn subscribe(&mut self, request: &Request, subscribe: &Subscribe) {
        let is_durable = !request.durable.is_empty();
        let (queue, durable) = match (request.queue.is_empty(), is_durable) {
            (false, true) if request.durable.contains(SEPARATOR) => return,
            (false, true) => (
                format!("{}{SEPARATOR}{}", request.durable, request.queue),
                String::new(),
            ),
            _ => (request.queue.clone(), request.durable.clone()),
        };
        let returns = self.subscriptions.values_mut().find(|it| {
            if queue.is_empty() {
                is_durable
                    && it.state.queue.is_empty()
                    && it.state.durable == durable
                    && it.state.client_id == request.client_id
            } else {
                is_durable && it.state.queue == queue && it.state.client_id.is_empty()
            }
        });
        if let Some(member) = returns {
            // Somebody has it already.
            if member.is_online {
                return;
            }
            member.is_online = true;
            member.state.is_closed = false;
            member.state.client_id.clone_from(&request.client_id);
            member.state.inbox.clone_from(&request.inbox);
            member.state.ack_inbox.clone_from(&subscribe.ack_inbox);
            member.state.max_in_flight = request.max_in_flight;
            member.state.ack_wait_seconds = request.ack_wait_seconds;
            return;
        }
        let id = match subscribe.id {
            0 => self.next_subscription,
            id => id,
        };
        self.note_number(id);
        let start = request.start_sequence.saturating_sub(1);
        let start = start.max(self.first.saturating_sub(1)).min(self.last);
        let last_sent = if queue.is_empty() {
            start
        } else if self.groups.contains_key(&queue) {
            0
        } else {
            self.groups.insert(queue.clone(), start);
            start
        };
        let state = SubscriptionState {
            id,
            client_id: request.client_id.clone(),
            queue,
            inbox: request.inbox.clone(),
            ack_inbox: subscribe.ack_inbox.clone(),
            max_in_flight: request.max_in_flight,
            ack_wait_seconds: request.ack_wait_seconds,
            durable,
            last_sent,
            is_durable,
            is_closed: false,
        };
        let member = Member {
            state,
            pending: BTreeSet::new(),
            is_online: true,
        };
        self.subscriptions.insert(id, member);
    }

    /// Its client has closed or removed it, or has gone.
    fn left(&mut self, id: u64, removes: bool) {
        let Some(mut member) = self.subscriptions.remove(&id) else {
            return;
        };
        member.is_online = false;
        let queue = member.state.queue.clone();
        if queue.is_empty() {
            if member.state.is_durable && !removes {
                member.state.is_closed = true;
                self.subscriptions.insert(id, member);
            }
            return;
        }
        if self
            .subscriptions
            .values()
            .any(|it| it.state.queue == queue)
        {
            return;
        }
        if !member.state.is_durable || removes {
            self.groups.remove(&queue);
            return;
        }
        // The last one stands for the group.
        member.state.client_id.clear();
        member.state.last_sent = self.groups.get(&queue).copied().unwrap_or_default();
        self.subscriptions.insert(id, member);
    }

    /// As the file store would have them.
    pub fn subscriptions(&self, channel: ChannelId) -> Result<Vec<Subscription>, Broken> {
        let members = self.subscriptions.values();
        members
            .map(|member| {
                let group = self.groups.get(&member.state.queue).copied();
                let last_sent = group.unwrap_or_default().max(member.state.last_sent);
                let id = SubscriptionId(member.state.id);
                let record = member.state.encode_to_vec();
                let mut subscription = Subscription::decode(channel, id, last_sent, &record)?;
                subscription.pending.sequences.clone_from(&member.pending);
                Ok(subscription)
            })
            .collect()
    }
}
