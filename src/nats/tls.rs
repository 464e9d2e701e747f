//! TLS to NATS, with ring: whom this server trusts and what certificate it shows. The files are read for every
//! connection.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::DialError;
use super::error::Error;
use super::settings::{Settings, Tls};
use crate::certificates::{self, Demand, Rules, TrustFile, Verifier};

/// Each with what may have named it: a flag, its spelling of NATS Streaming, and the key of a file.
const CERTIFICATE: &str =
    "the client certificate for NATS (--nats-tls-cert, -tls_client_cert or client_cert)";
const KEY: &str =
    "the key of the client certificate for NATS (--nats-tls-key, -tls_client_key or client_key)";

/// Why there is no TLS to a server beside NATS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Settings(#[from] Error),
    #[error("{0:?} is no name of a host")]
    ServerName(String),
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] std::io::Error),
}

/// Reads the files and makes ready for handshakes.
pub(super) async fn connector(settings: &Settings) -> Result<TlsConnector, Error> {
    let config = client_config(settings.tls.clone()).await?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The same for a library that connects by itself.
pub(crate) async fn client_config(tls: Tls) -> Result<ClientConfig, Error> {
    // Files, and the system's certificates, which are many.
    let config = tokio::task::spawn_blocking(move || config(&tls));
    config.await.map_err(|_| Error::Closed)?
}

/// `name`: what the server's certificate has to be for.
pub(super) async fn handshake<S>(
    connector: &TlsConnector,
    name: &str,
    stream: S,
) -> Result<TlsStream<S>, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| DialError::ServerName(name.to_owned()))?;
    let stream = connector.connect(name, stream).await;
    stream.map_err(DialError::Handshake)
}

/// For the monitoring pages of a server whose NATS clients know by the same certificates.
pub(crate) async fn tls_to<S>(
    settings: &Settings,
    name: &str,
    stream: S,
) -> Result<TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = connector(settings).await?;
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))?;
    let stream = connector.connect(name, stream).await;
    stream.map_err(TlsError::Handshake)
}

fn config(tls: &Tls) -> Result<ClientConfig, Error> {
    let trusted = match tls.ca_file.as_deref() {
        Some(file) => certificates_of(name_of(tls.ca_is), file)?,
        None => system_roots(),
    };
    let provider = Arc::new(ring::default_provider());
    // Clients and servers of NATS are Go's; what they take of each other is taken here.
    let verifier = match tls.demand {
        Demand::HostAndAuthority => Verifier::new(&provider, Rules::Go, trusted),
        Demand::Authority => Verifier::new(&provider, Rules::Go, trusted).of_any_name(),
        Demand::Nothing => Verifier::of_any(&provider),
    };
    let verifier = match &tls.server_name {
        Some(name) => verifier.of_name(name),
        None => verifier,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::InvalidSettings(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(client) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let shown = certificates_of(CERTIFICATE, &client.certificate_file)?;
    let key = PrivateKeyDer::from_pem_file(&client.key_file)
        .map_err(|error| unreadable(KEY, &client.key_file, error))?;
    let identity = certificates::own(shown, key, &provider)
        .map_err(|why| unreadable(CERTIFICATE, &client.certificate_file, why))?;
    Ok(builder.with_client_cert_resolver(identity))
}

fn name_of(trusted: TrustFile) -> &'static str {
    match trusted {
        TrustFile::Authorities => {
            "the CA file for NATS (--nats-tls-ca, -tls_client_cacert or client_ca)"
        }
        TrustFile::OfArgument => {
            "the certificate of the nats-server that this server runs (-tlscert)"
        }
        TrustFile::OfConfiguration => {
            "the certificate of the nats-server that this server runs (cert_file in its block tls)"
        }
    }
}

/// What the system cannot read is left out: without it, the server's certificate is refused by name.
fn system_roots() -> Vec<CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate authority of the system cannot be read");
    }
    found.certs
}

fn certificates_of(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates::authorities(file).map_err(|why| unreadable(what, file, why))
}

fn unreadable(
    what: &'static str,
    file: &Path,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::UnreadableFile {
        what,
        path: file.display().to_string(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nowhere.pem")] {
            let of = |ca_is| {
                let tls = Tls {
                    ca_file: Some(path.to_owned()),
                    ca_is,
                    ..Tls::default()
                };
                config(&tls).unwrap_err().to_string()
            };
            for (is, name) in [
                (TrustFile::Authorities, "the CA file for NATS"),
                (TrustFile::OfArgument, "(-tlscert)"),
                (TrustFile::OfConfiguration, "(cert_file in"),
            ] {
                let error = of(is);
                assert!(error.contains(name), "{error}");
                assert!(error.contains(path.to_str().unwrap()), "{error}");
            }
        }
    }
}
