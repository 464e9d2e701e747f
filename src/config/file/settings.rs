//! What a file says: settings under the names of our flags, limits of single channels, and what was passed over.

use super::value::{Entry, SourcePosition};
use crate::config::Error;
use crate::config::channel_limits::ChannelEntry;
use crate::config::notes::Notes;

/// Settings that are one login: a single one on the command line takes the place of all of a file's.
pub const LOGIN: &[&str] = &["nats-user", "nats-password", "nats-token"];

/// One of our flags, as if it had been given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its long name.
    pub flag: String,
    pub text: String,
    pub shape: Shape,
    /// Where the key stands.
    pub position: SourcePosition,
}

impl Setting {
    /// Whether it is a part of the login at NATS.
    pub fn is_login(&self) -> bool {
        LOGIN.contains(&self.flag.as_str())
    }
}

/// How the value is written in our own format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Text,
    /// A number or a boolean.
    Bare,
}

#[derive(Clone, Debug, Default)]
pub struct Found {
    pub settings: Vec<Setting>,
    pub channels: Vec<ChannelEntry>,
    /// Settings of nats-server, for the one that this server runs.
    pub nats: Vec<Entry>,
    /// About keys that mean something else here, or nothing.
    pub notes: Notes,
    /// Values that cannot be, a sentence each.
    pub mistakes: Vec<Error>,
    /// About keys that nobody knows, a sentence each.
    pub unknown: Vec<String>,
}

impl Found {
    /// What another file says besides; the two hold different keys.
    pub fn append(&mut self, other: Self) {
        self.settings.extend(other.settings);
        self.channels.extend(other.channels);
        self.nats.extend(other.nats);
        self.notes.append(other.notes);
        self.mistakes.extend(other.mistakes);
        self.unknown.extend(other.unknown);
    }
}
