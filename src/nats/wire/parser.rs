//! Cuts the bytes of a NATS server into frames.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use thiserror::Error;

use super::message::Message;

/// Longest control line in bytes. nats-server lets clients have 4 KiB of subject and reply unless it is configured
/// otherwise, and its own INFO grows with its cluster.
pub const CONTROL_LINE_MAX: usize = 1 << 20;

/// Largest payload in bytes, headers included: as much as nats-server keeps for a slow client before it cuts it
/// off. What one server of a cluster takes as `max_payload` may be more than another one says.
pub const PAYLOAD_MAX: usize = 64 << 20;

/// Room for one read: blocks of this size are allocated.
const BLOCK_BYTES: usize = 128 << 10;

/// Less room than this is not worth a read.
const ROOM_BYTES_MIN: usize = 16 << 10;

/// How much of an invalid line goes into the error.
const SHOWN_BYTES: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// JSON, for [`super::Info::parse`].
    Info(Bytes),
    Message(Message),
    Ping,
    Pong,
    Ok,
    /// The text without its quotes.
    Error(Bytes),
}

/// Not the NATS protocol, or more of it than anybody sends. There is no way to go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    #[error("a line of more than {CONTROL_LINE_MAX} bytes")]
    LineTooLong,
    #[error("a message of {0} bytes; at most {PAYLOAD_MAX} are taken")]
    PayloadTooLarge(u64),
    #[error("something that is not the NATS protocol: \"{0}\"")]
    Malformed(String),
}

/// Holds what was read and not yet cut: at most a line, or a message, and one block.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: BytesMut,
    /// Bytes at the start of the buffer that have no line end in them.
    scanned: usize,
    /// Bytes that the next frame takes at least; 0 when its line is not complete.
    wanted: usize,
}

impl Parser {
    /// Where the next read appends to. It has room: for the rest of a message that has begun, at least.
    pub fn room(&mut self) -> &mut BytesMut {
        let missing = self.wanted.saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < missing.max(ROOM_BYTES_MIN) {
            self.buffer.reserve(missing.max(BLOCK_BYTES));
        }
        &mut self.buffer
    }

    /// True when nothing waits to be cut, not even a part of a frame.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next frame, or `None` when more has to be read first. After an error the stream has no meaning.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        if self.buffer.len() < self.wanted {
            return Ok(None);
        }
        let Some(end) = memchr(b'\n', &self.buffer[self.scanned..]) else {
            self.scanned = self.buffer.len();
            return if self.scanned > CONTROL_LINE_MAX {
                Err(Violation::LineTooLong)
            } else {
                Ok(None)
            };
        };
        let line_end = self.scanned + end + 1;
        if line_end > CONTROL_LINE_MAX {
            return Err(Violation::LineTooLong);
        }
        // Found again at once when the rest of a message has to be waited for.
        self.scanned = line_end - 1;
        let line = &self.buffer[..line_end - 1];
        let line = line.strip_suffix(b"\r").unwrap_or(line);

        let head = match line.first() {
            Some(b'M' | b'H') => Head::parse(line)?,
            _ => None,
        };
        match head {
            Some(head) => self.message(&head, line_end),
            None => self.control(line.len(), line_end).map(Some),
        }
    }

    fn message(&mut self, head: &Head, line_end: usize) -> Result<Option<Frame>, Violation> {
        let payload_end = line_end + head.total_bytes;
        self.wanted = payload_end + 2;
        if self.buffer.len() < self.wanted {
            return Ok(None);
        }
        if &self.buffer[payload_end..self.wanted] != b"\r\n" {
            return Err(malformed(&self.buffer[..line_end]));
        }
        let mut frame = self.buffer.split_to(self.wanted);
        self.scanned = 0;
        self.wanted = 0;
        frame.truncate(payload_end);
        let payload_at = line_end + head.header_bytes;
        Ok(Some(Frame::Message(Message {
            frame: frame.freeze(),
            sid: head.sid,
            subject: head.subject.clone(),
            reply: head.reply.clone(),
            headers: (head.header_bytes > 0).then(|| narrow(line_end..payload_at)),
            payload: narrow(payload_at..payload_end),
        })))
    }

    fn control(&mut self, line_bytes: usize, line_end: usize) -> Result<Frame, Violation> {
        let mut line = self.buffer.split_to(line_end);
        self.scanned = 0;
        line.truncate(line_bytes);
        let line = line.freeze();
        let (word, rest) = match line.iter().position(|&byte| byte == b' ' || byte == b'\t') {
            Some(at) => (&line[..at], line.slice(at + 1..)),
            None => (&line[..], Bytes::new()),
        };
        match word {
            b"PING" => Ok(Frame::Ping),
            b"PONG" => Ok(Frame::Pong),
            b"+OK" => Ok(Frame::Ok),
            b"INFO" => Ok(Frame::Info(rest)),
            b"-ERR" => Ok(Frame::Error(unquoted(&rest))),
            _ => Err(malformed(&line)),
        }
    }
}

/// The control line of a message.
struct Head {
    sid: u64,
    subject: Range<u32>,
    reply: Option<Range<u32>>,
    header_bytes: usize,
    /// Headers and payload.
    total_bytes: usize,
}

impl Head {
    /// `None` when the line is not a message's. Ranges count from the start of the line.
    fn parse(line: &[u8]) -> Result<Option<Self>, Violation> {
        let (skip, has_headers) = if line.starts_with(b"MSG ") {
            (4, false)
        } else if line.starts_with(b"HMSG ") {
            (5, true)
        } else {
            return Ok(None);
        };
        let head = Self::of_words(line, skip, has_headers).ok_or_else(|| malformed(line))?;
        if head.total_bytes > PAYLOAD_MAX {
            return Err(Violation::PayloadTooLarge(head.total_bytes as u64));
        }
        Ok(Some(head))
    }

    /// Subject, subscription, reply subject if there is one, header bytes if there are headers, bytes in all.
    fn of_words(line: &[u8], skip: usize, has_headers: bool) -> Option<Self> {
        // A sixth word would be one too many.
        let mut words: [Range<usize>; 6] = Default::default();
        let mut count = 0;
        let mut at = skip;
        while at < line.len() {
            let end = memchr(b' ', &line[at..]).map_or(line.len(), |length| at + length);
            if end > at {
                *words.get_mut(count)? = at..end;
                count += 1;
            }
            at = end + 1;
        }
        let sizes = if has_headers { 2 } else { 1 };
        let has_reply = match count - sizes.min(count) {
            2 => false,
            3 => true,
            _ => return None,
        };
        let size = |at: usize| {
            let number = number(&line[words[at].clone()])?;
            usize::try_from(number).ok()
        };
        let total_bytes = size(count - 1)?;
        let header_bytes = if has_headers { size(count - 2)? } else { 0 };
        (header_bytes <= total_bytes).then_some(())?;
        Some(Self {
            sid: number(&line[words[1].clone()])?,
            subject: narrow(words[0].clone()),
            reply: has_reply.then(|| narrow(words[2].clone())),
            header_bytes,
            total_bytes,
        })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    // 19 digits cannot overflow, and say more than anything that is counted here.
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

fn narrow(range: Range<usize>) -> Range<u32> {
    let narrow = |at: usize| u32::try_from(at).expect("lines and payloads are far below 4 GiB");
    narrow(range.start)..narrow(range.end)
}

fn unquoted(text: &Bytes) -> Bytes {
    let trimmed = text.trim_ascii();
    let inner = trimmed
        .strip_prefix(b"'")
        .and_then(|rest| rest.strip_suffix(b"'"));
    text.slice_ref(inner.unwrap_or(trimmed))
}

fn malformed(line: &[u8]) -> Violation {
    let shown = &line[..line.len().min(SHOWN_BYTES)];
    Violation::Malformed(shown.escape_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::nats::wire::Info;

    /// All frames of bytes that come in pieces of these sizes, repeated as often as it takes.
    fn frames(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, Violation> {
        let mut parser = Parser::default();
        let mut frames = Vec::new();
        let mut rest = bytes;
        for &piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at(piece.clamp(1, rest.len().max(1)).min(rest.len()));
            parser.room().extend_from_slice(now);
            while let Some(frame) = parser.next_frame()? {
                frames.push(frame);
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        Ok(frames)
    }

    fn only_message(bytes: &[u8]) -> Message {
        match frames(bytes, &[bytes.len()]).unwrap().as_slice() {
            [Frame::Message(message)] => message.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_kind_of_frame_is_understood() {
        let bytes =
            b"INFO {\"max_payload\":7} \r\nPING\r\nPONG\n+OK\r\n-ERR 'Stale Connection'\r\n";
        let frames = frames(bytes, &[bytes.len()]).unwrap();

        let Frame::Info(json) = &frames[0] else {
            panic!("{frames:?}")
        };
        assert_eq!(Info::parse(json).unwrap().max_payload, 7);
        assert_eq!(
            frames[1..],
            [
                Frame::Ping,
                Frame::Pong,
                Frame::Ok,
                Frame::Error("Stale Connection".into())
            ]
        );
    }

    #[test]
    fn the_parts_of_a_message_are_bytes_that_need_not_be_text() {
        let message = only_message(b"MSG a.\xff 12 r\x00\xfe 3\r\na\r\n\r\n");
        assert_eq!(message.subject(), b"a.\xff");
        assert_eq!(message.sid(), 12);
        assert_eq!(message.reply(), Some(&b"r\x00\xfe"[..]));
        assert_eq!(message.payload(), b"a\r\n");
        assert_eq!(
            message.detached(),
            (Some(Bytes::from_static(b"r\x00\xfe")), "a\r\n".into())
        );

        let bare = only_message(b"MSG a 1 0\r\n\r\n");
        assert_eq!((bare.reply(), bare.payload()), (None, &b""[..]));
        assert_eq!(bare.detached(), (None, Bytes::new()));
        assert!(!bare.is_no_responders());
    }

    #[test]
    fn headers_are_set_apart_and_tell_that_nobody_listens() {
        let message = only_message(b"HMSG a 1 r 16 18\r\nNATS/1.0 503\r\n\r\nxy\r\n");
        assert_eq!(message.payload(), b"xy");
        assert!(!message.is_no_responders(), "an answer with a body");

        assert!(only_message(b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n").is_no_responders());
        assert!(!only_message(b"HMSG a 1 4 4\r\n\xff\x00\r\n\r\n").is_no_responders());
    }

    #[test]
    fn what_is_not_the_protocol_or_too_much_of_it_is_an_error_that_shows_little() {
        for bad in [
            "MSG\r\n",
            "MSG a 1\r\n",
            "MSG a 1 r 1 2\r\n",
            "MSG a b c d e f g h\r\n",
            "MSG a x 1\r\n",
            "MSG a 1 -1\r\n",
            "MSG a 1 99999999999999999999\r\n",
            "HMSG a 1 2\r\n",
            "HMSG a 1 5 4\r\n",
            "MSG a 1 2\r\nabc\r\n",
            "GET / HTTP/1.1\r\n",
            "\r\n",
        ] {
            let error = frames(bad.as_bytes(), &[3]).unwrap_err();
            assert!(matches!(error, Violation::Malformed(_)), "{bad:?}: {error}");
        }
        let long = "x".repeat(2000) + "\r\n";
        let shown = frames(long.as_bytes(), &[9]).unwrap_err().to_string();
        assert!(shown.len() < 200, "{shown}");

        let size = PAYLOAD_MAX as u64 + 1;
        let large = format!("MSG a 1 {size}\r\n");
        let refused = frames(large.as_bytes(), &[9]);
        assert_eq!(refused, Err(Violation::PayloadTooLarge(size)));
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let line = |length: usize| format!("MSG {} 1 0\r\n\r\n", "s".repeat(length));
        let fits = line(CONTROL_LINE_MAX - "MSG  1 0\r\n".len());
        assert_eq!(frames(fits.as_bytes(), &[50_000]).unwrap().len(), 1);

        let longer = line(CONTROL_LINE_MAX);
        for pieces in [50_000, longer.len()] {
            let refused = frames(longer.as_bytes(), &[pieces]);
            assert_eq!(refused, Err(Violation::LineTooLong));
        }
        let endless = vec![b'M'; CONTROL_LINE_MAX + 1];
        let refused = frames(&endless, &[70_000]);
        assert_eq!(refused, Err(Violation::LineTooLong));
    }

    #[test]
    fn a_large_message_is_read_into_room_of_its_size() {
        let mut parser = Parser::default();
        parser.room().extend_from_slice(b"MSG a 1 1000000\r\nx");
        assert_eq!(parser.next_frame(), Ok(None));

        let room = parser.room();
        let room = room.capacity() - room.len();

        assert!((1_000_000..1_300_000).contains(&room), "{room}");
    }

    fn word() -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<u8>().prop_map(|byte| match byte {
            b' ' | b'\t' | b'\r' | b'\n' => b'_',
            other => other,
        });
        vec(byte, 1..12)
    }

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let payload = || vec(any::<u8>(), 0..300);
        let message = (word(), any::<u32>(), prop::option::of(word()), payload());
        let message = message.prop_map(|(subject, sid, reply, payload)| {
            let mut bytes = [b"MSG ", &subject[..], format!(" {sid} ").as_bytes()].concat();
            if let Some(reply) = reply {
                bytes.extend_from_slice(&reply);
                bytes.push(b' ');
            }
            bytes.extend_from_slice(format!("{}\r\n", payload.len()).as_bytes());
            [&bytes[..], &payload, b"\r\n"].concat()
        });
        let headed = (word(), payload(), payload()).prop_map(|(subject, headers, payload)| {
            let (of_headers, total) = (headers.len(), headers.len() + payload.len());
            let sizes = format!(" 7 {of_headers} {total}\r\n");
            let line = [b"HMSG ", &subject[..], sizes.as_bytes()].concat();
            [&line[..], &headers, &payload, b"\r\n"].concat()
        });
        prop_oneof![
            4 => message,
            2 => headed,
            1 => Just(b"PING\r\n".to_vec()),
            1 => Just(b"-ERR 'x'\r\n".to_vec()),
            1 => Just(b"INFO {}\r\n".to_vec()),
        ]
    }

    proptest! {
        #[test]
        fn the_same_bytes_give_the_same_frames_in_whatever_pieces_they_come(
            sent in vec(frame(), 1..12),
            pieces in vec(1_usize..200, 1..10),
        ) {
            let bytes = sent.concat();
            let whole = frames(&bytes, &[bytes.len()]).unwrap();

            prop_assert_eq!(whole.len(), sent.len());
            prop_assert_eq!(frames(&bytes, &pieces).unwrap(), whole);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error_and_the_pieces_do_not_matter(
            bytes in vec(any::<u8>(), 0..600),
            pieces in vec(1_usize..50, 1..5),
        ) {
            let whole = frames(&bytes, &[bytes.len().max(1)]);
            let parts = frames(&bytes, &pieces);
            prop_assert_eq!(parts, whole);
        }
    }
}
