//! What can keep the pages from being served.

use std::io;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the monitoring pages cannot listen on {0}: another process has this port; choose another --http-port or --https-port"
    )]
    InUse(SocketAddr),
    #[error(
        "the monitoring pages cannot listen on {address}; check --http-host, --http-port and --https-port"
    )]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is of no use as {what} of the monitoring pages: {why}; it has to be a PEM file"
    )]
    Certificate {
        what: &'static str,
        path: String,
        why: String,
    },
}
