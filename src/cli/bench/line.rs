//! A NATS connection that does as little as possible: it shares the machine with the servers that it loads. Whatever
//! is complete in one read is taken at once, and what answers it leaves in one write.
//!
//! It speaks plain TCP; users, passwords and tokens are enough for the servers that are measured.

use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::failure::Failure;
use crate::config::{NatsConfig, Secret};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const BLOCK_BYTES: usize = 128 << 10;
/// Longest line before a payload. INFO of a large cluster is the longest.
const LINE_BYTES_MAX: usize = 1 << 20;
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    address: String,
    input: BytesMut,
    /// What the next [`Line::flush`] writes.
    pub(super) out: Vec<u8>,
    pub(super) max_payload: usize,
}

/// A message, with the number of the subscription that it came for.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) sid: usize,
    pub(super) payload: Bytes,
    frame: Bytes,
    /// Where the reply subject begins and ends.
    reply: Option<(usize, usize)>,
}

impl Message {
    pub(super) fn reply(&self) -> Option<&[u8]> {
        self.reply.map(|(begin, end)| &self.frame[begin..end])
    }

    #[cfg(test)]
    pub(super) fn of(payload: Bytes) -> Self {
        Self {
            sid: 0,
            frame: payload.clone(),
            payload,
            reply: None,
        }
    }
}

#[derive(Debug)]
enum Frame {
    Message(Message),
    Ping,
    Pong,
    Nothing,
}

#[derive(Deserialize)]
struct Info {
    max_payload: usize,
    #[serde(default)]
    tls_required: bool,
}

#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    name: &'a str,
    lang: &'a str,
    version: &'a str,
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
}

impl Line {
    /// To the first of the servers that answers.
    pub(super) async fn connect(config: &NatsConfig) -> Result<Self, Failure> {
        ensure_plain(config)?;
        let mut last = None;
        for server in &config.servers {
            let address = server.trim_start_matches("nats://");
            match timeout(CONNECT_LIMIT, Self::dial(address, config)).await {
                Ok(Ok(line)) => return Ok(line),
                Ok(Err(failure)) => last = Some(failure),
                Err(_) => {
                    last = Some(Failure::Unreachable(anyhow!(
                        "NATS does not answer at {server}"
                    )));
                }
            }
        }
        Err(last.expect("a configuration names a server at least"))
    }

    async fn dial(address: &str, config: &NatsConfig) -> Result<Self, Failure> {
        let unreachable = |error: std::io::Error| {
            let error = anyhow!(error).context(format!("NATS does not let us in at {address}"));
            Failure::Unreachable(error)
        };
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut line = Self {
            stream,
            address: address.to_owned(),
            input: BytesMut::new(),
            out: Vec::new(),
            max_payload: 0,
        };
        let info = line.info().await?;
        if info.tls_required {
            return Err(Failure::Usage(anyhow!(
                "NATS at {address} wants TLS, which this load generator does not speak; measure over a listener \
                 without it"
            )));
        }
        line.max_payload = info.max_payload;
        let password = config.password.as_ref().map(Secret::expose);
        let connect = serde_json::to_vec(&Connect {
            verbose: false,
            pedantic: false,
            name: "stanby bench",
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            user: config.user.as_deref(),
            pass: password.or(config.user.is_some().then_some("")),
            auth_token: config.token.as_ref().map(Secret::expose),
        });
        let connect = connect.context("the login does not fit into JSON")?;
        line.out.extend_from_slice(b"CONNECT ");
        line.out.extend_from_slice(&connect);
        line.out.extend_from_slice(b"\r\n");
        line.round_trip().await?;
        Ok(line)
    }

    async fn info(&mut self) -> Result<Info, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let text = self.input.split_to(end + 1);
                let json = text.strip_prefix(b"INFO ").unwrap_or_default();
                return serde_json::from_slice(json).map_err(|_| {
                    Failure::Failed(anyhow!(
                        "what answers at {} is not a NATS server",
                        self.address
                    ))
                });
            }
            self.read().await?;
        }
    }

    /// Messages to `subject` come with the number `sid` from here on; NATS knows after a [`Line::round_trip`].
    pub(super) fn subscribe(&mut self, subject: &str, sid: usize) {
        let request = format!("SUB {subject} {sid}\r\n");
        self.out.extend_from_slice(request.as_bytes());
    }

    /// What was sent before is known to NATS afterwards. Not to be used while messages come: it passes over them.
    pub(super) async fn round_trip(&mut self) -> Result<(), Failure> {
        self.out.extend_from_slice(b"PING\r\n");
        self.flush().await?;
        loop {
            while let Some(frame) = self.next_frame()? {
                match frame {
                    Frame::Pong => return Ok(()),
                    Frame::Ping => self.out.extend_from_slice(b"PONG\r\n"),
                    Frame::Message(_) | Frame::Nothing => {}
                }
            }
            self.flush().await?;
            timeout(CONNECT_LIMIT, self.read())
                .await
                .map_err(|_| self.lost("it does not answer"))??;
        }
    }

    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = self.stream.write_all(&self.out).await;
        written.map_err(|error| self.lost(&error.to_string()))?;
        self.out.clear();
        Ok(())
    }

    /// Waits for bytes. May be given up at any time.
    pub(super) async fn read(&mut self) -> Result<(), Failure> {
        self.input.reserve(BLOCK_BYTES);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(self.lost("it closed the connection")),
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    /// The next message of what has been read. Pings are answered on the way.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, Failure> {
        while let Some(frame) = self.next_frame()? {
            match frame {
                Frame::Message(message) => return Ok(Some(message)),
                Frame::Ping => self.out.extend_from_slice(b"PONG\r\n"),
                Frame::Pong | Frame::Nothing => {}
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, Failure> {
        let Some(end) = memchr::memchr(b'\n', &self.input) else {
            if self.input.len() > LINE_BYTES_MAX {
                return Err(self.lost("it sends a line without an end"));
            }
            return Ok(None);
        };
        let line = self.input[..end].trim_ascii_end();
        match line {
            b"PING" => Ok(Some(self.skip(end, Frame::Ping))),
            b"PONG" => Ok(Some(self.skip(end, Frame::Pong))),
            line if line.starts_with(b"MSG ") => match Header::parse(line) {
                Some(header) if header.bytes <= PAYLOAD_BYTES_MAX => {
                    Ok(self.take_message(end + 1, &header))
                }
                Some(_) | None => Err(self.lost("it sends what is not a message")),
            },
            line if line.starts_with(b"-ERR") => {
                let text = String::from_utf8_lossy(line).escape_debug().to_string();
                Err(self.lost(&format!("it reports {text}")))
            }
            _ => Ok(Some(self.skip(end, Frame::Nothing))),
        }
    }

    fn skip(&mut self, end: usize, frame: Frame) -> Frame {
        self.input.advance(end + 1);
        frame
    }

    fn take_message(&mut self, begin: usize, header: &Header) -> Option<Frame> {
        let end = begin + header.bytes;
        if self.input.len() < end + 2 {
            return None;
        }
        let frame = self.input.split_to(end + 2).freeze();
        Some(Frame::Message(Message {
            sid: header.sid,
            payload: frame.slice(begin..end),
            frame,
            reply: header.reply,
        }))
    }

    fn lost(&self, why: &str) -> Failure {
        Failure::Unreachable(anyhow!(
            "the connection to NATS at {} is lost: {why}",
            self.address
        ))
    }
}

/// Appends a message for `subject`.
pub(super) fn publish(out: &mut Vec<u8>, subject: &[u8], payload: &[u8]) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(payload.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn ensure_plain(config: &NatsConfig) -> Result<(), Failure> {
    let what = if config.credentials.is_some() {
        "credentials files"
    } else if config.nkey.is_some() {
        "nkeys"
    } else if config.tls.required
        || config
            .servers
            .iter()
            .any(|server| server.starts_with("tls://"))
    {
        "tls://"
    } else {
        return Ok(());
    };
    Err(Failure::Usage(anyhow!(
        "the load generator speaks plain TCP and knows nothing of {what}; name a nats:// listener, with a user or a \
         token if it wants one"
    )))
}

/// `MSG <subject> <sid> [reply] <bytes>`
struct Header {
    sid: usize,
    reply: Option<(usize, usize)>,
    bytes: usize,
}

impl Header {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = [(0, 0); 5];
        let mut count = 0;
        let mut begin = 0;
        for end in memchr::memchr_iter(b' ', line).chain([line.len()]) {
            *words.get_mut(count)? = (begin, end);
            count += 1;
            begin = end + 1;
        }
        let word = |index: usize| {
            let (begin, end) = words[index];
            &line[begin..end]
        };
        match count {
            4 | 5 => Some(Self {
                sid: number(word(2))?,
                reply: (count == 5).then_some(words[3]),
                bytes: number(word(count - 1))?,
            }),
            _ => None,
        }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_a_reply_or_none() {
        let header = Header::parse(b"MSG a.b 7 12").unwrap();
        assert_eq!((header.sid, header.bytes, header.reply), (7, 12, None));
        let line = b"MSG a.b 7 _INBOX.x 0";
        let header = Header::parse(line).unwrap();
        let (begin, end) = header.reply.unwrap();
        assert_eq!(&line[begin..end], b"_INBOX.x");
        for bad in [
            &b"MSG a 1"[..],
            b"MSG a x 1",
            b"MSG a 1 r 1 2",
            b"MSG a 1 -1",
        ] {
            assert!(Header::parse(bad).is_none(), "{bad:?}");
        }
    }
}
