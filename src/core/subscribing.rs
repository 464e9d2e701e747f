//! Subscriptions begin and resume.

use super::batch::{PositionRow, Progress, SubscriptionRow};
use super::broker::Broker;
use super::channels::GroupKey;
use super::group::Group;
use super::ids::{ChannelId, PositionId, Sequence, Subject, SubscriptionId};
use super::load::LoadQuery;
use super::loads::{PendingStart, Purpose};
use super::members::Member;
use super::memory_size;
use super::no_responders::Answer;
use super::outbound::Reply;
use super::rejection::Rejection;
use super::request::Subscribe;
use super::start_position::Start;

impl Broker {
    pub(super) fn subscribe(&mut self, request: Subscribe, reply: Option<Subject>) {
        if let Err(rejection) = self.try_subscribe(request, reply.clone()) {
            self.answer(reply, Reply::SubscribeRefused(rejection));
        }
    }

    fn try_subscribe(
        &mut self,
        request: Subscribe,
        reply: Option<Subject>,
    ) -> Result<(), Rejection> {
        let client = self.clients.get(request.client_id.as_str());
        let client = client.ok_or(Rejection::UnknownClient)?;
        let heartbeat_inbox = client.row.heartbeat_inbox.clone();
        let channel = self.find_or_create_channel(&request.channel)?;
        let key = group_key(&request)?;
        if let Some((position, id)) = self.find_same(channel, &request) {
            self.answer_again(position, id, reply);
            return Ok(());
        }
        let existing = key
            .as_ref()
            .and_then(|key| self.channels.get(channel)?.keyed.get(key));
        match existing.copied() {
            Some(position) => self.join(channel, position, &request, reply),
            None => self.begin(channel, key, request, reply, heartbeat_inbox),
        }
    }

    /// The very subscription that is asked for: the answer to an earlier request got lost. A client draws a new inbox at
    /// random for each subscription.
    fn find_same(
        &self,
        channel: ChannelId,
        request: &Subscribe,
    ) -> Option<(PositionId, SubscriptionId)> {
        let client = self.clients.get(request.client_id.as_str())?;
        let channel = self.channels.get(channel)?;
        channel.at_inbox(&request.inbox).find(|(position, id)| {
            client.subscriptions.contains(&(*position, *id))
                && self.groups.get(position).is_some_and(|group| {
                    group.durable_name == request.durable_name
                        && group.queue_group == request.queue_group
                })
        })
    }

    fn answer_again(&mut self, position: PositionId, id: SubscriptionId, reply: Option<Subject>) {
        let (received_at, now) = (self.received_at, self.now.monotonic);
        let group = self.groups.get_mut(&position);
        let Some(member) = group.and_then(|group| group.members.get_mut(&id)) else {
            return;
        };
        let ack_inbox = member.ack_inbox.clone();
        member.answer = Answer::to_request_of(received_at);
        if member.started {
            member.answer.left(now);
        }
        self.answer(reply, Reply::Subscribed { ack_inbox });
    }

    /// Resumes a durable or joins a queue group: its position goes on, the start position is ignored.
    fn join(
        &mut self,
        channel: ChannelId,
        position: PositionId,
        request: &Subscribe,
        reply: Option<Subject>,
    ) -> Result<(), Rejection> {
        let now = self.now.monotonic;
        self.free_durable(position, request)?;
        let group = self.groups.get_mut(&position).expect("keyed groups exist");
        let wakes = !group.is_online();
        // A plain durable keeps its record; a queue member gets one of its own.
        let resumed = if group.is_queue() {
            None
        } else {
            group.members.keys().next().copied()
        };
        if resumed.is_none() && !group.members.is_empty() {
            self.ensure_subscription_slot(channel)?;
        }
        let group = self.groups.get_mut(&position).expect("keyed groups exist");
        if wakes {
            // What was in flight goes first, at once, in order.
            group.replaying = !group.in_flight.is_empty();
            group.make_all_due(now);
        }
        let id = resumed.unwrap_or_else(|| self.next_subscription_id());
        self.attach(position, id, request, reply);
        Ok(())
    }

    /// A plain durable has one subscription at a time: the request ends the one before, or is refused. One that its client
    /// has given up before it was answered is no reason to refuse what the client asks for again.
    fn free_durable(&mut self, position: PositionId, request: &Subscribe) -> Result<(), Rejection> {
        let group = &self.groups[&position];
        if group.is_queue() || !group.is_online() {
            return Ok(());
        }
        let mut members = group.members.iter();
        let was_given_up = members.all(|(&id, member)| {
            self.orphans.contains(&(position, id))
                || member.inbox != request.inbox && member.answer.was_late(self.received_at)
        });
        if !self.settings.replace_durables && !was_given_up {
            return Err(Rejection::DuplicateDurable);
        }
        if let Some(&id) = group.members.keys().next() {
            self.close_subscription(position, id);
        }
        Ok(())
    }

    fn begin(
        &mut self,
        channel: ChannelId,
        key: Option<GroupKey>,
        request: Subscribe,
        reply: Option<Subject>,
        heartbeat_inbox: Subject,
    ) -> Result<(), Rejection> {
        let last_sent = match self.start(channel, request.start) {
            Start::After(sequence) => sequence,
            Start::Since(time) => {
                let committed = self.channels.get(channel).map(|channel| channel.committed);
                let start = PendingStart {
                    request,
                    reply,
                    received_at: self.received_at,
                    heartbeat_inbox,
                    committed: committed.unwrap_or_default(),
                };
                let purpose = Purpose::Start(Box::new(start));
                self.loads
                    .ask(channel, LoadQuery::FirstSince(time), purpose);
                return Ok(());
            }
        };
        self.ensure_subscription_slot(channel)?;
        let position = PositionId(self.next_subscription_id().0);
        let id = self.next_subscription_id();
        let row = PositionRow {
            channel,
            durable_name: request.durable_name.clone(),
            queue_group: request.queue_group.clone(),
            progress: Progress {
                last_sent,
                acked_floor: last_sent,
                ..Progress::default()
            },
        };
        self.commits.put_position(position, Some(row.clone()));
        let group = Group::new(row);
        self.usage.subscriptions_bytes += group.registered_bytes();
        self.groups.insert(position, group);
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.groups.insert(position);
            // It may begin anywhere.
            channel.acked_by_all = Sequence::ZERO;
            channel.keyed.extend(key.map(|key| (key, position)));
        }
        if !self.policies.is_empty() {
            self.apply_policy(position);
        }
        self.attach(position, id, &request, reply);
        Ok(())
    }

    /// Makes the requester a member; messages follow once that is committed and answered.
    fn attach(
        &mut self,
        position: PositionId,
        id: SubscriptionId,
        request: &Subscribe,
        reply: Option<Subject>,
    ) {
        let ack_inbox = self.ack_inbox(id, request.ack_token);
        let most = self.settings.limits.in_flight.unwrap_or(u32::MAX);
        let row = SubscriptionRow {
            position,
            client_id: request.client_id.clone(),
            inbox: request.inbox.clone(),
            ack_inbox: ack_inbox.clone(),
            max_in_flight: request.max_in_flight.min(most),
            ack_wait: request.ack_wait,
            online: true,
            since: self.now.wall,
        };
        if let Some(client) = self.clients.get_mut(&request.client_id) {
            client.subscriptions.insert((position, id));
        }
        if let Some(group) = self.groups.get_mut(&position) {
            if let Some(channel) = self.channels.get_mut(group.channel) {
                channel
                    .inboxes
                    .insert((request.inbox.clone(), position, id));
            }
            let mut member = Member::from_row(row.clone(), false);
            member.answer = Answer::to_request_of(self.received_at);
            self.usage.subscriptions_bytes += memory_size::member(&member);
            if let Some(before) = group.members.insert(id, member) {
                self.usage.subscriptions_bytes -= memory_size::member(&before);
            }
        }
        self.ack_inboxes.insert(ack_inbox.to_text(), (position, id));
        self.commits.put_subscription(id, Some(row));
        self.commits.start_after_commit(position, id);
        self.answer(reply, Reply::Subscribed { ack_inbox });
    }

    /// The subscription's response has been released: messages may follow it.
    pub(super) fn started(&mut self, position: PositionId, id: SubscriptionId) {
        let now = self.now.monotonic;
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let Some(member) = group.members.get_mut(&id) else {
            return;
        };
        member.started = true;
        member.answer.left(now);
        if group.in_flight.is_empty() {
            group.replaying = false;
            self.deliver(position);
        } else {
            self.arm_redelivery(position, now);
            self.deliver(position);
        }
    }

    fn ack_inbox(&self, id: SubscriptionId, token: u128) -> Subject {
        let prefix = &self.settings.ack_prefix;
        let mut text = format!("{prefix}.{token:032x}");
        if self.ack_inboxes.contains_key(text.as_str()) {
            // No two requests that differ have one token, but for chance.
            text = format!("{prefix}.{id}.{token:032x}");
        }
        Subject::parse(text.into()).expect("the prefix is a subject, the rest are digits")
    }

    fn next_subscription_id(&mut self) -> SubscriptionId {
        self.counters.subscription += 1;
        self.commits.put_counters(self.counters);
        SubscriptionId(self.counters.subscription)
    }

    fn ensure_subscription_slot(&self, id: ChannelId) -> Result<(), Rejection> {
        if !self.has_room_for_names_of_subscriptions() {
            return Err(Rejection::TooManySubscriptions);
        }
        let Some(channel) = self.channels.get(id) else {
            return Ok(());
        };
        let Some(max) = channel.limits.subscriptions else {
            return Ok(());
        };
        let records = |position| self.groups.get(position).map_or(0, Group::subscriptions);
        let count: usize = channel.groups.iter().map(records).sum();
        if count < max {
            Ok(())
        } else {
            Err(Rejection::TooManySubscriptions)
        }
    }
}

/// The key under which a request finds an existing position; plain subscriptions have none.
fn group_key(request: &Subscribe) -> Result<Option<GroupKey>, Rejection> {
    Ok(
        match (request.queue_group.clone(), request.durable_name.clone()) {
            (None, None) => None,
            (None, Some(durable)) => Some(GroupKey::Durable(request.client_id.clone(), durable)),
            (Some(queue), None) => Some(GroupKey::Queue(queue)),
            (Some(_), Some(durable)) if durable.as_str().contains(':') => {
                return Err(Rejection::InvalidDurableName);
            }
            (Some(queue), Some(durable)) => Some(GroupKey::DurableQueue(queue, durable)),
        },
    )
}
