//! The two signals that end a process, and the exit code of each.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// How long a command that was asked to end may take leave of the server.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Stop {
    /// As NATS Streaming ends, because service managers are configured for it.
    pub fn code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::SUCCESS,
            Self::Terminate => ExitCode::from(143),
        }
    }
}

#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    pub async fn stop(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
        }
    }

    /// What `work` comes to, unless a signal is there first.
    pub async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            stop = self.stop() => Err(stop),
            done = work => Ok(done),
        }
    }

    /// The last thing that a command does, after a signal. Does not wait for a server that does not answer, nor against
    /// a second signal.
    pub async fn leave(&mut self, farewell: impl Future) {
        tokio::select! {
            biased;
            _ = self.stop() => {}
            _ = timeout(LEAVE_LIMIT, farewell) => {}
        }
    }
}
