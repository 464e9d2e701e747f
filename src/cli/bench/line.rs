//! A NATS connection that does as little as possible: it shares the machine with the servers that it loads. Whatever
//! is complete in one read is taken at once, and what answers it leaves in one write.

use std::fmt::Display;
use std::time::Duration;

use anyhow::anyhow;
use bytes::BytesMut;
use tokio::time::timeout;

use crate::cli::failure::Failure;
use crate::cli::stan_client::not_let_in;
use crate::nats::wire::{Frame, Message, encode};
use crate::nats::{Raw, Settings};

const ANSWER_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Line {
    raw: Raw,
    /// What the next [`Line::flush`] writes.
    pub(super) out: BytesMut,
}

impl Line {
    /// To the first of the servers that answers.
    pub(super) async fn connect(settings: &Settings) -> Result<Self, Failure> {
        let raw = Raw::connect(settings).await.map_err(not_let_in)?;
        let out = BytesMut::new();
        Ok(Self { raw, out })
    }

    pub(super) fn max_payload(&self) -> usize {
        self.raw.max_payload()
    }

    /// Messages to `subject` come with the number `sid` from here on; NATS knows after a [`Line::round_trip`].
    pub(super) fn subscribe(&mut self, subject: &str, sid: usize) {
        encode::subscribe(subject, sid as u64, &mut self.out);
    }

    /// What was sent before is known to NATS afterwards. Not to be used while messages come: it passes over them.
    pub(super) async fn round_trip(&mut self) -> Result<(), Failure> {
        self.out.extend_from_slice(encode::PING);
        self.flush().await?;
        loop {
            while let Some(frame) = self.next_frame()? {
                match frame {
                    Frame::Pong => return Ok(()),
                    Frame::Ping => self.out.extend_from_slice(encode::PONG),
                    Frame::Message(_) | Frame::Info(_) | Frame::Ok | Frame::Error(_) => {}
                }
            }
            self.flush().await?;
            timeout(ANSWER_LIMIT, self.read())
                .await
                .map_err(|_| self.lost(&"it does not answer"))??;
        }
    }

    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = self.raw.write(&self.out).await;
        written.map_err(|error| self.lost(&error))?;
        self.out.clear();
        Ok(())
    }

    /// Waits for bytes. May be given up at any time.
    pub(super) async fn read(&mut self) -> Result<(), Failure> {
        let read = self.raw.read().await;
        read.map_err(|error| self.lost(&error))
    }

    /// The next message of what has been read. Pings are answered on the way.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, Failure> {
        while let Some(frame) = self.next_frame()? {
            match frame {
                Frame::Message(message) => return Ok(Some(message)),
                Frame::Ping => self.out.extend_from_slice(encode::PONG),
                Frame::Pong | Frame::Info(_) | Frame::Ok | Frame::Error(_) => {}
            }
        }
        Ok(None)
    }

    /// What NATS complains about ends the run: its figures would mean nothing.
    fn next_frame(&mut self) -> Result<Option<Frame>, Failure> {
        let frame = self.raw.next_frame();
        match frame.map_err(|violation| self.lost(&violation))? {
            Some(Frame::Error(text)) => {
                let text = String::from_utf8_lossy(&text).escape_debug().to_string();
                Err(self.lost(&format_args!("NATS says: {text}")))
            }
            frame => Ok(frame),
        }
    }

    fn lost(&self, why: &dyn Display) -> Failure {
        let address = self.raw.address();
        Failure::Unreachable(anyhow!(
            "the connection to NATS at {address} is lost: {why}"
        ))
    }
}
