//! Whether the former server is gone, and whose tables these are.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::reading::Read;
use super::run::{Error, Import};
use super::source::{Opened, Source};
use crate::clock::Clock;
use crate::former::Findings;
use crate::nats::Connection;
use crate::node::nats_settings;
use crate::store::former::StoreLock;
use crate::store::{FormerStore, ServerInfo};

/// A former server that holds its lock counts it up each second.
const FORMER_TICKS: Duration = Duration::from_millis(3500);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Time enough for whoever listens to a request to answer it.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

const STILL_RUNS: &str =
    "stop it, and keep it from starting again, before its tables are taken over";

/// What the checks have found.
pub(super) struct Preflight {
    pub(super) info: ServerInfo,
    pub(super) lock: StoreLock,
    /// Who still serves, a sentence each.
    pub(super) busy: Vec<String>,
}

pub(super) fn is_active(schema: &str, holder: &str) -> String {
    format!(
        "{holder:?} holds the lock of schema {schema}: a server is active there, or another import runs; stop the \
         servers of this schema first"
    )
}

impl Import {
    /// Fails where these are not the right tables; the rest may be reported as problems.
    pub(super) async fn look_around(
        &self,
        former: &mut Opened,
        tasks: &TaskTracker,
        findings: &mut Findings,
    ) -> Result<Preflight, Error> {
        let info = self.read_server_info(former, findings).await?;
        let problems = &mut findings.problems;
        let mut busy = Vec::new();
        if info.discover != **self.subjects.discover() {
            problems.add(format!(
                "clients of the former server connect by subject {:?}, and with these flags a server would listen on {:?}; \
                 give --discover-prefix {}, here and to the servers",
                info.discover,
                self.subjects.discover(),
                discover_prefix(&info.discover, &self.cluster_id)
            ));
        }
        let (lock, runs) = match former {
            Opened::Tables(former) => look_at_lock(former).await?,
            Opened::Files(_) | Opened::Raft(_) => (StoreLock::default(), false),
            // It is what is read from.
            Opened::Running(_) => {
                return Ok(Preflight {
                    info: self.server_info(&info),
                    lock: StoreLock::default(),
                    busy,
                });
            }
        };
        if runs {
            busy.push(format!(
                "the former server {:?} still runs: its lock in table StoreLock is counted up; {STILL_RUNS}",
                lock.owner
            ));
        }
        match self.has_listener(tasks).await {
            Ok(false) => {}
            Ok(true) => busy.push(format!(
                "a server listens for clients of cluster ID {:?} on NATS: the former server, or servers of stanby; \
                 {STILL_RUNS}",
                self.cluster_id
            )),
            Err(why) if self.must_ask_nats => return Err(Error::Nats(why)),
            // The former server may have had NATS inside.
            Err(why) => findings.note(format!(
                "NATS was not asked whether a former server still listens: {why}"
            )),
        }
        Ok(Preflight {
            info: self.server_info(&info),
            lock,
            busy,
        })
    }

    pub(super) async fn has_listener(
        &self,
        tasks: &TaskTracker,
    ) -> Result<bool, crate::nats::Error> {
        let name = format!("stanby-import-{}", self.cluster_id);
        let connection = Connection::open(&nats_settings(&self.nats, name), tasks).await?;
        // Not a valid connect: whoever gets it refuses it.
        connection
            .has_listener(self.subjects.discover(), ANSWER_LIMIT)
            .await
    }

    /// A server that has started after the first look has changed something by now.
    pub(super) async fn ensure_nothing_came(
        &self,
        former: &mut Opened,
        lock: &StoreLock,
        read: &Read,
    ) -> Result<(), Error> {
        let former = match former {
            Opened::Tables(former) => former,
            Opened::Files(files) => return files.ensure_unchanged().map_err(Error::of_files),
            Opened::Raft(cluster) => {
                return cluster
                    .node
                    .files
                    .ensure_unchanged()
                    .map_err(Error::of_files);
            }
            Opened::Running(running) => {
                let is_elsewhere = !matches!(&self.from,
                    Source::Running { nats, .. } if nats.servers == self.nats.servers);
                let has_listener = running.is_answered().await
                    || is_elsewhere
                        && self
                            .has_listener(&TaskTracker::new())
                            .await
                            .unwrap_or(false);
                if !has_listener {
                    return Ok(());
                }
                return Err(Error::Busy(vec![format!(
                    "a server listens for clients of cluster ID {:?} again, after the former server had gone: {STILL_RUNS}",
                    self.cluster_id
                )]));
            }
        };
        former.end().await.map_err(Error::Former)?;
        let lock_now = former.store_lock().await.map_err(Error::Former)?;
        let last_now = former.last_sequences().await.map_err(Error::Former)?;
        if lock_now == *lock && last_now == read.last_sequences {
            return Ok(());
        }
        Err(Error::Busy(vec![format!(
            "the former tables have changed while they were read: a former server runs; {STILL_RUNS}"
        )]))
    }
}

/// What stands before the cluster ID in the subject of connects.
fn discover_prefix<'a>(subject: &'a str, cluster_id: &str) -> &'a str {
    let prefix = subject.strip_suffix(cluster_id);
    prefix
        .and_then(|prefix| prefix.strip_suffix('.'))
        .unwrap_or(subject)
}

/// The lock and whether its holder lives. One that crashed leaves it behind.
async fn look_at_lock(former: &mut FormerStore) -> Result<(StoreLock, bool), Error> {
    let first = former.store_lock().await.map_err(Error::Former)?;
    if first.owner.is_empty() {
        return Ok((first, false));
    }
    let until = Clock.now().monotonic + FORMER_TICKS;
    while Clock.now().monotonic < until {
        sleep(LOOK_EVERY).await;
        let next = former.store_lock().await.map_err(Error::Former)?;
        if next != first {
            return Ok((next, true));
        }
    }
    Ok((first, false))
}
