//! The text of a NATS configuration file to a table. Any text gives a table or an error with its place; depth,
//! included files and what variables may copy are bounded.

use std::sync::Arc;

use super::cursor::{Cursor, at};
use super::scalar::classify;
use super::value::{Entry, Kind, SourcePosition, Table, Value};
use crate::config::Error;

const DEPTH_MAX: usize = 32;
const FILES_MAX: usize = 64;
const VARIABLE_BYTES_MAX: usize = 4 << 20;

/// What lies outside of the text.
pub trait Outside {
    /// The path and the text of an included file, whose path is relative to the file that names it.
    fn include(&self, path: &str, from: &str) -> Result<(Arc<str>, String), Error>;
    fn variable(&self, name: &str) -> Option<String>;
}

/// `file` is only for places and for what is included.
pub fn parse(text: &str, file: &str, outside: &dyn Outside) -> Result<Table, Error> {
    let mut parser = Parser {
        outside,
        files: 1,
        depth: 0,
        copied: 0,
        scopes: vec![Table::default()],
    };
    parser.file(text, file.into())?;
    Ok(parser.scopes.swap_remove(0))
}

struct Parser<'a> {
    outside: &'a dyn Outside,
    files: usize,
    depth: usize,
    /// Bytes that variables stand for.
    copied: usize,
    /// The tables that are being read, the outermost first; variables are looked up in them.
    scopes: Vec<Table>,
}

const SEPARATORS: &[char] = &[',', ';'];

impl Parser<'_> {
    fn file(&mut self, text: &str, file: Arc<str>) -> Result<(), Error> {
        let mut cursor = Cursor {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            file,
            line: 1,
            column: 1,
        };
        cursor.skip_blank(&[]);
        // Neither of the two braces around a whole file is missed.
        let is_open = cursor.peek() == Some('{');
        if is_open {
            cursor.next();
        }
        self.entries(&mut cursor, None)?;
        if cursor.peek().is_none() {
            return Ok(());
        }
        let brace = cursor.position();
        cursor.next();
        cursor.skip_blank(SEPARATORS);
        match cursor.peek() {
            None => Ok(()),
            Some(_) if is_open => {
                Err(cursor.error("nothing may follow the closing brace of the file"))
            }
            Some(_) => Err(at(&brace, "this brace closes nothing; remove it")),
        }
    }

    /// Up to the end of the file or to a brace that closes it, or over the one that closes what was opened.
    fn entries(
        &mut self,
        cursor: &mut Cursor<'_>,
        opened: Option<&SourcePosition>,
    ) -> Result<(), Error> {
        loop {
            cursor.skip_blank(SEPARATORS);
            match (cursor.peek(), opened) {
                (None | Some('}'), None) => return Ok(()),
                (None, Some(opened)) => return Err(at(opened, "this brace is never closed")),
                (Some('}'), Some(_)) => {
                    cursor.next();
                    return Ok(());
                }
                (Some(_), None) => {
                    self.entry(cursor)?;
                    cursor.skip_spaces();
                    // As there: one brace behind a value on the outermost level closes nothing, and does no harm.
                    if cursor.peek() == Some('}') {
                        cursor.next();
                    }
                }
                (Some(_), Some(_)) => self.entry(cursor)?,
            }
        }
    }

    fn entry(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        let position = cursor.position();
        let quoted = matches!(cursor.peek(), Some('"' | '\''));
        let key = if quoted {
            cursor.quoted()?
        } else {
            cursor.take_until(|c| {
                c.is_whitespace() || matches!(c, '=' | ':' | '{' | '}' | ']' | ',' | ';')
            })
        };
        if key.is_empty() {
            return Err(at(&position, "a key should stand here"));
        }
        cursor.skip_spaces();
        let separated = matches!(cursor.peek(), Some('=' | ':'));
        if key.eq_ignore_ascii_case("include")
            && !quoted
            && !separated
            && cursor.peek() != Some('{')
        {
            return self.include(cursor);
        }
        if separated {
            cursor.next();
        }
        cursor.skip_spaces();
        // A word may begin with either mark of a comment, like a password.
        if cursor.at_spaced_comment() || matches!(cursor.peek(), None | Some('\n')) {
            // Not a word: it may be the next key.
            cursor.skip_blank(&[]);
            if !matches!(cursor.peek(), Some('{' | '[' | '(' | '"' | '\'')) {
                return Err(at(&position, format_args!("{key:?} has no value")));
            }
        }
        let value = self.value(cursor)?;
        cursor.ensure_end()?;
        let scope = self.scopes.last_mut().expect("the file's own scope stays");
        scope.0.push(Entry {
            key,
            position,
            value,
            is_variable: false,
        });
        Ok(())
    }

    fn value(&mut self, cursor: &mut Cursor<'_>) -> Result<Value, Error> {
        let position = cursor.position();
        let kind = match cursor.peek() {
            Some('{') => self.nested(cursor, Self::table)?,
            Some('[') => self.nested(cursor, Self::array)?,
            Some('(') => Kind::Text(cursor.block()?),
            Some('"' | '\'') => Kind::Text(cursor.quoted()?),
            Some(_) | None => self.word(cursor, &position)?,
        };
        Ok(Value { position, kind })
    }

    fn nested(
        &mut self,
        cursor: &mut Cursor<'_>,
        read: fn(&mut Self, &mut Cursor<'_>) -> Result<Kind, Error>,
    ) -> Result<Kind, Error> {
        if self.depth == DEPTH_MAX {
            return Err(cursor.error(format_args!("more than {DEPTH_MAX} blocks in each other")));
        }
        self.depth += 1;
        let kind = read(self, cursor);
        self.depth -= 1;
        kind
    }

    fn table(&mut self, cursor: &mut Cursor<'_>) -> Result<Kind, Error> {
        let opened = cursor.position();
        cursor.next();
        self.scopes.push(Table::default());
        let read = self.entries(cursor, Some(&opened));
        let table = self.scopes.pop().expect("pushed above");
        read.map(|()| Kind::Table(table))
    }

    fn array(&mut self, cursor: &mut Cursor<'_>) -> Result<Kind, Error> {
        let opened = cursor.position();
        cursor.next();
        let mut values = Vec::new();
        loop {
            cursor.skip_blank(SEPARATORS);
            match cursor.peek() {
                None => return Err(at(&opened, "this bracket is never closed")),
                Some(']') => {
                    cursor.next();
                    return Ok(Kind::Array(values));
                }
                Some('}') => return Err(cursor.error("a bracket is open and a brace closes")),
                Some(_) => values.push(self.value(cursor)?),
            }
            cursor.ensure_end()?;
        }
    }

    fn word(&mut self, cursor: &mut Cursor<'_>, position: &SourcePosition) -> Result<Kind, Error> {
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ']' | '}');
        let word = cursor.take_until(ends);
        if word.is_empty() {
            return Err(at(position, "a value should stand here"));
        }
        if let Some(text) = unescaped(&word, position) {
            return Ok(Kind::Text(text));
        }
        match word.strip_prefix('$') {
            // So begin the hashes of passwords.
            Some(hash) if hash.starts_with("2a$") => Ok(Kind::Text(word)),
            Some(name) => self.variable(name, position),
            None => classify(&word).map_err(|why| at(position, why)),
        }
    }

    /// A key of a block around it, else of the environment, whose text is read as a value.
    fn variable(&mut self, name: &str, position: &SourcePosition) -> Result<Kind, Error> {
        let mut scopes = self.scopes.iter_mut().rev();
        let found = scopes.find_map(|scope| scope.get_mut(name));
        let kind = if let Some(entry) = found {
            entry.is_variable = true;
            entry.value.kind.clone()
        } else if let Some(text) = self.outside.variable(name) {
            self.variable_of_environment(name, &text, position)?
        } else {
            return Err(at(
                position,
                format_args!(
                    "${name} is neither a key of this file above this line nor a variable of the environment; set \
                     it, or put the text in quotes"
                ),
            ));
        };
        self.copied += kind.weight();
        if self.copied > VARIABLE_BYTES_MAX {
            return Err(at(
                position,
                format_args!("the variables stand for more than {VARIABLE_BYTES_MAX} bytes"),
            ));
        }
        Ok(kind)
    }

    fn variable_of_environment(
        &mut self,
        name: &str,
        text: &str,
        position: &SourcePosition,
    ) -> Result<Kind, Error> {
        let wrong = || {
            let what = format_args!(
                "the environment's {name} is no value; put its text in quotes, inside of the variable"
            );
            // Without the text: it may be a password.
            at(position, what)
        };
        if self.depth == DEPTH_MAX {
            return Err(at(position, format_args!("${name} leads back to itself")));
        }
        if text.trim().is_empty() {
            return Ok(Kind::Text(String::new()));
        }
        let mut cursor = Cursor {
            rest: text.trim(),
            file: Arc::clone(&position.file),
            line: position.line,
            column: position.column,
        };
        self.depth += 1;
        let value = self.value(&mut cursor);
        self.depth -= 1;
        cursor.skip_blank(&[]);
        // A list of URLs means its first one, as there.
        let is_list = cursor.rest.starts_with(',') && cursor.rest.contains("://");
        match value {
            Ok(value) if cursor.rest.is_empty() || is_list => Ok(value.kind),
            Ok(_) | Err(_) => Err(wrong()),
        }
    }

    fn include(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        let position = cursor.position();
        let path = match cursor.peek() {
            Some('"' | '\'') => cursor.quoted()?,
            Some(_) | None => cursor.take_until(|c| c.is_whitespace() || matches!(c, ';' | '}')),
        };
        if path.is_empty() {
            return Err(at(&position, "include needs the path of a file after it"));
        }
        cursor.ensure_end()?;
        self.files += 1;
        if self.files > FILES_MAX {
            return Err(at(
                &position,
                format_args!("more than {FILES_MAX} files are included"),
            ));
        }
        if self.depth == DEPTH_MAX {
            return Err(at(&position, "the files include each other"));
        }
        let included = self.outside.include(&path, &cursor.file);
        let (file, text) = included.map_err(|why| at(&position, why))?;
        self.depth += 1;
        let read = self.file(&text, file);
        self.depth -= 1;
        read
    }
}

/// A word whose backslashes begin what they begin between double quotes; `None` where they do not.
fn unescaped(word: &str, position: &SourcePosition) -> Option<String> {
    if !word.contains('\\') {
        return None;
    }
    let mut cursor = Cursor {
        rest: word,
        file: Arc::clone(&position.file),
        line: position.line,
        column: position.column,
    };
    let mut text = String::new();
    loop {
        match cursor.next() {
            None => return Some(text),
            Some('\\') => text.push(cursor.escaped().ok()?),
            Some(c) => text.push(c),
        }
    }
}
