//! Why a server that runs cannot be read.

use std::time::Duration;

use axum::http::StatusCode;

use crate::nats;
use crate::protocol::client;

/// What was given for the address of the monitoring pages.
#[derive(Debug, thiserror::Error)]
pub enum InvalidMonitor {
    #[error("{text:?} is no URL ({why}); write it like http://host:8222")]
    NoUrl {
        text: String,
        #[source]
        why: url::ParseError,
    },
    #[error("{0:?} is not like http://host:8222")]
    Unlike(String),
    #[error("the monitoring pages ask for no login; take it out of the URL")]
    Login,
}

/// What the monitoring pages do not give. A page is named by its URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum PagesError {
    #[error(
        "{monitor} does not serve clients ({is}); give the monitoring pages of the server that does"
    )]
    ServesNobody { monitor: String, is: String },
    #[error("channels have come or gone while they were listed")]
    Changed,
    #[error("{monitor}: the list of channels ends after {found} of {total}")]
    Short {
        monitor: String,
        found: usize,
        total: usize,
    },
    #[error("{0:?} is no name of a channel")]
    ChannelName(String),
    #[error("the monitoring page {page} cannot be had: {why}")]
    NotThere {
        page: String,
        #[source]
        why: ExchangeError,
    },
    #[error("{page} answers {status}; is --monitor the monitoring port (-m) of the former server?")]
    Status { page: String, status: StatusCode },
    #[error("{page} is not that page of a streaming server: {why}")]
    Unlike {
        page: String,
        #[source]
        why: serde_json::Error,
    },
}

/// One request for a page.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error(transparent)]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Tls(#[from] nats::TlsError),
    #[error(transparent)]
    Request(#[from] axum::http::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Body(#[from] axum::Error),
}

/// What keeps the client of the former server from reading.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "no streaming server answers for cluster ID {cluster_id:?} there; check --from-stan and --cluster-id, and that the \
         former server runs"
    )]
    Nobody { cluster_id: String },
    #[error(transparent)]
    Nats(#[from] nats::Error),
    #[error(transparent)]
    Answer(#[from] client::Error),
}
