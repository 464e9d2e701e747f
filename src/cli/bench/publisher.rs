//! One publisher: keeps its window full, and notes how long each ack took. A message costs a copy of a frame that was
//! encoded before, with the number and the time written over it.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::{Bytes, BytesMut};

use super::histogram::Histogram;
use super::timeline::Timeline;
use crate::cli::failure::Failure;
use crate::core::time::Instant;
use crate::nats::wire::{Message, encode};
use crate::protocol::client;

/// A payload begins with the time at which it was handed to the connection, in nanoseconds, big-endian.
pub(super) const STAMP_BYTES: usize = 8;

/// As the clients of NATS Streaming make them: 22 characters.
pub(super) const GUID_BYTES: usize = GUID_PREFIX_BYTES + DIGITS;
const GUID_PREFIX_BYTES: usize = 12;
const DIGITS: usize = 10;

/// Bytes that one turn of writing may bring. What is left of the window follows with the next one.
const TURN_BYTES: usize = 1 << 20;

const ACKED: u64 = u64::MAX;

/// Who publishes, and how.
#[derive(Clone, Debug)]
pub(super) struct Terms<'a> {
    pub(super) client_id: &'a str,
    pub(super) connection_id: &'a [u8],
    /// Different for each publisher.
    pub(super) guid_prefix: &'a str,
    /// Where acks come.
    pub(super) inbox: &'a str,
    /// Channels and the subjects that they are published to.
    pub(super) channels: &'a [(String, String)],
    /// The first of its channels.
    pub(super) first_channel: usize,
    pub(super) size: usize,
    pub(super) window: usize,
}

#[derive(Debug)]
pub(super) struct Publisher {
    guid_prefix: String,
    /// For each channel, everything up to the payload's data.
    heads: Vec<Vec<u8>>,
    /// Where the digits of the GUID stand in a head.
    digits_at: Vec<usize>,
    data: Vec<u8>,
    tail: Vec<u8>,
    window: usize,
    /// The channel of the next message.
    turn: usize,
    /// Messages of this phase that are still to be sent.
    to_send: u64,
    next_number: u64,
    /// When the messages were sent that wait for an ack, without gaps. Of those that came out of order, [`ACKED`].
    sent: VecDeque<u64>,
    unacked: u64,
    pub(super) acked: u64,
    pub(super) latency: Histogram,
    pub(super) timeline: Timeline,
    pub(super) last_ack: Instant,
    started: Instant,
}

impl Publisher {
    pub(super) fn new(terms: &Terms<'_>) -> Result<Self, Failure> {
        let guid = format!("{}{:0DIGITS$}", terms.guid_prefix, 0);
        let data = noise(terms.size);
        let mut heads = Vec::with_capacity(terms.channels.len());
        let mut digits_at = Vec::with_capacity(terms.channels.len());
        let mut tail = Vec::new();
        for (channel, subject) in terms.channels {
            let request = client::publish_request(client::Publish {
                client_id: terms.client_id,
                connection_id: terms.connection_id,
                guid: &guid,
                channel,
                data: Bytes::copy_from_slice(&data),
            });
            let mut frame = BytesMut::new();
            let inbox = Some(terms.inbox.as_bytes());
            encode::publish(subject.as_bytes(), inbox, &request, &mut frame);
            let (data_at, guid_at) = find(&frame, &data)
                .zip(find(&frame, guid.as_bytes()))
                .filter(|(data_at, guid_at)| guid_at < data_at)
                .context("a publish request is not encoded in the order of its fields")?;
            digits_at.push(guid_at + GUID_PREFIX_BYTES);
            heads.push(frame[..data_at].to_vec());
            tail = frame[data_at + data.len()..].to_vec();
        }
        Ok(Self {
            guid_prefix: terms.guid_prefix.to_owned(),
            heads,
            digits_at,
            data,
            tail,
            window: terms.window,
            turn: terms.first_channel % terms.channels.len(),
            to_send: 0,
            next_number: 0,
            sent: VecDeque::with_capacity(terms.window),
            unacked: 0,
            acked: 0,
            latency: Histogram::default(),
            timeline: Timeline::default(),
            last_ack: Instant::default(),
            started: Instant::default(),
        })
    }

    /// A phase of `messages` begins; what was measured before is forgotten. The channel of the first of them.
    pub(super) fn begin(&mut self, messages: u64, now: Instant) -> usize {
        self.to_send = messages;
        self.acked = 0;
        self.latency = Histogram::default();
        self.timeline = Timeline::default();
        self.last_ack = now;
        self.started = now;
        self.turn
    }

    pub(super) fn stop_sending(&mut self) {
        self.to_send = 0;
    }

    pub(super) fn is_done(&self) -> bool {
        self.to_send == 0 && self.unacked == 0
    }

    pub(super) fn to_send(&self) -> u64 {
        self.to_send
    }

    pub(super) fn unacked(&self) -> u64 {
        self.unacked
    }

    /// Appends what the window has room for. True when there is more for the next turn.
    pub(super) fn fill(&mut self, out: &mut BytesMut, now: Instant) -> bool {
        while self.to_send > 0 && self.sent.len() < self.window {
            if out.len() >= TURN_BYTES {
                return true;
            }
            let begin = out.len();
            out.extend_from_slice(&self.heads[self.turn]);
            let digits = begin + self.digits_at[self.turn];
            write_digits(&mut out[digits..digits + DIGITS], self.next_number);
            let data = out.len();
            out.extend_from_slice(&self.data);
            out[data..data + STAMP_BYTES].copy_from_slice(&now.as_nanos().to_be_bytes());
            out.extend_from_slice(&self.tail);
            self.turn = (self.turn + 1) % self.heads.len();
            self.sent.push_back(now.as_nanos());
            self.next_number += 1;
            self.unacked += 1;
            self.to_send -= 1;
        }
        false
    }

    /// True when it is the ack of a message that waited for it.
    pub(super) fn take(&mut self, message: &Message, now: Instant) -> Result<bool, Failure> {
        let payload = message.payload();
        let number = match payload.strip_prefix(&[0x0a, 22]) {
            Some(guid) if guid.len() == GUID_BYTES => self.number(guid),
            _ => self.decode(payload)?,
        };
        let first = self.next_number - self.sent.len() as u64;
        let slot = number.and_then(|number| usize::try_from(number.checked_sub(first)?).ok());
        let Some(sent) = slot.and_then(|slot| self.sent.get_mut(slot)) else {
            return Ok(false);
        };
        if *sent == ACKED {
            return Ok(false);
        }
        self.latency.add(now.as_nanos().saturating_sub(*sent));
        *sent = ACKED;
        while self.sent.front() == Some(&ACKED) {
            self.sent.pop_front();
        }
        self.unacked -= 1;
        self.acked += 1;
        Ok(true)
    }

    /// So many acks came with one read.
    pub(super) fn note(&mut self, acks: u64, now: Instant) {
        self.timeline.add(now.since(self.started), acks);
        self.last_ack = now;
    }

    fn decode(&self, payload: &[u8]) -> Result<Option<u64>, Failure> {
        let ack = client::publish_ack(Bytes::copy_from_slice(payload))
            .context("an ack cannot be read")?;
        match ack.refusal {
            Some(refusal) => Err(Failure::Failed(anyhow!(
                "the server refuses a message: {refusal}"
            ))),
            None => Ok(self.number(ack.guid.as_bytes())),
        }
    }

    fn number(&self, guid: &[u8]) -> Option<u64> {
        let digits = guid.strip_prefix(self.guid_prefix.as_bytes())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

/// How often each channel is published to by a publisher that sends `messages`, the first one to `first_channel`.
pub(super) fn per_channel(messages: u64, first_channel: usize, channels: usize) -> Vec<u64> {
    let every = messages / channels as u64;
    let more = usize::try_from(messages % channels as u64).unwrap_or(0);
    let mut counts = vec![every; channels];
    for index in 0..more {
        counts[(first_channel + index) % channels] += 1;
    }
    counts
}

/// When the message was handed to its connection.
pub(super) fn stamp(data: &[u8]) -> Option<Instant> {
    let stamp = data.first_chunk::<STAMP_BYTES>()?;
    Some(Instant::from_nanos(u64::from_be_bytes(*stamp)))
}

pub(super) fn guid_prefix(run: &str, publisher: usize) -> String {
    let run: String = run.chars().rev().take(7).collect();
    format!("{run:0>7}-{publisher:04}")
}

fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit is below ten");
        number /= 10;
    }
}

/// Bytes that no compression makes smaller, the same in each run.
pub(super) fn noise(size: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(size).collect()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

/// Time without any ack after which a publisher gives up.
pub(super) fn overdue(publisher: &Publisher, now: Instant, limit: Duration) -> bool {
    !publisher.is_done() && now.since(publisher.last_ack) > limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::wire::{Frame, Parser};

    fn publisher(window: usize) -> Publisher {
        let channels = [
            ("a".to_owned(), "pub.a".to_owned()),
            ("bb".to_owned(), "pub.bb".to_owned()),
        ];
        let publisher = Publisher::new(&Terms {
            client_id: "me",
            connection_id: b"connection",
            guid_prefix: &guid_prefix("0123456789", 3),
            inbox: "_INBOX.x",
            channels: &channels,
            first_channel: 1,
            size: 16,
            window,
        });
        publisher.unwrap()
    }

    fn ack(number: u64) -> Message {
        let guid = format!("{}{number:0DIGITS$}", guid_prefix("0123456789", 3));
        let mut parser = Parser::default();
        let text = format!("MSG _INBOX.x 0 24\r\n\x0a\x16{guid}\r\n");
        parser.room().extend_from_slice(text.as_bytes());
        match parser.next_frame() {
            Ok(Some(Frame::Message(message))) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_is_the_request_of_a_client_with_the_time_in_its_data() {
        let mut publisher = publisher(2);
        publisher.begin(5, Instant::default());
        let mut out = BytesMut::new();
        assert!(!publisher.fill(&mut out, Instant::from_nanos(77)));

        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.starts_with("PUB pub.bb _INBOX.x "), "{text}");
        assert!(text.contains("PUB pub.a _INBOX.x "), "{text}");
        let guid = "9876543-00030000000001";
        assert!(text.contains(guid) && guid.len() == GUID_BYTES, "{text}");
        let second = find(&out, b"PUB pub.a").unwrap();
        let payload = find(&out[second..], b"\r\n").unwrap() + second + 2;
        let expected = client::publish_request(client::Publish {
            client_id: "me",
            connection_id: b"connection",
            guid,
            channel: "a",
            data: [&77_u64.to_be_bytes()[..], &noise(16)[8..]].concat().into(),
        });
        assert_eq!(&out[payload..out.len() - 2], &expected[..]);
    }

    #[test]
    fn the_window_is_kept_and_each_ack_counts_once() {
        let mut publisher = publisher(2);
        publisher.begin(3, Instant::default());
        let mut out = BytesMut::new();
        publisher.fill(&mut out, Instant::from_nanos(10));

        assert!(publisher.take(&ack(1), Instant::from_nanos(40)).unwrap());
        assert!(!publisher.take(&ack(1), Instant::from_nanos(50)).unwrap());
        assert!(!publisher.take(&ack(9), Instant::from_nanos(50)).unwrap());
        out.clear();
        publisher.fill(&mut out, Instant::from_nanos(60));
        assert!(out.is_empty(), "the oldest message still holds the window");
        assert!(publisher.take(&ack(0), Instant::from_nanos(60)).unwrap());
        publisher.fill(&mut out, Instant::from_nanos(60));
        assert!(!publisher.is_done());
        assert!(publisher.take(&ack(2), Instant::from_nanos(61)).unwrap());
        assert!(publisher.is_done());
        assert_eq!((publisher.acked, publisher.latency.max()), (3, 50));
    }

    #[test]
    fn messages_go_round_the_channels() {
        assert_eq!(per_channel(7, 2, 3), [2, 2, 3]);
        assert_eq!(per_channel(2, 2, 3), [1, 0, 1]);
        assert_eq!(per_channel(5, 0, 1), [5]);
    }
}
