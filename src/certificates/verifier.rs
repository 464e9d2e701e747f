//! What a handshake asks about the other end.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, SignatureScheme,
};
use webpki::RawPublicKeyEntity;

use super::chain::{Refusal, Search, parse};
use super::{Rules, names};

/// Judges the certificate of a server. That the server has the key of what it shows is proved in every case.
#[derive(Debug)]
pub struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    rules: Rules,
    /// `None` where any server will do.
    trusted: Option<Vec<CertificateDer<'static>>>,
    is_any_name: bool,
    /// In place of the host that the handshake names.
    name: Option<String>,
}

impl Verifier {
    /// Nothing proves who is at the other end.
    pub fn of_any(provider: &CryptoProvider) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
            rules: Rules::Libpq,
            trusted: None,
            is_any_name: true,
            name: None,
        }
    }

    /// One of `trusted` has to vouch for the other end, which has to be the host that the handshake names.
    pub fn new(
        provider: &CryptoProvider,
        rules: Rules,
        trusted: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
            rules,
            trusted: Some(trusted),
            is_any_name: false,
            name: None,
        }
    }

    /// Who is vouched for may have another name.
    #[must_use]
    pub fn of_any_name(mut self) -> Self {
        self.is_any_name = true;
        self
    }

    /// Who is vouched for has to be this one, whatever the handshake names.
    #[must_use]
    pub fn of_name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let Some(trusted) = &self.trusted else {
            return Ok(());
        };
        let leaf = parse(shown)?;
        let search = Search {
            // A system's list may hold what cannot be read here; that is trusted with nothing.
            trusted: trusted.iter().filter_map(|der| parse(der).ok()).collect(),
            sent: sent.iter().filter_map(|der| parse(der).ok()).collect(),
            algorithms: self.algorithms,
            now,
            rules: self.rules,
        };
        search.verify(&leaf)?;
        if self.is_any_name {
            return Ok(());
        }
        let expected = self
            .name
            .as_deref()
            .map_or_else(|| host.to_str(), Into::into);
        names::ensure(&leaf, &expected, self.rules)
    }

    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let leaf = parse(certificate).map_err(refused)?;
        let key = SubjectPublicKeyInfoDer::from(leaf.public_key().raw);
        let key = RawPublicKeyEntity::try_from(&key)
            .map_err(|error| refused(Refusal::new(format!("its key cannot be read: {error}"))))?;
        let known = self.algorithms.mapping.iter();
        let algorithms = known
            .filter(|(scheme, _)| *scheme == signature.scheme)
            .flat_map(|(_, algorithms)| algorithms.iter());
        let mut why = PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into();
        for algorithm in algorithms {
            match key.verify_signature(*algorithm, message, signature.signature()) {
                Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
                Err(webpki::Error::InvalidSignatureForPublicKey) => {
                    why = CertificateError::BadSignature.into();
                }
                Err(error) => {
                    why = refused(Refusal::new(format!(
                        "its key cannot be used here: {error}"
                    )));
                }
            }
        }
        Err(why)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, server_name, now)
            .map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

// rustls has no words for most of them.
fn refused(why: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// The error in words, whoever said it.
pub fn describe(error: &Error) -> String {
    if let Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = error {
        return format!("invalid peer certificate: {why}");
    }
    error.to_string()
}
