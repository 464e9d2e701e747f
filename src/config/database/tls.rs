//! What each `sslmode` proves about the server, as a rustls configuration: what libpq proves.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{ClientIdentity, InvalidDatabaseUrl, Roots, SslMode};
use crate::certificates::{self, Rules, Verifier};

pub(super) fn client_config(
    mode: SslMode,
    roots: &Roots,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, InvalidDatabaseUrl> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (mode, roots) {
        // libpq: a file of authorities that is there counts whatever is asked for.
        (SslMode::Prefer, Roots::File(file)) if file.exists() => {
            Arc::new(of_authorities(file, &provider)?.of_any_name())
        }
        (SslMode::Disable | SslMode::Prefer | SslMode::Require, _) => {
            Arc::new(Verifier::of_any(&provider))
        }
        (SslMode::VerifyCa, Roots::File(file)) => {
            Arc::new(of_authorities(file, &provider)?.of_any_name())
        }
        (SslMode::VerifyFull, Roots::File(file)) => Arc::new(of_authorities(file, &provider)?),
        // With these roots anybody may have a certificate, so the name must match.
        (SslMode::VerifyCa | SslMode::VerifyFull, Roots::System) => {
            let found = rustls_native_certs::load_native_certs();
            Arc::new(Verifier::new(&provider, Rules::Libpq, found.certs))
        }
        (SslMode::VerifyCa | SslMode::VerifyFull, Roots::Public) => public(&provider)?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(identity) = identity else {
        return Ok(builder.with_no_client_auth());
    };

    let shown = certificates_of("sslcert", &identity.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|error| {
        format!(
            "sslkey {} cannot be read as a PEM private key: {error}",
            identity.key.display()
        )
    })?;
    let identity = certificates::own(shown, key, &provider)
        .map_err(|why| format!("sslcert and sslkey do not fit together: {why}"))?;
    Ok(builder.with_client_cert_resolver(identity))
}

fn of_authorities(file: &Path, provider: &CryptoProvider) -> Result<Verifier, InvalidDatabaseUrl> {
    let trusted = certificates_of("sslrootcert", file)?;
    Ok(Verifier::new(provider, Rules::Libpq, trusted))
}

fn certificates_of(
    setting: &str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, InvalidDatabaseUrl> {
    let found = certificates::authorities(file);
    Ok(found.map_err(|why| format!("{setting} {} {why}", file.display()))?)
}

/// The built-in list is of names and keys, without certificates: what it vouches for is of the strict kind.
fn public(provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, InvalidDatabaseUrl> {
    let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| format!("the root certificates cannot be used: {error}").into())
}
