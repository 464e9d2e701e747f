//! Reads a directory, on a thread that may wait for disks. Messages come in batches through a short queue, so that the
//! next one is read while one is written, and memory does not grow with the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use super::ahead::{Ahead, Copied, keep_deleted, made_anew};
use super::reading::{ProgressReporter, Read};
use super::run::{Error, Import};
use super::sink::Sink;
use super::source::Source;
use crate::clock::Clock;
use crate::core::batch::Batch;
use crate::core::ids::{ChannelId, ChannelName, SubscriptionId};
use crate::core::limits::Limits;
use crate::core::time::Timestamp;
use crate::former::adopt::Adopted;
use crate::former::files::journals::latest_shadows;
use crate::former::messages::Totals;
use crate::former::raft::history::{Published, is_plain};
use crate::former::raft::state::{self, State, Stored, is_same};
use crate::former::records::Subscription;
use crate::former::{Findings, Former, Keys, adopt};
use crate::store::files::{ChannelFiles, Cluster, Expected};
use crate::store::{self, FileStore};

mod messages;

/// Batches that wait to be written.
const WAITING: usize = 2;

/// A file store, alone or of a node.
#[derive(Clone)]
pub(super) enum Directory {
    Store(Arc<FileStore>),
    Node(Arc<Cluster>),
}

enum Part {
    /// So many messages will come.
    Expect(u64),
    Messages(Box<Batch>),
}

impl Import {
    pub(super) async fn read_files(
        &self,
        directory: Directory,
        copied: &Copied,
        findings: &mut Findings,
        sink: Option<&mut Sink>,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Read, Error> {
        let walked = self.walk(directory, (copied, false), findings, sink, progress);
        let former = walked.await?;
        let Adopted { snapshot, notes } = adopt(former, Clock.now().wall);
        Ok(Read {
            snapshot,
            notes,
            last_sequences: BTreeMap::new(),
        })
    }

    /// Behind what was copied; with `is_ahead` only messages, and of each channel as many as are whole.
    pub(super) async fn walk(
        &self,
        directory: Directory,
        (copied, is_ahead): (&Copied, bool),
        findings: &mut Findings,
        mut sink: Option<&mut Sink>,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Former, Error> {
        let (parts, mut arrived) = mpsc::channel(WAITING);
        let limits = match &self.from {
            Source::Files { limits, .. } | Source::Raft { limits, .. } => {
                limits.as_deref().cloned()
            }
            Source::Tables(_) | Source::Running { .. } => None,
        };
        let walk = Walk {
            directory,
            copied: copied.clone(),
            is_ahead,
            keys: self.from_keys.clone(),
            not_encrypted: self.not_encrypted,
            limits,
            now: Clock.now().wall,
            writes: sink.is_some(),
            findings: std::mem::take(findings),
            parts,
        };
        let reading = spawn_blocking(move || walk.all());
        while let Some(part) = arrived.recv().await {
            match part {
                Part::Expect(total) => progress.expect_more(total),
                Part::Messages(batch) => {
                    progress.count(batch.messages.len() as u64);
                    if let Some(sink) = sink.as_deref_mut() {
                        sink.put(&batch).await?;
                    }
                }
            }
        }
        let (former, found) = reading.await.map_err(|why| Error::reading(&why))??;
        *findings = found;
        Ok(former)
    }
}

impl Error {
    /// Files cannot be used while somebody else does.
    pub(super) fn of_files(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(why) => Self::Busy(vec![why]),
            store::Error::Refused(_)
            | store::Error::Pooler(_)
            | store::Error::OtherCluster(_)
            | store::Error::Key(_)
            | store::Error::Corrupt { .. }
            | store::Error::NotStored { .. }
            | store::Error::Failed(_) => Self::Former(error),
        }
    }

    pub(super) fn reading(why: &JoinError) -> Self {
        Self::Reading(why.to_string())
    }
}

struct Walk {
    directory: Directory,
    copied: Copied,
    /// A server may run on it: what is wrong with a channel is for later.
    is_ahead: bool,
    keys: Keys,
    not_encrypted: bool,
    limits: Option<Limits>,
    now: Timestamp,
    /// The first problem is the last.
    writes: bool,
    findings: Findings,
    parts: mpsc::Sender<Part>,
}

/// A channel, from its first message that limits leave.
struct Planned<'a> {
    id: ChannelId,
    name: ChannelName,
    /// What was copied of it.
    before: Totals,
    /// `None` of one that only a log has.
    files: Option<ChannelFiles<'a>>,
    first: u64,
    count: u64,
    last: u64,
    /// What a log has behind the files.
    added: Vec<(u64, Bytes)>,
    /// What logs say of messages that are in the files.
    expected: Vec<Expected>,
}

impl Walk {
    fn all(mut self) -> Result<(Former, Findings), Error> {
        // What is planned borrows it.
        let directory = self.directory.clone();
        let mut former = Former::default();
        let planned = match &directory {
            Directory::Store(files) => self.standalone(files, &mut former)?,
            Directory::Node(cluster) => self.node(cluster, &mut former)?,
        };
        self.stop_at_problems()?;
        let ids = planned.iter().map(|channel| channel.id);
        former.last_channel = ids
            .chain(last_id(&self.copied))
            .map(|id| id.0)
            .max()
            .unwrap_or(0);
        let of_log = |channel: &Planned<'_>| channel.added.len() as u64;
        let counts = planned.iter().map(|it| it.count + of_log(it));
        self.send(Part::Expect(counts.sum()))?;
        let mut left = self.copied.clone();
        for channel in &planned {
            left.remove(&channel.name);
            let read = self.messages(channel)?;
            former.channels.insert(channel.id, read);
        }
        if !self.is_ahead {
            keep_deleted(left, &mut former.channels, &mut self.findings);
        }
        Ok((former, self.findings))
    }

    fn standalone<'a>(
        &mut self,
        files: &'a FileStore,
        former: &mut Former,
    ) -> Result<Vec<Planned<'a>>, Error> {
        if self.is_ahead {
            return self.stored(files);
        }
        let clients = files.clients(&mut self.findings);
        former.clients = clients.map_err(Error::Former)?;
        let planned = self.stored(files)?;
        for channel in &planned {
            if let Some(files) = &channel.files {
                let read = files.subscriptions(&mut self.findings);
                number(latest_shadows(read.map_err(Error::Former)?), former);
            }
        }
        Ok(planned)
    }

    /// The channels of a file store.
    fn stored<'a>(&mut self, files: &'a FileStore) -> Result<Vec<Planned<'a>>, Error> {
        let mut planned = Vec::new();
        let mut last = last_id(&self.copied).unwrap_or_default();
        for (number, name) in files.channels() {
            let before = self.copied.get(name).copied();
            let before = before.unwrap_or_else(|| {
                last = ChannelId(last.0 + 1);
                Ahead::of(last)
            });
            match self.plan(files, number, before) {
                Ok(channel) => planned.push(channel),
                Err(Error::Problems(why)) if self.is_ahead => self.findings.note(why.join("; ")),
                Err(why) if self.is_ahead => self.findings.note(why.to_string()),
                Err(error) => return Err(error),
            }
            self.stop_at_problems()?;
        }
        Ok(planned)
    }

    fn plan<'a>(
        &mut self,
        files: &'a FileStore,
        number: ChannelId,
        before: Ahead,
    ) -> Result<Planned<'a>, Error> {
        let mut found = Findings::default();
        let findings = if self.is_ahead {
            &mut found
        } else {
            &mut self.findings
        };
        let mut channel = files.channel(number, findings).map_err(Error::Former)?;
        let name = channel.name;
        if self.is_ahead && !(found.problems.is_empty() && channel.is_indexed()) {
            let what = format!(
                "channel {name:?} is not copied ahead: its files are not whole at the moment"
            );
            return Err(Error::Problems(
                [vec![what], found.problems.sentences()].concat(),
            ));
        }
        channel.id = before.id;
        let limits = self.limits.as_ref().map(|limits| limits.of(name));
        let kept = channel.first_kept(limits.as_ref(), self.now);
        let (mut first, mut count) = kept.map_err(Error::Former)?;
        let (extent, copied) = (channel.extent, before.totals.last.0);
        if before.totals.count > 0 {
            if extent.count > 0 && extent.last < copied {
                return Err(Error::Problems(vec![made_anew(name)]));
            }
            // With the last one, to see that it is the same.
            first = first.max(copied);
            count = count.min(extent.last.saturating_sub(copied));
        }
        Ok(Planned {
            id: before.id,
            name: name.clone(),
            before: before.totals,
            first,
            count,
            last: extent.last,
            files: Some(channel),
            added: Vec::new(),
            expected: Vec::new(),
        })
    }

    /// Messages are in its store, everything else in snapshot and log.
    fn node<'a>(
        &mut self,
        cluster: &'a Cluster,
        former: &mut Former,
    ) -> Result<Vec<Planned<'a>>, Error> {
        let node = &cluster.node;
        let mut stored = self.stored(&node.files)?;
        let ids = node.channel_ids().map_err(Error::Former)?;
        let names: BTreeSet<&str> = stored.iter().map(|it| it.name.as_str()).collect();
        for name in ids.keys().filter(|name| !names.contains(name.as_str())) {
            let what = format!(
                "the log in {} has it, and the store has no directory of it: is the copy complete, and are the two of one node \
                 (STORE:LOG)? Messages that the log has no more are lost",
                node.log().display()
            );
            self.findings.damage(&format!("channel {name:?}"), &what);
        }
        let known = stored.iter().map(|channel| Stored {
            name: channel.name.to_string(),
            id: ids.get(channel.name.as_str()).copied().unwrap_or_default(),
            first: channel.first,
            last: channel.last,
        });
        let refused = |why: String| {
            let root = node.files.root().display();
            Error::Former(store::Error::Refused(format!("{root}: {why}")))
        };
        let state = State::new(known.collect(), node.snapshot());
        let mut state = state
            .map_err(|why| refused(format!("{why}; give another node's directories instead")))?;
        let keys = self.keys.of_log();
        let applied = node.commands(&mut |command| {
            if keys.is_empty() && !is_plain(&command) {
                return Err(
                    "it is encrypted, and no key was given; set NATS_STREAMING_ENCRYPTION_KEY as for the former server"
                        .into(),
                );
            }
            state.apply(&keys.open(command)?)
        });
        applied.map_err(Error::Former)?;
        former.clients = state.clients();
        let mut planned = Vec::new();
        for (name, channel) in &mut state.channels {
            let id = ChannelId(planned.len() as u64 + 1);
            let of_store = stored.iter().position(|it| it.name.as_str() == name);
            let of_store = of_store.filter(|_| channel.is_stored);
            let of_store = of_store.map(|index| stored.swap_remove(index));
            let name = ChannelName::parse(name.as_str().into());
            let name = name
                .ok_or_else(|| refused("a name in the log is not one of a channel".to_owned()))?;
            let read = channel.subscriptions(id);
            let read = read.map_err(|why| refused(format!("channel {name:?}: {why}")))?;
            number(latest_shadows(read), former);
            let added = std::mem::take(&mut channel.added);
            let expected = expected(cluster, &name, channel);
            planned.push(match of_store {
                Some(stored) => Planned {
                    id,
                    last: channel.last,
                    added,
                    expected,
                    ..stored
                },
                None => Planned {
                    id,
                    name,
                    before: Totals::default(),
                    files: None,
                    first: channel.first,
                    count: 0,
                    last: channel.last,
                    added,
                    expected: Vec::new(),
                },
            });
        }
        let is_compared = |wanted: &Expected| {
            planned.iter().any(|channel| {
                let is_there = channel.first <= wanted.message.sequence;
                is_there && channel.expected.iter().any(|it| it == wanted)
            })
        };
        cluster.tell_unproven(is_compared, &mut self.findings);
        Ok(planned)
    }

    fn stop_at_problems(&self) -> Result<(), Error> {
        let problems = &self.findings.problems;
        if self.writes && !problems.is_empty() {
            return Err(Error::Problems(problems.sentences()));
        }
        Ok(())
    }

    /// Fails when nobody writes any more, who then says why.
    fn send(&self, part: Part) -> Result<(), Error> {
        let sent = self.parts.blocking_send(part);
        sent.map_err(|_| Error::Reading("nothing is written any more".to_owned()))
    }
}

/// What its own log and those of other nodes say of a channel's messages.
fn expected(cluster: &Cluster, name: &ChannelName, channel: &state::Channel) -> Vec<Expected> {
    let own = channel.in_both.map(|(sequence, at)| Expected {
        message: Published {
            channel: name.to_string(),
            channel_id: channel.id,
            sequence,
            at,
        },
        log: cluster.node.log().to_owned(),
    });
    let others = cluster.expected.iter().filter(|it| {
        it.message.channel == name.as_str() && is_same(it.message.channel_id, channel.id)
    });
    own.into_iter().chain(others.cloned()).collect()
}

fn last_id(copied: &Copied) -> Option<ChannelId> {
    copied.values().map(|channel| channel.id).max()
}

/// They get numbers of their own: those of a file store are counted in each channel.
fn number(subscriptions: Vec<Subscription>, former: &mut Former) {
    for mut subscription in subscriptions {
        former.last_subscription += 1;
        subscription.id = SubscriptionId(former.last_subscription);
        former.subscriptions.push(subscription);
    }
}

#[cfg(test)]
mod tests;
