//! The way from a certificate to an authority that is trusted.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::RawPublicKeyEntity;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{AuthorityKeyIdentifier, KeyIdentifier, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{X509Name, X509Version};

use super::Rules;
use super::constraints;

/// Certificates of one chain.
const LENGTH_MAX: usize = 12;

/// Signatures that are looked at for one chain: who sends many certificates of one name costs no more.
const SIGNATURES_MAX: u32 = 100;

/// Why a certificate, or a file of them, is of no use; a clause. Callers only report it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    pub(super) fn new(clause: impl Into<String>) -> Self {
        Self(clause.into())
    }
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Refusal::new("bytes follow the certificate")),
        Err(error) => Err(Refusal(format!("the certificate cannot be read: {error}"))),
    }
}

#[derive(Debug)]
pub(super) struct Search<'c> {
    pub(super) trusted: Vec<X509Certificate<'c>>,
    /// What the other end sent beside its own.
    pub(super) sent: Vec<X509Certificate<'c>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) now: UnixTime,
    pub(super) rules: Rules,
}

impl Search<'_> {
    pub(super) fn verify(&self, leaf: &X509Certificate<'_>) -> Result<(), Refusal> {
        let mut signatures = SIGNATURES_MAX;
        self.climb(&[leaf], &mut signatures)
    }

    /// Tries each issuer in turn; the last reason stands.
    fn climb(&self, chain: &[&X509Certificate<'_>], signatures: &mut u32) -> Result<(), Refusal> {
        let Some(&last) = chain.last() else {
            return Err(Refusal::new("no certificate was shown"));
        };
        let is_trusted = self
            .trusted
            .iter()
            .any(|root| root.as_raw() == last.as_raw());
        if is_trusted && (self.rules == Rules::Go || is_self_signed(last)) {
            return self.judge(chain);
        }
        if chain.len() == LENGTH_MAX {
            return Err(Refusal(format!(
                "its chain is longer than {LENGTH_MAX} certificates"
            )));
        }
        let why = match (is_self_signed(last), chain.len()) {
            (true, 1) => "it is signed by itself and is not in the file of authorities".to_owned(),
            (true, _) => format!("authority {} is not trusted", name(last.subject())),
            (false, _) => format!("its issuer {} is not known", name(last.issuer())),
        };
        let mut why = Refusal(why);
        for issuer in self.trusted.iter().chain(&self.sent) {
            let is_seen = chain.iter().any(|seen| seen.as_raw() == issuer.as_raw());
            if is_seen || !may_have_issued(issuer, last) {
                continue;
            }
            if *signatures == 0 {
                return Err(Refusal::new("too many certificates have the same name"));
            }
            *signatures -= 1;
            if !self.signed(issuer, last) {
                let issuer = name(last.issuer());
                why = Refusal(format!("the signature of {issuer} does not fit"));
                continue;
            }
            let longer: Vec<_> = chain.iter().copied().chain([issuer]).collect();
            match self.climb(&longer, signatures) {
                Ok(()) => return Ok(()),
                Err(deeper) => why = deeper,
            }
        }
        Err(why)
    }

    fn signed(&self, issuer: &X509Certificate<'_>, issued: &X509Certificate<'_>) -> bool {
        let key = SubjectPublicKeyInfoDer::from(issuer.public_key().raw);
        let Ok(key) = RawPublicKeyEntity::try_from(&key) else {
            return false;
        };
        let named = issued.signature_algorithm.algorithm.as_bytes();
        self.algorithms.all.iter().any(|algorithm| {
            // An identifier is the object identifier with its tag and length, then parameters.
            let id = algorithm.signature_alg_id();
            let is_named = id.get(2..).is_some_and(|id| id.starts_with(named));
            is_named
                && key
                    .verify_signature(
                        *algorithm,
                        issued.tbs_certificate.as_ref(),
                        &issued.signature_value.data,
                    )
                    .is_ok()
        })
    }

    /// Checks a chain whose signatures are right.
    fn judge(&self, chain: &[&X509Certificate<'_>]) -> Result<(), Refusal> {
        let now = i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX);
        let mut below: usize = 0;
        for (at, certificate) in chain.iter().enumerate() {
            let who = || match at {
                0 => "the certificate".to_owned(),
                _ => format!("authority {}", name(certificate.subject())),
            };
            let validity = certificate.validity();
            if now < validity.not_before.timestamp() {
                let since = validity.not_before;
                return Err(Refusal(format!("{} is not valid before {since}", who())));
            }
            if now > validity.not_after.timestamp() {
                let until = validity.not_after;
                return Err(Refusal(format!("{} expired on {until}", who())));
            }
            let unfit = |what| Refusal(format!("{} {what}", who()));
            understood(certificate).map_err(unfit)?;
            may_prove_servers(certificate, self.rules).map_err(unfit)?;
            if at > 0 {
                may_sign(certificate, below).map_err(unfit)?;
                constraints::ensure(certificate, &chain[..at])
                    .map_err(|why| Refusal(format!("{}: {why}", who())))?;
                // One that renews an authority counts for nothing.
                if certificate.subject().as_raw() != certificate.issuer().as_raw() {
                    below += 1;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn name(name: &X509Name<'_>) -> String {
    crate::printable::line(&name.to_string()).into_owned()
}

fn is_same(one: &X509Name<'_>, other: &X509Name<'_>) -> bool {
    // The same name may be written in another of ASN.1's kinds of text.
    one.as_raw() == other.as_raw() || one.to_string().eq_ignore_ascii_case(&other.to_string())
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    is_same(certificate.subject(), certificate.issuer()) && keys_agree(certificate, certificate)
}

fn keys_agree(issuer: &X509Certificate<'_>, issued: &X509Certificate<'_>) -> bool {
    let mut named = None;
    for extension in issued.iter_extensions() {
        if let ParsedExtension::AuthorityKeyIdentifier(AuthorityKeyIdentifier {
            key_identifier: Some(KeyIdentifier(id)),
            ..
        }) = extension.parsed_extension()
        {
            named = Some(*id);
        }
    }
    let mut own = None;
    for extension in issuer.iter_extensions() {
        if let ParsedExtension::SubjectKeyIdentifier(KeyIdentifier(id)) =
            extension.parsed_extension()
        {
            own = Some(*id);
        }
    }
    named.is_none() || own.is_none() || named == own
}

fn may_have_issued(issuer: &X509Certificate<'_>, issued: &X509Certificate<'_>) -> bool {
    is_same(issuer.subject(), issued.issuer()) && keys_agree(issuer, issued)
}

/// An extension that is marked as critical has to be understood.
fn understood(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    for extension in certificate.iter_extensions() {
        let parsed = extension.parsed_extension();
        if matches!(parsed, ParsedExtension::ParseError { .. }) {
            return Err(Refusal(format!(
                "has an extension that cannot be read ({})",
                extension.oid
            )));
        }
        let is_known = matches!(
            parsed,
            ParsedExtension::AuthorityKeyIdentifier(_)
                | ParsedExtension::SubjectKeyIdentifier(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::CertificatePolicies(_)
                | ParsedExtension::SubjectAlternativeName(_)
                | ParsedExtension::BasicConstraints(_)
                | ParsedExtension::NameConstraints(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::NSCertType(_)
        );
        if extension.critical && !is_known {
            return Err(Refusal(format!(
                "has a critical extension that is not known here ({})",
                extension.oid
            )));
        }
    }
    Ok(())
}

/// What an authority may sign for is asked of it, too.
fn may_prove_servers(certificate: &X509Certificate<'_>, rules: Rules) -> Result<(), Refusal> {
    let usage = certificate.extended_key_usage();
    let twice = |error| Refusal(format!("names its purpose twice ({error})"));
    let Some(usage) = usage.map_err(twice)? else {
        return Ok(());
    };
    if usage.value.server_auth || (rules == Rules::Go && usage.value.any) {
        return Ok(());
    }
    Err(Refusal::new(
        "is not made for servers (extendedKeyUsage without serverAuth)",
    ))
}

/// `below`: authorities between it and the certificate.
fn may_sign(certificate: &X509Certificate<'_>, below: usize) -> Result<(), Refusal> {
    let twice = |error| Refusal(format!("has an extension twice ({error})"));
    let usage = certificate.key_usage().map_err(twice)?;
    let usage = usage.map(|usage| usage.value.key_cert_sign());
    if usage == Some(false) {
        return Err(Refusal::new(
            "may not sign certificates (keyUsage without keyCertSign)",
        ));
    }
    match certificate.basic_constraints().map_err(twice)? {
        Some(basic) if !basic.value.ca => Err(Refusal::new(
            "may not sign certificates (basicConstraints CA:FALSE)",
        )),
        Some(basic) => match basic.value.path_len_constraint {
            Some(longest) if usize::try_from(longest).is_ok_and(|longest| below > longest) => {
                Err(Refusal(format!(
                    "may have {longest} authorities below it and has {below}"
                )))
            }
            Some(_) | None => Ok(()),
        },
        // Version 1 cannot say whether it is an authority; that it is trusted says so.
        None if certificate.version() == X509Version::V1 && is_self_signed(certificate) => Ok(()),
        None if usage == Some(true) => Ok(()),
        None => Err(Refusal::new(
            "does not say that it is an authority (basicConstraints CA:TRUE)",
        )),
    }
}
