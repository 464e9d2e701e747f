//! Bytes of a NATS server, in pieces: they are frames or an error, the same ones however they are cut, and nothing is
//! kept of them beyond the limits.

use stanby::nats::wire::{Frame, Info, Parser, Violation};

use super::input::Input;

/// What a server says, to be put together wrongly.
const WORDS: [&[u8]; 24] = [
    b"MSG ",
    b"HMSG ",
    b"INFO ",
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR ",
    b"'Stale Connection'\r\n",
    b"{\"max_payload\":1048576,\"connect_urls\":[\"h:1\"]}\r\n",
    b"a.b ",
    b"\xff\xfe ",
    b"7 ",
    b"0 ",
    b"5\r\n",
    b"12\r\n",
    b"16 16\r\n",
    b"4 9\r\n",
    b"67108865\r\n",
    b"18446744073709551616\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"hello",
    b"\r\n",
    b"\n",
    b" ",
];

/// # Panics
/// When the parser does, or when pieces make a difference.
pub(crate) fn feed(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut sent = Vec::new();
    while !input.is_empty() && sent.len() < 4096 {
        match input.below(4) {
            0 => {
                let length = input.below(40);
                sent.extend_from_slice(input.take(length));
            }
            1 => {
                let length = input.below(200);
                let subject = input.take(3).escape_ascii().to_string();
                let line = format!("MSG s{subject} {} r {length}\r\n", input.byte());
                sent.extend_from_slice(line.as_bytes());
                sent.resize(sent.len() + length, b'x');
                sent.extend_from_slice(b"\r\n");
            }
            _ => sent.extend_from_slice(input.pick(&WORDS)),
        }
    }
    let whole = frames(&sent, usize::MAX);
    let pieces = frames(&sent, 1 + bytes.len() % 50);
    assert_eq!(pieces, whole);
}

fn frames(sent: &[u8], piece: usize) -> (Vec<Frame>, Option<Violation>) {
    let mut parser = Parser::default();
    let mut frames = Vec::new();
    for bytes in sent.chunks(piece.min(sent.len()).max(1)) {
        parser.room().extend_from_slice(bytes);
        loop {
            match parser.next_frame() {
                Ok(Some(frame)) => {
                    look_at(&frame);
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation)),
            }
        }
    }
    (frames, None)
}

/// Every part can be had.
fn look_at(frame: &Frame) {
    match frame {
        Frame::Message(message) => {
            let (reply, payload) = message.detached();
            assert_eq!(reply.as_deref(), message.reply());
            assert_eq!(payload, message.payload());
            let (subject, payload) = message.detached_subject();
            assert_eq!(subject, message.subject());
            assert_eq!(payload, message.payload());
            assert!(!message.subject().contains(&b' '));
            assert!(!message.is_no_responders() || message.payload().is_empty());
            assert!(message.weight() > message.payload().len());
        }
        Frame::Info(json) => drop(Info::parse(json)),
        Frame::Error(text) => assert!(!text.contains(&b'\n')),
        Frame::Ping | Frame::Pong | Frame::Ok => {}
    }
}
