//! What the gathering batch writes, table by table.

use std::sync::Arc;

use super::Commits;
use crate::core::admin::{RequestChange, RequestId};
use crate::core::batch::{
    ChannelRow, ClientRow, Counters, Deleted, DroppedUnacked, Heartbeat, LostRange, PositionRow,
    SubscriptionRow, Trim,
};
use crate::core::channel_limits::Overrides;
use crate::core::gone::Reason;
use crate::core::ids::{
    ChannelId, ChannelName, ClientId, Guid, PositionId, Sequence, SubscriptionId,
};
use crate::core::memory_size;
use crate::core::message::Message;
use crate::core::outbox::OutboxId;
use crate::core::policy::DeadLetter;
use crate::core::sql_acks::AckId;

impl Commits {
    pub(in crate::core) fn append(&mut self, channel: ChannelId, message: Arc<Message>) {
        self.gathering_bytes += memory_size::message(&message);
        self.gathered.appended.insert(channel, message.sequence);
        self.touched.insert(channel);
        self.gathering.messages.push((channel, message));
    }

    pub(in crate::core) fn trim(&mut self, channel: ChannelId, through: Sequence) {
        let Some(trim) = self.gathering.trims.get_mut(&channel) else {
            let after = self.trimmed.get(&channel).copied().unwrap_or_default();
            let trim = Trim { after, through };
            self.gathering.trims.insert(channel, trim);
            return self.gathered.trimmed.push(channel);
        };
        trim.through = through;
    }

    /// Keeps the GUIDs of messages above `settled` that the gathering batch drops.
    pub(in crate::core) fn keep_guids_after(&mut self, channel: ChannelId, settled: Sequence) {
        self.gathering.guids_kept_after.insert(channel, settled);
    }

    pub(in crate::core) fn report_lost(&mut self, lost: &[LostRange]) {
        self.gathering.lost.extend_from_slice(lost);
    }

    pub(in crate::core) fn settle_gone(&mut self, channel: ChannelId, first: Sequence, bytes: u64) {
        self.touched.insert(channel);
        self.gathering.gone.settled.insert((channel, first), bytes);
    }

    pub(in crate::core) fn note_gone(
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

    pub(in crate::core) fn forget_gone_after(&mut self, channel: ChannelId, last: Sequence) {
        self.touched.insert(channel);
        let forgotten = &mut self.gathering.gone.forgotten_after;
        forgotten.insert(channel, last);
    }

    /// With the message that was appended for it.
    pub(in crate::core) fn take_from_outbox(&mut self, id: OutboxId) {
        self.gathered.changed_outbox = true;
        self.gathering.outbox.taken.push(id);
    }

    pub(in crate::core) fn refuse_from_outbox(&mut self, id: OutboxId, why: String) {
        self.gathered.changed_outbox = true;
        self.gathering_bytes += memory_size::OVERHEAD_BYTES + why.len();
        self.gathering.outbox.refused.push((id, why));
    }

    /// What was to leave the outbox with the next batch without having been published stays there. Returns the rows.
    pub(in crate::core) fn forget_refused_rows(&mut self) -> Vec<OutboxId> {
        let refused = std::mem::take(&mut self.gathering.outbox.refused);
        for (_, why) in &refused {
            self.gathering_bytes -= memory_size::OVERHEAD_BYTES + why.len();
        }
        self.gathered.changed_outbox = !self.gathering.outbox.is_empty();
        self.release_if_nothing_gathers();
        refused.into_iter().map(|(id, _)| id).collect()
    }

    /// Requests of operators that were to be answered with the next batch stay open. False where there are none.
    pub(in crate::core) fn forget_answered_requests(&mut self) -> bool {
        self.gathered.changed_requests = false;
        let had_some = !std::mem::take(&mut self.gathering.requests).is_empty();
        self.release_if_nothing_gathers();
        had_some
    }

    pub(in crate::core) fn add_dead_letter(
        &mut self,
        id: ChannelId,
        under: Sequence,
        letter: DeadLetter,
    ) {
        self.gathering_bytes += memory_size::OVERHEAD_BYTES + letter.reason.len();
        self.gathering.dead_letters.push((id, under, letter));
    }

    /// The request under way has published the dead letter again.
    pub(in crate::core) fn note_redriven(
        &mut self,
        id: ChannelId,
        letter: Sequence,
        request: RequestId,
    ) {
        self.gathering.redriven.insert((id, letter), request);
    }

    /// A durable has not acked it.
    pub(in crate::core) fn note_dropped(
        &mut self,
        id: ChannelId,
        name: &ChannelName,
        sequence: Sequence,
    ) {
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
    pub(in crate::core) fn forget_outbox_row(&mut self, message: Guid) {
        // It is not to be read before it is gone.
        self.gathered.changed_outbox = true;
        self.gathered.puts_back = true;
        self.gathering.outbox.put_back.push(message);
    }

    /// With the progress of the position, which covers it.
    pub(in crate::core) fn take_sql_ack(&mut self, position: PositionId, id: AckId) {
        self.gathered.changed_outbox = true;
        self.gathering.outbox.acked.push((position, id));
    }

    pub(in crate::core) fn drop_sql_ack(&mut self, id: AckId) {
        self.gathered.changed_outbox = true;
        self.gathering.outbox.acks_dropped.push(id);
    }

    /// With what was changed for the request.
    pub(in crate::core) fn answer_request(&mut self, id: RequestId, change: RequestChange) {
        self.gathered.changed_requests = true;
        self.gathering.requests.insert(id, change);
    }

    pub(in crate::core) fn put_limits(&mut self, channel: ChannelName, own: Option<Overrides>) {
        self.gathering.limits.insert(channel, own);
    }

    pub(in crate::core) fn put_paused(&mut self, position: PositionId, paused: bool) {
        self.gathering.paused.insert(position, paused);
    }

    pub(in crate::core) fn put_moved(&mut self, position: PositionId) {
        self.gathering.moved.insert(position);
    }

    /// A standby may have kept the publishes of messages after `settled`.
    pub(in crate::core) fn delete_messages(
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

    pub(in crate::core) fn touch_channel(&mut self, channel: ChannelId) {
        self.touched.insert(channel);
    }

    pub(in crate::core) fn put_channel(&mut self, channel: ChannelId, row: Option<ChannelRow>) {
        self.touched.remove(&channel);
        if row.is_none() {
            self.trimmed.remove(&channel);
        }
        self.gathering.channels.insert(channel, row);
    }

    pub(in crate::core) fn put_client(&mut self, client: ClientId, row: Option<ClientRow>) {
        self.gathering_bytes += memory_size::client(&client, row.as_ref());
        self.gathering.heartbeats.remove(&client);
        self.gathering.clients.insert(client, row);
    }

    pub(in crate::core) fn put_heartbeat(&mut self, client: ClientId, heartbeat: Heartbeat) {
        match self.gathering.clients.get_mut(&client) {
            Some(Some(row)) => row.heartbeat = heartbeat,
            Some(None) => {}
            None => {
                self.gathering.heartbeats.insert(client, heartbeat);
            }
        }
    }

    pub(in crate::core) fn put_position(&mut self, position: PositionId, row: Option<PositionRow>) {
        self.gathering_bytes += row.as_ref().map_or(0, |row| {
            memory_size::position_names(row.durable_name.as_ref(), row.queue_group.as_ref())
        });
        self.moved.remove(&position);
        self.gathering.positions.insert(position, row);
    }

    pub(in crate::core) fn put_subscription(
        &mut self,
        id: SubscriptionId,
        row: Option<SubscriptionRow>,
    ) {
        self.gathering_bytes += memory_size::subscription(row.as_ref());
        self.gathering.subscriptions.insert(id, row);
    }

    pub(in crate::core) fn put_unreadable(
        &mut self,
        channel: ChannelId,
        sequence: Sequence,
        why: String,
    ) {
        self.gathering_bytes += memory_size::OVERHEAD_BYTES + why.len();
        self.gathering.unreadable.insert((channel, sequence), why);
    }

    pub(in crate::core) fn put_counters(&mut self, counters: Counters) {
        self.gathering.counters = Some(counters);
    }
}
