//! New messages to groups: from the tail where they are recent, else read from the store page by page.

use super::broker::Broker;
use super::channels::Channel;
use super::deadlines::Timer;
use super::deliverable::TooLarge;
use super::group::{Group, Handed, Page};
use super::ids::{ChannelId, PositionId, Sequence, SubscriptionId};
use super::load::{Load, LoadQuery, Unreadable};
use super::loads::Purpose;
use super::message::Message;
use super::notice::Notice;
use super::outbound::Outbound;
use super::request::Ack;
use super::round_robin::{Turn, steps_of};
use super::tail::Tail;
use std::sync::Arc;

/// The next message of a group.
enum Next {
    Message(Arc<Message>),
    /// This one was acked before this term could send it.
    Acked(Sequence),
    /// There is none up to and including this sequence.
    Hole(Sequence),
    /// It must be read from the store; everything up to this sequence is only there.
    Behind(Sequence),
}

impl Broker {
    /// Sends the group what is committed and has room, as far as its turn allows.
    pub(super) fn deliver_some(&mut self, position: PositionId, turn: &mut Turn) {
        loop {
            let Some((next, picked)) = self.look_ahead(position, turn) else {
                return;
            };
            match next {
                Next::Acked(_) if self.is_over(turn) => return self.wait_for_turn(position),
                Next::Acked(sequence) => self.skip(position, sequence),
                Next::Hole(through) => self.skip(position, through),
                Next::Message(message) if self.is_too_large(position, &message) => {
                    self.skip(position, message.sequence);
                }
                Next::Behind(_) | Next::Message(_) if picked.is_none() => {
                    return self.drop_page_when_crowded(position);
                }
                Next::Behind(_) | Next::Message(_) if !self.may_hold_more(position) => {
                    self.hold_back(position);
                    return self.drop_page_when_crowded(position);
                }
                Next::Behind(_) if self.is_waiting_for_unseen(position) => {
                    return self.drop_page(position);
                }
                Next::Behind(last) => {
                    // It covers nothing any more.
                    self.drop_page(position);
                    if self
                        .groups
                        .get(&position)
                        .is_some_and(|group| !group.redelivering)
                    {
                        self.drop_fetched(position);
                    }
                    if self.is_crowded() {
                        return self.wait_for_turn(position);
                    }
                    return self.load_page(position, last);
                }
                Next::Message(_) if self.is_over(turn) => return self.wait_for_turn(position),
                Next::Message(message) => {
                    let member = picked.expect("the arm above took the other case");
                    turn.bytes += self.send_to(position, member, &message);
                }
            }
        }
    }

    /// What comes next for the group, and the member that gets the next new message, if one can. `None` where nothing is to
    /// be sent for now.
    fn look_ahead(
        &mut self,
        position: PositionId,
        turn: &mut Turn,
    ) -> Option<(Next, Option<SubscriptionId>)> {
        let group = self.groups.get_mut(&position)?;
        if group.replaying || group.paging || group.is_halted() || group.is_paused() {
            return None;
        }
        turn.steps += steps_of(group);
        let channel = self.channels.get(group.channel);
        let next = channel.and_then(|channel| next_message(group, channel, &self.tail));
        let Some(next) = next else {
            self.paged_bytes -= std::mem::take(&mut group.page).bytes;
            return None;
        };
        Some((
            next,
            group.pick(|client| self.clients.is_responsive(client)),
        ))
    }

    fn skip(&mut self, position: PositionId, through: Sequence) {
        if let Some(group) = self.groups.get_mut(&position) {
            let early = group.early_acks();
            group.skip(through);
            self.usage.early_acks -= early - group.early_acks();
            self.paged_bytes -= group.page.skip_to(through.next());
            self.note_progress(position);
        }
    }

    /// True when NATS would not carry the message even as a redelivery. It is reported, and passed over as if it
    /// were acked: tried again and again it would keep its place for ever.
    pub(super) fn is_too_large(&mut self, position: PositionId, message: &Message) -> bool {
        if self.is_small(message) {
            return false;
        }
        let group = self.groups.get(&position);
        let Some(channel) = group.and_then(|group| self.channels.get(group.channel)) else {
            return false;
        };
        let Err(TooLarge { bytes, .. }) = self.fits(&channel.row.name, message) else {
            return false;
        };
        self.traffic.skipped_messages += 1;
        self.notices.push_back(Notice::MessageTooLarge {
            channel: channel.row.name.clone(),
            sequence: message.sequence,
            bytes,
        });
        true
    }

    /// Reports rows that a read could not make messages of. For the group that asked they are holes: asking again and
    /// again would keep it where it is for ever.
    pub(super) fn note_unreadable(&mut self, id: ChannelId, unreadable: Vec<Unreadable>) {
        let Some(channel) = self.channels.get(id) else {
            return;
        };
        for Unreadable { sequence, why } in unreadable {
            self.traffic.unreadable_messages += 1;
            self.commits.put_unreadable(id, sequence, why.clone());
            self.notices.push_back(Notice::MessageUnreadable {
                channel: channel.row.name.clone(),
                sequence,
                why,
            });
        }
    }

    fn load_page(&mut self, position: PositionId, last: Sequence) {
        let limits = &self.settings.limits;
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        group.paging = true;
        let want = LoadQuery::Range {
            first: group.last_sent.next(),
            last,
            count: limits.page_messages,
            bytes: limits.page_bytes,
        };
        self.loads.ask(group.channel, want, Purpose::Page(position));
    }

    /// The position was moved back while the page was read: it does not tell what comes next.
    pub(super) fn is_overtaken(&self, position: PositionId, asked: &Load) -> bool {
        let group = self.groups.get(&position);
        group.is_some_and(|group| {
            matches!(asked.query, LoadQuery::Range { first, .. } if first > group.last_sent.next())
        })
    }

    pub(super) fn page_overtaken(&mut self, position: PositionId) {
        if let Some(group) = self.groups.get_mut(&position) {
            group.paging = false;
            self.deliver(position);
        }
    }

    pub(super) fn page_loaded(
        &mut self,
        position: PositionId,
        messages: Vec<Arc<Message>>,
        through: Sequence,
    ) {
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        group.paging = false;
        if !group.is_listening() {
            return;
        }
        self.paged_bytes -= group.page.bytes;
        group.page = Page::new(messages, through);
        self.paged_bytes += group.page.bytes;
        self.deliver(position);
    }

    pub(super) fn drop_page(&mut self, position: PositionId) {
        if let Some(group) = self.groups.get_mut(&position) {
            self.paged_bytes -= group.page.bytes;
            group.page = Page::default();
        }
    }

    /// A stalled group keeps what was read ahead only while there is memory for it.
    fn drop_page_when_crowded(&mut self, position: PositionId) {
        if self.is_crowded() {
            self.drop_page(position);
        }
    }

    pub(super) fn drop_fetched(&mut self, position: PositionId) {
        if let Some(group) = self.groups.get_mut(&position) {
            self.paged_bytes -= group.drop_fetched();
        }
    }

    /// Sends a message, for the first time or again, and counts it as in flight with the member. Returns what it
    /// costs until it has left, in bytes.
    pub(super) fn send_to(
        &mut self,
        position: PositionId,
        member: SubscriptionId,
        message: &Arc<Message>,
    ) -> usize {
        let now = self.now.monotonic;
        let Some(group) = self.groups.get_mut(&position) else {
            return 0;
        };
        let Some(channel) = self.channels.get(group.channel) else {
            return 0;
        };
        let (handed, to) = group.hand_to(member, message.sequence, now);
        let Handed {
            redelivery_count,
            is_news,
            due,
        } = handed;
        let inbox = to.inbox.clone();
        let no_responders_to = to.answer.was_late(now).then(|| to.ack_inbox.clone());
        self.usage.in_flight += usize::from(redelivery_count == 0);
        self.paged_bytes -= group.page.skip_to(group.last_sent.next());
        let is_first_due = group.is_due_before_others(due);
        let channel_name = channel.row.name.clone();
        self.traffic.out_messages += 1;
        self.traffic.out_bytes += message.delivered_size(&channel_name, redelivery_count);
        self.traffic.redelivered_messages += u64::from(redelivery_count > 0);
        let delivery = Outbound::Deliver {
            inbox,
            channel: channel_name,
            message: Arc::clone(message),
            redelivery_count,
            no_responders_to,
        };
        let bytes = self.commits.deliveries.push(member, position, delivery);
        if is_first_due {
            self.arm_redelivery(position, due);
        }
        if is_news {
            self.note_progress(position);
        }
        bytes
    }

    /// The position's progress goes with the next batch, or makes one after a while.
    pub(super) fn note_progress(&mut self, position: PositionId) {
        if self.commits.move_position(position) {
            let at = self.now.monotonic + self.settings.limits.progress_delay;
            self.deadlines.set_by(Timer::Progress, at);
        }
    }

    pub(super) fn ack(&mut self, ack: &Ack) {
        let Some(&(position, id)) = self.ack_inboxes.get(&ack.ack_inbox) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let channel = self
            .channels
            .get(group.channel)
            .expect("a group is of a channel");
        if channel.row.name.as_str() != &*ack.channel || ack.sequence > channel.committed {
            return;
        }
        if let Some(member) = group.members.get_mut(&id) {
            member.answer.arrived();
        }
        let has_caught_up = group.has_caught_up_with(channel.committed);
        // Whichever member acks: a late ack after a redelivery to another one settles the message too.
        if self.settle(position, ack.sequence) {
            self.traffic.acked_messages += 1;
            self.note_progress(position);
            if !has_caught_up {
                self.deliver(position);
            }
        } else {
            self.ack_early(position, ack.sequence);
        }
    }
}

/// `None` for a group that has caught up.
fn next_message(group: &Group, channel: &Channel, tail: &Tail) -> Option<Next> {
    let next = group.last_sent.next();
    if next > channel.committed {
        return None;
    }
    if next < channel.row.first_sequence {
        return Some(Next::Hole(channel.row.first_sequence.previous()));
    }
    if let Some(last) = channel.gone.end_of(next) {
        // The tail may still have it.
        return Some(Next::Hole(last));
    }
    if group.is_acked_early(next) {
        return Some(Next::Acked(next));
    }
    if let Some(message) = tail.get(group.channel, next) {
        return Some(Next::Message(Arc::clone(message)));
    }
    let first = group
        .page
        .messages
        .iter()
        .find(|message| message.sequence >= next);
    Some(match first {
        Some(message) if message.sequence == next => Next::Message(Arc::clone(message)),
        Some(message) => Next::Hole(message.sequence.previous()),
        None if next <= group.page.through => Next::Hole(group.page.through),
        None => {
            let tail = tail
                .first(group.channel)
                .map_or(channel.committed, Sequence::previous);
            Next::Behind(tail.min(channel.committed))
        }
    })
}
