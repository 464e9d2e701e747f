//! Payloads as nobody should send them: any bytes, fields in any order and of any kind, and what is valid with
//! some of its bytes changed.

use bytes::{Bytes, BytesMut};
use stanby::core::ids::{ChannelName, ClientId, Guid, Sequence};
use stanby::core::message::Message;
use stanby::core::request::StartPosition;
use stanby::core::time::Timestamp;
use stanby::protocol::{client, encode};

use super::input::Input;

pub(crate) fn payload(input: &mut Input<'_>) -> Bytes {
    match input.below(4) {
        0 => {
            let length = input.below(300);
            Bytes::copy_from_slice(input.take(length))
        }
        1 => fields(input),
        2 => valid(input),
        _ => {
            let mut bytes = valid(input).to_vec();
            for _ in 0..=input.below(4) {
                mutate(input, &mut bytes);
            }
            bytes.into()
        }
    }
}

fn fields(input: &mut Input<'_>) -> Bytes {
    let mut bytes = Vec::new();
    for _ in 0..input.below(14) {
        let (tag, wire) = (input.below(17), input.pick(&[0, 0, 2, 2, 2, 1, 5, 3, 4, 7]));
        bytes.push(u8::try_from(tag << 3 | wire).expect("at most 16 * 8 + 7"));
        match wire {
            0 => varint(input.extreme(), &mut bytes),
            1 => bytes.extend(input.number().to_le_bytes()),
            2 => {
                let content = text(input);
                // Sometimes the length is another one.
                let length = if input.chance(240) {
                    content.len() as u64
                } else {
                    input.extreme()
                };
                varint(length, &mut bytes);
                bytes.extend(content);
            }
            _ => bytes.extend(input.take(4)),
        }
    }
    bytes.into()
}

fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

/// What stands where a name or a subject is expected.
fn text(input: &mut Input<'_>) -> Vec<u8> {
    const TEXTS: &[&str] = &[
        "me",
        "foo",
        "foo.bar",
        "_INBOX.a",
        "",
        "a b",
        "foo.*",
        "foo.>",
        "..",
        "é漢😀",
        "a\0b",
        "a\r\nPUB x 0\r\n",
        "x:y",
        "\u{202e}",
    ];
    match input.below(20) {
        index @ 0..14 => TEXTS[index].as_bytes().to_vec(),
        14 => vec![b'x'; input.pick(&[1023, 1024, 1025, 1919, 1920, 1921, 5000])],
        15 => vec![0xff, 0xfe],
        16 => "é".repeat(512).into_bytes()[..1023].to_vec(),
        _ => {
            let length = input.below(24);
            input.take(length).to_vec()
        }
    }
}

fn name(input: &mut Input<'_>) -> String {
    String::from_utf8_lossy(&text(input)).into_owned()
}

fn integer(input: &mut Input<'_>) -> i32 {
    let low = input.extreme().to_le_bytes();
    i32::from_le_bytes([low[0], low[1], low[2], low[3]])
}

fn valid(input: &mut Input<'_>) -> Bytes {
    match input.below(9) {
        0 => client::connect_request(&client::Connect {
            client_id: &name(input),
            heartbeat_inbox: &name(input),
            protocol: integer(input),
            connection_id: &text(input),
            ping_interval: integer(input),
            ping_max_out: integer(input),
        }),
        1 => client::publish_request(client::Publish {
            client_id: &name(input),
            connection_id: &text(input),
            guid: &name(input),
            channel: &name(input),
            data: Bytes::from(text(input)),
        }),
        2 => client::subscribe_request(&client::Subscribe {
            client_id: &name(input),
            channel: &name(input),
            inbox: &name(input),
            queue_group: &name(input),
            durable_name: &name(input),
            max_in_flight: integer(input),
            ack_wait_seconds: integer(input),
            start: start(input),
        }),
        3 => client::leave_request(&name(input), &name(input), &name(input)),
        4 => client::close_request(&name(input)),
        5 => client::ping_request(&text(input)),
        6 => client::ack(&name(input), input.extreme()),
        _ => delivery(input),
    }
}

pub(crate) fn start(input: &mut Input<'_>) -> StartPosition {
    match input.below(5) {
        0 => StartPosition::NewOnly,
        1 => StartPosition::LastReceived,
        2 => StartPosition::First,
        3 => StartPosition::Sequence(Sequence(input.extreme())),
        _ => StartPosition::TimeDelta(input.extreme().cast_signed()),
    }
}

fn delivery(input: &mut Input<'_>) -> Bytes {
    let message = Message {
        sequence: Sequence(input.extreme()),
        published_at: Timestamp(input.extreme().cast_signed()),
        client_id: ClientId::parse("me".into()).expect("a valid ID"),
        guid: Guid::parse("g".into()).expect("a valid guid"),
        reply: name(input).into(),
        data: Bytes::from(text(input)),
    };
    let channel = ChannelName::parse("foo".into()).expect("a valid name");
    let count = u32::from(input.byte());
    encode::delivery(&channel, &message, count, &mut BytesMut::new())
}

fn mutate(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    let at = input.below(bytes.len() + 1).min(bytes.len());
    match input.below(7) {
        0 => bytes.truncate(at),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << input.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = input.byte();
            }
        }
        3 => bytes.insert(at, input.byte()),
        4 => {
            let copy = bytes.get(at..).unwrap_or_default().to_vec();
            bytes.extend(copy);
        }
        5 => bytes.extend(fields(input)),
        _ => {
            let mut number = Vec::new();
            varint(input.extreme(), &mut number);
            bytes.splice(at..at, number);
        }
    }
}
