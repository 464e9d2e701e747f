//! Consumers that begin where the durables of a channel stand. They follow while the durable moves, until somebody uses them.

use std::collections::BTreeMap;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;

use super::names::is_name;
use super::stream::{SEQUENCE, Target, no_answer};
use super::{Durable, Error};
use crate::core::ids::{ChannelId, Sequence};
use crate::core::snapshot::Snapshot;

/// Begins the description of consumers that the mirror has created, and so may create again.
const OURS: &str = "Durable of NATS Streaming";

/// What is known to be done: by stream and consumer, the floor.
pub(super) type Done = BTreeMap<(String, String), u64>;

/// By the name of its consumer, up to where each durable of the channel has acked everything.
fn wanted(snapshot: &Snapshot, channel: ChannelId) -> Result<BTreeMap<String, u64>, Error> {
    let mut all = BTreeMap::new();
    let positions = snapshot.positions.iter();
    for (id, position) in positions.filter(|(_, it)| it.channel == channel) {
        let Some(durable) = &position.durable_name else {
            continue;
        };
        let mut subscriptions = snapshot.subscriptions.values();
        let owner = match &position.queue_group {
            Some(group) => group.as_str(),
            None => match subscriptions.find(|it| it.position == *id) {
                Some(subscription) => subscription.client_id.as_str(),
                None => continue,
            },
        };
        let text = format!("{owner}-{}", durable.as_str());
        let name = text.replace('.', "_");
        if !is_name(&name)
            || all
                .insert(name.clone(), position.progress.acked_floor.0)
                .is_some()
        {
            return Err(Error::Refused(format!(
                "durable {text:?} would get the consumer {name:?}, which JetStream does not take or another durable has already; \
                 make the consumers of this channel by hand, and leave --consumers out"
            )));
        }
    }
    Ok(all)
}

/// In order.
pub(super) fn standing(snapshot: &Snapshot, channel: ChannelId, last: Sequence) -> Vec<Durable> {
    let positions = snapshot.positions.iter();
    let positions = positions.filter(|(_, it)| it.channel == channel);
    let durables = positions.filter_map(|(id, position)| {
        let durable = position.durable_name.as_ref()?;
        let subscriptions = snapshot.subscriptions.values();
        let members: Vec<_> = subscriptions.filter(|it| it.position == *id).collect();
        let owner = match &position.queue_group {
            Some(group) => group.as_str(),
            None => members.first()?.client_id.as_str(),
        };
        let progress = &position.progress;
        let above = progress.acked_above.iter();
        let above: u64 = above.map(|(first, last)| last.0 - first.0 + 1).sum();
        Some(Durable {
            name: format!("{owner}/{}", durable.as_str()),
            online: members.iter().any(|it| it.online),
            left: last.0.saturating_sub(progress.acked_floor.0 + above),
        })
    });
    let mut durables: Vec<Durable> = durables.collect();
    durables.sort();
    durables
}

/// Brings the consumers of the stream to where the durables are.
pub(super) async fn follow(
    snapshot: &Snapshot,
    channel: ChannelId,
    target: &Target,
    done: &mut Done,
) -> Result<(), Error> {
    for (name, floor) in wanted(snapshot, channel)? {
        let key = (target.names.stream.clone(), name.clone());
        if done.get(&key) == Some(&floor) {
            continue;
        }
        let stream = target.stream().await?;
        place(&stream, &target.names.stream, &name, floor).await?;
        done.insert(key, floor);
    }
    Ok(())
}

async fn place(stream: &Stream, of: &str, name: &str, floor: u64) -> Result<(), Error> {
    let start_sequence = first_above(stream, of, floor).await?;
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence };
    match stream.consumer_info(name).await {
        Ok(info) => {
            let ours = info.config.description.as_ref();
            let ours = ours.is_some_and(|it| it.starts_with(OURS));
            let used = info.delivered.consumer_sequence > 0 || info.num_waiting > 0;
            if !ours || used || info.config.deliver_policy == deliver_policy {
                return Ok(());
            }
            let deleted = stream.delete_consumer(name).await;
            deleted.map_err(|error| no_answer(of, &error))?;
        }
        Err(error) => match error.kind() {
            ConsumerInfoErrorKind::NotFound => {}
            ConsumerInfoErrorKind::JetStream(why)
                if why.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {}
            ConsumerInfoErrorKind::JetStream(_)
            | ConsumerInfoErrorKind::StreamNotFound
            | ConsumerInfoErrorKind::NoResponders
            | ConsumerInfoErrorKind::InvalidName
            | ConsumerInfoErrorKind::Offline
            | ConsumerInfoErrorKind::Request
            | ConsumerInfoErrorKind::TimedOut => return Err(no_answer(of, &error)),
        },
    }
    let made = stream.create_consumer(pull::Config {
        durable_name: Some(name.to_owned()),
        description: Some(format!("{OURS}, acked through {floor}")),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    });
    made.await.map_err(|error| no_answer(of, &error))?;
    Ok(())
}

/// Where in the stream the first copy of a later message is; behind its end when there is none. What limits dropped, they
/// dropped at the front.
async fn first_above(stream: &Stream, of: &str, floor: u64) -> Result<u64, Error> {
    let info = stream.get_info().await;
    let state = info.map_err(|error| no_answer(of, &error))?.state;
    let (mut low, mut high) = (state.first_sequence.max(1), state.last_sequence + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let message = stream.get_raw_message(middle).await;
        let message = message.map_err(|error| no_answer(of, &error))?;
        let sequence = message.headers.get(SEQUENCE);
        let sequence = sequence.and_then(|text| text.as_str().parse::<u64>().ok());
        if sequence.is_some_and(|it| it <= floor) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
