//! Where a Postgres may be.

use std::fmt;
use std::net::IpAddr;

/// Where a Postgres may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) host: Host,
    /// The host's address, where its name is not to be looked up.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Tcp(String),
    /// Directory of the Unix socket.
    Unix(String),
}

impl Place {
    /// The name to be looked up, where it may have several addresses.
    pub fn name(&self) -> Option<(&str, u16)> {
        match (&self.host, self.address) {
            (Host::Tcp(name), None) if name.parse::<IpAddr>().is_err() => Some((name, self.port)),
            _ => None,
        }
    }

    #[must_use]
    pub fn with_address(&self, address: IpAddr) -> Self {
        Self {
            address: Some(address),
            ..self.clone()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match (&self.host, self.address) {
            (Host::Tcp(host), Some(address)) if *host != address.to_string() => {
                write!(f, "{host}:{port} ({address})")
            }
            (Host::Tcp(host), _) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (Host::Tcp(host), _) => write!(f, "{host}:{port}"),
            (Host::Unix(directory), _) => write!(f, "{directory}/.s.PGSQL.{port}"),
        }
    }
}
