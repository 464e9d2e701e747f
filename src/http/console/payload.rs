//! What stands in messages: as JSON with lines, as text, or as bytes.

use maud::{Markup, html};

use super::json;
use super::words::grouped;
use crate::printable;

/// More of a payload is not put into a page.
pub(super) const SHOWN_BYTES: usize = 64 << 10;

/// Letters of a line in a list.
const LINE_LETTERS: usize = 160;

/// How it is shown; the best that fits unless somebody wants another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Text,
    Hex,
}

impl Form {
    pub(super) const ALL: [(Self, &'static str); 3] = [
        (Self::Json, "json"),
        (Self::Text, "text"),
        (Self::Hex, "hex"),
    ];

    pub(super) fn of(data: &[u8], asked: &str) -> Self {
        let wanted = Self::ALL.iter().find(|(_, name)| *name == asked);
        if let Some((wanted, _)) = wanted {
            return *wanted;
        }
        if pretty(data).is_ok() {
            Self::Json
        } else if std::str::from_utf8(data).is_ok() {
            Self::Text
        } else {
            Self::Hex
        }
    }
}

pub(super) fn whole(data: &[u8], form: Form) -> Markup {
    let part = data.get(..data.len().min(SHOWN_BYTES)).unwrap_or(data);
    let (text, is_part) = match form {
        Form::Json => (pretty(data).unwrap_or_else(|why| why.to_string()), false),
        Form::Text => {
            let part = if part.len() < data.len() {
                whole_letters(part)
            } else {
                part
            };
            (
                printable::lines(&String::from_utf8_lossy(part)).into_owned(),
                true,
            )
        }
        Form::Hex => (hex(part), true),
    };
    html! {
        pre #payload tabindex="0" { (text) }
        @if is_part && part.len() < data.len() {
            p.note {
                "The first " (grouped(part.len() as u64)) " of " (grouped(data.len() as u64)) " bytes; the command line shows all."
            }
        }
    }
}

/// Why it is not shown as JSON, as a sentence.
#[derive(Debug, thiserror::Error)]
enum NotShown {
    #[error("It is too long to be shown as JSON here. Look at it as text.")]
    TooLong,
    #[error("It cannot be read as JSON: {0}.")]
    Json(#[from] serde_json::Error),
    #[error("It is no text: {0}.")]
    Text(#[from] std::str::Utf8Error),
}

/// With lines.
fn pretty(data: &[u8]) -> Result<String, NotShown> {
    if data.len() > SHOWN_BYTES {
        return Err(NotShown::TooLong);
    }
    serde_json::from_slice::<serde_json::Value>(data)?;
    let text = json::pretty(std::str::from_utf8(data)?).ok_or(NotShown::TooLong)?;
    Ok(printable::json(&text).into_owned())
}

/// Without a letter at the end that is cut.
fn whole_letters(part: &[u8]) -> &[u8] {
    match std::str::from_utf8(part) {
        Err(error) if error.error_len().is_none() => {
            part.get(..error.valid_up_to()).unwrap_or(part)
        }
        Ok(_) | Err(_) => part,
    }
}

/// In a list.
pub(super) fn line(data: &[u8]) -> String {
    let part = data.get(..data.len().min(4 * LINE_LETTERS)).unwrap_or(data);
    let text = match std::str::from_utf8(part) {
        Ok(text) => text.to_owned(),
        // It may be cut within a letter.
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(part).into_owned(),
        Err(_) => {
            return format!("{} bytes that are no text", grouped(data.len() as u64));
        }
    };
    let mut line: String = text.chars().take(LINE_LETTERS).collect();
    if text.chars().count() > LINE_LETTERS || part.len() < data.len() {
        line.push('…');
    }
    printable::line(&line).into_owned()
}

/// Sixteen bytes in a line, and what of them are letters.
fn hex(data: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (index, bytes) in data.chunks(16).enumerate() {
        write!(text, "{:08x} ", index * 16).expect("a String takes everything");
        for byte in bytes {
            write!(text, " {byte:02x}").expect("a String takes everything");
        }
        let letters = bytes.iter().map(|byte| {
            let letter = char::from(*byte);
            if byte.is_ascii_graphic() || letter == ' ' {
                letter
            } else {
                '.'
            }
        });
        let letters: String = letters.collect();
        let missing = 16 - bytes.len();
        writeln!(text, "{:width$}  {letters}", "", width = missing * 3)
            .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_shown_as_what_it_is_and_steers_nothing() {
        assert_eq!(Form::of(br#"{"a":1}"#, ""), Form::Json);
        assert_eq!(Form::of(b"hello", ""), Form::Text);
        assert_eq!(Form::of(&[0xff, 0x00], ""), Form::Hex);
        assert_eq!(Form::of(b"hello", "hex"), Form::Hex);
        let page = whole(b"<script>\x1b[31m</script>", Form::Text).into_string();
        assert!(page.contains("&lt;script&gt;\\u{1b}[31m"), "{page}");
        let page = whole(b"\xff<b>", Form::Hex).into_string();
        assert!(page.contains("00000000  ff 3c 62 3e"), "{page}");
        assert!(page.contains(".&lt;b&gt;"), "{page}");
    }

    #[test]
    fn however_large_a_payload_is_its_page_is_small() {
        let numbers = format!("[{}1]", "1,".repeat(30_000));
        let deep = "[".repeat(100) + &"1,".repeat(30_000) + "1" + &"]".repeat(100);
        let long = format!("\"{}\"", "é".repeat(4 << 20));
        for payload in [numbers, deep, long, "\0".repeat(8 << 20)] {
            for form in ["", "json", "text", "hex"] {
                let page = whole(payload.as_bytes(), Form::of(payload.as_bytes(), form));
                let page = page.into_string();
                assert!(page.len() < 8 * SHOWN_BYTES, "{form}: {}", page.len());
                assert!(!page.contains('\u{fffd}'), "a letter is cut");
            }
        }
    }

    #[test]
    fn a_line_of_a_list_is_one_line_and_short() {
        assert_eq!(line(b"a\nb"), "a\\nb");
        assert_eq!(line(&[0xff; 3]), "3 bytes that are no text");
        let long = "é".repeat(1000);
        let line = line(long.as_bytes());
        assert_eq!(line.chars().count(), LINE_LETTERS + 1);
        assert!(line.ends_with('…'));
    }
}
