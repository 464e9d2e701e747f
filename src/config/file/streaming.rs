//! The keys of NATS Streaming's files, and those of nats-server's that concern us: which flag each one is, which
//! have no effect here, and which cannot be kept.

mod keys;

use super::cursor::at;
use super::limits::{self, Strictness, duration, wrong_type};
use super::settings::{Found, Setting, Shape};
use super::value::{Entry, Kind, SourcePosition, Table};
use crate::config::Error;
use crate::core::nearest::nearest;
use keys::{HTTPS, Key, LIMITS, Means, NATS, PAGES_TLS, RAFT, STREAMING, TLS, Type};
pub(super) use keys::{OF_NATS_ALONE, is_of_nats};

/// What the file says about streaming, about the process, or both.
pub(super) fn interpret(table: &Table, streaming: bool, process: bool) -> Found {
    let mut reading = Reading::default();
    let wrapped = table.find("streaming");
    let shows_https = HTTPS.iter().any(|key| table.find(key).is_some());
    for entry in table.entries() {
        let name = entry.key.to_ascii_lowercase();
        if wrapped.is_some_and(|wrapped| std::ptr::eq(wrapped, entry)) {
            continue;
        }
        let ours = (wrapped.is_none() && streaming)
            .then(|| find(STREAMING, &name))
            .flatten();
        // The block is nats-server's own, unless its pages need it.
        let is_of_pages = name == "tls" && wrapped.is_some() && shows_https;
        let of_process = if is_of_pages {
            Some(&PAGES_TLS)
        } else {
            find(NATS, &name)
        };
        match (ours, of_process) {
            (Some(key), _) => match keys_of_streaming(&name).filter(|_| process) {
                Some(keys) => {
                    reading.key(key, &with_only(entry, |key| keys.contains(&key)), "");
                    let rest = with_only(entry, |key| !keys.contains(&key));
                    if name == "tls" && shows_https {
                        reading.pages_tls(&rest);
                    }
                    reading.of_nats_too(&rest);
                }
                None => reading.key(key, entry, ""),
            },
            (None, Some(_)) if is_of_pages && process => reading.pages_tls(entry),
            (None, Some(key)) if process => reading.key(key, entry, ""),
            (None, Some(_)) => {}
            (None, None) if is_of_nats(&name) => {
                if process {
                    reading.found.nats.push(entry.without_variables());
                }
            }
            (None, None) if entry.is_variable => {}
            (None, None) if wrapped.is_some() || !streaming => reading.outside(entry, &name),
            (None, None) => reading.unknown(entry, &names(STREAMING)),
        }
        if is_of_pages && process {
            reading.found.nats.push(entry.without_variables());
        }
    }
    if let Some(entry) = wrapped.filter(|_| streaming) {
        match entry.value.kind.as_table() {
            Some(block) => reading.block(STREAMING, block, ""),
            None => reading.mistake(wrong_type(entry, "map[string]interface {}")),
        }
    }
    reading.found
}

#[derive(Default)]
struct Reading {
    found: Found,
}

fn find<'a>(keys: &'a [Key], name: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.names.contains(&name))
}

fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().flat_map(|key| key.names).copied().collect()
}

/// Without the block `streaming`, these two blocks were read twice: nats-server has ones of the same names. Each passed
/// over the keys of the other.
fn keys_of_streaming(name: &str) -> Option<Vec<&'static str>> {
    match name {
        "tls" => Some(names(TLS)),
        "cluster" => Some(RAFT.to_vec()),
        _ => None,
    }
}

/// A block with some of its keys; what is none stays as it is.
fn with_only(entry: &Entry, is_kept: impl Fn(&str) -> bool) -> Entry {
    let mut entry = entry.clone();
    if let Kind::Table(table) = &mut entry.value.kind {
        let kept = |it: &Entry| is_kept(&it.key.to_ascii_lowercase());
        table.0.retain(kept);
    }
    entry
}

impl Reading {
    fn block(&mut self, keys: &'static [Key], table: &Table, path: &str) {
        for entry in table.entries() {
            match find(keys, &entry.key.to_ascii_lowercase()) {
                Some(key) => self.key(key, entry, path),
                None if entry.is_variable => {}
                None => self.unknown(entry, &names(keys)),
            }
        }
    }

    fn of_nats_too(&mut self, entry: &Entry) {
        let entry = entry.without_variables();
        let table = entry.value.kind.as_table();
        if table.is_some_and(|table| !table.0.is_empty()) {
            self.found.nats.push(entry);
        }
    }

    /// What the pages show is in nats-server's block, which judges the rest of it.
    fn pages_tls(&mut self, entry: &Entry) {
        let Means::Block(keys) = PAGES_TLS.means else {
            return;
        };
        let known = names(keys);
        self.key(
            &PAGES_TLS,
            &with_only(entry, |key| known.contains(&key)),
            "",
        );
    }

    /// Reading goes on: all mistakes are to be known at once, and each once, if several read the same block.
    fn mistake(&mut self, error: Error) {
        if !self.found.mistakes.contains(&error) {
            self.found.mistakes.push(error);
        }
    }

    fn key(&mut self, key: &Key, entry: &Entry, path: &str) {
        if let Err(error) = self.value(key, entry, path) {
            self.mistake(error);
        }
    }

    fn value(&mut self, key: &Key, entry: &Entry, path: &str) -> Result<(), Error> {
        match key.means {
            Means::Flag(flag, kind) => self.flag(flag, kind, entry),
            Means::Block(keys) => match entry.value.kind.as_table() {
                Some(table) => {
                    self.block(keys, table, &format!("{path}{}.", entry.key));
                    Ok(())
                }
                None => Err(wrong_type(entry, "map[string]interface {}")),
            },
            Means::Channels => self.channels(entry),
            Means::Pages { host, port } => self.pages(entry, host, port),
            Means::FileOptions => {
                let path = format!("{path}{}.", entry.key);
                match entry.value.kind.as_table() {
                    Some(table) => {
                        self.file_options(table, &path);
                        Ok(())
                    }
                    None => Err(wrong_type(entry, "map[string]interface {}")),
                }
            }
            Means::Tuning => {
                let name = format!("{path}{} ({})", entry.key, entry.position);
                self.found.notes.no_effect(name);
                Ok(())
            }
            Means::Replaced(_) if entry.value.kind.says_nothing() => Ok(()),
            Means::Replaced(by) => {
                let name = format!("{path}{} ({})", entry.key, entry.position);
                self.found.notes.replaced(name, by);
                Ok(())
            }
        }
    }

    fn flag(&mut self, flag: &str, kind: Type, entry: &Entry) -> Result<(), Error> {
        let (text, shape) = match (kind, &entry.value.kind) {
            (Type::Text, Kind::Text(text)) => {
                if text.is_empty() && flag == "encryption-key" {
                    // As there: the key itself says that messages are to be encrypted, whatever stands before it.
                    self.set("encrypt", true.to_string(), Shape::Bare, &entry.position);
                    return Ok(());
                }
                if text.is_empty() && flag != "cluster-id" {
                    return Ok(()); // As if it were absent.
                }
                (text.clone(), Shape::Text)
            }
            (Type::Text, _) => return Err(wrong_type(entry, "string")),
            (Type::Switch, Kind::Boolean(on)) => (on.to_string(), Shape::Bare),
            (Type::Switch, _) => return Err(wrong_type(entry, "bool")),
            (Type::Amount, Kind::Integer(number, _)) => (number.to_string(), Shape::Bare),
            (Type::Amount, _) => return Err(wrong_type(entry, "int64")),
            (Type::Time, _) => (duration(entry)?.to_string(), Shape::Text),
        };
        self.set(flag, text, shape, &entry.position);
        Ok(())
    }

    fn set(&mut self, flag: &str, text: String, shape: Shape, position: &SourcePosition) {
        // Two names of one key: the later one counts, as a key given twice.
        self.found.settings.retain(|setting| setting.flag != flag);
        self.found.settings.push(Setting {
            flag: flag.to_owned(),
            text,
            shape,
            position: position.clone(),
        });
    }

    /// They tuned a file store. How its files are read is of use once more, when they are imported.
    fn file_options(&mut self, options: &Table, path: &str) {
        for option in options.entries() {
            if option.key.eq_ignore_ascii_case("crc_poly") {
                if let Err(error) = self.flag("import-crc-poly", Type::Amount, option) {
                    self.mistake(error);
                }
            } else if !option.is_variable {
                let name = format!("{path}{} ({})", option.key, option.position);
                self.found.notes.no_effect(name);
            }
        }
    }

    fn channels(&mut self, entry: &Entry) -> Result<(), Error> {
        let Kind::Table(table) = &entry.value.kind else {
            return Err(wrong_type(entry, "map[string]interface {}"));
        };
        let mut strange = Vec::new();
        let mut note = |entry: &Entry, names: &[&str]| strange.push(not_a_key(entry, names));
        let channels = limits::channels(table, Strictness::OfNats, &mut note)?;
        self.found.channels.extend(channels);
        self.found.unknown.extend(strange);
        Ok(())
    }

    /// `8222`, `"127.0.0.1:8222"`, `":8222"`, `"nats.example:8222"`.
    fn pages(&mut self, entry: &Entry, host_flag: &str, port_flag: &str) -> Result<(), Error> {
        let wrong = || {
            let what = format_args!(
                "parameter {:?}: write a port, or a host and a port like \"127.0.0.1:8222\"",
                entry.key
            );
            at(&entry.position, what)
        };
        let port = match &entry.value.kind {
            Kind::Integer(port, _) => port.to_string(),
            Kind::Text(text) => {
                let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
                let host = host.trim_start_matches('[').trim_end_matches(']');
                // Without a host, they are where clients connect.
                if !host.is_empty() {
                    self.set(host_flag, host.to_owned(), Shape::Text, &entry.position);
                }
                port.to_owned()
            }
            Kind::Float(_) | Kind::Boolean(_) | Kind::Time(_) | Kind::Array(_) | Kind::Table(_) => {
                return Err(wrong());
            }
        };
        let is_port = |port: i32| (-1..=65535).contains(&port);
        if !port.parse().is_ok_and(is_port) {
            return Err(wrong());
        }
        self.set(port_flag, port, Shape::Bare, &entry.position);
        Ok(())
    }

    /// The former server passed over what neither nats-server nor the streaming block knows.
    fn outside(&mut self, entry: &Entry, name: &str) {
        let position = if find(STREAMING, name).is_some() {
            "outside of the streaming block, where nats-streaming-server passed it over, too"
        } else {
            "not a key of nats-server"
        };
        let note = format!("{} ({}, {position})", entry.key, entry.position);
        self.found.notes.no_effect(note);
    }

    fn unknown(&mut self, entry: &Entry, known: &[&str]) {
        self.found.unknown.push(not_a_key(entry, known));
    }
}

/// The sentence about a key that is passed over.
fn not_a_key(entry: &Entry, known: &[&str]) -> String {
    let limits = find(LIMITS, &entry.key.to_ascii_lowercase());
    let question = match nearest(&entry.key, known.iter().copied()) {
        _ if limits.is_some() => Some("; it belongs into store_limits".to_owned()),
        Some(meant) => Some(format!("; did you mean {meant:?}?")),
        None => None,
    };
    format!(
        "{}: {:?} is no key that stanby knows and has no effect{}",
        entry.position,
        entry.key,
        question.unwrap_or_default()
    )
}
