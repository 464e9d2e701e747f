//! Whether a server's certificate is believed: as libpq and OpenSSL do it for Postgres, and as Go does it for NATS. They
//! take what stricter verifiers refuse: certificates of version 1, and authorities that are their own server's
//! certificate, as Postgres' manual makes them. `chain` finds the way to an authority, `constraints` and `names` judge
//! names, `verifier` is what a handshake asks. It opens no connection.

mod chain;
mod constraints;
mod files;
mod names;
mod verifier;

pub use chain::Refusal;
pub use files::{Identity, authorities, own};
pub use verifier::{Verifier, describe};

/// What is asked of a server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Somebody who is trusted vouches for it, and it is for the host that was connected to.
    #[default]
    HostAndAuthority,
    /// Somebody who is trusted vouches for it.
    Authority,
    /// Nothing: whoever is between can read and change everything.
    Nothing,
}

/// What the file with the certificates that are trusted is, for errors about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustFile {
    /// Authorities, as somebody named them.
    #[default]
    Authorities,
    /// The certificate of the nats-server that this server runs, as its argument names it.
    OfArgument,
    /// The same, as its part of a configuration file names it.
    OfConfiguration,
}

/// Whose rules count where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// OpenSSL as libpq uses it: only a certificate that is signed by itself ends a chain, the purpose has to be named
    /// where any is, and where a certificate names no host of the kind that is asked for, its common name counts.
    Libpq,
    /// Go's `crypto/x509`: every certificate that is trusted ends a chain, and the common name never counts.
    Go,
}
