//! Serves connections: so many, each of them only as long as its peer keeps to the deadlines.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Admitted};
use super::api::Peer;
use super::arrivals::{Arrival, Arrivals};
use super::connection::Connection;
use super::nats_pages;
use super::tls::{Stream, Tls};

/// From the connection, or from the last answer, to the end of a request's header; the TLS handshake included. A
/// connection that waits for its next request is closed after as long.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// The same while there are hardly any file descriptors left.
const BRIEF_LIMIT: Duration = Duration::from_secs(1);

/// The most bytes of a request's line and headers. Larger ones are refused.
const HEADER_BYTES_MAX: usize = 16 << 10;

const HEADERS_MAX: usize = 64;

pub(super) struct Listener {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) admission: Admission,
}

impl Listener {
    /// Until `shutdown`; then finishes the answers under way.
    pub(super) async fn serve(self, router: Router, shutdown: CancellationToken) {
        let mut arrivals = Arrivals::new(self.listener, self.admission.clone());
        let connections = TaskTracker::new();
        let service = TowerToHyperService::new(router);
        loop {
            let Arrival {
                stream,
                from,
                is_brief,
            } = tokio::select! {
                () = shutdown.cancelled() => break,
                arrival = arrivals.next() => arrival,
            };
            let admitted = self.admission.admit(from.ip());
            let peer = Peer {
                address: from.ip(),
                is_secure: self.tls.is_some(),
            };
            let (tls, service, shutdown) = (self.tls.clone(), service.clone(), shutdown.clone());
            connections.spawn(async move {
                let served = serve(
                    (stream, is_brief),
                    tls,
                    service,
                    (&admitted, peer),
                    &shutdown,
                );
                tokio::select! {
                    result = served => if result.is_err_and(|error| is_overdue(&error)) {
                        admitted.was_slow();
                    },
                    () = admitted.evicted() => {}
                }
            });
        }
        drop(arrivals);
        connections.close();
        connections.wait().await;
    }
}

async fn serve(
    (stream, is_brief): (TcpStream, bool),
    tls: Option<Arc<Tls>>,
    service: TowerToHyperService<Router>,
    (admitted, peer): (&Admitted, Peer),
    shutdown: &CancellationToken,
) -> Result<(), hyper::Error> {
    let stream = match &tls {
        Some(tls) => tls.accept(stream).await,
        None => Stream::Plain(stream),
    };
    let answer = service_fn(|mut request: Request<Incoming>| {
        admitted.asks();
        request.extensions_mut().insert(peer);
        if let Some(plain) = nats_pages::plain_path(request.uri()) {
            *request.uri_mut() = plain;
        }
        service.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(!is_brief)
        .header_read_timeout(if is_brief { BRIEF_LIMIT } else { HEADER_LIMIT })
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Connection::new(stream)), answer);
    let mut served = pin!(served);
    tokio::select! {
        result = served.as_mut() => return result,
        () = shutdown.cancelled() => {}
    }
    served.as_mut().graceful_shutdown();
    served.await
}

fn is_overdue(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return inner.kind() == io::ErrorKind::TimedOut;
        }
        source = inner.source();
    }
    error.is_timeout()
}
