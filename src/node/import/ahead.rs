//! Copies while the former server still runs, and follows it, within the transaction of the import. What has come over by the
//! time it has gone is compared already; only what is new is left for the end. Clients and subscriptions, which are small and
//! change all the time, are read then.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::checks::Preflight;
use super::files::Directory;
use super::reading::{ProgressReporter, expected};
use super::run::{Error, Import};
use super::sink::{Sink, Step};
use super::source::{Opened, Source};
use crate::core::ids::{ChannelId, ChannelName};
use crate::former::Findings;
use crate::former::adopt::Channel;
use crate::former::messages::Totals;
use crate::store::{FileStore, FormerStore, FormerTables};

/// What was copied while the former server ran, by channel.
pub(super) type Copied = BTreeMap<ChannelName, Ahead>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// The number in our tables.
    pub(super) id: ChannelId,
    pub(super) totals: Totals,
}

impl Ahead {
    /// Nothing yet.
    pub(super) fn of(id: ChannelId) -> Self {
        Self {
            id,
            totals: Totals::default(),
        }
    }
}

/// Between two passes, when the one before has found little.
const PAUSE: Duration = Duration::from_millis(300);

/// As many messages as are read in a moment.
const FEW: u64 = 5_000;

/// So many are compared while there is time, and not at the end.
const MANY: u64 = 20_000;

pub(super) fn made_anew(channel: &ChannelName) -> String {
    format!(
        "channel {channel:?} is not the one that was copied while the former server ran: it was deleted and created again, or the \
         store is an older copy; import again"
    )
}

/// Channels that the former server has deleted since they were copied stay: their messages are in the tables.
pub(super) fn keep_deleted(
    left: Copied,
    channels: &mut BTreeMap<ChannelId, Channel>,
    findings: &mut Findings,
) {
    for (name, ahead) in left {
        findings.note(format!(
            "channel {name:?} was deleted by the former server while it was copied; it is imported as it was"
        ));
        let channel = Channel {
            name,
            max_sequence: ahead.totals.last.0,
            totals: ahead.totals,
        };
        channels.insert(ahead.id, channel);
    }
}

fn count(copied: &Copied) -> u64 {
    copied.values().map(|channel| channel.totals.count).sum()
}

impl Import {
    /// Fails at once where this is not the store of this cluster.
    pub(super) async fn ensure_former_ahead(&self, tasks: &TaskTracker) -> Result<(), Error> {
        let mut findings = Findings::default();
        let mut former = match &self.from {
            Source::Files {
                directory,
                polynomial,
                ..
            } => Opened::Files(open_in_use(directory, *polynomial).await?.into()),
            Source::Tables(_) | Source::Raft { .. } | Source::Running { .. } => {
                self.open_former(&mut findings, tasks).await?
            }
        };
        let info = self.read_server_info(&mut former, &mut findings).await;
        former.close().await;
        info.map(drop)
    }

    /// Returns with the former store when everybody has let go of it.
    pub(super) async fn copy_ahead(
        &self,
        copied: &mut Copied,
        findings: &mut Findings,
        sink: &mut Sink,
        progress: &mut ProgressReporter<'_>,
        tasks: &TaskTracker,
    ) -> Result<(Opened, Preflight), Error> {
        let (mut follows, mut uncompared, mut is_first) = (false, 0, true);
        loop {
            let before = count(copied);
            match self.pass(copied, sink, progress).await {
                Ok(()) => {}
                // What the former server does under our hands may be in the way once.
                Err(Error::Former(error)) if !is_first => progress.hindered(&error.to_string()),
                Err(error) => return Err(error),
            }
            is_first = false;
            let new = count(copied) - before;
            uncompared += new;
            if new > FEW {
                continue;
            }
            if uncompared > MANY || (!follows && uncompared > 0) {
                sink.write(Step::Compare).await?;
                sink.settle().await?;
                uncompared = 0;
            }
            if !follows {
                follows = true;
                progress.follows();
            }
            if self.has_gone(tasks).await {
                let mut found = Findings::new(self.skip_damaged);
                match self.ready(&mut found, tasks).await {
                    Ok(ready) => {
                        *findings = found;
                        return Ok(ready);
                    }
                    // It is still there, or there again.
                    Err(Error::Busy(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// As far as that shows at a glance; the checks of an import decide.
    async fn has_gone(&self, tasks: &TaskTracker) -> bool {
        if let Source::Files { directory, .. } = &self.from {
            let directory = directory.clone();
            let is_in_use = spawn_blocking(move || FileStore::is_in_use(&directory)).await;
            if is_in_use.unwrap_or(true) {
                return false;
            }
        }
        // A NATS that cannot be asked may have been inside of the former server.
        !self.has_listener(tasks).await.unwrap_or(false)
    }

    /// All that is new, of all channels.
    async fn pass(
        &self,
        copied: &mut Copied,
        sink: &mut Sink,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<(), Error> {
        match &self.from {
            Source::Files {
                directory,
                polynomial,
                ..
            } => {
                let files = open_in_use(directory, *polynomial).await?;
                let mut findings = Findings::default();
                let directory = Directory::Store(files.into());
                let ahead = (&*copied, true);
                let walked = self.walk(directory, ahead, &mut findings, Some(sink), progress);
                let former = walked.await?;
                for (id, channel) in former.channels {
                    let totals = channel.totals;
                    copied.insert(channel.name, Ahead { id, totals });
                }
                for note in findings.notes() {
                    progress.hindered(&note);
                }
                Ok(())
            }
            Source::Tables(tables) => self.pass_of_tables(tables, copied, sink, progress).await,
            Source::Raft { .. } | Source::Running { .. } => Ok(()),
        }
    }

    async fn pass_of_tables(
        &self,
        tables: &FormerTables,
        copied: &mut Copied,
        sink: &mut Sink,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<(), Error> {
        let mut former = FormerStore::open(tables).await.map_err(Error::Former)?;
        former.begin().await.map_err(Error::Former)?;
        let mut findings = Findings::default();
        let problems = &mut findings.problems;
        let channels = former.channels(problems).await.map_err(Error::Former)?;
        progress.expect_more(expected(&channels, copied));
        for (id, channel) in channels {
            let ahead = copied.entry(channel.name.clone());
            let ahead = ahead.or_insert(Ahead::of(id));
            let sink = Some(&mut *sink);
            self.read_messages(&mut former, (id, ahead), &channel, problems, sink, progress)
                .await?;
        }
        former.end().await.map_err(Error::Former)?;
        former.close().await;
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Problems(problems.sentences()))
        }
    }
}

async fn open_in_use(directory: &Path, polynomial: u32) -> Result<FileStore, Error> {
    let directory = directory.to_owned();
    let opening = spawn_blocking(move || {
        FileStore::open_in_use(&directory, polynomial, &mut Findings::default())
    });
    let opened = opening.await.map_err(|why| Error::reading(&why))?;
    opened.map_err(Error::of_files)
}
