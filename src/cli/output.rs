//! Where commands print. `println!` panics when the reader has gone, as in `stanby sub orders | head -1`.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd as _;

use anyhow::Context;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use super::failure::Failure;
use crate::printable;

/// A line to standard output.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(Failure::Failed(error.into())),
    }
}

/// The same for a reader that may be slow: whoever waits for this can still be ended.
pub async fn line_when_taken(text: String) -> Result<(), Failure> {
    let written = tokio::task::spawn_blocking(move || line(&text)).await;
    written.context("a line could not be written")?
}

/// Returns once nobody reads what is printed any more, as after `| head -1`. A file or a terminal is always read.
pub async fn reader_gone() -> Failure {
    // As it is: nothing is written through it.
    let watched = io::stdout().as_fd().try_clone_to_owned();
    if let Ok(watched) = watched.and_then(Sender::from_owned_fd_unchecked) {
        loop {
            match watched.ready(Interest::ERROR).await {
                Ok(ready) if ready.is_error() => return Failure::OutputClosed,
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    // It cannot be watched: writing will tell.
    std::future::pending().await
}

/// A line for people, beside the output. That it cannot be written is no reason to fail.
pub fn note(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// A value as JSON, on one line.
pub fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<(), Failure> {
    line(&json_text(value)?)
}

/// The same, not printed yet.
pub fn json_text(value: &(impl serde::Serialize + ?Sized)) -> Result<String, Failure> {
    let text = serde_json::to_string(value).context("the answer does not fit into JSON")?;
    Ok(printable::json(&text).into_owned())
}

/// Data that was published: as it is, unless a terminal shows it, whose cursor and title it must not change.
pub fn data(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    if io::stdout().is_terminal() {
        printable::lines(&text).into_owned()
    } else {
        text.into_owned()
    }
}

/// A name that strangers have chosen: always one line.
pub fn name_from_outside(name: &str) -> String {
    printable::line(name).into_owned()
}
