//! The leader session, with one transaction on it from the first step to the last. Its lease is renewed between the
//! steps, so that an import that is frozen loses the lock as a server does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::run::Error;
use crate::core::batch::Batch;
use crate::core::ids::Epoch;
use crate::core::snapshot::Snapshot;
use crate::leadership::{self, Apply, Candidate, Leader, TermLost};
use crate::store::{self, CopyEncoder, CopyRows, ImportNote, Importer, ServerInfo, Store};

/// Somebody who has just gone may still have the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(4);

pub(super) enum Step {
    Begin,
    Put(CopyRows),
    /// What is there so far is compared with what was written.
    Compare,
    /// The rest, and the commit.
    Finish(Box<ServerInfo>, Arc<Snapshot>, Box<ImportNote>),
}

pub(super) struct Sink {
    leader: Leader<Step>,
    encoder: CopyEncoder,
    /// A step was handed in and has not been answered.
    is_busy: bool,
    failure: Failure,
}

/// The leader session reports a failure in words only.
type Failure = Arc<Mutex<Option<store::Error>>>;

/// What the leader session is given of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

struct Steps {
    importer: Importer,
    failure: Failure,
}

impl Sink {
    /// Takes the lock. What it records of that in the tables is all that is committed at once.
    pub(super) async fn open(
        settings: &leadership::Settings,
        store: &Store,
        tasks: &TaskTracker,
    ) -> Result<Self, Error> {
        let mut candidate = Candidate::open(settings, tasks).await?;
        let importer =
            Importer::prepare(candidate.client(), &settings.url, &settings.schema, store).await?;
        let granted = timeout(LOCK_LIMIT, candidate.wait()).await;
        granted.map_err(|_| {
            Error::Busy(vec![format!(
                "another server holds the lock of schema {}; stop the servers of this schema first",
                settings.schema
            )])
        })??;
        let failure = Failure::default();
        let encoder = importer.encoder();
        let steps = Steps {
            importer,
            failure: Arc::clone(&failure),
        };
        let blocked = |by: String| tracing::warn!("the import waits: {by}");
        let granted = Box::pin(candidate.take_over(Epoch::default(), &blocked)).await?;
        Ok(Self {
            leader: granted.start(steps),
            encoder,
            is_busy: false,
            failure,
        })
    }

    /// Messages are encoded while those before them are written.
    pub(super) async fn put(&mut self, batch: &Batch) -> Result<(), Error> {
        let rows = self.encoder.encode(batch)?;
        self.write(Step::Put(rows)).await
    }

    /// Returns when the step before is done, so that the next one can be read meanwhile.
    pub(super) async fn write(&mut self, step: Step) -> Result<(), Error> {
        self.settle().await?;
        self.leader
            .submit(step)
            .map_err(|lost| self.failure(lost))?;
        self.is_busy = true;
        Ok(())
    }

    /// Returns when all steps are done.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.is_busy) {
            let done = self.leader.committed().await;
            done.map_err(|lost| self.failure(lost))?;
        }
        Ok(())
    }

    fn failure(&self, lost: TermLost) -> Error {
        let failure = self.failure.lock();
        let failure = failure.unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or_else(|| Error::Ended(lost.why), Error::Store)
    }

    /// Gives the lock to a server that waits for it.
    pub(super) async fn close(self) {
        self.leader.release().await;
    }
}

impl Apply for Steps {
    type Batch = Step;
    type Error = Failed;

    async fn apply(&mut self, client: &Client, step: &Step, epoch: Epoch) -> Result<(), Failed> {
        let importer = &mut self.importer;
        let done = match step {
            Step::Begin => importer.begin(client, epoch).await,
            Step::Put(rows) => importer.put(client, rows).await,
            Step::Compare => importer.compare_so_far(client).await,
            Step::Finish(info, planned, note) => {
                importer.finish(client, info, planned, note, epoch).await
            }
        };
        done.map_err(|error| {
            let failed = Failed(error.to_string());
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            failed
        })
    }
}
