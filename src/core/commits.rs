//! Group commit: what is gathered for the next batch, what the batch on its way will release, and what may
//! leave now. Nothing that a batch justifies gets into `ready` before that batch is committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::admin::{RequestChange, RequestId};
use super::batch::{
    Batch, ChannelRow, ClientRow, Counters, Deleted, DroppedUnacked, Heartbeat, LostRange,
    PositionRow, SubscriptionRow, Trim,
};
use super::channel_limits::Overrides;
use super::cost;
use super::gone::Reason;
use super::ids::{
    BatchNumber, ChannelId, ChannelName, ClientId, Guid, PositionId, Sequence, SubscriptionId,
};
use super::message::Message;
use super::outbound::Outbound;
use super::outbox::OutboxId;
use super::policy::DeadLetter;
use super::sql_acks::AckId;

/// A delivery that waits to leave.
#[derive(Clone, Debug)]
struct Delivery {
    to: SubscriptionId,
    of: PositionId,
    /// What it costs.
    bytes: usize,
    outbound: Outbound,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Commits {
    last_number: BatchNumber,
    /// Rows of `touched` channels and of `moved` positions are added when it leaves.
    gathering: Batch,
    gathering_bytes: usize,
    gathered: Release,
    committing: Option<Release>,
    /// Answers and probes that may leave.
    ready: VecDeque<Outbound>,
    /// Bytes of all answers and probes, those that wait for a commit included.
    answers_bytes: usize,
    deliveries: VecDeque<Delivery>,
    /// Messages of some of them may have been acked or dropped since.
    settled_meanwhile: bool,
    deliveries_bytes: usize,
    /// Channels whose row changed, to be written as it is when the batch leaves.
    touched: BTreeSet<ChannelId>,
    /// How far this term has dropped messages.
    trimmed: BTreeMap<ChannelId, Sequence>,
    /// Positions whose progress changed.
    moved: BTreeSet<PositionId>,
    progress_due: bool,
}

/// What becomes true with a commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Release {
    pub(super) number: BatchNumber,
    pub(super) outbound: Vec<Outbound>,
    /// The last sequence that is committed per channel.
    pub(super) appended: BTreeMap<ChannelId, Sequence>,
    pub(super) started: Vec<(PositionId, SubscriptionId)>,
    /// Groups that a member left: what it held goes to the others.
    pub(super) left: Vec<PositionId>,
    /// Groups that an operator has moved or resumed.
    pub(super) moved: Vec<PositionId>,
    /// Channels that dropped messages, in case more wait.
    pub(super) trimmed: Vec<ChannelId>,
    /// Messages are put back that a failover of Postgres had lost.
    puts_back: bool,
    /// Rows have left the outbox.
    pub(super) changed_outbox: bool,
    /// Requests of operators were taken or answered.
    pub(super) changed_requests: bool,
    /// Messages that acks in SQL come too late for.
    pub(super) given_up: Vec<(PositionId, Sequence)>,
}

impl Commits {
    /// Sends a probe, which no uncommitted write justifies.
    pub(super) fn send(&mut self, outbound: Outbound) {
        self.answers_bytes += cost::outbound(&outbound);
        self.ready.push_back(outbound);
    }

    /// Sends a message of a position to a subscription; returns what it costs until it has left.
    pub(super) fn send_delivery(
        &mut self,
        to: SubscriptionId,
        of: PositionId,
        outbound: Outbound,
    ) -> usize {
        let bytes = cost::outbound(&outbound);
        self.deliveries_bytes += bytes;
        self.deliveries.push_back(Delivery {
            to,
            of,
            bytes,
            outbound,
        });
        bytes
    }

    /// Drops deliveries to a subscription that has ended: its client does not listen any more.
    pub(super) fn forget_deliveries(&mut self, to: SubscriptionId) {
        let mut forgotten = 0;
        self.deliveries.retain(|delivery| {
            let stays = delivery.to != to;
            forgotten += if stays { 0 } else { delivery.bytes };
            stays
        });
        self.deliveries_bytes -= forgotten;
    }

    /// Sends an answer that may rest on anything decided so far.
    pub(super) fn send_after_commit(&mut self, outbound: Outbound) {
        self.answers_bytes += cost::outbound(&outbound);
        if self.is_gathering() {
            self.gathered.outbound.push(outbound);
        } else if let Some(committing) = &mut self.committing {
            committing.outbound.push(outbound);
        } else {
            self.ready.push_back(outbound);
        }
    }

    /// Sends an answer that rests on what a term before has committed; after the commit that puts back what a failover of
    /// Postgres had lost of it.
    pub(super) fn send_now(&mut self, outbound: Outbound) {
        let committing = self.committing.as_ref();
        if self.gathered.puts_back || committing.is_some_and(|release| release.puts_back) {
            return self.send_after_commit(outbound);
        }
        self.answers_bytes += cost::outbound(&outbound);
        self.ready.push_back(outbound);
    }

    pub(super) fn has_outbound(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn poll_answer(&mut self) -> Option<Outbound> {
        let answer = self.ready.pop_front()?;
        self.answers_bytes -= cost::outbound(&answer);
        Some(answer)
    }

    /// A message is in flight no more: a delivery of it that waits is not wanted.
    pub(super) fn settled(&mut self) {
        self.settled_meanwhile = !self.deliveries.is_empty();
    }

    /// With the position that it is of, where its message may have been settled since it was sent.
    pub(super) fn poll_delivery(&mut self) -> Option<(Option<PositionId>, Outbound)> {
        let Some(delivery) = self.deliveries.pop_front() else {
            self.settled_meanwhile = false;
            return None;
        };
        self.deliveries_bytes -= delivery.bytes;
        let of = self.settled_meanwhile.then_some(delivery.of);
        Some((of, delivery.outbound))
    }

    /// Bytes of answers and probes that wait for a commit or to be sent.
    pub(super) fn answers_bytes(&self) -> usize {
        self.answers_bytes
    }

    pub(super) fn deliveries_bytes(&self) -> usize {
        self.deliveries_bytes
    }

    /// What the counts of bytes say is what there is. Looks at all of it.
    pub(super) fn is_consistent(&self) -> bool {
        let gathered = self.gathered.outbound.iter();
        let committing = self.committing.iter().flat_map(|release| &release.outbound);
        let answers = gathered.chain(committing).chain(&self.ready);
        let deliveries = self.deliveries.iter().map(|delivery| delivery.bytes);
        answers.map(cost::outbound).sum::<usize>() == self.answers_bytes
            && deliveries.sum::<usize>() == self.deliveries_bytes
    }

    fn is_gathering(&self) -> bool {
        !self.gathering.is_empty() || !self.touched.is_empty()
    }

    pub(super) fn append(&mut self, channel: ChannelId, message: Arc<Message>) {
        self.gathering_bytes += cost::message(&message);
        self.gathered.appended.insert(channel, message.sequence);
        self.touched.insert(channel);
        self.gathering.messages.push((channel, message));
    }

    pub(super) fn trim(&mut self, channel: ChannelId, through: Sequence) {
        let Some(trim) = self.gathering.trims.get_mut(&channel) else {
            let after = self.trimmed.get(&channel).copied().unwrap_or_default();
            let trim = Trim { after, through };
            self.gathering.trims.insert(channel, trim);
            return self.gathered.trimmed.push(channel);
        };
        trim.through = through;
    }

    /// Of what the gathering batch drops of the channel.
    pub(super) fn keep_guids_after(&mut self, channel: ChannelId, settled: Sequence) {
        self.gathering.guids_kept_after.insert(channel, settled);
    }

    pub(super) fn tell_lost(&mut self, lost: &[LostRange]) {
        self.gathering.lost.extend_from_slice(lost);
    }

    pub(super) fn settle_gone(&mut self, channel: ChannelId, first: Sequence, bytes: u64) {
        self.touched.insert(channel);
        self.gathering.gone.settled.insert((channel, first), bytes);
    }

    pub(super) fn note_gone(
        &mut self,
        channel: ChannelId,
        first: Sequence,
        last: Sequence,
        reason: Reason,
    ) {
        self.touched.insert(channel);
        let added = &mut self.gathering.gone.added;
        added.push((channel, first, last, reason));
    }

    pub(super) fn forget_gone_after(&mut self, channel: ChannelId, last: Sequence) {
        self.touched.insert(channel);
        let forgotten = &mut self.gathering.gone.forgotten_after;
        forgotten.insert(channel, last);
    }

    /// With the message that was appended for it.
    pub(super) fn take_from_outbox(&mut self, id: OutboxId) {
        self.gathered.changed_outbox = true;
        self.gathering.outbox.taken.push(id);
    }

    pub(super) fn refuse_from_outbox(&mut self, id: OutboxId, why: String) {
        self.gathered.changed_outbox = true;
        self.gathering_bytes += cost::OVERHEAD_BYTES + why.len();
        self.gathering.outbox.refused.push((id, why));
    }

    pub(super) fn add_dead_letter(&mut self, id: ChannelId, under: Sequence, letter: DeadLetter) {
        self.gathering_bytes += cost::OVERHEAD_BYTES + letter.reason.len();
        self.gathering.dead_letters.push((id, under, letter));
    }

    /// The request under way has published the dead letter again.
    pub(super) fn note_redriven(&mut self, id: ChannelId, letter: Sequence, request: RequestId) {
        self.gathering.redriven.insert((id, letter), request);
    }

    /// A durable has not acked it.
    pub(super) fn note_dropped(&mut self, id: ChannelId, name: &ChannelName, sequence: Sequence) {
        let dropped = self.gathering.dropped_unacked.entry(id);
        let dropped = dropped.or_insert_with(|| DroppedUnacked {
            name: name.clone(),
            messages: 0,
            first: sequence,
            last: sequence,
        });
        dropped.messages += 1;
        dropped.last = sequence;
    }

    /// The message is put back after a failover; where it was published in SQL, the row may be back, too.
    pub(super) fn forget_outbox_row(&mut self, message: Guid) {
        // It is not to be read before it is gone.
        self.gathered.changed_outbox = true;
        self.gathered.puts_back = true;
        self.gathering.outbox.put_back.push(message);
    }

    /// With the progress of the position, which covers it.
    pub(super) fn take_sql_ack(&mut self, position: PositionId, id: AckId) {
        self.gathered.changed_outbox = true;
        self.gathering.outbox.acked.push((position, id));
    }

    pub(super) fn drop_sql_ack(&mut self, id: AckId) {
        self.gathered.changed_outbox = true;
        self.gathering.outbox.acks_dropped.push(id);
    }

    /// Rows that were read are still in the tables, as far as it is known.
    pub(super) fn changes_outbox(&self) -> bool {
        let committing = self.committing.as_ref();
        self.gathered.changed_outbox || committing.is_some_and(|release| release.changed_outbox)
    }

    /// With what was changed for the request.
    pub(super) fn answer_request(&mut self, id: RequestId, change: RequestChange) {
        self.gathered.changed_requests = true;
        self.gathering.requests.insert(id, change);
    }

    /// Requests that were read are still in the tables as they were, as far as it is known.
    pub(super) fn changes_requests(&self) -> bool {
        let committing = self.committing.as_ref();
        self.gathered.changed_requests || committing.is_some_and(|release| release.changed_requests)
    }

    pub(super) fn put_limits(&mut self, channel: ChannelName, own: Option<Overrides>) {
        self.gathering.limits.insert(channel, own);
    }

    pub(super) fn put_paused(&mut self, position: PositionId, paused: bool) {
        self.gathering.paused.insert(position, paused);
    }

    pub(super) fn put_moved(&mut self, position: PositionId) {
        self.gathering.moved.insert(position);
    }

    /// A standby may remember the publishes of messages after `settled`.
    pub(super) fn delete_messages(
        &mut self,
        channel: ChannelId,
        first: Sequence,
        last: Sequence,
        settled: Sequence,
    ) {
        let deleted = Deleted {
            channel,
            first,
            last,
            settled,
        };
        self.gathering.deleted.push(deleted);
    }

    pub(super) fn is_trimming(&self, channel: ChannelId) -> bool {
        self.gathering.trims.contains_key(&channel)
    }

    /// A commit to come tells that the channel dropped messages.
    pub(super) fn will_tell_of_trim(&self, channel: ChannelId) -> bool {
        let committing = self.committing.as_ref();
        committing.is_some_and(|release| release.trimmed.contains(&channel))
            || self.is_trimming(channel)
    }

    pub(super) fn touch_channel(&mut self, channel: ChannelId) {
        self.touched.insert(channel);
    }

    pub(super) fn put_channel(&mut self, channel: ChannelId, row: Option<ChannelRow>) {
        self.touched.remove(&channel);
        if row.is_none() {
            self.trimmed.remove(&channel);
        }
        self.gathering.channels.insert(channel, row);
    }

    pub(super) fn put_client(&mut self, client: ClientId, row: Option<ClientRow>) {
        self.gathering_bytes += cost::client(&client, row.as_ref());
        self.gathering.heartbeats.remove(&client);
        self.gathering.clients.insert(client, row);
    }

    pub(super) fn put_heartbeat(&mut self, client: ClientId, heartbeat: Heartbeat) {
        match self.gathering.clients.get_mut(&client) {
            Some(Some(row)) => row.heartbeat = heartbeat,
            Some(None) => {}
            None => {
                self.gathering.heartbeats.insert(client, heartbeat);
            }
        }
    }

    pub(super) fn put_position(&mut self, position: PositionId, row: Option<PositionRow>) {
        self.gathering_bytes += row.as_ref().map_or(0, |row| {
            cost::position_names(row.durable_name.as_ref(), row.queue_group.as_ref())
        });
        self.moved.remove(&position);
        self.gathering.positions.insert(position, row);
    }

    pub(super) fn put_subscription(&mut self, id: SubscriptionId, row: Option<SubscriptionRow>) {
        self.gathering_bytes += cost::subscription(row.as_ref());
        self.gathering.subscriptions.insert(id, row);
    }

    pub(super) fn put_unreadable(&mut self, channel: ChannelId, sequence: Sequence, why: String) {
        self.gathering_bytes += cost::OVERHEAD_BYTES + why.len();
        self.gathering.unreadable.insert((channel, sequence), why);
    }

    pub(super) fn put_counters(&mut self, counters: Counters) {
        self.gathering.counters = Some(counters);
    }

    /// The subscription gets messages once the gathering batch is committed.
    pub(super) fn start_after_commit(&mut self, position: PositionId, id: SubscriptionId) {
        self.gathered.started.push((position, id));
    }

    /// The subscription ended before it got messages. One that resumes it is to be started by its own commit.
    pub(super) fn forget_start(&mut self, id: SubscriptionId) {
        let releases = self.committing.iter_mut().chain([&mut self.gathered]);
        for release in releases {
            release.started.retain(|&(_, started)| started != id);
        }
    }

    /// The remaining members get what a leaving one held once its leaving is committed.
    pub(super) fn wake_after_commit(&mut self, position: PositionId) {
        self.gathered.left.push(position);
    }

    /// The group is delivered to once what an operator has changed of it is committed.
    pub(super) fn move_after_commit(&mut self, position: PositionId) {
        self.gathered.moved.push(position);
    }

    /// Returns true when this is the first progress that waits for a batch.
    pub(super) fn move_position(&mut self, position: PositionId) -> bool {
        self.moved.insert(position) && self.moved.len() == 1
    }

    /// True when its progress waited for a batch.
    pub(super) fn forget_move(&mut self, position: PositionId) -> bool {
        self.moved.remove(&position)
    }

    /// Lets waiting progress make a batch of its own.
    pub(super) fn flush_progress(&mut self) {
        self.progress_due = !self.moved.is_empty();
    }

    /// Progress waits, and only the deadline for it or another write brings a batch.
    pub(super) fn is_progress_forgotten(&self) -> bool {
        !self.moved.is_empty() && !self.progress_due && !self.is_gathering()
    }

    /// That the gathering batch writes.
    pub(super) fn subscriptions(&self) -> usize {
        self.gathering.subscriptions.len()
    }

    /// The rows of clients and subscriptions that the gathering batch writes.
    pub(super) fn rows(&self) -> usize {
        self.gathering.clients.len() + self.gathering.subscriptions.len()
    }

    pub(super) fn messages(&self) -> usize {
        self.gathering.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.gathering_bytes
    }

    /// Answers that wait for a commit or to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.gathered.outbound.len() + self.ready.len()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.committing.is_none()
            && !self.is_gathering()
            && self.moved.is_empty()
            && self.ready.is_empty()
            && self.deliveries.is_empty()
    }

    pub(super) fn is_due(&self) -> bool {
        self.committing.is_none() && (self.is_gathering() || self.progress_due)
    }

    /// Takes the gathered batch; the caller adds the rows of the channels and positions named with it.
    pub(super) fn take(&mut self) -> (Batch, BTreeSet<ChannelId>, BTreeSet<PositionId>) {
        self.last_number = BatchNumber(self.last_number.0 + 1);
        let mut batch = std::mem::take(&mut self.gathering);
        batch.number = self.last_number;
        batch.bytes = self.gathering_bytes;
        for (channel, trim) in &batch.trims {
            // That of a deleted channel is its last.
            if !matches!(batch.channels.get(channel), Some(None)) {
                self.trimmed.insert(*channel, trim.through);
            }
        }
        let mut release = std::mem::take(&mut self.gathered);
        release.number = self.last_number;
        self.committing = Some(release);
        self.gathering_bytes = 0;
        self.progress_due = false;
        (
            batch,
            std::mem::take(&mut self.touched),
            std::mem::take(&mut self.moved),
        )
    }

    /// Of the batch that was just taken.
    pub(super) fn tell_of_given_up(&mut self, given_up: Vec<(PositionId, Sequence)>) {
        if let Some(committing) = &mut self.committing {
            committing.given_up = given_up;
        }
    }

    /// Releases the answers of the committed batch and tells what else it made true.
    ///
    /// # Panics
    /// When that batch is not on its way: the adapter would be confirming something it was never given.
    pub(super) fn committed(&mut self, number: BatchNumber) -> Release {
        let mut release = self
            .committing
            .take()
            .expect("a batch is committed only after it was taken");
        assert_eq!(release.number, number, "batches are committed in order");
        self.ready.extend(release.outbound.drain(..));
        release
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Guid;
    use crate::core::upload::UploadWindow;

    #[test]
    fn a_batch_of_small_messages_that_is_closed_for_its_bytes_makes_the_next_one_larger() {
        let mut window = UploadWindow::new(std::time::Duration::from_secs(2), 8 << 20);
        let first = window.bytes();
        let mut commits = Commits::default();
        for number in 1.. {
            if commits.bytes() >= window.bytes() {
                break;
            }
            let message = Message {
                sequence: Sequence(number),
                published_at: crate::core::time::Timestamp(0),
                client_id: ClientId::parse("c".into()).expect("valid"),
                guid: Guid::parse("g".into()).expect("valid"),
                reply: "".into(),
                data: "a".repeat(8).into(),
            };
            commits.append(ChannelId(1), Arc::new(message));
        }
        let (batch, _, _) = commits.take();

        window.carried(batch.bytes, std::time::Duration::from_millis(3));
        assert!(window.bytes() > first);
    }
}
