//! Where commands print. `println!` panics when the reader has gone, as in `stanby sub orders | head -1`.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;

use super::failure::Failure;

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
    line(&serde_json::to_string(value).context("the answer does not fit into JSON")?)
}

/// Text from strangers: what reaches a terminal must not be able to move its cursor or change its title.
pub fn text_from_outside(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    if io::stdout().is_terminal() {
        printable(&text)
    } else {
        text.into_owned()
    }
}

fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\tb\nc é"), "a\tb\nc é");
        assert_eq!(
            printable("\x1b]0;x\x07\r\u{9b}"),
            "\\u{1b}]0;x\\u{7}\\r\\u{9b}"
        );
    }
}
