//! The text of a NATS configuration file to a table. Any text gives a table or an error with its place; depth,
//! included files and what variables may copy are bounded.

use std::sync::Arc;

use super::cursor::{Cursor, at};
use super::scalar::classify;
use super::value::{Entry, Kind, Place, Table, Value};
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
        if cursor.peek() != Some('{') {
            return self.entries(&mut cursor, None);
        }
        let opened = cursor.place();
        cursor.next();
        self.entries(&mut cursor, Some(&opened))?;
        cursor.skip_blank(SEPARATORS);
        match cursor.peek() {
            None => Ok(()),
            Some(_) => Err(cursor.error("nothing may follow the closing brace of the file")),
        }
    }

    /// Up to the end of the file, or to the brace that closes what was opened.
    fn entries(&mut self, cursor: &mut Cursor<'_>, opened: Option<&Place>) -> Result<(), Error> {
        loop {
            cursor.skip_blank(SEPARATORS);
            match (cursor.peek(), opened) {
                (None, None) => return Ok(()),
                (None, Some(opened)) => return Err(at(opened, "this brace is never closed")),
                (Some('}'), Some(_)) => {
                    cursor.next();
                    return Ok(());
                }
                (Some('}'), None) => {
                    return Err(cursor.error("this brace closes nothing; remove it"));
                }
                (Some(_), _) => self.entry(cursor)?,
            }
        }
    }

    fn entry(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        let place = cursor.place();
        let quoted = matches!(cursor.peek(), Some('"' | '\''));
        let key = if quoted {
            cursor.quoted()?
        } else {
            cursor.take_until(|c| {
                c.is_whitespace() || matches!(c, '=' | ':' | '{' | '}' | ']' | ',' | ';')
            })
        };
        if key.is_empty() {
            return Err(at(&place, "a key should stand here"));
        }
        cursor.skip_spaces();
        let separated = matches!(cursor.peek(), Some('=' | ':'));
        if key == "include" && !quoted && !separated && cursor.peek() != Some('{') {
            return self.include(cursor);
        }
        if separated {
            cursor.next();
        }
        cursor.skip_spaces();
        if cursor.at_comment() || matches!(cursor.peek(), None | Some('\n')) {
            // Only a block may begin on a line of its own.
            cursor.skip_blank(&[]);
            if !matches!(cursor.peek(), Some('{' | '[')) {
                return Err(at(&place, format_args!("{key:?} has no value")));
            }
        }
        let value = self.value(cursor)?;
        cursor.ensure_end()?;
        let scope = self.scopes.last_mut().expect("the file's own scope stays");
        scope.0.push(Entry {
            key,
            place,
            value,
            is_variable: false,
        });
        Ok(())
    }

    fn value(&mut self, cursor: &mut Cursor<'_>) -> Result<Value, Error> {
        let place = cursor.place();
        let kind = match cursor.peek() {
            Some('{') => self.nested(cursor, Self::table)?,
            Some('[') => self.nested(cursor, Self::array)?,
            Some('(') => Kind::Text(cursor.block()?),
            Some('"' | '\'') => Kind::Text(cursor.quoted()?),
            Some(_) | None => self.word(cursor, &place)?,
        };
        Ok(Value { place, kind })
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
        let opened = cursor.place();
        cursor.next();
        self.scopes.push(Table::default());
        let read = self.entries(cursor, Some(&opened));
        let table = self.scopes.pop().expect("pushed above");
        read.map(|()| Kind::Table(table))
    }

    fn array(&mut self, cursor: &mut Cursor<'_>) -> Result<Kind, Error> {
        let opened = cursor.place();
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

    fn word(&mut self, cursor: &mut Cursor<'_>, place: &Place) -> Result<Kind, Error> {
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ']' | '}');
        let word = cursor.take_until(ends);
        if word.is_empty() {
            return Err(at(place, "a value should stand here"));
        }
        match word.strip_prefix('$') {
            // So begin the hashes of passwords.
            Some(hash) if hash.starts_with("2a$") => Ok(Kind::Text(word)),
            Some(name) => self.variable(name, place),
            None => classify(&word).map_err(|why| at(place, why)),
        }
    }

    /// A key of a block around it, else of the environment, whose text is read as a value.
    fn variable(&mut self, name: &str, place: &Place) -> Result<Kind, Error> {
        let mut scopes = self.scopes.iter_mut().rev();
        let found = scopes.find_map(|scope| scope.get_mut(name));
        let kind = if let Some(entry) = found {
            entry.is_variable = true;
            entry.value.kind.clone()
        } else if let Some(text) = self.outside.variable(name) {
            self.variable_of_environment(name, &text, place)?
        } else {
            return Err(at(
                place,
                format_args!(
                    "${name} is neither a key of this file above this line nor a variable of the environment; set \
                     it, or put the text in quotes"
                ),
            ));
        };
        self.copied += kind.weight();
        if self.copied > VARIABLE_BYTES_MAX {
            return Err(at(
                place,
                format_args!("the variables stand for more than {VARIABLE_BYTES_MAX} bytes"),
            ));
        }
        Ok(kind)
    }

    fn variable_of_environment(
        &mut self,
        name: &str,
        text: &str,
        place: &Place,
    ) -> Result<Kind, Error> {
        let wrong = || {
            let what = format_args!(
                "the environment's {name} is no value; put its text in quotes, inside of the variable"
            );
            // Without the text: it may be a password.
            at(place, what)
        };
        if self.depth == DEPTH_MAX {
            return Err(at(place, format_args!("${name} leads back to itself")));
        }
        let mut cursor = Cursor {
            rest: text.trim(),
            file: Arc::clone(&place.file),
            line: place.line,
            column: place.column,
        };
        self.depth += 1;
        let value = self.value(&mut cursor);
        self.depth -= 1;
        cursor.skip_blank(&[]);
        match value {
            Ok(value) if cursor.rest.is_empty() => Ok(value.kind),
            Ok(_) | Err(_) => Err(wrong()),
        }
    }

    fn include(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        let place = cursor.place();
        let path = match cursor.peek() {
            Some('"' | '\'') => cursor.quoted()?,
            Some(_) | None => cursor.take_until(|c| c.is_whitespace() || matches!(c, ';' | '}')),
        };
        if path.is_empty() {
            return Err(at(&place, "include needs the path of a file after it"));
        }
        cursor.ensure_end()?;
        self.files += 1;
        if self.files > FILES_MAX {
            return Err(at(
                &place,
                format_args!("more than {FILES_MAX} files are included"),
            ));
        }
        if self.depth == DEPTH_MAX {
            return Err(at(&place, "the files include each other"));
        }
        let included = self.outside.include(&path, &cursor.file);
        let (file, text) = included.map_err(|why| at(&place, why))?;
        self.depth += 1;
        let read = self.file(&text, file);
        self.depth -= 1;
        read
    }
}
