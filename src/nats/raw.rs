//! A connection without a task behind it: its owner decides about each read and each write, and about what to do when it
//! ends. For load generators, which have to be cheap; servers use [`super::Connection`].

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::budget::Budget;
use super::dial::Line;
use super::error::Error;
use super::link::Link;
use super::reconnect::Reconnect;
use super::settings::Settings;
use super::wire::{Frame, Violation};

pub struct Raw(Line);

impl Raw {
    /// To the first of the servers that lets us in.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let budget = Budget::new(settings.receive_queue, settings.receive_bytes);
        let link = Arc::new(Link::new(budget));
        let line = Reconnect::new(settings.clone(), link)?.first().await?;
        Ok(Self(line))
    }

    /// Largest message that the NATS server takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.0.info.max_payload
    }

    /// Waits for bytes. May be given up at any time.
    pub async fn read(&mut self) -> io::Result<()> {
        match self.0.stream.read_buf(self.0.parser.room()).await? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "NATS closed it",
            )),
            _ => Ok(()),
        }
    }

    /// The next of what has been read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        self.0.parser.next_frame()
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.stream.write_all(bytes).await?;
        self.0.stream.flush().await
    }

    /// The server's address, for error texts.
    pub fn address(&self) -> String {
        self.0.address.to_string()
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Raw").field(&self.0).finish()
    }
}
