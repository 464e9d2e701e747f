//! One stream that a channel is copied into.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{Context, ErrorCode};

use super::Error;
use super::names::Names;
use crate::core::message::Message;

pub(super) const CHANNEL: &str = "Stan-Channel";
pub(super) const SEQUENCE: &str = "Stan-Sequence";
const TIME: &str = "Stan-Time";
const PUBLISHER: &str = "Stan-Client-Id";

/// The limits of a new stream; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub messages: Option<i64>,
    pub bytes: Option<i64>,
    pub age: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Target {
    context: Context,
    channel: String,
    pub(super) names: Names,
    /// The sequence in the channel of the stream's last message; 0 before the first.
    pub(super) copied: u64,
    /// The stream's own.
    length: u64,
}

impl Target {
    /// Makes the stream where there is none.
    pub(super) async fn open(
        context: &Context,
        channel: &str,
        names: Names,
        limits: Limits,
    ) -> Result<Self, Error> {
        if stream(context, &names.stream).await?.is_none() {
            let made = context.create_stream(Config {
                name: names.stream.clone(),
                subjects: vec![names.subject.clone()],
                description: Some(described(channel, 0, 0)),
                max_messages: limits.messages.unwrap_or(-1),
                max_bytes: limits.bytes.unwrap_or(-1),
                max_age: limits.age.unwrap_or_default(),
                ..Config::default()
            });
            made.await.map_err(|error| {
                Error::Unreachable(format!(
                    "stream {:?} for channel {channel:?} cannot be made: {error}; is JetStream on there?",
                    names.stream
                ))
            })?;
        }
        Self::find(context, channel, names).await
    }

    /// Not looked at yet.
    pub(super) fn unread(context: &Context, channel: &str, names: Names) -> Self {
        Self {
            context: context.clone(),
            channel: channel.to_owned(),
            names,
            copied: 0,
            length: 0,
        }
    }

    /// Where it is now, which nobody but the stream knows.
    pub(super) async fn find(
        context: &Context,
        channel: &str,
        names: Names,
    ) -> Result<Self, Error> {
        let mut target = Self::unread(context, channel, names);
        if let Some(stream) = stream(context, &target.names.stream).await? {
            target.read(&stream).await?;
        }
        Ok(target)
    }

    pub(super) async fn stream_if_there(&self) -> Result<Option<Stream>, Error> {
        stream(&self.context, &self.names.stream).await
    }

    pub(super) async fn stream(&self) -> Result<Stream, Error> {
        let name = &self.names.stream;
        let found = self.stream_if_there().await?;
        found.ok_or_else(|| no_answer(name, &"it was deleted"))
    }

    async fn read(&mut self, stream: &Stream) -> Result<(), Error> {
        let name = &self.names.stream;
        let info = stream.get_info().await;
        let info = info.map_err(|error| no_answer(name, &error))?;
        if info.config.subjects != [self.names.subject.clone()] {
            return Err(Error::Refused(format!(
                "stream {name:?} is not one for channel {:?}: its subjects are {:?}; name another one with --stream-of \
                 CHANNEL=STREAM",
                self.channel, info.config.subjects
            )));
        }
        self.length = info.state.last_sequence;
        if self.length == 0 {
            self.copied = 0;
            return Ok(());
        }
        let description = info.config.description.unwrap_or_default();
        if info.state.messages == 0 {
            // All of it grew too old. A note of another length is older than the last copy.
            let noted = noted(&description).filter(|(length, _)| *length == self.length);
            if let Some((_, copied)) = noted {
                self.copied = copied;
                return Ok(());
            }
            return Err(Error::Refused(format!(
                "stream {name:?} has had messages and holds none any more, so it is not known which was copied \
                 last; delete the stream to copy again what channel {:?} holds, or name another one with --stream-of CHANNEL=STREAM",
                self.channel
            )));
        }
        let last = stream.get_raw_message(self.length).await;
        let last = last.map_err(|error| no_answer(name, &error))?;
        let header = |name| last.headers.get(name).map(|it| it.as_str().to_owned());
        let is_ours = header(CHANNEL).is_some_and(|it| it == escaped(&self.channel));
        let copied = header(SEQUENCE).and_then(|text| text.parse().ok());
        self.copied = copied.filter(|_| is_ours).ok_or_else(|| {
            Error::Refused(format!(
                "message {} of stream {name:?} is not a copy from channel {:?}: another client publishes to {:?}; a mirror must be \
                 the only one until the publishers have moved, and is not needed afterwards",
                self.length, self.channel, self.names.subject
            ))
        })?;
        Ok(())
    }

    /// Notes in the description how far it is, for when all of its messages have grown too old to tell.
    pub(super) async fn note(&self) -> Result<(), Error> {
        let stream = self.stream().await?;
        let mut config = stream.cached_info().config.clone();
        let described = Some(described(&self.channel, self.length, self.copied));
        if config.max_age.is_zero() || self.length == 0 || config.description == described {
            return Ok(());
        }
        config.description = described;
        let updated = self.context.update_stream(config).await;
        updated.map_err(|error| no_answer(&self.names.stream, &error))?;
        Ok(())
    }

    /// Adds them behind the last one. Where the stream took another turn, it is asked again where it is: what was added is
    /// not added again.
    pub(super) async fn append(&mut self, messages: &[Arc<Message>]) -> Result<(), Error> {
        let mut acks = Vec::new();
        let mut length = self.length;
        for message in messages {
            let sent = self
                .context
                .send_publish(self.names.subject.clone(), self.copy(message, length));
            let sent = sent.await.map_err(|error| {
                Error::Unreachable(format!(
                    "message {} of channel {:?} cannot be sent to stream {:?}: {error}",
                    message.sequence.0, self.channel, self.names.stream
                ))
            })?;
            length += 1;
            acks.push((message.sequence.0, length, sent));
        }
        for (sequence, at, ack) in acks {
            match ack.await {
                Ok(ack) if ack.sequence == at && !ack.duplicate => {
                    self.copied = sequence;
                    self.length = at;
                }
                // Nothing behind it can have been taken: the stream is shorter than each of them expects.
                taken => {
                    let why = match taken {
                        Ok(ack) => format!("it stands at {} already", ack.sequence),
                        Err(error) => error.to_string(),
                    };
                    let (before, name) = (self.copied, self.names.stream.clone());
                    let found =
                        Self::find(&self.context, &self.channel, self.names.clone()).await?;
                    let moved = found.copied > before;
                    *self = found;
                    if moved {
                        return Ok(());
                    }
                    return Err(Error::Unreachable(format!(
                        "stream {name:?} did not take message {sequence} of channel {:?}: {why}",
                        self.channel
                    )));
                }
            }
        }
        Ok(())
    }

    fn copy(&self, message: &Message, length: u64) -> PublishMessage {
        let sequence = message.sequence.0.to_string();
        PublishMessage::build()
            .payload(message.data.clone())
            .message_id(format!("{}:{sequence}", escaped(&self.channel)))
            .expected_stream(&self.names.stream)
            .expected_last_sequence(length)
            .header(CHANNEL, escaped(&self.channel).as_str())
            .header(SEQUENCE, sequence.as_str())
            .header(TIME, message.published_at.0.to_string().as_str())
            .header(PUBLISHER, escaped(message.client_id.as_str()).as_str())
    }
}

/// The description of a stream, with its length and its last message's sequence in the channel.
fn described(channel: &str, length: u64, copied: u64) -> String {
    format!("Copy of the NATS Streaming channel {channel:?}; through {length}:{copied}")
}

fn noted(description: &str) -> Option<(u64, u64)> {
    let (_, numbers) = description.rsplit_once("; through ")?;
    let (length, copied) = numbers.split_once(':')?;
    Some((length.parse().ok()?, copied.parse().ok()?))
}

/// A header is one line.
pub(super) fn escaped(text: &str) -> String {
    text.escape_default().to_string()
}

async fn stream(context: &Context, name: &str) -> Result<Option<Stream>, Error> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(why)
                if why.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            GetStreamErrorKind::JetStream(_)
            | GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName => Err(no_answer(name, &error)),
        },
    }
}

pub(super) fn no_answer(name: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Unreachable(format!(
        "JetStream does not answer for stream {name:?}: {error}; is it on there, and may this login use it?"
    ))
}
