//! Where a new subscription begins: decided by the channel and the tail, or by a read of the first message since a time.

use super::broker::Broker;
use super::channels::Channel;
use super::ids::{ChannelId, Sequence};
use super::load::{Hole, Load, LoadQuery};
use super::loads::PendingStart;
use super::outbound::Reply;
use super::rejection::Rejection;
use super::request::StartPosition;
use super::time::Timestamp;

/// Where a new position begins: after this sequence, or after one that must be looked up.
pub(super) enum Start {
    After(Sequence),
    Since(Timestamp),
}

impl Broker {
    pub(super) fn start(&self, id: ChannelId, start: StartPosition) -> Start {
        let channel = self.channels.get(id).expect("the channel was just found");
        let (first, last) = (channel.first(), channel.row.last_sequence);
        Start::After(match start {
            StartPosition::NewOnly => last,
            StartPosition::LastReceived => last.previous(),
            StartPosition::First => first.previous(),
            StartPosition::Sequence(wanted) if wanted < first => first.previous(),
            StartPosition::Sequence(wanted) => wanted.previous().min(last),
            StartPosition::TimeDelta(delta) => {
                let time = Timestamp(self.now.wall.0.saturating_sub(delta));
                return self.start_since(id, channel, time);
            }
        })
    }

    fn start_since(&self, id: ChannelId, channel: &Channel, time: Timestamp) -> Start {
        let last = channel.row.last_sequence;
        if last == Sequence::ZERO {
            return Start::After(Sequence::ZERO);
        }
        if time > channel.row.last_published_at || channel.row.message_count == 0 {
            return Start::After(last);
        }
        // The tail decides when it reaches back beyond the time, or to the channel's first message.
        let first_here = self
            .tail
            .first(id)
            .and_then(|first| self.tail.get(id, first));
        let reaches_back = first_here.is_some_and(|message| {
            message.published_at < time || message.sequence <= channel.row.first_sequence
        });
        if reaches_back {
            let message = self.tail.first_since(id, time);
            Start::After(message.map_or(last, |message| message.sequence.previous()))
        } else {
            Start::Since(time)
        }
    }

    /// The first message at or after a subscription's start time is known: the request is judged again, because
    /// its client may be gone or replaced by now, and the channel may be another one.
    pub(super) fn start_loaded(
        &mut self,
        asked: &Load,
        start: PendingStart,
        first: Option<Sequence>,
        hole: Option<Hole>,
    ) {
        let (mut request, reply) = (start.request, start.reply);
        let client = self.clients.get(request.client_id.as_str());
        if client.is_none_or(|client| client.row.heartbeat_inbox != start.heartbeat_inbox) {
            // Nobody listens on its inbox any more.
            return self.answer(reply, Reply::SubscribeRefused(Rejection::UnknownClient));
        }
        self.received_at = start.received_at;
        if self.channels.find(request.channel.as_str()) == Some(asked.channel) {
            let first = self.first_found(asked, first, hole, start.committed);
            request.start = first.map_or(StartPosition::NewOnly, StartPosition::Sequence);
        }
        self.subscribe(request, reply);
    }

    /// The first message at or after the time of a read, or before that one that may be and is not seen.
    pub(super) fn first_found(
        &mut self,
        asked: &Load,
        first: Option<Sequence>,
        hole: Option<Hole>,
        committed: Sequence,
    ) -> Option<Sequence> {
        let unseen = hole.and_then(|hole| {
            self.note_gone(asked.channel, &hole.gone);
            self.start_before_unseen(asked.channel, (hole.first, hole.last))
        });
        let first = unseen.or(first);
        first.or_else(|| self.first_later(asked, committed))
    }

    /// The first message of the wanted time among those that a read for it may not have seen: it is in the
    /// tail. What has left the tail meanwhile is delivered even if it is older.
    fn first_later(&self, asked: &Load, committed: Sequence) -> Option<Sequence> {
        let LoadQuery::FirstSince(time) = asked.query else {
            return None;
        };
        let unseen = committed.next();
        if self
            .tail
            .first(asked.channel)
            .is_some_and(|first| first <= unseen)
        {
            let message = self.tail.first_since(asked.channel, time);
            return message.map(|message| message.sequence);
        }
        let last = self.channels.get(asked.channel)?.row.last_sequence;
        (unseen <= last).then_some(unseen)
    }
}
