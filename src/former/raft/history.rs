//! How to find whether two logs can be those of nodes of one cluster. There, an entry has one content for each index and term;
//! logs that have one in common are the same before it; and an entry that was committed is in all of them, or will be.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::RangeInclusive;

use bytes::Bytes;
use prost::Message as _;

use super::entry::{Entry, Member, What};
use super::records::{self, Operation};
use crate::former::encryption::ChannelKeys;
use crate::protocol::client::delivery;

/// How many entries of each log are held at once, so that logs of any length can be compared.
const WINDOW: u64 = 4096;

/// Which entries of a log are compared, and what cluster it is of. Holds nothing of each entry.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The first and the last index, without a hole between them: what stands before a hole is older than the snapshot that
    /// came over it, and may never have been committed.
    indexes: Option<(u64, u64)>,
    /// It stands in the place of the entry of its index, unless the log has that one.
    snapshot: Option<Mark>,
    is_past_snapshot: bool,
    /// The nodes of the cluster, and the index of the entry that says so.
    configuration: Option<(u64, Vec<Member>)>,
}

/// What is compared of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    index: u64,
    term: u64,
    content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Part of a snapshot, encrypted without a key, or a configuration: each node makes the first one for itself.
    Unknown,
    /// Nothing that the cluster was asked for.
    None,
    Operation {
        digest: u64,
        /// It has a time, an inbox or an ID in it, so that it is nobody else's.
        is_unique: bool,
    },
}

/// What a comparison of two of them has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// They have an operation in common: they are of one cluster.
    pub is_same: bool,
    /// From this index on their entries are of different terms. In one cluster, those of one of them were never committed.
    pub parted: Option<u64>,
    /// Why they cannot be of one cluster.
    pub conflict: Option<String>,
}

impl History {
    /// A log over a snapshot with this index and term. Its entries are to be added in their order.
    pub fn over(snapshot: Option<(u64, u64)>) -> Self {
        Self {
            snapshot: snapshot.map(|(index, term)| Mark {
                index,
                term,
                content: Content::Unknown,
            }),
            ..Self::default()
        }
    }

    pub fn add(&mut self, entry: &Entry) {
        if let What::Configuration(members) = &entry.what {
            self.configuration = Some((entry.index, members.clone()));
        }
        if let Some(snapshot) = self.snapshot
            && !self.is_past_snapshot
            && snapshot.index <= entry.index
        {
            self.is_past_snapshot = true;
            if snapshot.index < entry.index {
                self.reach(snapshot.index);
            } else if snapshot.term == entry.term {
                self.snapshot = None;
            } else {
                // It took the place of all up to there.
                self.indexes = None;
            }
        }
        self.reach(entry.index);
    }

    /// To be called last, with the configuration in the snapshot, and the index of the entry that it is from.
    pub fn finish(&mut self, configuration: Option<(u64, Vec<Member>)>) {
        if let Some(snapshot) = self.snapshot.filter(|_| !self.is_past_snapshot) {
            self.reach(snapshot.index);
        }
        let newest = self.configuration.as_ref().map_or(0, |(index, _)| *index);
        let of_snapshot =
            configuration.filter(|(index, members)| *index >= newest && !members.is_empty());
        if of_snapshot.is_some() {
            self.configuration = of_snapshot;
        }
    }

    fn reach(&mut self, index: u64) {
        match &mut self.indexes {
            Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
            indexes => *indexes = Some((index, index)),
        }
    }

    /// The index from which on it counts.
    pub fn first(&self) -> u64 {
        self.indexes.map_or(0, |(first, _)| first)
    }

    /// To be filled with the entries of these indexes.
    pub fn marks(&self, indexes: RangeInclusive<u64>) -> Marks {
        let snapshot = self.snapshot.filter(|it| indexes.contains(&it.index));
        Marks {
            first: self.first(),
            snapshot,
            marks: Vec::new(),
        }
    }

    pub fn voters(&self) -> usize {
        let members = self.members().iter();
        members.filter(|member| member.votes).count()
    }

    pub fn members(&self) -> &[Member] {
        let members = self.configuration.as_ref();
        members.map_or(&[], |(_, members)| members)
    }

    /// Whether the cluster has such a node; `None` where no configuration is known.
    pub fn names(&self, node: &str) -> Option<bool> {
        let (_, members) = self.configuration.as_ref()?;
        Some(members.iter().any(|member| member.id == node))
    }

    /// Which of two configurations is the later one: none where both are of one index.
    pub fn is_older(&self, other: &Self) -> bool {
        let index = |it: &Self| it.configuration.as_ref().map(|(index, _)| *index);
        index(self) < index(other)
    }
}

/// A part of a log, as it is compared.
#[derive(Clone, Debug)]
pub struct Marks {
    first: u64,
    snapshot: Option<Mark>,
    marks: Vec<Mark>,
}

impl Marks {
    pub fn add(&mut self, entry: &Entry, keys: &ChannelKeys) {
        let is_replaced = self.snapshot.is_some_and(|it| it.index == entry.index);
        if entry.index < self.first || is_replaced {
            return;
        }
        let content = match &entry.what {
            What::Command(command) => content(command, keys),
            What::Configuration(_) => Content::Unknown,
            What::Other => Content::None,
        };
        self.marks.push(Mark {
            index: entry.index,
            term: entry.term,
            content,
        });
    }

    /// In the order of their indexes.
    pub fn finish(mut self) -> Vec<Mark> {
        if let Some(snapshot) = self.snapshot.filter(|it| it.index >= self.first) {
            let at = self
                .marks
                .partition_point(|mark| mark.index < snapshot.index);
            self.marks.insert(at, snapshot);
        }
        self.marks
    }
}

/// Each of the logs with each other, by their numbers; `read` reads some entries of one of them.
pub fn compare<E>(
    logs: &[&History],
    read: &mut dyn FnMut(usize, RangeInclusive<u64>) -> Result<Vec<Mark>, E>,
) -> Result<BTreeMap<(usize, usize), Compared>, E> {
    let pairs = (0..logs.len()).flat_map(|one| (one + 1..logs.len()).map(move |it| (one, it)));
    let mut compared: BTreeMap<_, _> = pairs.map(|pair| (pair, Compared::default())).collect();
    let mut at = 0;
    while let Some(window) = next_window(logs, at) {
        let mut marks = Vec::new();
        for (number, log) in logs.iter().enumerate() {
            let overlaps = |(first, last)| first <= *window.end() && last >= *window.start();
            marks.push(if log.indexes.is_some_and(overlaps) {
                read(number, window.clone())?
            } else {
                Vec::new()
            });
        }
        for ((one, other), compared) in &mut compared {
            compared.add(&marks[*one], &marks[*other]);
        }
        match window.end().checked_add(1) {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(compared)
}

/// From the first index on, at `at` or behind it, that two of them have.
fn next_window(logs: &[&History], at: u64) -> Option<RangeInclusive<u64>> {
    let indexes = logs.iter().filter_map(|log| log.indexes);
    let left: Vec<(u64, u64)> = indexes.filter(|(_, last)| *last >= at).collect();
    let starts = left.iter().map(|(first, _)| (*first).max(at));
    let is_in_two = |start: &u64| {
        let with = |it: &&(u64, u64)| it.0 <= *start && *start <= it.1;
        left.iter().filter(with).count() > 1
    };
    let start = starts.filter(is_in_two).min()?;
    Some(start..=start.saturating_add(WINDOW - 1))
}

impl Compared {
    /// With what the two logs have of the same indexes, which rise from call to call.
    fn add(&mut self, one: &[Mark], other: &[Mark]) {
        if self.conflict.is_some() {
            return;
        }
        let mut others = other.iter().peekable();
        for one in one {
            while others.next_if(|it| it.index < one.index).is_some() {}
            let Some(other) = others.next_if(|it| it.index == one.index) else {
                continue;
            };
            if one.term != other.term {
                self.parted.get_or_insert(one.index);
                continue;
            }
            let (index, term) = (one.index, one.term);
            if let Some(parted) = self.parted {
                self.conflict = Some(format!(
                    "both logs have entry {index} of term {term}, and entry {parted} before it is of different terms"
                ));
                return;
            }
            match (one.content, other.content) {
                (Content::Unknown, _) | (_, Content::Unknown) => {}
                (one, other) if one != other => {
                    self.conflict = Some(format!(
                        "entry {index} of term {term} is not the same in their logs"
                    ));
                    return;
                }
                (Content::Operation { is_unique, .. }, _) => self.is_same |= is_unique,
                (Content::None, _) => {}
            }
        }
    }
}

/// A message, as an entry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub channel: String,
    pub channel_id: u64,
    pub sequence: u64,
    /// Its time, which no other message of that sequence has.
    pub at: i64,
}

/// The messages of an operation, decrypted.
pub fn published(command: &Bytes) -> Vec<Published> {
    let operation = Operation::decode(command.clone());
    let Some(operation) = operation.ok().filter(|it| it.kind == records::PUBLISH) else {
        return Vec::new();
    };
    let messages = operation.publish.iter().flat_map(|it| &it.messages);
    let read = messages.filter_map(|record| delivery(record.clone()).ok());
    let published = read.map(|message| Published {
        channel: message.channel.to_string(),
        channel_id: operation.channel_id,
        sequence: message.sequence,
        at: message.published_at,
    });
    published.collect()
}

fn content(command: &Bytes, keys: &ChannelKeys) -> Content {
    match keys.open(command.clone()) {
        Ok(command) if is_plain(&command) => {
            let mut hasher = DefaultHasher::new();
            command.hash(&mut hasher);
            let kind = command.get(1).copied().map(i32::from);
            let names_only = [records::DISCONNECT, records::DELETE_CHANNEL];
            let is_unique = command.first() == Some(&PUBLISHES)
                || kind.is_some_and(|kind| !names_only.contains(&kind));
            Content::Operation {
                digest: hasher.finish(),
                is_unique,
            }
        }
        Ok(_) | Err(_) => Content::Unknown,
    }
}

/// How an operation begins that names its kind, and how one that publishes does, which needs no name.
const NAMES_KIND: u8 = 0x08;
const PUBLISHES: u8 = 0x12;

/// Encrypted ones never begin so.
pub fn is_plain(command: &Bytes) -> bool {
    matches!(command.first(), Some(&(NAMES_KIND | PUBLISHES)) | None)
}

#[cfg(test)]
mod tests;
