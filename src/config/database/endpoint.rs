//! Where a Postgres may be.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// Where a Postgres may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
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

impl Endpoint {
    /// The name to be looked up, where it may have several addresses.
    pub fn name(&self) -> Option<(&str, u16)> {
        match (&self.host, self.address) {
            (Host::Tcp(name), None) if name.parse::<IpAddr>().is_err() => Some((name, self.port)),
            _ => None,
        }
    }

    /// Its name or address, and the port, where it is reached by TCP.
    pub fn host(&self) -> Option<(String, u16)> {
        match (&self.host, self.address) {
            (Host::Tcp(_), Some(address)) => Some((address.to_string(), self.port)),
            (Host::Tcp(name), None) => Some((name.clone(), self.port)),
            (Host::Unix(_), _) => None,
        }
    }

    /// The directory of its Unix socket.
    pub fn directory(&self) -> Option<&Path> {
        match &self.host {
            Host::Unix(directory) => Some(Path::new(directory)),
            Host::Tcp(_) => None,
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

impl fmt::Display for Endpoint {
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
