//! TLS for the pages, with ring. The files are read for every connection, so that certificates may be renewed under a
//! running server.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::error::Error;
use crate::certificates;

/// Each with what may have named it: a flag, its spelling of NATS Streaming, and the key of a file.
const CERTIFICATE: &str = "certificate (--https-cert, -tlscert or cert_file)";
const KEY: &str = "key (--https-key, -tlskey or key_file)";

/// Where a certificate and its key stand, in PEM. The server's own certificate comes first, then those that lead to its
/// authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

impl Certificate {
    /// Fails where the files are of no use.
    pub async fn check(&self) -> Result<(), Error> {
        read(self).await.map(drop)
    }
}

/// Makes connections ready for TLS.
pub(super) struct Tls {
    certificate: Certificate,
    last: Mutex<Last>,
}

struct Last {
    /// Made of the last files that were good: somebody may be replacing them at this moment.
    config: Arc<ServerConfig>,
    is_stale: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.certificate).finish()
    }
}

impl Tls {
    /// Fails where the files are of no use.
    pub(super) async fn new(certificate: Certificate) -> Result<Self, Error> {
        Ok(Self {
            last: Mutex::new(Last {
                config: read(&certificate).await?,
                is_stale: false,
            }),
            certificate,
        })
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> Stream {
        let config = read(&self.certificate).await;
        let acceptor = TlsAcceptor::from(self.latest(config));
        Stream::Handshake(Box::new(acceptor.accept(stream)))
    }

    fn latest(&self, read: Result<Arc<ServerConfig>, Error>) -> Arc<ServerConfig> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(config) => {
                last.config = config;
                last.is_stale = false;
            }
            Err(error) => {
                if !last.is_stale {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the former certificate of the pages is used");
                }
                last.is_stale = true;
            }
        }
        Arc::clone(&last.config)
    }
}

async fn read(certificate: &Certificate) -> Result<Arc<ServerConfig>, Error> {
    let chain = (CERTIFICATE, &*certificate.certificate_file);
    let key = (KEY, &*certificate.key_file);
    let read = async |named: (&'static str, &Path)| {
        let bytes = tokio::fs::read(named.1).await;
        bytes.map_err(|error| unusable(named, &error))
    };
    let (chain_pem, key_pem) = (read(chain).await?, read(key).await?);
    let shown = CertificateDer::pem_slice_iter(&chain_pem).collect::<Result<Vec<_>, _>>();
    let shown = shown.map_err(|error| unusable(chain, &error))?;
    if shown.is_empty() {
        return Err(unusable(chain, &"no certificate is in it"));
    }
    let private_key = PrivateKeyDer::from_pem_slice(&key_pem);
    let private_key = private_key.map_err(|error| unusable(key, &error))?;
    let provider = Arc::new(ring::default_provider());
    let identity = certificates::own(shown, private_key, &provider);
    let identity = identity.map_err(|why| unusable(chain, &why))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(chain, &error))?
        .with_no_client_auth()
        .with_cert_resolver(identity);
    Ok(Arc::new(config))
}

fn unusable((what, file): (&'static str, &Path), why: &dyn fmt::Display) -> Error {
    Error::Certificate {
        what,
        path: file.display().to_string(),
        why: why.to_string(),
    }
}

/// A connection of either kind. The handshake is made when something is read, so that no slow stranger holds up others.
pub(super) enum Stream {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
    /// The handshake has failed; its error was logged.
    Failed,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Stream {
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Duplex>>> {
        if let Self::Handshake(accept) = self {
            match ready!(Pin::new(accept).poll(context)) {
                Ok(stream) => *self = Self::Tls(Box::new(stream)),
                Err(error) => {
                    *self = Self::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match self {
            Self::Plain(stream) => Ok(Pin::new(stream)),
            Self::Tls(stream) => Ok(Pin::new(stream.as_mut())),
            Self::Handshake(_) | Self::Failed => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?.poll_write_vectored(context, slices)
    }

    /// So are both kinds.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }
}
