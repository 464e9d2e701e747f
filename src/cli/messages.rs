//! What `stanby pub` publishes: one message so many times, or each line of a file or of standard input.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Take};

use super::failure::Failure;
use super::output;
use super::payload;

/// More than NATS can be configured to take.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// Where messages are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    StandardInput,
    File(PathBuf),
}

impl Origin {
    /// A file named `-` is standard input.
    pub(super) fn of_file(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::StandardInput
        } else {
            Self::File(path.to_owned())
        }
    }

    fn name(&self) -> String {
        match self {
            Self::StandardInput => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    async fn open(&self) -> Result<Box<dyn AsyncRead + Send + Unpin>, Failure> {
        match self {
            Self::StandardInput => Ok(Box::new(tokio::io::stdin())),
            Self::File(path) => {
                let opened = tokio::fs::File::open(path).await;
                let file = opened.with_context(|| format!("{} cannot be opened", self.name()))?;
                Ok(Box::new(file))
            }
        }
    }
}

/// Messages in their order.
pub(super) enum Messages {
    Same {
        data: Bytes,
        left: u64,
    },
    Lines(Lines),
    /// Each line is an object with a payload. Where a channel is named, lines of others are passed over.
    Json(Lines, Option<String>),
}

impl Messages {
    /// Reads one message to its end.
    pub(super) async fn read(origin: &Origin, count: u64) -> Result<Self, Failure> {
        if *origin == Origin::StandardInput && io::stdin().is_terminal() {
            output::note("reading the message from standard input; end it with Ctrl-D");
        }
        let mut data = Vec::new();
        // One byte more: enough for NATS to refuse the message by its size.
        let mut input = origin.open().await?.take(MESSAGE_BYTES_MAX + 1);
        let read = input.read_to_end(&mut data).await;
        read.with_context(|| format!("{} cannot be read", origin.name()))?;
        let data = data.into();
        Ok(Self::Same { data, left: count })
    }

    pub(super) async fn lines(origin: &Origin) -> Result<Self, Failure> {
        Lines::open(origin).await.map(Self::Lines)
    }

    /// Lines as `sub --json` prints them. Empty ones are passed over.
    pub(super) async fn json(origin: &Origin, only: Option<String>) -> Result<Self, Failure> {
        let lines = Lines::open(origin).await?;
        Ok(Self::Json(lines, only))
    }

    /// `None` after the last one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Same { left: 0, .. } => Ok(None),
            Self::Same { data, left } => {
                *left -= 1;
                Ok(Some(data.clone()))
            }
            Self::Lines(lines) => lines.next().await,
            Self::Json(lines, only) => loop {
                let Some(line) = lines.next().await? else {
                    return Ok(None);
                };
                let line = match lines.number {
                    1 if line.starts_with(payload::BYTE_ORDER_MARK) => {
                        line.slice(payload::BYTE_ORDER_MARK.len()..)
                    }
                    _ => line,
                };
                if line.trim_ascii().is_empty() {
                    continue;
                }
                if only.is_none() || lines.channel(&line)? == *only {
                    return lines.payload(&line).map(Some);
                }
            },
        }
    }

    /// Where the last message stands, where that says something.
    pub(super) fn place(&self) -> Option<String> {
        match self {
            Self::Same { .. } => None,
            Self::Lines(lines) | Self::Json(lines, _) => Some(lines.place()),
        }
    }
}

/// Beside the payload. (Not in one structure: what keeps JSON as it stands cannot be a part of another one.)
#[derive(Deserialize)]
struct Named {
    channel: Option<String>,
}

/// Every line is a message, an empty one too; its end (`\n` or `\r\n`) is not part of it, and what follows the last end
/// is a line if it is not empty.
pub(super) struct Lines {
    input: Take<Box<dyn AsyncBufRead + Send + Unpin>>,
    name: String,
    /// The number of the last line that was returned, from 1.
    number: u64,
    /// A line of which the end has not come.
    begun: Vec<u8>,
}

impl Lines {
    fn new(input: Box<dyn AsyncBufRead + Send + Unpin>, name: String) -> Self {
        Self {
            input: input.take(0),
            name,
            number: 0,
            begun: Vec::new(),
        }
    }

    async fn open(origin: &Origin) -> Result<Self, Failure> {
        if *origin == Origin::StandardInput && io::stdin().is_terminal() {
            output::note("publishing each line of standard input; end with Ctrl-D");
        }
        let input = BufReader::new(origin.open().await?);
        Ok(Self::new(Box::new(input), origin.name()))
    }

    /// The place of the line that was returned last.
    fn place(&self) -> String {
        format!("line {} of {}", self.number, self.name)
    }

    fn channel(&self, line: &[u8]) -> Result<Option<String>, Failure> {
        let named: Result<Named, _> = serde_json::from_slice(line);
        Ok(named
            .map_err(|error| self.wrong(&payload::describe(&error)))?
            .channel)
    }

    fn payload(&self, line: &[u8]) -> Result<Bytes, Failure> {
        let payload =
            payload::of_line(line).map_err(|error| self.wrong(&payload::describe(&error)))?;
        Ok(payload.into_bytes().map_err(|why| self.wrong(&why))?.into())
    }

    fn wrong(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::Usage(anyhow!("{}: {why:#}", self.place()))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.input
            .set_limit(MESSAGE_BYTES_MAX + 1 - self.begun.len() as u64);
        let read = self.input.read_until(b'\n', &mut self.begun).await;
        read.with_context(|| format!("{} cannot be read", self.name))?;
        if self.begun.len() as u64 > MESSAGE_BYTES_MAX {
            return Err(Failure::Failed(anyhow!(
                "line {} of {} has more than {MESSAGE_BYTES_MAX} bytes, which NATS cannot take; is it text?",
                self.number + 1,
                self.name
            )));
        }
        if self.begun.is_empty() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.begun);
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        self.number += 1;
        Ok(Some(line.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &'static [u8]) -> Vec<Bytes> {
        let mut lines = Lines::new(Box::new(text), "text".to_owned());
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.expect("it can be read") {
            all.push(line);
        }
        assert_eq!(lines.number, all.len() as u64);
        all
    }

    #[tokio::test]
    async fn every_line_is_a_message_without_its_end() {
        assert_eq!(lines(b"").await, [""; 0]);
        assert_eq!(lines(b"a\nb\n").await, ["a", "b"]);
        assert_eq!(lines(b"a\r\n\nb").await, ["a", "", "b"]);
        assert_eq!(lines(b"\n\n").await, ["", ""]);
        assert_eq!(lines(b"a\rb\n").await, ["a\rb"]);
    }

    #[tokio::test]
    async fn a_line_of_json_is_named_once_and_a_byte_order_mark_is_none() {
        let text = "\u{feff}{\"channel\":\"a\",\"data\":\"x\"}\n{\"data\"\n";
        for only in [None, Some("a".to_owned())] {
            let lines = Lines::new(Box::new(text.as_bytes()), "f".to_owned());
            let mut messages = Messages::Json(lines, only);
            assert_eq!(messages.next().await.expect("a line"), Some("x".into()));
            let refusal = messages.next().await.expect_err("a refusal").message();
            let refusal = refusal.expect("a sentence");
            assert!(refusal.starts_with("line 2 of f: "), "{refusal}");
            assert_eq!(refusal.matches("line ").count(), 1, "{refusal}");
        }
    }

    #[tokio::test]
    async fn a_line_longer_than_any_message_is_refused_by_its_number() {
        let mut text = b"short\n".to_vec();
        text.resize(text.len() + (64 << 20) + 1, b'x');
        let text: &'static [u8] = Box::leak(text.into_boxed_slice());
        let mut lines = Lines::new(Box::new(text), "big.txt".to_owned());

        assert_eq!(lines.next().await.expect("a line"), Some("short".into()));
        let refusal = lines.next().await.expect_err("a refusal").message();
        let refusal = refusal.expect("a sentence");
        assert!(
            refusal.starts_with("line 2 of big.txt has more than"),
            "{refusal}"
        );
    }
}
