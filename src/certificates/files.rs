//! Certificates and keys in files of PEM.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::chain::{Refusal, parse};

/// What this side shows.
pub type Identity = Arc<SingleCertAndKey>;

/// All certificates of a file: at least one.
///
/// # Errors
/// A clause, to stand behind the file's name.
pub fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let found =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| Refusal::new(format!("cannot be read as PEM: {error}")))?;
    if found.is_empty() {
        return Err(Refusal::new("holds no certificate"));
    }
    for certificate in &found {
        let bad = |why| Refusal::new(format!("holds a bad certificate: {why}"));
        parse(certificate).map_err(bad)?;
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
) -> Result<Identity, Refusal> {
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| Refusal::new(format!("the key cannot be used: {error}")))?;
    if let (Some(first), Some(public)) = (certificates.first(), key.public_key()) {
        let certificate = parse(first)?;
        if certificate.public_key().raw != public.as_ref() {
            return Err(Refusal::new("the key is not the certificate's"));
        }
    }
    let shown = CertifiedKey::new(certificates, key);
    Ok(Arc::new(SingleCertAndKey::from(shown)))
}
