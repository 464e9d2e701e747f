//! Our own format: TOML, in which every flag of `serve` is a key by its long name with `_` for `-`, and the limits
//! of single channels are tables below `channels`, and `nats` holds keys of nats-server. Nothing in it is passed over in silence.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args as _;
use toml::de::{DeTable, DeValue};

use super::cursor::at;
use super::limits::{self, Strictness, wrong_type};
use super::settings::{Found, Setting, Shape};
use super::streaming::{OF_NATS_ALONE, is_of_nats};
use super::value::{Entry, Kind, SourcePosition, Table, Value};
use crate::config::{Error, ServeFlags};
use crate::core::nearest::nearest;

/// Flags that say where settings come from, and those that `channels` stands for.
const NOT_IN_FILES: &[&str] = &["config", "stan-config", "channel-limits"];

/// The table of nats-server's keys.
const NATS: &str = "nats";

pub(super) fn read(text: &str, file: &str) -> Result<Found, Error> {
    let positions = SourcePositions {
        text,
        file: file.into(),
    };
    let document = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        at(&positions.of(start), error.message())
    })?;
    interpret(&positions.table(document.get_ref())?)
}

fn interpret(table: &Table) -> Result<Found, Error> {
    let serve = ServeFlags::augment_args(clap::Command::new("serve"));
    let flags: Vec<&clap::Arg> = serve
        .get_arguments()
        .filter(|arg| !NOT_IN_FILES.contains(&arg.get_long().unwrap_or("config")))
        .collect();
    let mut found = Found::default();
    for entry in &table.0 {
        if entry.key == "channels" {
            let Kind::Table(channels) = &entry.value.kind else {
                return Err(wrong_type(entry, "a table"));
            };
            let mut strange = None;
            let mut note = |entry: &Entry, names: &[&str]| {
                strange.get_or_insert_with(|| unknown(entry, names));
            };
            found.channels = limits::channels(channels, Strictness::OfOurs, &mut note)?;
            if let Some(error) = strange {
                return Err(error);
            }
            continue;
        }
        if entry.key == NATS {
            let Kind::Table(keys) = &entry.value.kind else {
                return Err(wrong_type(entry, "a table"));
            };
            found.nats = of_nats(keys)?;
            continue;
        }
        let long = entry.key.replace('_', "-");
        let known = flags.iter().find(|arg| arg.get_long() == Some(&long));
        let Some(arg) = known else {
            let names = flags.iter().filter_map(|arg| arg.get_long());
            let names: Vec<String> = names.map(|name| name.replace('-', "_")).collect();
            let names: Vec<&str> = names
                .iter()
                .map(String::as_str)
                .chain(["channels", NATS])
                .collect();
            return Err(unknown(entry, &names));
        };
        let is_switch = arg
            .get_num_args()
            .is_some_and(|range| range.min_values() == 0);
        let (text, shape) = match &entry.value.kind {
            Kind::Boolean(on) if is_switch => (on.to_string(), Shape::Bare),
            _ if is_switch => return Err(wrong_type(entry, "bool")),
            Kind::Integer(number, _) => (number.to_string(), Shape::Bare),
            Kind::Text(text) => (text.clone(), Shape::Text),
            Kind::Float(_) | Kind::Boolean(_) | Kind::Time(_) | Kind::Array(_) | Kind::Table(_) => {
                return Err(wrong_type(entry, "a string or an integer"));
            }
        };
        found.settings.push(Setting {
            flag: long,
            text,
            shape,
            position: entry.position.clone(),
        });
    }
    Ok(found)
}

/// Keys of nats-server, for the one that this server runs.
fn of_nats(table: &Table) -> Result<Vec<Entry>, Error> {
    let unknown_one = table.entries().find(|entry| !is_of_nats(&entry.key));
    match unknown_one {
        Some(entry) => Err(unknown(entry, OF_NATS_ALONE)),
        None => Ok(table.entries().cloned().collect()),
    }
}

fn unknown(entry: &Entry, known: &[&str]) -> Error {
    let meant = nearest(&entry.key, known.iter().copied());
    let question = meant.map(|meant| format!("; did you mean {meant}?"));
    at(
        &entry.position,
        format_args!(
            "{:?} is not a key{}",
            entry.key,
            question.unwrap_or_default()
        ),
    )
}

struct SourcePositions<'t> {
    text: &'t str,
    file: Arc<str>,
}

impl SourcePositions<'_> {
    fn of(&self, offset: usize) -> SourcePosition {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        let count = |number: usize| u32::try_from(number + 1).unwrap_or(u32::MAX);
        SourcePosition {
            file: Arc::clone(&self.file),
            line: count(before.matches('\n').count()),
            column: count(line.chars().count()),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Result<Table, Error> {
        let entries = table.iter().map(|(key, value)| {
            Ok(Entry {
                key: key.get_ref().to_string(),
                position: self.of(key.span().start),
                value: Value {
                    position: self.of(value.span().start),
                    kind: self.kind(value.get_ref(), value.span().start)?,
                },
                is_variable: false,
            })
        });
        Ok(Table(entries.collect::<Result<_, Error>>()?))
    }

    fn kind(&self, value: &DeValue<'_>, offset: usize) -> Result<Kind, Error> {
        Ok(match value {
            DeValue::String(text) => Kind::Text(text.to_string()),
            DeValue::Integer(integer) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix());
                let number = number.map_err(|_| at(&self.of(offset), "the number is too large"))?;
                Kind::Integer(number, integer.as_str().to_owned())
            }
            DeValue::Float(float) => Kind::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(on) => Kind::Boolean(*on),
            DeValue::Datetime(time) => Kind::Time(time.to_string()),
            DeValue::Array(values) => {
                let values = values.iter().map(|value| {
                    let start = value.span().start;
                    Ok(Value {
                        position: self.of(start),
                        kind: self.kind(value.get_ref(), start)?,
                    })
                });
                Kind::Array(values.collect::<Result<_, Error>>()?)
            }
            DeValue::Table(table) => Kind::Table(self.table(table)?),
        })
    }
}

/// A file's settings in this format. Passwords stand in it as they are.
pub fn render(found: &Found) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let notes = (!found.notes.is_empty()).then(|| found.notes.to_string());
    for passed_over in notes.iter().chain(&found.unknown) {
        line(format!("# {}", passed_over.replace(char::is_control, " ")));
    }
    for setting in &found.settings {
        let key = setting.flag.replace('-', "_");
        line(match setting.shape {
            Shape::Bare => format!("{key} = {}", setting.text),
            Shape::Text => format!("{key} = {}", quoted(&setting.text)),
        });
    }
    for channel in &found.channels {
        line(format!("\n[channels.{}]", quoted(channel.pattern.as_str())));
        for (name, limit) in channel.limits() {
            let key = name.replace('-', "_");
            line(if limit.bytes().all(|b| b.is_ascii_digit()) {
                format!("{key} = {limit}")
            } else {
                format!("{key} = {}", quoted(&limit))
            });
        }
    }
    if !found.nats.is_empty() {
        line(format!(
            "\n# For the nats-server that this server runs, as long as no nats_server is named.\n[{NATS}]"
        ));
        for entry in &found.nats {
            line(format!(
                "{} = {}",
                quoted(&entry.key),
                inline(&entry.value.kind)
            ));
        }
    }
    text
}

/// On one line, however deep it is.
fn inline(kind: &Kind) -> String {
    match kind {
        Kind::Text(text) | Kind::Time(text) => quoted(text),
        Kind::Integer(number, _) => number.to_string(),
        // Never without a point: that would be an integer.
        Kind::Float(number) => format!("{number:?}"),
        Kind::Boolean(on) => on.to_string(),
        Kind::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| inline(&value.kind)).collect();
            format!("[{}]", values.join(", "))
        }
        Kind::Table(table) => {
            let entries = table.entries();
            let entries =
                entries.map(|it| format!("{} = {}", quoted(&it.key), inline(&it.value.kind)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(c)).expect("a String takes everything");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
