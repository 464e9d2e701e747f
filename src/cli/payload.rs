//! The one shape in which messages are printed and read as JSON: what `sub --json`, `message` and `export` print, `pub --json`
//! and `import` take back, byte for byte.
//!
//! A line has one of `data` (text), `data_json` (a JSON value as it was published) and `data_base64`.

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use data_encoding::BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::printable;

/// How payloads are printed in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Encoding {
    /// Text where it is UTF-8, else base64
    #[default]
    Text,
    /// A JSON value where it is one, else as text
    Json,
    /// Always base64
    Base64,
}

/// The payload of a line of JSON: exactly one field.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Payload {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_json: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// Reads a line of JSON, which has to be an object: serde would take the elements of an array for its fields.
pub(super) fn of_line(line: &[u8]) -> serde_json::Result<Payload> {
    if line.trim_ascii_start().first() == Some(&b'[') {
        return Err(serde::de::Error::custom(
            "it is an array, and no object with one of data, data_json and data_base64",
        ));
    }
    serde_json::from_slice(line)
}

/// What is wrong with a line, whose number is told beside it: JSON counts lines within it.
pub(super) fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

/// A byte-order mark, with which some editors begin a file.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

impl Payload {
    pub(super) fn new(data: &[u8], encoding: Encoding) -> Self {
        let text = match encoding {
            Encoding::Base64 => None,
            Encoding::Text | Encoding::Json => std::str::from_utf8(data).ok(),
        };
        let Some(text) = text else {
            return Self {
                data_base64: Some(BASE64.encode(data)),
                ..Self::default()
            };
        };
        let value = (encoding == Encoding::Json)
            .then(|| as_value(text))
            .flatten();
        Self {
            data: value.is_none().then(|| text.to_owned()),
            data_json: value,
            data_base64: None,
        }
    }

    /// The bytes that were published, or what is wrong with the line.
    pub(super) fn into_bytes(self) -> anyhow::Result<Vec<u8>> {
        match (self.data, self.data_json, self.data_base64) {
            (Some(text), None, None) => Ok(text.into_bytes()),
            (None, Some(value), None) => Ok(value.get().as_bytes().to_vec()),
            (None, None, Some(text)) => BASE64
                .decode(text.as_bytes())
                .context("data_base64 is no base64"),
            (None, None, None) => bail!(
                "there is no payload; give one of \"data\" (text), \"data_json\" and \"data_base64\""
            ),
            _ => bail!(
                "there are several payloads; give one of \"data\", \"data_json\" and \"data_base64\""
            ),
        }
    }
}

/// Only what comes out as it went in: nothing around it, no end of line that would cut the line that it stands in, and
/// nothing that is printed as an escape.
fn as_value(text: &str) -> Option<Box<RawValue>> {
    let value: Box<RawValue> = serde_json::from_str(text).ok()?;
    // A null would be read back as no payload.
    let is_one_line = value.get() == text && text != "null" && !text.contains(['\n', '\r']);
    (is_one_line && printable::json(text) == text).then_some(value)
}

/// Nanoseconds since 1970 as ISO 8601 in UTC, with as many digits as it needs.
pub(super) fn iso(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into())
        .map_or_else(|_| nanoseconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output;

    #[test]
    fn what_is_printed_as_json_is_read_back_byte_for_byte() {
        let payloads: [&[u8]; 9] = [
            b"",
            b"plain",
            "grüße\n\"\\\u{7f}".as_bytes(),
            b"\xff\x00\x01",
            br#"{"b": 1.0,"a":[1e400, 12345678901234567890123]}"#,
            b" {\"spaces\": true} ",
            b"{\n  \"lines\": 2\n}",
            b"null",
            "{\"a\": \"\u{202e}\u{9b}\"}".as_bytes(),
        ];
        for payload in payloads {
            for encoding in [Encoding::Text, Encoding::Json, Encoding::Base64] {
                let line = output::json_text(&Payload::new(payload, encoding)).unwrap();
                assert!(!line.contains('\n'), "{line}");
                let read: Payload = serde_json::from_str(&line).unwrap();
                assert_eq!(read.into_bytes().unwrap(), payload, "{encoding:?} {line}");
            }
        }
    }

    #[test]
    fn an_array_is_no_line_whatever_is_in_it() {
        for line in [r#"["a"]"#, " [null, 1, null]", "[]"] {
            let message = of_line(line.as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with("it is an array"), "{message}");
        }
    }

    #[test]
    fn a_line_without_a_payload_or_with_two_says_which_there_are() {
        for (line, expected) in [
            ("{}", "there is no payload"),
            (
                r#"{"data": "a", "data_json": 1}"#,
                "there are several payloads",
            ),
            (r#"{"data_base64": "a"}"#, "data_base64 is no base64"),
        ] {
            let read: Payload = serde_json::from_str(line).unwrap();
            let message = read.into_bytes().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
