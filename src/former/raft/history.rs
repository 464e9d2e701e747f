//! What tells whether two logs can be those of nodes of one cluster. There, an entry has one content for each index and term;
//! logs that have one in common are the same before it; and an entry that was committed is in all of them, or will be.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use prost::Message as _;

use super::entry::{Entry, Member, What};
use super::records::{self, Operation};
use crate::former::encryption::ChannelKeys;
use crate::protocol::client::delivery;

/// The entries of a log, as far as they are compared.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order of their indexes, without a hole: what stands before a hole is older than the snapshot that came over it,
    /// and may never have been committed.
    marks: Vec<Mark>,
    /// The nodes of the cluster, and the index of the entry that says so.
    configuration: Option<(u64, Vec<Member>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    index: u64,
    term: u64,
    content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Of a snapshot, encrypted without a key, or a configuration: the first one is made by each node for itself.
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
    pub fn add(&mut self, entry: &Entry, keys: &ChannelKeys) {
        let content = match &entry.what {
            What::Command(command) => content(command, keys),
            What::Configuration(members) => {
                self.configuration = Some((entry.index, members.clone()));
                Content::Unknown
            }
            What::Other => Content::None,
        };
        self.marks.push(Mark {
            index: entry.index,
            term: entry.term,
            content,
        });
    }

    /// To be called last. Of a snapshot, its index and term, and the configuration in it.
    pub fn with_snapshot(&mut self, (index, term): (u64, u64), configuration: (u64, Vec<Member>)) {
        let mark = Mark {
            index,
            term,
            content: Content::Unknown,
        };
        let marks = &mut self.marks;
        let at = marks.partition_point(|it| it.index < index);
        match marks.get(at).filter(|it| it.index == index) {
            Some(it) if it.term == term => {}
            // It took the place of all up to there.
            Some(_) => {
                marks.drain(..at);
                marks[0] = mark;
            }
            None => marks.insert(at, mark),
        }
        let newest = self.configuration.as_ref().map_or(0, |(index, _)| *index);
        if configuration.0 >= newest && !configuration.1.is_empty() {
            self.configuration = Some(configuration);
        }
    }

    /// Drops what stands before a hole.
    pub fn settle(&mut self) {
        let mut pairs = self.marks.windows(2);
        let hole = pairs.rposition(|pair| pair[1].index != pair[0].index + 1);
        self.marks.drain(..hole.map_or(0, |at| at + 1));
    }

    /// The index from which on it counts.
    pub fn first(&self) -> u64 {
        self.marks.first().map_or(0, |mark| mark.index)
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

    pub fn compare(&self, other: &Self) -> Compared {
        let mut compared = Compared::default();
        let mut others = other.marks.iter().peekable();
        for one in &self.marks {
            while others.next_if(|it| it.index < one.index).is_some() {}
            let Some(other) = others.next_if(|it| it.index == one.index) else {
                continue;
            };
            if one.term != other.term {
                compared.parted.get_or_insert(one.index);
                continue;
            }
            let (index, term) = (one.index, one.term);
            if let Some(parted) = compared.parted {
                compared.conflict = Some(format!(
                    "both logs have entry {index} of term {term}, and entry {parted} before it is of different terms"
                ));
                break;
            }
            match (one.content, other.content) {
                (Content::Unknown, _) | (_, Content::Unknown) => {}
                (one, other) if one != other => {
                    compared.conflict = Some(format!(
                        "entry {index} of term {term} is not the same in their logs"
                    ));
                    break;
                }
                (Content::Operation { is_unique, .. }, _) => compared.is_same |= is_unique,
                (Content::None, _) => {}
            }
        }
        compared
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
mod tests {
    use super::*;
    use crate::former::Keys;

    /// Terms and operations from an index on; `-` is an entry without one.
    fn history(first: u64, entries: &[(u64, &'static str)]) -> History {
        let keys = Keys::default().of_log();
        let mut history = History::default();
        for (index, &(term, operation)) in (first..).zip(entries) {
            let what = match operation {
                "-" => What::Other,
                _ => What::Command([&[PUBLISHES][..], operation.as_bytes()].concat().into()),
            };
            history.add(&Entry { index, term, what }, &keys);
        }
        history
    }

    fn conflict(one: &History, other: &History) -> Option<String> {
        let found = one.compare(other);
        assert_eq!(other.compare(one), found);
        found.conflict
    }

    #[test]
    fn nodes_of_one_cluster_have_the_same_entries_but_for_those_that_were_never_committed() {
        let long = history(1, &[(1, "-"), (2, "a"), (2, "b"), (2, "c")]);
        let found = long.compare(&history(1, &[(1, "-"), (2, "a")]));
        assert!(found.is_same);
        assert_eq!((found.parted, found.conflict), (None, None));
        // An active that was cut off has gone on for a while.
        let elected = history(2, &[(2, "a"), (3, "-"), (3, "d")]);
        let found = long.compare(&elected);
        assert!(found.is_same);
        assert_eq!((found.parted, found.conflict), (Some(3), None));
    }

    #[test]
    fn logs_of_two_clusters_are_told_by_an_entry_that_differs() {
        let one = history(1, &[(1, "-"), (2, "a"), (2, "b")]);
        let told = conflict(&one, &history(1, &[(1, "-"), (2, "a"), (2, "x")]));
        let expected = "entry 3 of term 2 is not the same in their logs";
        assert_eq!(told.as_deref(), Some(expected));
        let told = conflict(&one, &history(2, &[(3, "a"), (2, "b")]));
        assert!(told.unwrap().contains("entry 2 before it"));
    }

    #[test]
    fn an_operation_that_any_cluster_may_have_proves_nothing() {
        let disconnects = || {
            let what = What::Command(Bytes::from_static(b"\x08\x07\x42\x03\x0a\x01a"));
            let entry = Entry {
                index: 2,
                term: 2,
                what,
            };
            let mut history = History::default();
            history.add(&entry, &Keys::default().of_log());
            history
        };
        assert_eq!(disconnects().compare(&disconnects()), Compared::default());
    }

    #[test]
    fn nothing_is_concluded_from_what_cannot_be_compared() {
        let one = history(1, &[(1, "-"), (2, "a")]);
        assert_eq!(one.compare(&history(3, &[(2, "b")])), Compared::default());
        // Each node has encrypted by itself.
        let of = |command: &'static [u8; 7]| {
            let mut history = History::default();
            let what = What::Command(Bytes::from_static(command));
            let entry = Entry {
                index: 1,
                term: 2,
                what,
            };
            history.add(&entry, &Keys::default().of_log());
            history
        };
        let found = of(b"\x01sealed").compare(&of(b"\x01closed"));
        assert_eq!(found, Compared::default());
    }

    #[test]
    fn what_a_snapshot_came_over_does_not_count() {
        let mut stale = history(1, &[(2, "a"), (2, "never committed")]);
        stale.with_snapshot((9, 3), (1, Vec::new()));
        stale.settle();
        let others = history(1, &[(2, "a"), (2, "b"), (3, "c")]);
        assert_eq!(stale.compare(&others), Compared::default());

        let mut same_index = history(1, &[(2, "a"), (2, "never committed"), (3, "d")]);
        same_index.with_snapshot((2, 3), (1, Vec::new()));
        same_index.settle();
        assert_eq!(
            same_index.marks.first().map(|it| (it.index, it.term)),
            Some((2, 3))
        );
        assert_eq!(same_index.marks.len(), 2);
    }
}
