//! Takes connections, also while the process has no file descriptor left: a few are kept for that, so that probes are answered.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::libc::{ECONNABORTED, ECONNREFUSED, ECONNRESET, EMFILE, ENFILE, EPROTO};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::admission::Admission;

/// Connections that are served at once while there are no other descriptors.
const SPARES: usize = 4;

/// Until a connection that has to make room is closed, and between two tries in general.
const PAUSE: Duration = Duration::from_millis(50);

const LOGGED_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Arrivals {
    listener: TcpListener,
    admission: Admission,
    /// Open for nothing but their descriptors.
    spares: Vec<File>,
    logged_at: Option<Instant>,
}

/// A connection, and how it is to be served.
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) from: SocketAddr,
    /// Descriptors are rare: it is to be closed after one answer.
    pub(super) is_brief: bool,
}

impl Arrivals {
    pub(super) fn new(listener: TcpListener, admission: Admission) -> Self {
        let mut arrivals = Self {
            listener,
            admission,
            spares: Vec::new(),
            logged_at: None,
        };
        arrivals.restock();
        arrivals
    }

    /// May be dropped and called again.
    pub(super) async fn next(&mut self) -> Arrival {
        loop {
            self.restock();
            let error = match self.accept().await {
                Ok(arrival) => return arrival,
                Err(error) => error,
            };
            match error.raw_os_error() {
                // The peer has gone again.
                Some(ECONNABORTED | ECONNREFUSED | ECONNRESET | EPROTO) => {}
                Some(EMFILE | ENFILE) => {
                    self.admission.was_starved();
                    self.log(&error);
                    if self.spares.pop().is_none() {
                        self.admission.make_room();
                        sleep(PAUSE).await;
                    } else if let Ok(arrival) = self.accept_now().await {
                        return arrival;
                    }
                }
                _ => {
                    self.log(&error);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Arrival> {
        let (stream, from) = self.listener.accept().await?;
        Ok(Arrival {
            stream,
            from,
            is_brief: self.spares.len() < SPARES,
        })
    }

    /// With the descriptor of a spare. It does not wait: the connection may have gone, and the descriptor is wanted back then.
    async fn accept_now(&self) -> io::Result<Arrival> {
        tokio::time::timeout(PAUSE, self.accept())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn restock(&mut self) {
        while self.spares.len() < SPARES {
            match File::open("/dev/null") {
                Ok(spare) => self.spares.push(spare),
                Err(_) => return,
            }
        }
    }

    fn log(&mut self, error: &io::Error) {
        if self.logged_at.is_none_or(|at| at.elapsed() >= LOGGED_EVERY) {
            self.logged_at = Some(Instant::now());
            tracing::error!(
                error = error as &dyn std::error::Error,
                "a connection to the pages cannot be taken as others are: raise the limit of file descriptors (LimitNOFILE, ulimit -n)"
            );
        }
    }
}
