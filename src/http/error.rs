//! What can keep the pages from being served.

use std::io;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the monitoring pages cannot listen on {0}: another process has this port; choose another --http-port"
    )]
    InUse(SocketAddr),
    #[error("the monitoring pages cannot listen on {address}; check --http-host and --http-port")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the monitoring pages stopped")]
    Serve(#[source] io::Error),
}
