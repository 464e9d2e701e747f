//! A publish becomes the channel's next message; its ack waits for the commit.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::batch::ChannelRow;
use super::broker::Broker;
use super::channels::Channel;
use super::deadlines::Timer;
use super::ids::{ChannelId, ChannelName, ClientId, Guid, Sequence, Subject};
use super::message::Message;
use super::notice::Notice;
use super::outbound::Reply;
use super::policy::Full;
use super::rejection::Rejection;
use super::request::Publish;
use super::time::Timestamp;

/// A publish that is no larger may live on with its answer.
const PINNED_BYTES: usize = 1024;

const NO_SEQUENCE_LEFT: &str = "the channel has used its last sequence: publish to another channel, or delete this one and create it again";

impl Broker {
    pub(super) fn publish(&mut self, request: Publish, reply: Option<Subject>) {
        self.traffic.in_messages += 1;
        self.traffic.in_bytes += request.size();
        if self.was_stored_before(&request, reply.as_ref()) {
            return;
        }
        let Some(client_id) = self.clients.publisher(&request.publisher).cloned() else {
            return self.refuse_publish(&request, Rejection::InvalidPublish, reply);
        };
        let guid = answered_guid(&request);
        let Publish {
            channel,
            guid: own,
            reply: text,
            data,
            publisher: _,
        } = request;
        let appended = self.append_message(&channel, client_id, own, text, data);
        match appended {
            Ok(id) => {
                self.answer(reply, Reply::Published(guid));
                self.enforce_limits(id);
            }
            Err(rejection) => self.answer(reply, Reply::PublishRefused(guid.into(), rejection)),
        }
    }

    /// The channel's next message; its limits are not enforced yet.
    pub(super) fn append_message(
        &mut self,
        channel: &ChannelName,
        client_id: ClientId,
        guid: Guid,
        reply: ByteString,
        data: Bytes,
    ) -> Result<ChannelId, Rejection> {
        let id = self.find_or_create_channel(channel)?;
        let now = self.now;
        let mut channel = self
            .channels
            .get_mut(id)
            .expect("the channel was just found");
        if channel.row.last_sequence >= Sequence::LAST {
            return Err(Rejection::NotStored(NO_SEQUENCE_LEFT.into()));
        }
        if channel.full != Full::default() {
            if self.is_full(id) {
                return Err(Rejection::ChannelFull);
            }
            let again = self.channels.get_mut(id);
            channel = again.expect("nothing has removed it");
        }
        let message = Arc::new(Message {
            sequence: channel.row.last_sequence.next(),
            published_at: now.wall.max(channel.row.last_published_at),
            client_id,
            guid,
            reply,
            data,
        });
        let size = message.size(&channel.row.name);
        let before = channel.row.last_sequence;
        let window = self.settings.limits.duplicate_window;
        channel.guid_window.advance(before, now.monotonic, window);
        channel.row.last_sequence = message.sequence;
        channel.row.last_published_at = message.published_at;
        channel.row.message_count += 1;
        channel.row.byte_count += size;
        channel.last_activity = now.monotonic;
        self.tail.push(id, Arc::clone(&message));
        self.commits.append(id, message);
        Ok(id)
    }

    fn refuse_publish(&mut self, request: &Publish, rejection: Rejection, reply: Option<Subject>) {
        let guid = answered_guid(request);
        self.answer(reply, Reply::PublishRefused(guid.into(), rejection));
    }

    /// Channels come into being with the first publish or subscribe.
    pub(super) fn find_or_create_channel(
        &mut self,
        name: &ChannelName,
    ) -> Result<ChannelId, Rejection> {
        match self.find_or_may_create(name)? {
            Some(id) => Ok(id),
            None => Ok(self.make_channel(name)),
        }
    }

    /// `None`: there is none, and it may be created.
    pub(super) fn find_or_may_create(
        &self,
        name: &ChannelName,
    ) -> Result<Option<ChannelId>, Rejection> {
        if let Some(id) = self.channels.find(name.as_str()) {
            return Ok(Some(id));
        }
        if let Some(existing) = self.channels.find_folded(name) {
            return Err(Rejection::CaseClash {
                name: name.clone(),
                existing: existing.clone(),
            });
        }
        if self
            .settings
            .limits
            .channels
            .is_some_and(|max| self.channels.len() >= max)
        {
            return Err(Rejection::TooManyChannels);
        }
        Ok(None)
    }

    fn make_channel(&mut self, name: &ChannelName) -> ChannelId {
        self.counters.channel += 1;
        self.commits.put_counters(self.counters);
        let id = ChannelId(self.counters.channel);
        let row = ChannelRow {
            name: name.clone(),
            created_at: self.now.wall,
            deleting: false,
            first_sequence: Sequence(1),
            last_sequence: Sequence::ZERO,
            last_published_at: Timestamp::default(),
            message_count: 0,
            byte_count: 0,
        };
        self.insert_channel(id, row);
        self.notices.push_back(Notice::ChannelCreated(name.clone()));
        id
    }

    pub(super) fn insert_channel(&mut self, id: ChannelId, row: ChannelRow) {
        let now = self.now.monotonic;
        let limits = self.limits_of(&row.name);
        let full = self.policies.of_channel(&row.name);
        let mut channel = Channel::new(row, limits, now);
        channel.full = full;
        self.channels.insert(id, channel);
        self.commits.touch_channel(id);
        if let Some(inactivity) = limits.inactivity {
            self.deadlines.set(Timer::Inactivity(id), now + inactivity);
        }
    }
}

/// The GUID for the answer. Of a large publish it is copied: the answer may wait for long, and counts what it seems to
/// hold.
fn answered_guid(request: &Publish) -> Guid {
    if request.data.len() + request.reply.len() > PINNED_BYTES {
        request.guid.detached()
    } else {
        request.guid.clone()
    }
}
