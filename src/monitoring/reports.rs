//! Answers to monitoring's questions about clients and channels: by the broker while the node is active, between two
//! turns of its loop; else from the tables, which is what a standby can know.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::core::Broker;
use crate::core::limits::Settings;
use crate::core::report::{Page, Question};
use crate::core::time::Instant;
use crate::store::Store;
pub use crate::store::views::Behind;

/// Questions that may wait for the active loop. Further ones wait in line for room.
const QUESTIONS_MAX: usize = 16;

/// An active that is so busy is asked again later.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A status that is a little older is better than none.
const REFRESH_LIMIT: Duration = Duration::from_secs(1);

/// So long an answer from the tables may be given again: reading all of them costs the database something.
const FRESH: Duration = Duration::from_secs(1);

/// Why there is no answer at the moment.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueryError {
    #[error("the server is starting")]
    Starting,
    #[error("the active did not answer within {ANSWER_LIMIT:?}")]
    Busy,
    #[error("the tables cannot be read: {0}")]
    Tables(String),
}

/// A question on its way to the active loop, which publishes its status before it answers.
#[derive(Debug)]
pub(crate) enum Asked {
    Page {
        question: Question,
        answer: oneshot::Sender<Page>,
    },
    /// Nothing but the status.
    Status(oneshot::Sender<()>),
}

impl Asked {
    pub(crate) fn answer(self, broker: &Broker) {
        // The receiver may have gone.
        match self {
            Self::Page { question, answer } => {
                let page = broker.report(&question, Clock.now().monotonic);
                answer.send(page).ok();
            }
            Self::Status(answer) => {
                answer.send(()).ok();
            }
        }
    }
}

/// Cheap to clone; all clones ask the same node.
#[derive(Clone, Debug)]
pub struct Reports {
    active: Arc<watch::Sender<Option<mpsc::Sender<Asked>>>>,
    tables: Arc<OnceLock<Tables>>,
    /// What was read from the tables last, and when.
    read: Arc<Mutex<Option<Read>>>,
}

/// It may be large, and nobody may ask again.
async fn forget(read: Arc<Mutex<Option<Read>>>, shutdown: CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(FRESH) => *read.lock().await = None,
        () = shutdown.cancelled() => {}
    }
}

/// When, and what.
type Read = (Instant, Arc<Broker>);

#[derive(Debug)]
struct Tables {
    store: Store,
    settings: Settings,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Connections that the node reads with: how many there are, and how many of those have nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    pub connections: u32,
    pub idle: u32,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            active: Arc::new(watch::Sender::new(None)),
            tables: Arc::default(),
            read: Arc::default(),
        }
    }
}

impl Reports {
    /// From here on the tables can be read.
    pub(crate) fn read_from(
        &self,
        store: Store,
        settings: Settings,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) {
        let tables = Tables {
            store,
            settings,
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        self.tables.set(tables).ok();
    }

    /// From here on the active loop is asked, until what is returned is dropped.
    pub(crate) fn ask_active(&self) -> mpsc::Receiver<Asked> {
        let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
        self.active.send_replace(Some(sender));
        receiver
    }

    pub(crate) fn active_ended(&self) {
        self.active.send_replace(None);
    }

    pub fn pool(&self) -> PoolUse {
        self.tables.get().map_or_else(PoolUse::default, |tables| {
            let (connections, idle) = tables.store.pool_use();
            PoolUse { connections, idle }
        })
    }

    /// How far each durable is behind, in seconds; empty where the tables do not tell. The time is that of messages, which
    /// only the tables know of all.
    pub async fn behind(&self) -> Vec<Behind> {
        let Some(tables) = self.tables.get() else {
            return Vec::new();
        };
        // While Postgres is away the page is needed most.
        let read = timeout(REFRESH_LIMIT, tables.store.behind()).await;
        read.map(Result::unwrap_or_default).unwrap_or_default()
    }

    /// Returns when the status is that of this moment, or when the active is too busy to tell.
    pub async fn refresh(&self) {
        let active = self.active.borrow().clone();
        if let Some(active) = active {
            let (answer, answered) = oneshot::channel();
            let asking = async {
                active.send(Asked::Status(answer)).await.ok()?;
                answered.await.ok()
            };
            timeout(REFRESH_LIMIT, asking).await.ok();
        }
    }

    pub async fn ask(&self, question: Question) -> Result<Page, QueryError> {
        let active = self.active.borrow().clone();
        if let Some(active) = active {
            let (answer, answered) = oneshot::channel();
            let asked = Asked::Page {
                question: question.clone(),
                answer,
            };
            let asking = async {
                active.send(asked).await.ok()?;
                answered.await.ok()
            };
            match timeout(ANSWER_LIMIT, asking).await {
                Ok(Some(page)) => return Ok(page),
                // The term ended: the tables know.
                Ok(None) => {}
                Err(_) => return Err(QueryError::Busy),
            }
        }
        let broker = self.of_tables().await?;
        Ok(broker.report(&question, Clock.now().monotonic))
    }

    /// What the tables say, as a broker that nobody acts with.
    async fn of_tables(&self) -> Result<Arc<Broker>, QueryError> {
        let tables = self.tables.get().ok_or(QueryError::Starting)?;
        // One reads, the others wait for what it reads.
        let mut read = self.read.lock().await;
        let now = Clock.now();
        if let Some((at, broker)) = &*read
            && now.monotonic.since(*at) < FRESH
        {
            return Ok(Arc::clone(broker));
        }
        let snapshot = tables.store.snapshot().await;
        let snapshot = snapshot.map_err(|error| QueryError::Tables(error.to_string()))?;
        let settings = tables.settings.clone();
        let restored =
            tokio::task::spawn_blocking(move || Broker::restore(snapshot, settings, now));
        let broker = restored.await;
        let broker = broker.map_err(|error| QueryError::Tables(error.to_string()))?;
        let broker = Arc::new(broker);
        *read = Some((now.monotonic, Arc::clone(&broker)));
        tables
            .tasks
            .spawn(forget(Arc::clone(&self.read), tables.shutdown.clone()));
        Ok(broker)
    }
}
