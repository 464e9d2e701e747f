//! Group commit: what is gathered for the next batch (`writes`), what the batch on its way will release, and what may
//! leave now. Nothing that a batch justifies gets into `ready` before that batch is committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::batch::Batch;
use super::ids::{BatchNumber, ChannelId, PositionId, Sequence, SubscriptionId};
use super::memory_size;
use super::outbound::Outbound;

mod deliveries;
mod writes;

use deliveries::DeliveryQueue;

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
    pub(super) deliveries: DeliveryQueue,
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
        self.answers_bytes += memory_size::outbound(&outbound);
        self.ready.push_back(outbound);
    }

    /// Sends an answer that may rest on anything decided so far.
    pub(super) fn send_after_commit(&mut self, outbound: Outbound) {
        self.answers_bytes += memory_size::outbound(&outbound);
        if self.is_gathering() {
            self.gathered.outbound.push(outbound);
        } else if let Some(committing) = &mut self.committing {
            committing.outbound.push(outbound);
        } else {
            self.ready.push_back(outbound);
        }
    }

    /// To be called when something that gathered was taken out: answers that waited for its commit have nothing to wait for.
    fn release_if_nothing_gathers(&mut self) {
        if self.is_gathering() {
            return;
        }
        let answers = std::mem::take(&mut self.gathered.outbound);
        match &mut self.committing {
            Some(committing) => committing.outbound.extend(answers),
            None => self.ready.extend(answers),
        }
    }

    /// Sends an answer that rests on what a term before has committed; after the commit that puts back what a failover of
    /// Postgres had lost of it.
    pub(super) fn send_now(&mut self, outbound: Outbound) {
        let committing = self.committing.as_ref();
        if self.gathered.puts_back || committing.is_some_and(|release| release.puts_back) {
            return self.send_after_commit(outbound);
        }
        self.answers_bytes += memory_size::outbound(&outbound);
        self.ready.push_back(outbound);
    }

    pub(super) fn has_outbound(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The batch on its way is in the tables: its answers may leave before what follows from that is carried out.
    pub(super) fn release_answers(&mut self) {
        if let Some(committing) = &mut self.committing {
            self.ready.extend(committing.outbound.drain(..));
        }
    }

    pub(super) fn poll_answer(&mut self) -> Option<Outbound> {
        let answer = self.ready.pop_front()?;
        self.answers_bytes -= memory_size::outbound(&answer);
        Some(answer)
    }

    /// Bytes of answers and probes that wait for a commit or to be sent.
    pub(super) fn answers_bytes(&self) -> usize {
        self.answers_bytes
    }

    /// What the counts of bytes say is what there is. Looks at all of it.
    pub(super) fn is_consistent(&self) -> bool {
        self.unsent().map(memory_size::outbound).sum::<usize>() == self.answers_bytes
            && self.deliveries.is_consistent()
    }

    /// Answers and probes that have not left.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &Outbound> {
        let gathered = self.gathered.outbound.iter();
        let committing = self.committing.iter().flat_map(|release| &release.outbound);
        gathered.chain(committing).chain(&self.ready)
    }

    fn is_gathering(&self) -> bool {
        !self.gathering.is_empty() || !self.touched.is_empty()
    }

    /// Rows that were read are still in the tables, as far as it is known.
    pub(super) fn changes_outbox(&self) -> bool {
        let committing = self.committing.as_ref();
        self.gathered.changed_outbox || committing.is_some_and(|release| release.changed_outbox)
    }

    /// Requests that were read are still in the tables as they were, as far as it is known.
    pub(super) fn changes_requests(&self) -> bool {
        let committing = self.committing.as_ref();
        self.gathered.changed_requests || committing.is_some_and(|release| release.changed_requests)
    }

    pub(super) fn is_trimming(&self, channel: ChannelId) -> bool {
        self.gathering.trims.contains_key(&channel)
    }

    /// A commit to come reports that the channel dropped messages.
    pub(super) fn will_tell_of_trim(&self, channel: ChannelId) -> bool {
        let committing = self.committing.as_ref();
        committing.is_some_and(|release| release.trimmed.contains(&channel))
            || self.is_trimming(channel)
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

    /// Notes which messages the batch that was just taken gives up.
    pub(super) fn tell_of_given_up(&mut self, given_up: Vec<(PositionId, Sequence)>) {
        if let Some(committing) = &mut self.committing {
            committing.given_up = given_up;
        }
    }

    /// Releases the answers of the committed batch and reports what else it made true.
    ///
    /// # Panics
    /// When that batch is not on its way: the adapter would be confirming something it was never given.
    pub(super) fn committed(&mut self, number: BatchNumber) -> Release {
        self.release_answers();
        let release = self
            .committing
            .take()
            .expect("a batch is committed only after it was taken");
        assert_eq!(release.number, number, "batches are committed in order");
        release
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::ids::{ClientId, Guid};
    use crate::core::message::Message;
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
