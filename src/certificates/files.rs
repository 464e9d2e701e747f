//! Certificates and keys in files of PEM.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::chain::parse;

/// What this side shows.
pub type Identity = Arc<SingleCertAndKey>;

/// All certificates of a file: at least one.
///
/// # Errors
/// A clause, to stand behind the file's name.
pub fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| format!("cannot be read as PEM: {error}"))?
        .collect();
    let found = found.map_err(|error| format!("cannot be read as PEM: {error}"))?;
    if found.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    for certificate in &found {
        parse(certificate).map_err(|why| format!("holds a bad certificate: {why}"))?;
    }
    Ok(found)
}

/// A certificate with what follows it in its file, of any version, and its key.
///
/// # Errors
/// Why the two cannot be used together.
pub fn own(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Identity, String> {
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| format!("the key cannot be used: {error}"))?;
    if let (Some(first), Some(public)) = (certificates.first(), key.public_key()) {
        let certificate = parse(first)?;
        if certificate.public_key().raw != public.as_ref() {
            return Err("the key is not the certificate's".to_owned());
        }
    }
    let shown = CertifiedKey::new(certificates, key);
    Ok(Arc::new(SingleCertAndKey::from(shown)))
}
