//! Where commands print. `println!` panics when the reader has gone, as in `stanby sub orders | head -1`.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;

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

/// A line for people, beside the output. That it cannot be written is no reason to fail.
pub fn note(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// A value as JSON, on one line.
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).context("the answer does not fit into JSON")?;
    line(&printable::json(&text))
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
