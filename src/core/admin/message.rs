//! Single messages: published again, or deleted.

use std::sync::Arc;

use super::arguments::{Arguments, channel_name};
use super::channel::{deleted_meanwhile, out_of_range};
use super::settle::range;
use super::{Fact, RequestError, RequestRow, Stage, Step};
use crate::core::broker::Broker;
use crate::core::deliverable::TooLarge;
use crate::core::ids::{ChannelId, ChannelName, Guid, Sequence};
use crate::core::load::{LoadQuery, Loaded};
use crate::core::loads::Purpose;
use crate::core::message::Message;
use crate::core::retention::Added;

/// The most messages that one request may name: they are read at once.
const MESSAGES_MAX: u64 = 1000;

/// And so many bytes of them, but for the first.
const BYTES_MAX: usize = 4 << 20;

const LEAVE_IT_OUT: &str = "Leave it out, or raise max_payload of the NATS servers.";

impl Broker {
    /// Both need to know what is there.
    pub(super) fn read_messages(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let name = given.channel()?;
        let (first, last) = range(given)?;
        if &*row.verb == "message republish" {
            let to = given.text("to_channel");
            to.map(channel_name).transpose()?;
        }
        given.finish()?;
        let id = self.find_channel(&name)?;
        let channel = self.channels.get(id).expect("the channel was just found");
        for sequence in [first, last] {
            if sequence < channel.row.first_sequence || sequence > channel.committed {
                return Err(out_of_range(channel, sequence));
            }
        }
        if last.0 - first.0 >= MESSAGES_MAX {
            return Err(RequestError::new(
                format!("these are more than {MESSAGES_MAX} messages"),
                "Ask for them in parts; `channel purge` drops all before a sequence.",
            ));
        }
        let want = LoadQuery::Range {
            first,
            last,
            count: usize::try_from(MESSAGES_MAX).unwrap_or(usize::MAX),
            bytes: BYTES_MAX,
        };
        self.loads.ask(id, want, Purpose::Request);
        Ok(Step::Wait(Stage::Read(id)))
    }

    pub(super) fn messages_read(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        id: ChannelId,
        loaded: Loaded,
    ) -> Result<Step, RequestError> {
        let (first, last) = range(given)?;
        let Loaded::Messages {
            mut messages,
            unreadable,
            through,
            ..
        } = loaded
        else {
            return Ok(Step::Wait(Stage::Read(id)));
        };
        if let Some(row) = unreadable.first() {
            return Err(RequestError::new(
                format!("message {} cannot be read: {}", row.sequence, row.why),
                "Leave it out.",
            ));
        }
        if through < last {
            return Err(RequestError::new(
                format!("these are more than {BYTES_MAX} bytes"),
                format!("Ask for them in parts: {first} to {through} fit."),
            ));
        }
        let channel = self.channels.get(id).ok_or_else(deleted_meanwhile)?;
        // Limits, or somebody else, may have dropped some since.
        messages.retain(|message| {
            let sequence = message.sequence;
            sequence >= channel.row.first_sequence && !channel.gone.contains(sequence)
        });
        if messages.is_empty() {
            return Err(RequestError::new(
                format!("channel {} no longer holds them", channel.row.name),
                "They were dropped or deleted.",
            ));
        }
        if &*row.verb == "message republish" {
            self.republish(row, given, id, &messages)
        } else {
            self.delete_messages(row, id, (first, last), &messages)
        }
    }

    fn republish(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        id: ChannelId,
        messages: &[Arc<Message>],
    ) -> Result<Step, RequestError> {
        let from = self.channels.get(id).ok_or_else(deleted_meanwhile)?;
        let from = from.row.name.clone();
        let to = match given.text("to_channel") {
            Some(to) => channel_name(to)?,
            None => from.clone(),
        };
        // A mistyped name would make a channel.
        let target = self.find_channel(&to)?;
        for message in messages {
            let Message {
                sequence,
                reply,
                data,
                ..
            } = &**message;
            self.fits_once_stored(&to, reply, data.len())
                .map_err(|why| RequestError::new(too_large(*sequence, &to, why), LEAVE_IT_OUT))?;
        }
        let mut first = Fact::Nothing;
        let mut last = Fact::Nothing;
        let mut published = 0;
        let mut added = Added::default();
        for message in messages {
            if self.is_full_beside(target, added) {
                if published == 0 {
                    return Err(channel_full(&to));
                }
                break;
            }
            published += 1;
            if row.dry_run {
                added.messages += 1;
                added.bytes += message.size(&to);
                continue;
            }
            let guid = format!("republished-{}-{}", row.id.0, message.sequence);
            let guid = Guid::parse(guid.into()).expect("it is not empty");
            let Message {
                client_id,
                reply,
                data,
                ..
            } = Message::clone(message);
            let appended = self.append_message(&to, client_id, guid, reply, data);
            appended.map_err(|_| deleted_meanwhile())?;
            let channel = self.channels.get(target).ok_or_else(deleted_meanwhile)?;
            last = channel.row.last_sequence.into();
            if first == Fact::Nothing {
                first = last.clone();
            }
            self.enforce_limits(target);
        }
        Ok(Step::Done(vec![
            ("channel", from.as_str().into()),
            ("to_channel", to.as_str().into()),
            ("messages", Fact::Number(published)),
            ("left", (messages.len() as u64 - published).into()),
            ("first_sequence", first),
            ("last_sequence", last),
        ]))
    }

    fn delete_messages(
        &mut self,
        row: &RequestRow,
        id: ChannelId,
        (first, last): (Sequence, Sequence),
        messages: &[Arc<Message>],
    ) -> Result<Step, RequestError> {
        let channel = self.channels.get_mut(id).ok_or_else(deleted_meanwhile)?;
        let found = messages.iter().map(|message| message.sequence);
        if let Some((hidden, _)) = channel.unseen(first, last, found) {
            return Err(RequestError::new(
                format!("message {hidden} is not seen, and nothing says that it is gone"),
                "Find out where it is (docs/troubleshooting.md), or leave it out.",
            ));
        }
        let name = &channel.row.name;
        let bytes: u64 = messages.iter().map(|message| message.size(name)).sum();
        let facts = vec![
            ("channel", name.as_str().into()),
            ("messages", messages.len().into()),
            ("bytes", bytes.into()),
        ];
        if row.dry_run {
            return Ok(Step::Done(facts));
        }
        let window = self.settings.limits.duplicate_window;
        let settled = channel.settled(self.now.monotonic, window);
        self.delete_range(id, first, last, bytes);
        self.commits.delete_messages(id, first, last, settled);
        Ok(Step::Done(facts))
    }
}

/// What would never be delivered is not published.
pub(super) fn too_large(sequence: Sequence, to: &ChannelName, why: TooLarge) -> String {
    format!("message {sequence} is too large for channel {to}: {why}")
}

/// A policy keeps what is in it, and there is no room beside that.
pub(super) fn channel_full(name: &ChannelName) -> RequestError {
    RequestError::new(
        format!("channel {name} is full, and its policy refuses publishes then"),
        "Make room: acks, `channel purge`, `channel limits`, or another policy.",
    )
}
