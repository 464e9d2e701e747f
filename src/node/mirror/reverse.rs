//! The other direction: a stream feeds a channel, so that publishers can move before the last old consumer has. The transaction
//! that publishes notes how far the stream is, so that each message comes once, whatever is killed between. What is in the stream as
//! a copy of this channel is left out.

use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, pull};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::Error;
use super::stream::{CHANNEL, Target, escaped, no_answer};
use crate::store::{Feed, Store};

/// Messages and bytes of them that are published in one transaction.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

/// A stream that has the next message sends it sooner.
const NEXT_LIMIT: Duration = Duration::from_secs(5);

/// Between two looks whether there is room in the outbox, and how many there are.
const ROOM_PAUSE: Duration = Duration::from_millis(50);
const ROOM_TRIES: u32 = 200;

/// How far a stream is that feeds a channel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fed {
    /// Everything in the stream up to this sequence is published to the channel.
    pub(super) through: u64,
    /// The last of the stream.
    pub(super) last: u64,
}

/// Publishes what the stream has, as far as it went when it was asked.
pub(super) async fn feed(store: &Store, target: &Target, channel: &str) -> Result<Fed, Error> {
    let name = &target.names.stream;
    let Some(stream) = target.stream_if_there().await? else {
        return Ok(Fed::default());
    };
    let (fed, last) = fed(&stream, name, channel).await?;
    let mut through = match store.fed_through(&fed).await? {
        Some(through) => through,
        // Copies of the channel come first: nothing is copied behind a message of somebody else.
        None => first_of_others(&stream, name, channel).await? - 1,
    };
    if through > last {
        return Err(Error::Refused(format!(
            "stream {name:?} ends with message {last}, and {through} was published to channel {channel:?} already: it is an older \
             copy; name another stream with --stream-of CHANNEL=STREAM"
        )));
    }
    if through == last {
        return Ok(Fed { through, last });
    }
    let consumer = stream.create_consumer(pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: through + 1,
        },
        replay_policy: ReplayPolicy::Instant,
        ..pull::OrderedConfig::default()
    });
    let consumer = consumer.await.map_err(|error| no_answer(name, &error))?;
    let messages = consumer.messages().await;
    let mut messages = messages.map_err(|error| no_answer(name, &error))?;
    while through < last {
        let (mut batch, mut bytes, mut reached) = (Vec::<Bytes>::new(), 0, through);
        while reached < last && batch.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            let next = timeout(NEXT_LIMIT, messages.next()).await;
            let Ok(Some(message)) = next else {
                // What its end was may be deleted since.
                break;
            };
            let message = message.map_err(|error| no_answer(name, &error))?;
            let info = message.info().map_err(|error| no_answer(name, &error))?;
            reached = info.stream_sequence;
            if !is_copy(message.headers.as_ref(), channel) {
                bytes += message.payload.len();
                batch.push(message.payload.clone());
            }
            if info.pending == 0 {
                reached = reached.max(last);
            }
        }
        if reached == through {
            break;
        }
        let mut waited = 0;
        while !store.feed(&fed, &batch, (through, reached)).await? {
            if waited == ROOM_TRIES {
                return Err(Error::Unreachable(format!(
                    "so much waits in the outbox that nothing is added for channel {channel:?}: is a server active?"
                )));
            }
            waited += 1;
            sleep(ROOM_PAUSE).await;
        }
        through = reached;
    }
    Ok(Fed { through, last })
}

/// Changes nothing.
pub(super) async fn standing(
    store: &Store,
    target: &Target,
    channel: &str,
) -> Result<Option<Fed>, Error> {
    let Some(stream) = target.stream_if_there().await? else {
        return Ok(None);
    };
    let (fed, last) = fed(&stream, &target.names.stream, channel).await?;
    let through = store.fed_through(&fed).await?;
    Ok(through.map(|through| Fed { through, last }))
}

async fn fed(stream: &Stream, name: &str, channel: &str) -> Result<(Feed, u64), Error> {
    let info = stream.get_info().await;
    let info = info.map_err(|error| no_answer(name, &error))?;
    let fed = Feed {
        channel: channel.to_owned(),
        stream: name.to_owned(),
        created: info.created.unix_timestamp_nanos().to_string(),
    };
    Ok((fed, info.state.last_sequence))
}

fn is_copy(headers: Option<&async_nats::HeaderMap>, channel: &str) -> bool {
    let of = headers.and_then(|headers| headers.get(CHANNEL));
    of.is_some_and(|it| it.as_str() == escaped(channel))
}

/// Behind the end of the stream where all of it are copies.
async fn first_of_others(stream: &Stream, name: &str, channel: &str) -> Result<u64, Error> {
    let info = stream.get_info().await;
    let state = info.map_err(|error| no_answer(name, &error))?.state;
    let (mut low, mut high) = (state.first_sequence.max(1), state.last_sequence + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let message = stream.get_raw_message(middle).await;
        let message = message.map_err(|error| no_answer(name, &error))?;
        if is_copy(Some(&message.headers), channel) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
