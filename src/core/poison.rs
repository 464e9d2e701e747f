//! Messages that are delivered again and again: how often, over takeovers, too, and what becomes of those that were
//! delivered as often as a policy allows. Groups without a policy have nothing of it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytestring::ByteString;

use super::broker::Broker;
use super::group::Due;
use super::ids::{ChannelName, DurableName, Guid, PositionId, QueueName, Sequence};
use super::load::LoadQuery;
use super::loads::Purpose;
use super::message::Message;
use super::notice::Notice;
use super::policy::{Count, DeadLetter, Poison, Policies, Policy};
use super::rejection::Rejection;

/// A dead letter that could not be written is tried again after this, and what a subscription waits for is looked for.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Dead-letter channels that one message goes through, one after the other.
const HOPS_MAX: u32 = 8;

/// GUIDs of dead letters begin with it. Then comes through how many such channels they went, this one included.
const GUID_PREFIX: &str = "dead-letter.";

impl Broker {
    /// Somebody has set a policy, or may have.
    pub(super) fn look_for_policies(&mut self) {
        let is_asked = |purpose: &Purpose| matches!(purpose, Purpose::Policies);
        if !self.loads.waits_for(is_asked) {
            let channel = super::ids::ChannelId(0);
            self.loads
                .ask(channel, LoadQuery::Policies, Purpose::Policies);
        }
    }

    pub(super) fn policies_loaded(&mut self, policies: Vec<Policy>) {
        if policies.is_empty() && self.policies.is_empty() {
            return;
        }
        self.policies = Policies::new(policies);
        let positions: Vec<PositionId> = self.groups.keys().copied().collect();
        for position in positions {
            self.apply_policy(position);
        }
        let channels: Vec<_> = self.channels.iter().map(|(id, _)| id).collect();
        for id in channels {
            if let Some(channel) = self.channels.get_mut(id) {
                channel.full = self.policies.of_channel(&channel.row.name);
            }
            self.enforce_limits(id);
        }
    }

    /// To a group that is new, or whose policy may be another one.
    pub(super) fn apply_policy(&mut self, position: PositionId) {
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let Some(channel) = self.channels.get(group.channel) else {
            return;
        };
        let durable = group.durable_name.as_ref().map(DurableName::as_str);
        let queue_group = group.queue_group.as_ref().map(QueueName::as_str);
        let policy = self.policies.of(&channel.row.name, durable, queue_group);
        let was_marked = group.is_marked();
        let goes_on = group.set_policy(policy);
        if was_marked && !group.is_marked() {
            self.note_progress(position);
        }
        if goes_on {
            self.resume_after_poison(position);
        }
    }

    /// As the tables tell.
    pub(super) fn restore_policies(&mut self, counts: BTreeMap<(PositionId, Sequence), Count>) {
        if !self.policies.is_empty() {
            let positions: Vec<PositionId> = self.groups.keys().copied().collect();
            for position in positions {
                self.apply_policy(position);
            }
        }
        let (mut given_up, mut spared) = (Vec::new(), Vec::new());
        for ((position, sequence), count) in counts {
            let Some(group) = self.groups.get_mut(&position) else {
                continue;
            };
            // Without a policy nothing counts any more, and the row goes.
            let attempts = group.attempts.get_or_insert_default();
            attempts.stored.insert(sequence);
            let entry = group.in_flight.get_mut(&sequence);
            let entry = entry.filter(|_| attempts.policy.max.is_some());
            let is_over = entry.is_some() && attempts.policy.is_over(count.deliveries);
            if let Some(entry) = entry {
                entry.deliveries = count.deliveries;
                if !count.reason.is_empty() {
                    attempts.reasons.insert(sequence, count.reason);
                }
            } else {
                attempts.changed.insert(sequence);
            }
            let poison = &attempts.policy.poison;
            let origin = self.channels.get(group.channel);
            let waits = origin.is_some_and(|it| is_awaited(poison, &it.row.name, None));
            if is_over && count.is_given_up && matches!(poison, Poison::DeadLetter { .. }) {
                attempts.given_up.insert(sequence);
                given_up.push((position, sequence));
            } else if is_over && count.is_awaited && waits {
                attempts.paused_by = Some(sequence);
            } else if count.is_given_up || count.is_awaited {
                // The policy is another one since, the message is settled, or it is not known yet why it was waited for.
                attempts.changed.insert(sequence);
                if is_over {
                    // Its last wait was over in an earlier term.
                    group.set_due(sequence, Due::At(self.now.monotonic));
                }
                spared.push(position);
            }
        }
        for (position, sequence) in given_up {
            self.go_on_giving_up(position, sequence);
        }
        for position in spared {
            self.note_progress(position);
        }
    }

    /// The group was paused, and is not any more.
    pub(super) fn resume_after_poison(&mut self, position: PositionId) {
        self.arm_redelivery(position, self.now.monotonic);
        self.deliver(position);
    }

    /// A consumer does not want the message now. Nothing follows where it is not in flight. One that its group waits for
    /// is tried as if it had never been delivered.
    pub(super) fn redeliver_after(
        &mut self,
        position: PositionId,
        sequence: Sequence,
        after: Duration,
        reason: &ByteString,
    ) {
        let at = self.now.monotonic + after;
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let was_paused = group.is_paused();
        let Some(entry) = group.in_flight.get_mut(&sequence) else {
            return;
        };
        if let Some(attempts) = &mut group.attempts {
            if attempts.paused_by == Some(sequence) {
                entry.deliveries = 0;
            }
            attempts.refused(sequence, reason.clone());
        }
        let goes_on = was_paused && !group.is_paused();
        group.set_due(sequence, Due::At(at));
        self.arm_redelivery(position, at);
        self.note_progress(position);
        if goes_on {
            self.resume_after_poison(position);
        }
    }

    /// The group is paused. What it waits for may be gone: dropped by a limit, or deleted.
    pub(super) fn look_for_poison(&mut self, position: PositionId) {
        let Some(group) = self.groups.get(&position) else {
            return;
        };
        let Some(sequence) = group
            .attempts
            .as_ref()
            .and_then(|attempts| attempts.paused_by)
        else {
            return;
        };
        let channel = self.channels.get(group.channel);
        let is_gone = channel.is_none_or(|channel| {
            sequence < channel.row.first_sequence || channel.gone.contains(sequence)
        });
        if is_gone {
            self.settle(position, sequence);
            self.note_progress(position);
        } else {
            self.arm_redelivery(position, self.now.monotonic + RETRY_AFTER);
        }
    }

    /// True when it may not be delivered again: what the policy wants has happened.
    pub(super) fn is_poison(&mut self, position: PositionId, message: &Message) -> bool {
        let sequence = message.sequence;
        let Some(group) = self.groups.get_mut(&position) else {
            return false;
        };
        let (Some(attempts), Some(entry)) = (&mut group.attempts, group.in_flight.get(&sequence))
        else {
            return false;
        };
        if !attempts.policy.is_over(entry.deliveries) {
            return false;
        }
        let Some(channel) = self.channels.get(group.channel) else {
            return false;
        };
        let origin = channel.row.name.clone();
        let letter = DeadLetter {
            origin,
            position,
            sequence,
            durable: group.durable_name.as_ref().map(|name| name.as_str().into()),
            queue_group: group.queue_group.as_ref().map(|name| name.as_str().into()),
            deliveries: entry.deliveries,
            reason: attempts.reasons.get(&sequence).cloned().unwrap_or_default(),
            reply: message.reply.clone(),
        };
        if self.withheld.withholds(position) {
            // What passes over it would not be stored.
            let at = self.now.monotonic + RETRY_AFTER;
            group.set_due(sequence, Due::At(at));
            self.arm_redelivery(position, at);
            return true;
        }
        let fate = if is_awaited(&attempts.policy.poison, &letter.origin, Some(&message.guid)) {
            Poison::Pause
        } else {
            attempts.policy.poison.clone()
        };
        match fate {
            Poison::Pause => {
                attempts.paused_by = Some(sequence);
                // For those who look, and for the next term.
                attempts.changed.insert(sequence);
                self.put_back(position, vec![sequence]);
                self.note_progress(position);
                self.arm_redelivery(position, self.now.monotonic + RETRY_AFTER);
                self.notices
                    .push_back(Notice::Poison(letter, "the subscription waits"));
            }
            Poison::PassOver => {
                self.pass_over_poison(position, sequence);
                self.notices
                    .push_back(Notice::Poison(letter, "it is passed over"));
            }
            Poison::DeadLetter { .. } if !self.may_give_up(position, sequence) => {
                let at = self.now.monotonic + RETRY_AFTER;
                if let Some(group) = self.groups.get_mut(&position) {
                    group.set_due(sequence, Due::At(at));
                }
                self.arm_redelivery(position, at);
            }
            Poison::DeadLetter { channel, header } => {
                match self.write_dead_letter(&letter, message, &channel, header) {
                    Ok(()) => {
                        self.pass_over_poison(position, sequence);
                        self.traffic.dead_letters += 1;
                        self.notices
                            .push_back(Notice::Poison(letter, "it is a dead letter now"));
                    }
                    Err(rejection) => {
                        let at = self.now.monotonic + RETRY_AFTER;
                        if let Some(group) = self.groups.get_mut(&position) {
                            group.set_due(sequence, Due::At(at));
                        }
                        self.arm_redelivery(position, at);
                        self.notices
                            .push_back(Notice::DeadLetterRefused(channel, rejection));
                    }
                }
            }
        }
        true
    }

    fn pass_over_poison(&mut self, position: PositionId, sequence: Sequence) {
        self.settle(position, sequence);
        self.note_progress(position);
        self.traffic.poison_messages += 1;
    }

    /// In the batch that also passes over the message.
    fn write_dead_letter(
        &mut self,
        letter: &DeadLetter,
        message: &Message,
        channel: &ChannelName,
        header: bool,
    ) -> Result<(), Rejection> {
        let partition = self.settings.partition.as_ref();
        if partition.is_some_and(|partition| !partition.contains(channel)) {
            return Err(Rejection::InvalidChannel);
        }
        let hops = hops_of(&message.guid) + 1;
        let guid = format!(
            "{GUID_PREFIX}{hops}.{}.{}",
            letter.position, letter.sequence
        );
        let guid = Guid::parse(guid.into()).ok_or(Rejection::InvalidPublish)?;
        let reply = self.reply_of(letter, message, channel, header)?;
        let (client, data) = (message.client_id.clone(), message.data.clone());
        let id = self.append_message(channel, client, guid, reply, data)?;
        let written = self
            .channels
            .get(id)
            .map(|channel| channel.row.last_sequence);
        let written = written.unwrap_or_default();
        self.commits.add_dead_letter(id, written, letter.clone());
        self.enforce_limits(id);
        Ok(())
    }

    /// The message fits into what NATS delivers, and a header may make it too large: then it goes without the reason, or without
    /// the header. Both stand in the row of the dead letter, too. One that fits in no way stays where it is.
    fn reply_of(
        &self,
        letter: &DeadLetter,
        message: &Message,
        channel: &ChannelName,
        header: bool,
    ) -> Result<ByteString, Rejection> {
        let reason = letter.reason.replace(['\r', '\n'], " ");
        let header_with = |reason: &str| -> ByteString {
            let DeadLetter {
                origin,
                sequence,
                deliveries,
                ..
            } = letter;
            format!("dead-letter channel={origin} sequence={sequence} deliveries={deliveries} reason={reason}").into()
        };
        let headers = header.then(|| [header_with(&reason), header_with("")]);
        let plain = [message.reply.clone(), ByteString::new()];
        let mut too_large = None;
        for reply in headers.into_iter().flatten().chain(plain) {
            match self.fits_once_stored(channel, &reply, message.data.len()) {
                Ok(()) => return Ok(reply),
                Err(why) => too_large = Some(why),
            }
        }
        let why = too_large.map(|why| why.to_string()).unwrap_or_default();
        Err(Rejection::NotStored(why.into()))
    }
}

/// Its subscription waits for it: that is what the policy says, or as a dead letter it would go round for ever. A term begins
/// without `guid`, because no takeover may depend on a read of messages, which may be damaged: of those that went through
/// too many channels it finds that out again after their ack wait.
fn is_awaited(poison: &Poison, origin: &ChannelName, guid: Option<&Guid>) -> bool {
    match poison {
        Poison::PassOver => false,
        Poison::Pause => true,
        Poison::DeadLetter { channel, .. } => {
            channel == origin || guid.is_some_and(|guid| hops_of(guid) >= HOPS_MAX)
        }
    }
}

/// Through how many dead-letter channels the message went.
fn hops_of(guid: &Guid) -> u32 {
    let rest = guid.as_str().strip_prefix(GUID_PREFIX);
    let hops = rest.and_then(|rest| rest.split('.').next());
    hops.and_then(|hops| hops.parse().ok()).unwrap_or_default()
}
