//! The rest of a file's text, and the line and column that it begins at.

use std::sync::Arc;

use super::value::SourcePosition;
use crate::config::Error;

/// The rest of one file.
pub(super) struct Cursor<'t> {
    pub(super) rest: &'t str,
    pub(super) file: Arc<str>,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Cursor<'_> {
    pub(super) fn position(&self) -> SourcePosition {
        SourcePosition {
            file: Arc::clone(&self.file),
            line: self.line,
            column: self.column,
        }
    }

    pub(super) fn error(&self, what: impl std::fmt::Display) -> Error {
        at(&self.position(), what)
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    pub(super) fn skip(&mut self, unwanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&unwanted) {
            self.next();
        }
    }

    pub(super) fn skip_spaces(&mut self) {
        self.skip(|c| c.is_whitespace() && c != '\n');
    }

    pub(super) fn at_comment(&self) -> bool {
        self.rest.starts_with('#') || self.rest.starts_with("//")
    }

    /// The same, with a space behind the mark.
    pub(super) fn at_spaced_comment(&self) -> bool {
        let rest = self.rest.strip_prefix("//");
        let behind = rest.or_else(|| self.rest.strip_prefix('#'));
        behind.is_some_and(|text| text.chars().next().is_none_or(char::is_whitespace))
    }

    /// White space, line ends, comments and whatever else `more` says.
    pub(super) fn skip_blank(&mut self, more: &[char]) {
        loop {
            self.skip(|c| c.is_whitespace() || more.contains(&c));
            if !self.at_comment() {
                return;
            }
            self.skip(|c| c != '\n');
        }
    }

    pub(super) fn take_until(&mut self, end: impl Fn(char) -> bool) -> String {
        let length = self.rest.find(&end).unwrap_or(self.rest.len());
        let taken = self.rest[..length].to_owned();
        for _ in taken.chars() {
            self.next();
        }
        taken
    }

    pub(super) fn ensure_end(&mut self) -> Result<(), Error> {
        self.skip_spaces();
        match self.peek() {
            None | Some('\n' | ',' | ';' | '}' | ']') => Ok(()),
            Some(_) if self.at_comment() => Ok(()),
            Some(_) => Err(self.error(
                "nothing more may stand on this line; put text with spaces in quotes, or a comma between two keys",
            )),
        }
    }

    /// Text up to a line that holds nothing but `)`.
    pub(super) fn block(&mut self) -> Result<String, Error> {
        let opened = self.position();
        self.next();
        let mut text = String::new();
        loop {
            let line = self.take_until(|c| c == '\n');
            if line.trim() == ")" && self.line > opened.line {
                return Ok(text);
            }
            text.push_str(&line);
            match self.next() {
                Some(c) => text.push(c),
                None => {
                    return Err(at(
                        &opened,
                        "this parenthesis is never closed; the closing one stands on a line of its own",
                    ));
                }
            }
        }
    }

    /// Escapes mean something between double quotes only.
    pub(super) fn quoted(&mut self) -> Result<String, Error> {
        let opened = self.position();
        let quote = self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(at(&opened, "this quote is never closed")),
                c if c == quote => return Ok(text),
                Some('\\') if quote == Some('"') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    pub(super) fn escaped(&mut self) -> Result<char, Error> {
        let position = self.position();
        match self.next() {
            Some('t') => Ok('\t'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('"') => Ok('"'),
            Some('\\') => Ok('\\'),
            Some('x') => {
                let mut byte = 0;
                for _ in 0..2 {
                    let digit = self.next().and_then(|c| c.to_digit(16));
                    let digit =
                        digit.ok_or_else(|| at(&position, "\\x needs two hexadecimal digits"))?;
                    byte = byte * 16 + digit;
                }
                Ok(char::from_u32(byte).expect("below 256"))
            }
            Some(_) | None => Err(at(
                &position,
                "a backslash between double quotes is followed by t, n, r, x, \" or \\; use single quotes to have it as it is",
            )),
        }
    }
}

pub(super) fn at(position: &SourcePosition, what: impl std::fmt::Display) -> Error {
    Error::new(format!("{position}: {what}"))
}
