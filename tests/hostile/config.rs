//! Any bytes as a configuration file, in either format: understood or refused, within bounds.

use std::sync::Arc;

use stanby::config::Error;
use stanby::config::file::parser::Outside;
use stanby::config::file::{Part, render, understand};

use super::input::Input;

/// What files are made of, so that random ones get far.
const PIECES: &[&str] = &[
    "streaming",
    "store_limits",
    "channels",
    "max_msgs",
    "max_age",
    "sql_options",
    "source",
    "tls",
    "cluster",
    "http",
    "include ",
    "x",
    "$x",
    "$V",
    "{",
    "}",
    "[",
    "]",
    "(",
    "\n)\n",
    "=",
    ":",
    " ",
    "\n",
    ",",
    ";",
    "\"",
    "'",
    "\\",
    "#",
    "//",
    "1",
    "10m",
    "-1",
    "1.5",
    "true",
    "'1h'",
    "\"foo.>\"",
    "a.b",
    "2016-05-04T18:53:41Z",
    "é",
    "max_bytes = '1MB'\n",
    "[channels.'a']\n",
    "debug = true\n",
    "\u{0}",
    "\u{feff}",
];

struct World;

impl Outside for World {
    fn include(&self, path: &str, from: &str) -> Result<(Arc<str>, String), Error> {
        match path {
            "x" => Ok((from.into(), "a: 1\ninclude x".to_owned())),
            _ => Err(Error::new("no such file")),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "V").then(|| "[1, $V]".to_owned())
    }
}

/// # Panics
/// When a parser does, or when an error names no place.
pub(crate) fn feed(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let made_of_pieces = input.chance(192);
    let text: String = if made_of_pieces {
        let count = input.below(80);
        (0..count).map(|_| input.pick(PIECES)).collect()
    } else {
        String::from_utf8_lossy(input.take(usize::MAX)).into_owned()
    };
    for (name, part) in [
        ("a.conf", Part::Both),
        ("a.conf", Part::Process),
        ("a.toml", Part::Both),
    ] {
        match understand(&text, name, part, &World) {
            Ok(found) => drop(render(&found)),
            Err(error) => assert!(error.to_string().starts_with("a."), "no place: {error}"),
        }
    }
}
