//! The few names, numbers and settings that hostile events are made of: few, so that they meet again.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use stanby::core::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, QueueName, Sequence, Subject,
};
use stanby::core::limits::{
    ChannelLimits, ChannelPattern, Heartbeats, Limits, Overrides, PerChannel, Settings,
};
use stanby::core::partition::Partition;
use stanby::core::request::{Connect, Leave, Publisher, Subscribe};

use super::input::Input;
use super::payloads;

const CLIENTS: &[&str] = &["a", "b", "c"];
const CHANNELS: &[&str] = &["x", "y", "X", "deep.x"];
const INBOXES: &[&str] = &["in.1", "in.2", "in.3"];
const HEARTBEATS: &[&str] = &["hb.1", "hb.2"];
const CONNECTIONS: &[&[u8]] = &[b"", b"1", b"2", b"\xff\x00"];

pub(crate) fn client(input: &mut Input<'_>) -> ClientId {
    ClientId::parse(input.pick(CLIENTS).into()).expect("a valid ID")
}

pub(crate) fn client_text(input: &mut Input<'_>) -> ByteString {
    match input.below(8) {
        0 => "".into(),
        1 => "nobody at all".into(),
        _ => input.pick(CLIENTS).into(),
    }
}

pub(crate) fn channel(input: &mut Input<'_>) -> ChannelName {
    ChannelName::parse(input.pick(CHANNELS).into()).expect("a valid name")
}

pub(crate) fn subject(text: &str) -> Subject {
    Subject::parse(text.into()).expect("a valid subject")
}

pub(crate) fn reply(input: &mut Input<'_>) -> Option<Subject> {
    input.chance(230).then(|| subject("reply"))
}

pub(crate) fn connection(input: &mut Input<'_>) -> ConnectionId {
    ConnectionId(Bytes::from_static(input.pick(CONNECTIONS)))
}

pub(crate) fn connect(input: &mut Input<'_>) -> Connect {
    let integer = |input: &mut Input<'_>| input.pick(&[0, 1, -1, 5, i32::MIN, i32::MAX]);
    Connect {
        client_id: client(input),
        heartbeat_inbox: subject(input.pick(HEARTBEATS)),
        protocol: integer(input),
        connection_id: connection(input),
        ping_interval: integer(input),
        ping_max_out: integer(input),
    }
}

pub(crate) fn publisher(input: &mut Input<'_>) -> Publisher {
    match connection(input) {
        empty if empty.is_empty() => Publisher::Client(client_text(input)),
        connection => Publisher::Connection(connection),
    }
}

pub(crate) fn subscribe(input: &mut Input<'_>) -> Subscribe {
    let queue = input.pick(&["", "", "q", "q:d"]);
    let durable = input.pick(&["", "d", "d", "q:d"]);
    let mut start = payloads::start(input);
    if let stanby::core::request::StartPosition::Sequence(sequence) = &mut start {
        // `protocol` lets no higher one pass.
        *sequence = (*sequence).min(Sequence(i64::MAX.unsigned_abs()));
    }
    Subscribe {
        client_id: client(input),
        channel: channel(input),
        inbox: subject(input.pick(INBOXES)),
        queue_group: QueueName::parse(queue.into()),
        durable_name: DurableName::parse(durable.into()),
        max_in_flight: input.pick(&[1, 1, 2, 3, 20, i32::MAX.unsigned_abs()]),
        ack_wait: Duration::from_secs(input.pick(&[1, 1, 2, 30, i32::MAX as u64])),
        start,
        ack_token: u128::from(input.number()),
    }
}

/// `known` are ack inboxes that were handed out.
pub(crate) fn leave(input: &mut Input<'_>, known: &[(ByteString, ChannelName)]) -> Leave {
    let (inbox, channel) = match known.len() {
        0 => (input.pick(INBOXES).into(), channel(input)),
        _ if input.chance(64) => (input.pick(INBOXES).into(), channel(input)),
        some => known[input.below(some)].clone(),
    };
    Leave {
        client_id: client_text(input),
        channel,
        inbox,
    }
}

pub(crate) fn settings(input: &mut Input<'_>) -> Settings {
    let second = Duration::from_secs(1);
    let channel = channel_limits(input);
    let overrides = Overrides {
        messages: Some(Some(2)),
        inactivity: Some(Some(second)),
        ..Overrides::default()
    };
    let deep = ChannelPattern::parse("deep.>".into()).expect("a valid pattern");
    let per_channel = if input.chance(128) {
        PerChannel::new(vec![(deep, overrides)], channel)
    } else {
        PerChannel::default()
    };
    let heartbeats = Heartbeats {
        interval: input.pick(&[1, 5, 30]) * second,
        timeout: input.pick(&[1, 1, 10]) * second,
        fail_count: input.pick(&[0, 1, 10]),
        duplicate_timeout: second / 2,
    };
    let channels: Option<u32> = input.pick(&[None, Some(1), Some(2)]);
    let mut settings = Settings {
        heartbeats,
        limits: Limits {
            channels: channels.map(|count| count as usize),
            // Not inputs of their own: those that were found once would mean something else.
            connects_per_second: channels,
            clients: channels.map(|count| count as usize * 2),
            in_flight: channels,
            channel,
            per_channel,
            payload_bytes: input.pick(&[1 << 20, 60, 1]),
            batch_messages: input.pick(&[8192, 1, 3]),
            batch_bytes: input.pick(&[8 << 20, 1, 200]),
            batch_rows: channels.map_or(2048, |count| count as usize),
            clients_bytes: channels.map_or(64 << 20, |count| count as usize * 600),
            subscriptions_bytes: channels.map_or(160 << 20, |count| count as usize * 3000),
            in_flight_in_all: channels.map_or(1_000_000, |count| count as usize * 2),
            early_acks_in_all: channels.map_or(1_000_000, |count| count as usize),
            answers_bytes: 16 << 20,
            window_bytes: 1 << 20,
            paged_bytes: 64 << 20,
            tail_bytes: input.pick(&[64 << 20, 0, 300, 1000, 3000]),
            page_messages: input.pick(&[1024, 1, 2, 3]),
            page_bytes: input.pick(&[1 << 20, 0, 1, 100]),
            loads: input.pick(&[16, 1, 2]),
            trim_step: input.pick(&[5000, 1, 2]),
            progress_delay: input.pick(&[50, 0, 1]) * Duration::from_millis(1),
            load_retry: input.pick(&[250, 1]) * Duration::from_millis(1),
            unseen_retry: 2 * second,
            duplicate_window: input.pick(&[10, 0, 1]) * second,
        },
        replace_durables: input.chance(64),
        ack_prefix: "ack".into(),
        partition: input.chance(32).then(own_channels).flatten(),
    };
    // Along with the tail, for the same reason.
    settings.limits.paged_bytes = settings.limits.tail_bytes;
    settings.limits.window_bytes = settings.limits.tail_bytes.max(1);
    settings
}

/// Some of the channels are other groups'.
fn own_channels() -> Option<Partition> {
    let own = ["x", "deep.>"].map(|text| ChannelPattern::parse(text.into()));
    Partition::new(own.into_iter().flatten().collect())
}

fn channel_limits(input: &mut Input<'_>) -> ChannelLimits {
    let second = Duration::from_secs(1);
    ChannelLimits {
        subscriptions: input.pick(&[None, None, Some(1), Some(3)]),
        messages: input.pick(&[None, Some(1), Some(3), Some(8)]),
        bytes: input.pick(&[None, None, Some(1), Some(100), Some(500)]),
        age: input.pick(&[
            None,
            None,
            Some(second / 1000),
            Some(second),
            Some(40 * second),
        ]),
        inactivity: input.pick(&[None, None, Some(second), Some(40 * second)]),
    }
}
