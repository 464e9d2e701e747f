//! What is true of a broker between two calls, whatever has happened to it. Nothing here decides anything: it is
//! for whoever feeds the core hostile input and wants to know at once what that has broken.

use super::broker::Broker;
use super::channels::Channel;
use super::deadlines::Timer;
use super::group::Group;
use super::ids::{ChannelId, PositionId};
use super::loads::Purpose;
use super::memory_size;

impl Broker {
    /// The facts that do not hold, a sentence each; none unless there is a mistake in the core. Looks at all of
    /// the state.
    pub fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (&position, group) in &self.groups {
            self.check_group(position, group, &mut found);
            self.check_liveness(position, group, &mut found);
        }
        for (id, channel) in self.channels.iter() {
            self.check_channel(id, channel, &mut found);
        }
        self.check_clients(&mut found);
        self.check_totals(&mut found);
        found
    }

    fn check_group(&self, position: PositionId, group: &Group, found: &mut Vec<String>) {
        let mut claim = |holds: bool, fact: &str| {
            if !holds {
                found.push(format!("position {position}: {fact}"));
            }
        };
        let Some(channel) = self.channels.get(group.channel) else {
            return claim(false, "its channel exists");
        };
        claim(
            channel.groups.contains(&position),
            "its channel knows of it",
        );
        claim(
            group.last_sent <= channel.row.last_sequence,
            "it was sent nothing that does not exist",
        );
        let last = group.in_flight.keys().next_back();
        claim(
            last.is_none_or(|&last| last <= group.last_sent),
            "what is in flight was sent",
        );
        claim(group.is_scheduled(), "what is in flight has its time");
        claim(
            group.is_exact(),
            "what was sent is either in flight or acked",
        );
        claim(
            !group.waiting || self.in_line.contains(&position),
            "who waits for a turn is in line",
        );
        claim(
            !group.held_back || self.usage.held_back.contains(&position),
            "who waits for room is in line for it",
        );
        let mut online = 0;
        for (&id, member) in &group.members {
            let held = group.in_flight.values();
            let held = held.filter(|entry| entry.holder == Some(id)).count();
            claim(
                held == member.in_flight as usize,
                "a member's count is what it holds",
            );
            if !member.online {
                continue;
            }
            online += 1;
            let client = self.clients.get(member.client_id.as_str());
            claim(
                client.is_some_and(|client| client.subscriptions.contains(&(position, id)))
                    != self.orphans.contains(&(position, id)),
                "an online member's client is registered and knows of it, or it is about to be closed",
            );
            claim(
                channel
                    .inboxes
                    .contains(&(member.inbox.clone(), position, id)),
                "an online member is found by its inbox",
            );
            claim(
                self.ack_inboxes.get(member.ack_inbox.as_str()) == Some(&(position, id)),
                "the acks of an online member find it",
            );
        }
        claim(
            group.is_queue() || group.members.len() <= 1,
            "only queue groups have several members",
        );
        claim(
            online > 0 || group.is_durable(),
            "only durables live without clients",
        );
        let holders = group.in_flight.values().filter_map(|entry| entry.holder);
        claim(
            holders
                .into_iter()
                .all(|holder| group.members.contains_key(&holder)),
            "only members hold messages",
        );
    }

    /// A group that could get something is about to.
    fn check_liveness(&self, position: PositionId, group: &Group, found: &mut Vec<String>) {
        let mut claim = |holds: bool, fact: &str| {
            if !holds {
                found.push(format!("position {position}: {fact}"));
            }
        };
        let is_wanted = |wanted: fn(&Purpose, PositionId) -> bool| {
            self.loads
                .purposes()
                .any(|purpose| wanted(purpose, position))
        };
        let page =
            |purpose: &Purpose, position| matches!(purpose, Purpose::Page(p) if *p == position);
        let fetch = |purpose: &Purpose, position| matches!(purpose, Purpose::Redelivery(p) if *p == position);
        claim(
            !group.paging || is_wanted(page),
            "a page that it waits for is asked for",
        );
        claim(
            !group.fetching || is_wanted(fetch),
            "a redelivery that it waits for is asked for",
        );
        if !group.is_listening() {
            return;
        }
        let armed = group.fetching
            || group.redelivering
            || self.deadlines.is_set(&Timer::Redelivery(position));
        claim(
            armed || group.in_flight.is_empty(),
            "what is in flight will be redelivered",
        );
        claim(armed || !group.replaying, "a replay comes to its end");
        claim(
            !group.redelivering || group.waiting,
            "what is due waits for a turn",
        );
        let committed = self.channels.get(group.channel).map(|c| c.committed);
        let picked = group.pick(|client| self.clients.is_responsive(client));
        let waits = Some(group.last_sent) < committed && picked.is_some();
        claim(
            !waits
                || group.paging
                || group.replaying
                || group.waiting
                || group.held_back
                || self.deadlines.is_set(&Timer::Unseen(position)),
            "a member with room is sent what is committed",
        );
    }

    fn check_channel(&self, id: ChannelId, channel: &Channel, found: &mut Vec<String>) {
        let mut claim = |holds: bool, fact: &str| {
            if !holds {
                found.push(format!("channel {id}: {fact}"));
            }
        };
        let row = &channel.row;
        claim(
            self.channels.find(row.name.as_str()) == Some(id),
            "its name leads to it",
        );
        claim(
            channel.committed <= row.last_sequence,
            "what is committed was published",
        );
        claim(
            row.first_sequence <= row.last_sequence.next(),
            "its first message is no later than the next one",
        );
        let span = row.last_sequence.next().0 - row.first_sequence.0;
        claim(
            row.message_count + channel.gone.count() == span,
            "it has a message for each sequence that is not gone",
        );
        claim(
            !channel.gone.contains(row.first_sequence),
            "its first message is not gone",
        );
        claim(
            row.message_count > 0 || row.byte_count == 0,
            "no messages have no bytes",
        );
        claim(
            channel.groups.iter().all(|p| self.groups.contains_key(p)),
            "its groups exist",
        );
        claim(
            channel.keyed.values().all(|p| channel.groups.contains(p)),
            "its keys lead to its groups",
        );
        let expires = channel.limits.age.is_some() && row.message_count > 0;
        let later = channel.reading_oldest.is_some()
            || row.first_sequence > channel.committed
            || self.commits.will_tell_of_trim(id);
        claim(
            !expires || later || self.deadlines.is_set(&Timer::Expiry(id)),
            "its oldest message will expire",
        );
        let mut groups = channel.groups.iter().filter_map(|p| self.groups.get(p));
        let idle = channel.limits.inactivity.is_some() && !groups.any(Group::is_online);
        claim(
            !idle || self.deadlines.is_set(&Timer::Inactivity(id)),
            "its inactivity will be noticed",
        );
    }

    fn check_clients(&self, found: &mut Vec<String>) {
        for (id, client) in self.clients.iter() {
            let mut claim = |holds: bool, fact: &str| {
                if !holds {
                    found.push(format!("client {id}: {fact}"));
                }
            };
            let next = match client.probe {
                Some(probe) => Timer::Probe(probe),
                None => Timer::Heartbeat(id.clone()),
            };
            claim(
                self.deadlines.is_set(&next),
                "its heartbeat is due or under way",
            );
            let known = client.subscriptions.iter().all(|(position, id)| {
                let group = self.groups.get(position);
                group.is_some_and(|group| group.members.contains_key(id))
            });
            claim(known, "its subscriptions exist");
        }
        for probe in self.clients.probes() {
            if !self.deadlines.is_set(&Timer::Probe(probe)) {
                found.push(format!("probe {probe}: it has a deadline"));
            }
        }
        for name in self.pending_clients.names() {
            if !self.deadlines.is_set(&Timer::Unregistered(name.clone())) {
                found.push(format!(
                    "{name:?}: what waits for it does so for a while only"
                ));
            }
        }
        for id in self.clients.unchecked_duplicates() {
            found.push(format!("client {id}: a second connect has its probe"));
        }
    }

    fn check_totals(&self, found: &mut Vec<String>) {
        let mut claim = |holds: bool, fact: &str| {
            if !holds {
                found.push(fact.to_owned());
            }
        };
        let paged = |group: &Group| group.page.bytes + group.fetched_bytes;
        let paged: usize = self.groups.values().map(paged).sum();
        claim(
            paged == self.paged_bytes,
            "the bytes read ahead are those of the pages",
        );
        let members = self
            .groups
            .values()
            .flat_map(|group| group.members.values());
        let online = members.filter(|member| member.online).count();
        claim(
            online == self.ack_inboxes.len(),
            "each online member has one ack inbox",
        );
        let held: usize = self
            .clients
            .iter()
            .map(|(_, client)| client.subscriptions.len())
            .sum();
        claim(
            online == held + self.orphans.len(),
            "clients have the subscriptions that are online",
        );
        let found = self.channels.iter();
        let found: usize = found.map(|(_, channel)| channel.inboxes.len()).sum();
        claim(online == found, "only online members have inboxes");
        let clients = self.clients.iter();
        let clients = clients.map(|(id, client)| memory_size::client(id, Some(&client.row)));
        let groups = self.groups.values().map(Group::registered_bytes);
        claim(
            clients.sum::<usize>() == self.usage.clients_bytes
                && groups.sum::<usize>() == self.usage.subscriptions_bytes,
            "what clients and subscriptions take up is the sum of what each does",
        );
        let in_flight = self.groups.values().map(|group| group.in_flight.len());
        let early_acks = self.groups.values().map(Group::early_acks);
        claim(
            in_flight.sum::<usize>() == self.usage.in_flight
                && early_acks.sum::<usize>() == self.usage.early_acks,
            "what all groups hold is the sum of what each holds",
        );
        claim(
            self.usage.held_back.is_empty()
                || self.usage.in_flight >= self.settings.limits.in_flight_in_all
                || !self.in_line.is_empty(),
            "room is not left unused while groups wait for it",
        );
        claim(
            self.orphans.is_empty()
                || self.deadlines.is_set(&Timer::Orphans)
                || self.commits.subscriptions() > 0,
            "subscriptions of clients that have gone will be closed",
        );
        claim(
            self.commits.is_consistent(),
            "the bytes that wait to be sent are those of what waits",
        );
        claim(
            self.tail.is_consistent(),
            "the tail's bytes and order are those of its messages",
        );
        claim(
            self.deadlines.is_set(&Timer::Progress) || !self.commits.is_progress_forgotten(),
            "progress that waits for a batch gets one",
        );
        claim(
            self.deadlines.is_set(&Timer::LoadRetry) || !self.loads.has_failed(),
            "a failed read is tried again",
        );
        claim(
            self.purging
                .keys()
                .all(|id| self.channels.get(*id).is_none()),
            "a channel that is being purged is gone",
        );
    }
}
