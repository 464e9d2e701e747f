//! Reads all rows of former tables as of one moment. Messages are handed on in batches, so that no more than one
//! of these is ever in memory.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;

use super::ahead::{Ahead, Copied, keep_deleted, made_anew};
use super::files::Directory;
use super::gathered::Gathered;
use super::run::{Error, Import};
use super::sink::Sink;
use super::source::Opened;
use crate::clock::Clock;
use crate::core::ids::{ChannelId, ChannelName};
use crate::core::snapshot::Snapshot;
use crate::core::time::Instant;
use crate::former::adopt::{Adopted, Channel};
use crate::former::messages::Reader;
use crate::former::{Findings, Former, Problems, adopt};
use crate::store::FormerStore;
use crate::store::former::{Extent, FormerChannel};

const TELL_EVERY: Duration = Duration::from_millis(200);

/// Everything but the messages.
pub(super) struct Read {
    pub(super) snapshot: Snapshot,
    pub(super) notes: Vec<String>,
    /// The last sequence of each channel at that moment, deleted channels included.
    pub(super) last_sequences: BTreeMap<ChannelId, u64>,
}

impl Import {
    /// Without a sink all problems are looked for; with one the first of them is the last.
    pub(super) async fn read(
        &self,
        former: &mut Opened,
        copied: &Copied,
        findings: &mut Findings,
        sink: Option<&mut Sink>,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Read, Error> {
        match former {
            Opened::Tables(former) => {
                self.read_tables(former, copied, findings, sink, progress)
                    .await
            }
            Opened::Files(files) => {
                let files = Directory::Store(Arc::clone(files));
                self.read_files(files, copied, findings, sink, progress)
                    .await
            }
            Opened::Running(running) => running.read(findings, sink, progress).await,
            Opened::Raft(cluster) => {
                let nodes = Directory::Node(Arc::clone(cluster));
                self.read_files(nodes, copied, findings, sink, progress)
                    .await
            }
        }
    }

    async fn read_tables(
        &self,
        former: &mut FormerStore,
        copied: &Copied,
        findings: &mut Findings,
        mut sink: Option<&mut Sink>,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Read, Error> {
        let problems = &mut findings.problems;
        former.begin().await.map_err(Error::Former)?;
        let clients = former.clients(problems).await.map_err(Error::Former)?;
        let found = former.channels(problems).await.map_err(Error::Former)?;
        let subscriptions = former.subscriptions(problems).await;
        let subscriptions = subscriptions.map_err(Error::Former)?;
        let (last_channel, last_subscription) =
            former.last_numbers().await.map_err(Error::Former)?;
        let last_sequences = former.last_sequences().await.map_err(Error::Former)?;
        progress.expect_more(expected(&found, copied));
        let mut channels = BTreeMap::new();
        let mut left = copied.clone();
        for (id, found) in found {
            let before = left.remove(&found.name);
            let mut ahead = before.unwrap_or(Ahead::of(id));
            if sink.is_some() && !problems.is_empty() {
                return Err(Error::Problems(problems.sentences()));
            }
            let sink = sink.as_deref_mut();
            self.read_messages(former, (id, &mut ahead), &found, problems, sink, progress)
                .await?;
            let channel = Channel {
                name: found.name,
                max_sequence: found.max_sequence,
                totals: ahead.totals,
            };
            channels.insert(id, channel);
        }
        keep_deleted(left, &mut channels, findings);
        let former = Former {
            clients,
            channels,
            subscriptions,
            last_channel,
            last_subscription,
            sent_counts: true,
        };
        let Adopted { snapshot, notes } = adopt(former, Clock.now().wall);
        Ok(Read {
            snapshot,
            notes,
            last_sequences,
        })
    }

    /// Behind what was copied before, if anything was. `ahead` reports what is written, whether it ends well or not.
    pub(super) async fn read_messages(
        &self,
        former: &mut FormerStore,
        (id, ahead): (ChannelId, &mut Ahead),
        channel: &FormerChannel,
        problems: &mut Problems,
        mut sink: Option<&mut Sink>,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<(), Error> {
        let keys = self.from_keys.of_channel(&channel.name);
        let before = *ahead;
        if before.id != id || behind(&channel.extent, &before) {
            return Err(Error::Problems(vec![made_anew(&channel.name)]));
        }
        let mut reader = Reader::going_on(&channel.name, &keys, before.totals);
        let mut gathered = Gathered::default();
        let mut has_problems = false;
        {
            let mut rows = pin!(former.messages(id, before.totals.last.0));
            while let Some((sequence, record)) = rows.try_next().await.map_err(Error::Former)? {
                progress.count(1);
                let bytes = record.len();
                match reader.read(sequence, record.into()) {
                    Ok(message) if sink.is_some() => {
                        gathered.add(id, message, bytes);
                    }
                    Ok(_) => {}
                    Err(why) => {
                        has_problems = true;
                        problems.add(format!(
                            "channel {:?}, message {sequence}: {why}",
                            channel.name
                        ));
                    }
                }
                let Some(sink) = sink.as_deref_mut() else {
                    continue;
                };
                if has_problems {
                    return Err(Error::Problems(problems.sentences()));
                }
                if let Some(batch) = gathered.full() {
                    sink.put(&batch).await?;
                    ahead.totals = reader.totals();
                }
            }
        }
        if let Some(sink) = sink
            && let Some(batch) = gathered.rest()
        {
            sink.put(&batch).await?;
        }
        if reader.lacks_key() && !self.not_encrypted {
            problems.add(lacks_key(&channel.name));
        }
        let totals = reader.totals();
        ahead.totals = totals;
        let read = Extent {
            count: totals.count,
            first: totals.first.0,
            last: totals.last.0,
        };
        // What was copied before may be gone there since.
        let is_as_counted = if before.totals.count == 0 {
            read == channel.extent
        } else {
            channel.extent.count == 0 || read.last == channel.extent.last
        };
        if !has_problems && !is_as_counted {
            problems.add(format!(
                "channel {:?}: {read:?} was read and {:?} is there; is an index of the former tables damaged \
                 (REINDEX)?",
                channel.name, channel.extent
            ));
        }
        Ok(())
    }
}

/// Messages that are to be read.
pub(super) fn expected(channels: &BTreeMap<ChannelId, FormerChannel>, copied: &Copied) -> u64 {
    let new = channels.values().map(|channel| {
        let last = copied.get(&channel.name).map_or(0, |it| it.totals.last.0);
        channel
            .extent
            .count
            .min(channel.extent.last.saturating_sub(last))
    });
    new.sum()
}

/// It ends before what was copied of it.
fn behind(extent: &Extent, before: &Ahead) -> bool {
    extent.count > 0 && extent.last < before.totals.last.0
}

pub(super) fn lacks_key(channel: &ChannelName) -> String {
    format!(
        "the messages of channel {channel:?} look encrypted, and no key was given; set NATS_STREAMING_ENCRYPTION_KEY as for \
         the former server, or give --from-not-encrypted if they only look so"
    )
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportProgress {
    /// So many messages are to be read.
    Total(u64),
    Read {
        messages: u64,
        total: u64,
        after: Duration,
    },
    /// All that was there is read, and what comes is followed until the former server has gone.
    Follows,
    /// Something is in the way, and may pass.
    Hindered(String),
    /// All is read and written; the two are compared.
    Compares,
}

/// Tells a person how far the reading is.
pub(super) struct ProgressReporter<'a> {
    report: &'a (dyn Fn(ImportProgress) + Sync),
    began: Instant,
    last: Instant,
    read: u64,
    total: u64,
    hindered: String,
}

impl<'a> ProgressReporter<'a> {
    pub(super) fn new(report: &'a (dyn Fn(ImportProgress) + Sync)) -> Self {
        let now = Clock.now().monotonic;
        Self {
            report,
            began: now,
            last: now,
            read: 0,
            total: 0,
            hindered: String::new(),
        }
    }

    pub(super) fn follows(&self) {
        (self.report)(ImportProgress::Follows);
    }

    /// Once, however often it is so.
    pub(super) fn hindered(&mut self, why: &str) {
        if self.hindered != why {
            why.clone_into(&mut self.hindered);
            (self.report)(ImportProgress::Hindered(why.to_owned()));
        }
    }

    /// Beside what was read.
    pub(super) fn expect_more(&mut self, more: u64) {
        self.expect(self.read + more);
    }

    pub(super) fn expect(&mut self, total: u64) {
        if self.total != total || total == 0 {
            self.total = total;
            (self.report)(ImportProgress::Total(total));
        }
    }

    pub(super) fn count(&mut self, more: u64) {
        let before = self.read;
        self.read += more;
        // The clock is asked now and then only.
        if before / 256 == self.read / 256 {
            return;
        }
        let now = Clock.now().monotonic;
        if now.since(self.last) < TELL_EVERY {
            return;
        }
        self.last = now;
        (self.report)(ImportProgress::Read {
            messages: self.read,
            total: self.total,
            after: now.since(self.began),
        });
    }
}
