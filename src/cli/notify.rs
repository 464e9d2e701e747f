//! Tells systemd how the server fares: ready, its role in words, alive, about to end. Does nothing where no service
//! manager asks (`NOTIFY_SOCKET`), and never fails a server: what cannot be sent is lost.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::monitoring::status::{Role, Status};

/// For a start that has just reported something new.
const MORE_TIME: Duration = Duration::from_mins(15);

#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    /// What systemd waits for before it takes the server for stuck.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From the environment that systemd gives its services.
    pub(super) fn from_environment() -> Self {
        let value = |name: &str| std::env::var_os(name);
        let Some(address) = value("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::silent();
        };
        let number = |name: &str| value(name)?.to_str()?.parse::<u64>().ok();
        // A process that was started by the service must not answer in its place.
        let is_asked =
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&limit| is_asked && limit > 0);
        match open(&address) {
            Ok(socket) => Self {
                socket: Some(socket),
                watchdog: watchdog.map(Duration::from_micros),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot notify the service manager (NOTIFY_SOCKET)");
                Self::silent()
            }
        }
    }

    fn silent() -> Self {
        Self {
            socket: None,
            watchdog: None,
        }
    }

    /// Tells what happens for as long as the node does; to be run beside it, on the same runtime: that it goes on is
    /// what the watchdog gets.
    pub(super) async fn run(&self, mut status: watch::Receiver<Status>) -> Infallible {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let mut alive = self.watchdog.map(often);
        let mut is_ready = false;
        let mut received = String::new();
        loop {
            let (text, ready) = shown(&status.borrow_and_update());
            if text != received {
                self.send(&format!("STATUS={text}\n"));
                // A start may import a large store: as long as it gets on, it is not given up.
                if !ready && !is_ready {
                    self.send(&format!("EXTEND_TIMEOUT_USEC={}\n", MORE_TIME.as_micros()));
                }
                received = text;
            }
            if ready && !is_ready {
                self.send("READY=1\n");
                is_ready = true;
            }
            tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
                () = tick(alive.as_mut()) => self.send("WATCHDOG=1\n"),
            }
        }
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "the service manager cannot be notified");
        }
    }
}

fn open(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        [b'/', ..] => socket.connect(Path::new(address))?,
        _ => {
            return Err(io::Error::other(
                "it is neither a path nor an abstract name",
            ));
        }
    }
    Ok(socket)
}

/// Three times in the time that it is waited for.
fn often(limit: Duration) -> Interval {
    let mut ticks = interval((limit / 3).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tick(ticks: Option<&mut Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// On one line, and whether the node can serve or take over.
fn shown(status: &Status) -> (String, bool) {
    let text = match (&status.unable_reason, status.role_at(Clock.now().monotonic)) {
        (Some(unable_reason), _) => unable_reason.replace('\n', " "),
        (None, Role::Active) => match status.epoch {
            Some(epoch) => format!("active, epoch {epoch}"),
            None => "active".to_owned(),
        },
        (None, Role::Standby) => "standby".to_owned(),
    };
    (text, status.unable_reason.is_none())
}
