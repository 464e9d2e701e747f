//! The listener and the paths.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::api::{self, Api};
use super::console::{self, Console};
use super::error::Error;
use super::listener::Listener;
use super::tls::{Certificate, Tls};
use super::view::{Shared, Source};
use super::{
    answer_budget, channelsz, clientsz, health, index, metrics, nats_pages, serverz, storez,
};
use crate::clock::Clock;
use crate::monitoring::reports::Reports;
use crate::monitoring::status::Status;

/// How long a client that is slow to read its answer can hold up the end of the process.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    shared: Shared,
    api: Api,
    console: Console,
}

impl Server {
    /// Takes the port. Separate from [`Server::run`], so that a port in use is a failed start.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                Error::InUse(address)
            } else {
                Error::Bind { address, source }
            }
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            tls: None,
            shared: Shared::default(),
            api: Api::default(),
            console: Console::default(),
        })
    }

    /// Speaks TLS, and nothing else.
    pub async fn with_tls(self, certificate: Certificate) -> Result<Self, Error> {
        Ok(Self {
            tls: Some(Arc::new(Tls::new(certificate).await?)),
            ..self
        })
    }

    /// Also what operators change.
    #[must_use]
    pub fn with_api(self, api: Api) -> Self {
        Self { api, ..self }
    }

    /// Also what people look at.
    #[must_use]
    pub fn with_console(self, console: Console) -> Self {
        Self { console, ..self }
    }

    /// Its connections and answers count with those of `other`.
    #[must_use]
    pub fn within_limits_of(self, other: &Self) -> Self {
        Self {
            shared: other.shared.clone(),
            ..self
        }
    }

    /// Where it listens, with the port that was given for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`, then finishes the answers under way.
    pub async fn run(
        self,
        status: watch::Receiver<Status>,
        reports: Reports,
        clock: Clock,
        shutdown: CancellationToken,
    ) {
        let listener = Listener {
            listener: self.listener,
            tls: self.tls,
            admission: self.shared.admission.clone(),
        };
        let source = Source::new(
            status,
            reports,
            clock,
            self.shared,
            (self.api, self.console),
        );
        let served = listener.serve(router(source), shutdown.clone());
        let overdue = async {
            shutdown.cancelled().await;
            tokio::time::sleep(SHUTDOWN_LIMIT).await;
        };
        tokio::select! {
            () = served => {}
            () = overdue => {}
        }
    }
}

/// Any method will do, as with NATS Streaming: some probes cannot be configured.
fn router(source: Source) -> Router {
    let budget = source.shared.answer_budget.clone();
    Router::new()
        .route("/", any(index::root))
        .route("/healthz", any(health::alive))
        .route("/healthz/active", any(health::active))
        .route("/readyz", any(health::ready))
        .route("/metrics", any(metrics::page::metrics))
        .route("/streaming", any(index::streaming))
        .route("/streaming/serverz", any(serverz::serverz))
        .route("/streaming/storez", any(storez::storez))
        .route("/streaming/clientsz", any(clientsz::clientsz))
        .route("/streaming/channelsz", any(channelsz::channelsz))
        .route("/streaming/isFTActive", any(health::is_ft_active))
        .merge(api::router())
        .merge(console::router())
        .fallback(nats_pages::pass_on)
        .layer(from_fn_with_state(budget, answer_budget::bounded))
        .merge(console::streams())
        .with_state(source)
}
