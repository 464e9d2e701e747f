//! One attempt to connect to one NATS server: TCP, TLS where it is wanted, the introductions of both sides, and
//! the first answer, which says whether the server lets this one in.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use thiserror::Error as ThisError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};

use super::error::Error;
use super::login::Login;
use super::servers::Address;
use super::settings::Settings;
use super::tls;
use super::wire::{Frame, Info, Message, Parser, Violation, encode};

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

/// To one of the addresses that were found. The caller limits the time.
pub(super) async fn dial(
    address: &Address,
    found: &[SocketAddr],
    settings: &Settings,
) -> Result<Line, Failure> {
    let tcp = TcpStream::connect(found).await.map_err(DialError::Tcp)?;
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
