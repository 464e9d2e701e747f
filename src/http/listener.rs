//! Keeps strangers from using up the process' file descriptors: so many connections, and none that only waits.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::tls::{Stream, Tls};

/// Further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;

/// A connection that has sent nothing for so long is closed. Probes and scrapers connect again.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

pub(super) struct BoundedListener {
    inner: TcpListener,
    tls: Option<Tls>,
    room: Arc<Semaphore>,
}

impl BoundedListener {
    pub(super) fn new(inner: TcpListener, tls: Option<Tls>) -> Self {
        Self {
            inner,
            tls,
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.room).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        // The inner listener's `accept` retries, with a pause when descriptors have run out.
        let (stream, address) = Listener::accept(&mut self.inner).await;
        let stream = match &mut self.tls {
            Some(tls) => tls.accept(stream).await,
            None => Stream::Plain(stream),
        };
        let idle = Box::pin(tokio::time::sleep(IDLE_LIMIT));
        (
            Connection {
                stream,
                idle,
                _permit: permit,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

pub(super) struct Connection {
    stream: Stream,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Progress starts the time anew; without it, the connection ends when the time is over.
    fn limit<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.set(tokio::time::sleep(IDLE_LIMIT));
            return polled;
        }
        self.idle
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.limit(polled, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit(polled, context)
    }

    // The progress of a socket that has nothing to flush would count as the peer's.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
