//! From the first look to the commit.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::ahead::Copied;
use super::checks::{Preflight, is_active};
use super::reading::{ImportProgress, ProgressReporter, Read};
use super::report::Imported;
use super::sink::{Sink, Step};
use super::source::{Opened, Source};
use crate::clock::Clock;
use crate::config::{DatabaseUrl, Encryption, NatsConfig};
use crate::core::lease::Lease;
use crate::former::{Findings, Keys, Problems};
use crate::leadership;
use crate::leadership::checks::IMPORT_GROUP;
use crate::node::run::new_server_id;
use crate::protocol::Subjects;
use crate::store::{self, ImportNote, Keyring, ServerInfo, Store};

/// The lease of the session that writes. Longer than a server's: reading the other database may take its time.
const LEASE: Duration = Duration::from_secs(10);

/// Comparing what was written reads all of it.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(30);

/// What is to be imported, and where to.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own on the command line"
)]
pub struct Import {
    pub from: Source,
    /// What payloads there are decrypted with.
    pub from_keys: Keys,
    /// The former server has not encrypted, whatever payloads look like.
    pub not_encrypted: bool,
    pub to: DatabaseUrl,
    pub schema: String,
    pub cluster_id: String,
    /// Those that a server with the same flags would have on empty tables.
    pub subjects: Subjects,
    /// How to encrypt what is written.
    pub encryption: Encryption,
    pub nats: NatsConfig,
    /// What is damaged is left out and noted, and the rest imported.
    pub skip_damaged: bool,
    /// It copies while the former server runs, and follows it until it has gone.
    pub ahead: bool,
    /// Nothing is imported before NATS has answered that nobody serves the clients.
    pub must_ask_nats: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the former store: {0}")]
    Former(store::Error),
    /// A node's directory, where one of a file store was named.
    #[error("the former store: {0}")]
    OfRaft(String),
    #[error("{0}; nothing was imported")]
    Store(#[from] store::Error),
    #[error("{0}; nothing was imported")]
    Leadership(#[from] leadership::Error),
    /// Nothing was written, and will not be until somebody changes something.
    #[error("{}; nothing was imported", .0.join("; "))]
    Problems(Vec<String>),
    #[error("NATS was not asked whether a former server still listens: {0}; nothing was imported")]
    Nats(crate::nats::Error),
    /// Somebody is still at it. Nothing was written; it may be tried again when they have gone.
    #[error("{}; nothing was imported", .0.join("; "))]
    Busy(Vec<String>),
    #[error("the session that writes has ended: {0}; nothing was imported")]
    Ended(String),
    #[error("the system gives no random numbers")]
    NoRandom,
    #[error("reading has ended: {0}; nothing was imported")]
    Reading(String),
}

impl Import {
    /// Looks at everything and writes nothing: what keeps the import from working is part of the answer. `report` is called
    /// how far it is, every few seconds.
    pub async fn rehearse(
        &self,
        report: impl Fn(ImportProgress) + Sync,
    ) -> Result<Imported, Error> {
        let tasks = TaskTracker::new();
        self.refuse_poolers().await?;
        let mut findings = Findings::new(self.skip_damaged);
        let mut former = self.open_former(&mut findings, &tasks).await?;
        let preflight = self.look_around(&mut former, &tasks, &mut findings).await?;
        for who in preflight.busy {
            findings.problems.add(who);
        }
        let store = self.store();
        let vacant = store.ensure_vacant().await;
        store.close().await;
        match vacant {
            Ok(()) => {}
            Err(store::Error::Refused(why)) => findings.problems.add(why),
            Err(error) => return Err(error.into()),
        }
        if let Some(holder) = self.holder(&tasks).await? {
            findings.problems.add(is_active(&self.schema, &holder));
        }
        let mut progress = ProgressReporter::new(&report);
        let began = Clock.now().monotonic;
        let read = self
            .read(
                &mut former,
                &Copied::default(),
                &mut findings,
                None,
                &mut progress,
            )
            .await?;
        let took = Clock.now().monotonic.since(began);
        former.close().await;
        let notes = [findings.notes(), read.notes].concat();
        let problems = findings.problems.sentences();
        let mut rehearsed = Imported::new(&read.snapshot, notes, problems);
        rehearsed.estimate(took);
        Ok(rehearsed)
    }

    /// Imports all of it, or nothing.
    pub async fn run(&self, report: impl Fn(ImportProgress) + Sync) -> Result<Imported, Error> {
        let tasks = TaskTracker::new();
        self.refuse_poolers().await?;
        let mut findings = Findings::new(self.skip_damaged);
        let mut former = None;
        if self.ahead {
            self.ensure_former_ahead(&tasks).await?;
        } else {
            former = Some(self.ready(&mut findings, &tasks).await?);
        }
        let store = self.store();
        store.ensure_vacant().await?;
        if let Some(holder) = self.holder(&tasks).await? {
            return Err(Error::Busy(vec![is_active(&self.schema, &holder)]));
        }
        store.migrate().await?;
        store.check_keys().await?;

        let settings = self.leadership()?;
        let mut sink = Box::pin(Sink::open(&settings, &store, &tasks)).await?;
        sink.write(Step::Begin).await?;
        sink.settle().await?;
        let mut progress = ProgressReporter::new(&report);
        let mut copied = Copied::default();
        let (mut former, preflight) = match former {
            Some(ready) => ready,
            None => {
                self.copy_ahead(&mut copied, &mut findings, &mut sink, &mut progress, &tasks)
                    .await?
            }
        };
        let note = Box::new(ImportNote {
            source: self.from.to_string(),
            fingerprints: former.fingerprints(),
            server_id: settings.server_id.clone(),
        });
        let sinks = Some(&mut sink);
        let read = self
            .read(&mut former, &copied, &mut findings, sinks, &mut progress)
            .await?;
        refuse(&findings.problems)?;
        self.ensure_nothing_came(&mut former, &preflight.lock, &read)
            .await?;
        former.close().await;
        report(ImportProgress::Compares);
        let Read {
            snapshot,
            notes,
            last_sequences: _,
        } = read;
        let snapshot = Arc::new(snapshot);
        let info = Box::new(preflight.info);
        sink.write(Step::Finish(info, Arc::clone(&snapshot), note))
            .await?;
        sink.settle().await?;
        sink.close().await;
        store.close().await;
        let notes = [findings.notes(), notes].concat();
        Ok(Imported::new(&snapshot, notes, Vec::new()))
    }

    /// The former store, of which everybody has let go.
    pub(super) async fn ready(
        &self,
        findings: &mut Findings,
        tasks: &TaskTracker,
    ) -> Result<(Opened, Preflight), Error> {
        let mut former = self.open_former(findings, tasks).await?;
        let preflight = self.look_around(&mut former, tasks, findings).await?;
        refuse(&findings.problems)?;
        if preflight.busy.is_empty() {
            return Ok((former, preflight));
        }
        former.close().await;
        Err(Error::Busy(preflight.busy))
    }

    fn store(&self) -> Store {
        let keyring = Keyring::new(&self.encryption, &self.cluster_id);
        Store::open(&self.to, &self.schema, "stanby/import", STATEMENT_TIMEOUT).with_keys(keyring)
    }

    /// First of all. Who does not answer is told when it is his turn.
    async fn refuse_poolers(&self) -> Result<(), Error> {
        match self.store().refuse_poolers().await {
            Err(error @ store::Error::Pooler(_)) => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn leadership(&self) -> Result<leadership::Settings, Error> {
        Ok(leadership::Settings {
            url: self.to.clone(),
            schema: self.schema.clone(),
            cluster_id: self.cluster_id.clone(),
            group: IMPORT_GROUP.to_owned(),
            server_id: new_server_id().map_err(|_| Error::NoRandom)?,
            lease: Lease::new(LEASE).unwrap_or(Lease::DEFAULT),
            statement_timeout: STATEMENT_TIMEOUT,
        })
    }

    /// Who has the lock that makes a server active.
    async fn holder(&self, tasks: &TaskTracker) -> Result<Option<String>, Error> {
        let diagnosis = leadership::doctor::diagnose(&self.leadership()?, tasks).await?;
        diagnosis.primary?;
        let contenders = diagnosis.contenders?;
        let holder = contenders.into_iter().find(|it| it.holds_lock);
        Ok(holder.map(|it| it.name))
    }

    pub(super) fn server_info(&self, former: &crate::former::records::ServerInfo) -> ServerInfo {
        let former = former.clone();
        ServerInfo {
            cluster_id: former.cluster_id,
            discover_prefix: former.discover,
            publish_prefix: former.publish,
            subscribe_subject: former.subscribe,
            unsubscribe_subject: former.unsubscribe,
            close_subscription_subject: former
                .close_subscription
                .unwrap_or_else(|| self.subjects.close_subscription().to_string()),
            close_subject: former.close,
            ack_prefix: self.subjects.ack_prefix().to_string(),
        }
    }
}

fn refuse(problems: &Problems) -> Result<(), Error> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Problems(problems.sentences()))
    }
}
