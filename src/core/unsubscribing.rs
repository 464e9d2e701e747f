//! Subscriptions are closed, forgotten, and end with their client.

use bytestring::ByteString;

use super::broker::Broker;
use super::ids::{ChannelId, PositionId, Subject, SubscriptionId};
use super::outbound::Reply;
use super::rejection::Rejection;
use super::request::{Durables, Leave};

impl Broker {
    pub(super) fn leave(&mut self, request: &Leave, durables: Durables, reply: Option<Subject>) {
        let answer = match self.try_leave(request, durables) {
            Ok(()) => Reply::Left,
            Err(rejection) => Reply::LeaveRefused(rejection),
        };
        self.answer(reply, answer);
    }

    fn try_leave(&mut self, request: &Leave, durables: Durables) -> Result<(), Rejection> {
        let channel = self
            .channels
            .find(request.channel.as_str())
            .ok_or(Rejection::UnknownChannel)?;
        let (position, id) = self
            .find_subscription(channel, &request.inbox)
            .ok_or(Rejection::UnknownSubscription)?;
        let owner = &self.groups[&position].members[&id].client_id;
        if owner.as_str() != &*request.client_id {
            return Err(Rejection::UnknownClient);
        }
        self.remove_subscription(position, id, durables);
        Ok(())
    }

    /// The channel is there, and it is not.
    pub(super) fn lacks_subscription(&self, request: &Leave) -> bool {
        let channel = self.channels.find(request.channel.as_str());
        channel.is_some_and(|channel| self.find_subscription(channel, &request.inbox).is_none())
    }

    /// The online subscription of the channel with this ack inbox or, failing that, delivery inbox.
    fn find_subscription(
        &self,
        channel: ChannelId,
        inbox: &ByteString,
    ) -> Option<(PositionId, SubscriptionId)> {
        if let Some(&(position, id)) = self.ack_inboxes.get(inbox)
            && self
                .groups
                .get(&position)
                .is_some_and(|group| group.channel == channel)
        {
            return Some((position, id));
        }
        let inbox = Subject::parse(inbox.clone())?;
        self.channels.get(channel)?.at_inbox(&inbox).next()
    }

    /// Ends a subscription with its client; a durable stays.
    pub(super) fn close_subscription(&mut self, position: PositionId, id: SubscriptionId) {
        self.remove_subscription(position, id, Durables::Keep);
    }

    pub(super) fn remove_subscription(
        &mut self,
        position: PositionId,
        id: SubscriptionId,
        durables: Durables,
    ) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        group.park(id, now.monotonic);
        self.commits.deliveries.forget(id);
        let member = group.members.get_mut(&id).expect("it has not left yet");
        let channel = group.channel;
        self.orphans.remove(&(position, id));
        self.ack_inboxes.remove(member.ack_inbox.as_str());
        if let Some(channel) = self.channels.get_mut(channel) {
            channel
                .inboxes
                .remove(&(member.inbox.clone(), position, id));
        }
        if let Some(client) = self.clients.get_mut(&member.client_id) {
            client.subscriptions.remove(&(position, id));
        }
        let keep = durables == Durables::Keep && group.durable_name.is_some();
        if keep && group.queue_group.is_none() {
            member.online = false;
            member.started = false;
            self.commits.forget_start(id);
            member.since = now.wall;
            self.commits
                .put_subscription(id, Some(member.row(position)));
        } else {
            let before = group.registered_bytes_of(id);
            group.last_member = group.members.remove(&id).filter(|_| keep).map(Box::new);
            self.usage.subscriptions_bytes -= before - group.registered_bytes_of(id);
            self.commits.put_subscription(id, None);
        }
        if group.is_online() {
            self.commits.wake_after_commit(position);
        } else if !keep {
            self.remove_group(position);
        }
        self.drop_page_of_idle(position);
        self.note_activity(channel);
    }

    fn drop_page_of_idle(&mut self, position: PositionId) {
        if self
            .groups
            .get(&position)
            .is_some_and(|group| !group.is_online())
        {
            self.drop_page(position);
            self.drop_fetched(position);
        }
    }

    pub(super) fn remove_group(&mut self, position: PositionId) {
        self.drop_page(position);
        self.drop_fetched(position);
        self.deadlines
            .clear(&super::deadlines::Timer::Redelivery(position));
        let Some(group) = self.groups.remove(&position) else {
            return;
        };
        if group.paused {
            self.commits.put_paused(position, false);
        }
        self.group_is_gone(&group);
        self.commits.put_position(position, None);
        if let Some(channel) = self.channels.get_mut(group.channel) {
            channel.groups.remove(&position);
            // Plain subscriptions have no key, and a channel may have thousands of those.
            if group.is_durable() || group.is_queue() {
                channel.keyed.retain(|_, keyed| *keyed != position);
            }
        }
    }
}
