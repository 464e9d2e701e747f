//! What a configuration file is made of, with the position of each part.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub position: SourcePosition,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Text(String),
    /// With the text as it stands, for the hint that quotes were forgotten.
    Integer(i64, String),
    Float(f64),
    Boolean(bool),
    Time(String),
    Array(Vec<Value>),
    Table(Table),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub position: SourcePosition,
    pub value: Value,
    /// A `$NAME` below means this entry.
    pub is_variable: bool,
}

/// Keys inside of nats-server's blocks that mean something there even where a variable names them.
const MEANINGFUL: &[&str] = &[
    "account",
    "ca_file",
    "cert_file",
    "default_permissions",
    "host",
    "key_file",
    "listen",
    "name",
    "net",
    "pass",
    "password",
    "permissions",
    "port",
    "publish",
    "routes",
    "subscribe",
    "timeout",
    "token",
    "user",
    "username",
    "users",
];

/// In the order of the file; of two entries with one key the last one counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(pub Vec<Entry>);

impl Table {
    /// The entries that count. Keys that differ only in case are one key.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let mut seen = BTreeSet::new();
        let last_first = self.0.iter().rev();
        let mut entries: Vec<&Entry> = last_first
            .filter(|entry| seen.insert(entry.key.to_ascii_lowercase()))
            .collect();
        entries.reverse();
        entries.into_iter()
    }

    /// The entry of a key, spelled exactly so.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().rev().find(|entry| entry.key == key)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.0.iter_mut().rev().find(|entry| entry.key == key)
    }

    /// The entry of a key, in any case.
    pub fn find(&self, key: &str) -> Option<&Entry> {
        let same = |entry: &&Entry| entry.key.eq_ignore_ascii_case(key);
        self.0.iter().rev().find(same)
    }
}

impl Entry {
    /// Without what only gave values to variables, whose values are in their places by now: by itself it would be a key
    /// that nats-server does not know.
    #[must_use]
    pub fn without_variables(&self) -> Self {
        let mut entry = self.clone();
        entry.value.kind.drop_variables();
        entry
    }
}

impl Kind {
    fn drop_variables(&mut self) {
        match self {
            Self::Table(table) => {
                table.0.retain(|entry| {
                    let key = entry.key.to_ascii_lowercase();
                    !entry.is_variable || MEANINGFUL.contains(&key.as_str())
                });
                let entries = table.0.iter_mut();
                entries.for_each(|entry| entry.value.kind.drop_variables());
            }
            Self::Array(values) => values
                .iter_mut()
                .for_each(|value| value.kind.drop_variables()),
            Self::Text(_)
            | Self::Integer(..)
            | Self::Float(_)
            | Self::Boolean(_)
            | Self::Time(_) => {}
        }
    }

    pub fn as_table(&self) -> Option<&Table> {
        if let Self::Table(table) = self {
            Some(table)
        } else {
            None
        }
    }

    /// As good as not said: off, zero, no text.
    pub fn says_nothing(&self) -> bool {
        match self {
            Self::Boolean(on) => !on,
            Self::Integer(number, _) => *number == 0,
            Self::Text(text) => text.is_empty(),
            Self::Float(_) | Self::Time(_) | Self::Array(_) | Self::Table(_) => false,
        }
    }

    /// As NATS Streaming names the type in its refusals.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Integer(..) => "int64",
            Self::Float(_) => "float64",
            Self::Boolean(_) => "bool",
            Self::Time(_) => "time.Time",
            Self::Array(_) => "[]interface {}",
            Self::Table(_) => "map[string]interface {}",
        }
    }

    /// How much memory a copy costs, about.
    pub fn weight(&self) -> usize {
        const OWN: usize = 64;
        OWN + match self {
            Self::Text(text) | Self::Integer(_, text) | Self::Time(text) => text.len(),
            Self::Float(_) | Self::Boolean(_) => 0,
            Self::Array(values) => values.iter().map(|value| value.kind.weight()).sum(),
            Self::Table(table) => {
                let entries = table.0.iter();
                let weights = entries.map(|entry| entry.key.len() + entry.value.kind.weight());
                weights.sum()
            }
        }
    }
}
