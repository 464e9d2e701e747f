//! TLS for connections of sqlx. Its own verifier is stricter than psql, and would be a second one beside that of the
//! session that writes. So sqlx speaks no TLS: it connects to a socket of this process, which only this process may use,
//! and what arrives there is carried to Postgres as the database URL says.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::ServerName;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{
    self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional,
};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::database::{DatabaseError, DatabaseErrorKind, DatabaseUrl, Dial, NO_TLS};

/// Cheap to clone. When the last clone is dropped, all that it carries ends.
#[derive(Clone, Debug)]
pub struct Bridge {
    url: DatabaseUrl,
    carrier: Arc<Carrier>,
}

#[derive(Debug)]
struct Carrier {
    /// As sqlx takes the directory of a Unix socket. It begins with a zero byte: a name that stands in no directory.
    directory: String,
    _tasks: JoinSet<()>,
}

/// A part of the socket's name, as sqlx makes it.
const PORT: u16 = 5432;

/// After a connection could not be accepted: files may be short for a while.
const PAUSE: Duration = Duration::from_millis(100);

/// The request for TLS, as Postgres' protocol has it.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A startup message is a few hundred bytes; Postgres takes no more than this either.
const STARTUP_BYTES_MAX: usize = 10_000;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Bridge {
    /// To be called within a tokio runtime. Connects to Postgres when it is connected to.
    pub fn open(url: &DatabaseUrl) -> Self {
        let mut bytes = [0; 16];
        if SystemRandom::new().fill(&mut bytes).is_err() {
            tracing::warn!("the system gives no random bytes for the name of a socket");
        }
        let name = format!("stanby-{:032x}", u128::from_ne_bytes(bytes));
        let mut tasks = JoinSet::new();
        match listen(&format!("{name}/.s.PGSQL.{PORT}")) {
            Ok(listener) => {
                tasks.spawn(accept(listener, url.clone()));
            }
            Err(error) => {
                tracing::error!(%error, "no socket for connections that read; they cannot be made with TLS");
            }
        }
        Self {
            url: url.clone(),
            carrier: Arc::new(Carrier {
                directory: format!("\0{name}"),
                _tasks: tasks,
            }),
        }
    }

    /// For connections to where a login succeeded last.
    pub fn options(&self) -> PgConnectOptions {
        let through = (self.carrier.directory.as_str(), PORT);
        self.url.for_pool(self.url.speaks_tls().then_some(through))
    }
}

fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn accept(listener: UnixListener, url: DatabaseUrl) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) if is_own(&near) => {
                    let url = url.clone();
                    carried.spawn(async move {
                        if let Err(error) = carry(near, &url).await {
                            tracing::debug!(%error, "a connection to Postgres ended");
                        }
                    });
                }
                Ok(_) => tracing::warn!("another process tried to use this server's local connection to Postgres; it was refused"),
                Err(error) => {
                    tracing::warn!(%error, "a connection to Postgres cannot be carried");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Sockets without a place in a directory are everybody's.
fn is_own(near: &UnixStream) -> bool {
    let peer = near.peer_cred().ok().and_then(|peer| peer.pid());
    peer.is_some_and(|peer| u32::try_from(peer) == Ok(std::process::id()))
}

async fn carry(mut near: UnixStream, url: &DatabaseUrl) -> io::Result<()> {
    match dial(url).await {
        Ok(mut far) => {
            copy_bidirectional(&mut near, &mut far).await?;
            Ok(())
        }
        Err(failure) => refuse(near, &failure).await,
    }
}

async fn dial(url: &DatabaseUrl) -> Result<Box<dyn Stream>, DatabaseError> {
    let io = |error: io::Error| DatabaseError::of_io(url, &error);
    let limit = url.connect_timeout();
    let late = |what: &str| DatabaseError::of_timeout(url, what);
    let dial = url.dial();
    let Some(dial) = dial else {
        return Err(io(io::Error::other("no TLS is spoken there any more")));
    };
    let dial = dial.map_err(|error| DatabaseError {
        kind: DatabaseErrorKind::Refused,
        text: error.to_string(),
    })?;
    let connected = async {
        match dial.address {
            Some(address) => TcpStream::connect((address, dial.port)).await,
            None => TcpStream::connect((dial.host.as_str(), dial.port)).await,
        }
    };
    let connected = timeout(limit, connected).await;
    let stream = connected.map_err(|_| late("connecting"))?.map_err(io)?;
    let secured = timeout(limit, secure(dial, stream)).await;
    secured.map_err(|_| late("agreeing on TLS"))?.map_err(io)
}

async fn secure(dial: Dial, mut stream: TcpStream) -> io::Result<Box<dyn Stream>> {
    stream.set_nodelay(true)?;
    if !dial.is_tls_first {
        stream.write_all(&SSL_REQUEST).await?;
        match stream.read_u8().await? {
            b'S' => {}
            b'N' if dial.may_be_plain => return Ok(Box::new(stream)),
            // An error message of a server that does not know the request begins with E.
            _ => return Err(io::Error::other(NO_TLS)),
        }
    }
    let name = ServerName::try_from(dial.host)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connector = TlsConnector::from(Arc::new(dial.tls));
    Ok(Box::new(connector.connect(name, stream).await?))
}

/// Tells in the words of Postgres' protocol why nobody answers, once the other end has said what it wants.
async fn refuse(mut near: UnixStream, failure: &DatabaseError) -> io::Result<()> {
    let length = usize::try_from(near.read_u32().await?).unwrap_or(usize::MAX);
    let mut startup = vec![0; length.saturating_sub(4).min(STARTUP_BYTES_MAX)];
    near.read_exact(&mut startup).await?;
    let text = failure.text.replace('\0', "");
    let fields = [
        "SFATAL",
        "VFATAL",
        &format!("C{}", failure.code()),
        &format!("M{text}"),
        "",
    ];
    let mut body = fields.join("\0").into_bytes();
    body.push(0);
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    near.write_u8(b'E').await?;
    near.write_u32(length).await?;
    near.write_all(&body).await?;
    near.shutdown().await
}
