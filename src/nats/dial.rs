//! One attempt to connect to one NATS server: TCP, TLS where it is wanted, the introductions of both sides, and
//! the first answer, which says whether the server lets this one in.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error as ThisError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::error::Error;
use super::login::Login;
use super::servers::Address;
use super::settings::Settings;
use super::tls;
use super::wire::{Frame, Info, Message, Parser, Violation, encode};
use crate::happy_eyeballs::first;
use crate::printable::with_causes;

/// Why one server could not be connected to.
#[derive(Debug, ThisError)]
pub enum DialError {
    #[error("it cannot be reached")]
    Tcp(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("{0:?} is no name that a certificate can be for; set the server name for TLS")]
    ServerName(String),
    #[error("TLS is required here, and the server does not offer it")]
    NoTls,
    #[error("it does not speak the NATS protocol")]
    Violation(#[from] Violation),
    #[error("it says: {0}")]
    Refused(String),
    #[error("it closed the connection before it had let this server in")]
    ClosedEarly,
    #[error("no answer in time")]
    TimedOut,
    /// A name has several addresses: this is the error of each.
    #[error("{0}")]
    Each(String),
    #[error("its name was not found in time; ask the name servers of this machine")]
    NoName,
}

/// Either the attempt failed, or there is no point in another one.
pub(super) enum Failure {
    Dial(DialError),
    Unauthorized,
    /// A file of ours.
    Settings(Error),
}

impl<E: Into<DialError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Dial(error.into())
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A server that has let us in.
pub(super) struct Line {
    pub(super) address: Address,
    pub(super) stream: Box<dyn Stream>,
    /// Holds what the server has sent since.
    pub(super) parser: Parser,
    pub(super) info: Info,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The caller limits the time.
pub(super) async fn look_up(address: &Address) -> Result<Vec<SocketAddr>, DialError> {
    let found = lookup_host((&*address.host, address.port)).await;
    found.map(Iterator::collect).map_err(DialError::Tcp)
}

/// To one of the addresses that were found, each within `limit`.
pub(super) async fn dial(
    address: &Address,
    found: &[SocketAddr],
    settings: &Settings,
    limit: Duration,
) -> Result<Line, Failure> {
    let attempts = found.iter().map(|&place| async move {
        let dialled = timeout(limit, dial_one(address, place, settings)).await;
        let dialled = dialled.unwrap_or(Err(DialError::TimedOut.into()));
        dialled.map_err(|failure| (place, failure))
    });
    first(attempts.collect()).await.map_err(together)
}

/// What somebody has to change says most. An address is named where there are several.
fn together(mut failures: Vec<(SocketAddr, Failure)>) -> Failure {
    let is_passing = |(_, failure): &(SocketAddr, Failure)| matches!(failure, Failure::Dial(_));
    if let Some(index) = failures.iter().position(|failure| !is_passing(failure)) {
        return failures.swap_remove(index).1;
    }
    if failures.len() == 1 {
        return failures.remove(0).1;
    }
    let text = failures
        .iter()
        .filter_map(|(place, failure)| match failure {
            Failure::Dial(error) => Some(format!("{place}: {}", with_causes(error))),
            Failure::Unauthorized | Failure::Settings(_) => None,
        });
    let text: Vec<String> = text.collect();
    if text.is_empty() {
        return Failure::Dial(DialError::NoName);
    }
    Failure::Dial(DialError::Each(text.join("; ")))
}

async fn dial_one(
    address: &Address,
    place: SocketAddr,
    settings: &Settings,
) -> Result<Line, Failure> {
    let tcp = TcpStream::connect(place).await.map_err(DialError::Tcp)?;
    tcp.set_nodelay(true).map_err(DialError::Tcp)?;
    let mut parser = Parser::default();
    let tls_wanted = settings.tls.required || address.tls;

    let (mut stream, info): (Box<dyn Stream>, Info) = if settings.tls.first {
        let mut stream = encrypted(address, settings, tcp).await?;
        let info = introduction(&mut stream, &mut parser).await?;
        (stream, info)
    } else {
        let mut tcp = tcp;
        let info = introduction(&mut tcp, &mut parser).await?;
        if !tls_wanted && !info.tls_required {
            (Box::new(tcp), info)
        } else if info.tls_required || info.tls_available {
            // What came unencrypted on top of the introduction may be from anybody.
            if !parser.is_empty() {
                return Err(Violation::Malformed("more than INFO before TLS".to_owned()).into());
            }
            (encrypted(address, settings, tcp).await?, info)
        } else {
            return Err(DialError::NoTls.into());
        }
    };

    let nonce = info.nonce.as_deref().filter(|nonce| !nonce.is_empty());
    let login = Login::prepare(settings, nonce)
        .await
        .map_err(Failure::Settings)?;
    let mut out = BytesMut::new();
    encode::connect(&login.hello(settings, address, tls_wanted), &mut out);
    out.extend_from_slice(encode::PING);
    write(&mut stream, &out).await?;

    let mut line = Line {
        address: address.clone(),
        stream,
        parser,
        info,
    };
    line.wait_to_be_let_in().await?;
    Ok(line)
}

impl Line {
    /// Subscribes, and returns what came until NATS knew of it.
    pub(super) async fn subscribe(&mut self, mut out: BytesMut) -> Result<Vec<Message>, Failure> {
        out.extend_from_slice(encode::PING);
        write(&mut self.stream, &out).await?;
        let mut messages = Vec::new();
        loop {
            match frame(&mut self.stream, &mut self.parser).await? {
                Frame::Pong => return Ok(messages),
                Frame::Message(message) => messages.push(message),
                Frame::Info(json) => self.info = parse_info(&json)?,
                Frame::Ping => write(&mut self.stream, encode::PONG).await?,
                Frame::Error(_) | Frame::Ok => {}
            }
        }
    }

    async fn wait_to_be_let_in(&mut self) -> Result<(), Failure> {
        loop {
            match frame(&mut self.stream, &mut self.parser).await? {
                Frame::Pong => return Ok(()),
                Frame::Info(json) => self.info = parse_info(&json)?,
                Frame::Ping => write(&mut self.stream, encode::PONG).await?,
                Frame::Error(text) => return Err(refusal(&text)),
                Frame::Ok | Frame::Message(_) => {}
            }
        }
    }
}

async fn encrypted(
    address: &Address,
    settings: &Settings,
    tcp: TcpStream,
) -> Result<Box<dyn Stream>, Failure> {
    let connector = tls::connector(settings).await.map_err(Failure::Settings)?;
    let name = settings.tls.server_name.as_deref();
    let name = name.unwrap_or(&address.tls_name);
    Ok(Box::new(tls::handshake(&connector, name, tcp).await?))
}

async fn introduction<S: Stream>(stream: &mut S, parser: &mut Parser) -> Result<Info, Failure> {
    match frame(stream, parser).await? {
        Frame::Info(json) => parse_info(&json),
        Frame::Error(text) => Err(refusal(&text)),
        Frame::Message(_) | Frame::Ping | Frame::Pong | Frame::Ok => {
            Err(Violation::Malformed("no INFO at the beginning".to_owned()).into())
        }
    }
}

fn parse_info(json: &Bytes) -> Result<Info, Failure> {
    let malformed = || Violation::Malformed("an INFO that cannot be read".to_owned());
    Info::parse(json).ok_or_else(|| malformed().into())
}

async fn frame<S: Stream>(stream: &mut S, parser: &mut Parser) -> Result<Frame, Failure> {
    loop {
        if let Some(frame) = parser.next_frame()? {
            return Ok(frame);
        }
        let read = stream.read_buf(parser.room()).await;
        if read.map_err(DialError::Tcp)? == 0 {
            return Err(DialError::ClosedEarly.into());
        }
    }
}

async fn write<S: Stream>(stream: &mut S, bytes: &[u8]) -> Result<(), Failure> {
    stream.write_all(bytes).await.map_err(DialError::Tcp)?;
    stream.flush().await.map_err(DialError::Tcp)?;
    Ok(())
}

/// Whether it is about who we are decides if somebody has to change something first.
fn refusal(text: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(text).into_owned();
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("authorization") || lower.contains("authentication") {
        Failure::Unauthorized
    } else {
        Failure::Dial(DialError::Refused(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_millis(600);

    fn address(port: u16) -> Address {
        Address::parse(&format!("nats://localhost:{port}")).expect("it is a URL")
    }

    /// Takes connections and says nothing; or lets in whoever comes.
    #[expect(clippy::disallowed_methods, reason = "no node is there")]
    async fn listener(address: &str, speaks: bool) -> SocketAddr {
        let listener = TcpListener::bind(address).await.expect("it is free");
        let place = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((mut tcp, _)) = listener.accept().await {
                if speaks {
                    let hello = b"INFO {\"server_id\":\"N\",\"version\":\"2.10.0\",\"max_payload\":1048576}\r\nPONG\r\n";
                    tcp.write_all(hello).await.expect("it is there");
                }
                taken.push(tcp);
            }
        });
        place
    }

    #[tokio::test]
    async fn an_address_that_hangs_does_not_keep_the_next_one_from_being_tried() {
        let silent = listener("127.0.0.2:0", false).await;
        let good = listener("127.0.0.3:0", true).await;
        let settings = Settings::new(vec!["nats://localhost".to_owned()], "test");

        let dialled = dial(&address(4222), &[silent, good], &settings, LIMIT).await;

        let line = dialled.unwrap_or_else(|failure| match failure {
            Failure::Dial(error) => panic!("{error}"),
            Failure::Unauthorized | Failure::Settings(_) => panic!("refused"),
        });
        assert_eq!(line.info.server_id, "N");
    }

    #[tokio::test]
    async fn where_several_addresses_fail_the_error_names_each() {
        let silent = listener("127.0.0.2:0", false).await;
        let closed = SocketAddr::from(([127, 0, 0, 4], 1));
        let settings = Settings::new(vec!["nats://localhost".to_owned()], "test");

        let dialled = dial(&address(4222), &[silent, closed], &settings, LIMIT).await;

        let Err(Failure::Dial(error)) = dialled else {
            panic!("nobody is there");
        };
        let text = error.to_string();
        assert!(
            text.contains(&format!("{silent}: no answer in time")),
            "{text}"
        );
        assert!(text.contains("127.0.0.4:1: it cannot be reached"), "{text}");
    }
}
