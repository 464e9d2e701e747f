//! Asks the active for what an operator wants, through the tables: whoever reaches the database can, a standby too. The
//! command line and the pages are the same to it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::admin::RequestError;
use crate::store::requests::Progress;
pub use crate::store::views::{DeadLetter, DeadLetterFilter, Policy};
use crate::store::{Error, Store};

/// Between two looks whether it is answered.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Requests of the pages that are under way at once: they share the connections for reading.
const PLACES: usize = 8;

/// How long a server has to take it: longer than a takeover.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What an operator wants, in the words of the command line.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: String,
    /// An object; what is null is not given.
    pub arguments: Value,
    pub dry_run: bool,
    /// For the audit, where it is not the session's own application.
    pub asked_by: Option<String>,
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    pub request: i64,
    pub dry_run: bool,
    pub result: Value,
}

#[derive(Debug)]
pub enum AdminError {
    /// The request itself is wrong, or cannot be carried out.
    Refused(RequestError),
    /// No server took it in time, and none will.
    NotTaken,
    /// A server has taken it, and it is not done yet: it goes on.
    Running(i64),
    /// This server does not know its tables yet.
    Starting,
    /// So many are under way at this server that no other is taken.
    Busy,
    /// The tables cannot be asked.
    Tables(Error),
}

impl From<Error> for AdminError {
    fn from(error: Error) -> Self {
        Self::Tables(error)
    }
}

/// How far a request has come, for who waits no longer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    request: i64,
    state: &'static str,
    result: Option<Value>,
    error: Option<String>,
    hint: Option<String>,
}

/// Takes the requests of the pages, once the node knows its tables. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AdminRequests {
    store: Arc<OnceLock<Store>>,
    places: Arc<Semaphore>,
    acting: TaskTracker,
}

impl Default for AdminRequests {
    fn default() -> Self {
        Self {
            store: Arc::default(),
            places: Arc::new(Semaphore::new(PLACES)),
            acting: TaskTracker::new(),
        }
    }
}

impl AdminRequests {
    pub(crate) fn open(&self, store: Store) {
        // It is opened once.
        self.store.set(store).ok();
    }

    /// Whoever asked may go meanwhile: what no server takes in time is withdrawn all the same.
    pub async fn carry_out(&self, request: &Request) -> Result<Answer, AdminError> {
        let store = self.store.get().ok_or(AdminError::Starting)?.clone();
        let places = Arc::clone(&self.places);
        let place = places.try_acquire_owned().map_err(|_| AdminError::Busy)?;
        let request = request.clone();
        let carried_out = self.acting.spawn(async move {
            let _place = place;
            carry_out(&store, &request, PATIENCE, &CancellationToken::new()).await
        });
        carried_out.await.unwrap_or(Err(AdminError::Busy))
    }

    /// Rows of view `dead_letter_status`, by channel and sequence.
    pub async fn dead_letters(
        &self,
        which: DeadLetterFilter<'_>,
    ) -> Result<Vec<DeadLetter>, AdminError> {
        let store = self.store.get().ok_or(AdminError::Starting)?;
        let _place = self.places.try_acquire().map_err(|_| AdminError::Busy)?;
        ensure_known(store, which.channel).await?;
        Ok(store.dead_letters(which).await?)
    }

    /// Rows of view `effective_policies`, of all channels where that is empty.
    pub async fn policies(&self, channel: &str) -> Result<Vec<Policy>, AdminError> {
        let store = self.store.get().ok_or(AdminError::Starting)?;
        let _place = self.places.try_acquire().map_err(|_| AdminError::Busy)?;
        ensure_known(store, channel).await?;
        Ok(store.policies(channel).await?)
    }

    /// `None`: there is no such request.
    pub async fn progress(&self, id: i64) -> Result<Option<Standing>, AdminError> {
        let store = self.store.get().ok_or(AdminError::Starting)?;
        let _place = self.places.try_acquire().map_err(|_| AdminError::Busy)?;
        let mut standing = Standing {
            request: id,
            state: "withdrawn",
            result: None,
            error: None,
            hint: None,
        };
        match store.request_progress(id).await? {
            Progress::Unknown => return Ok(None),
            Progress::Withdrawn => {}
            Progress::Waiting => standing.state = "waiting",
            Progress::Running => standing.state = "running",
            Progress::Done(result) => {
                standing.state = "done";
                standing.result = Some(result);
            }
            Progress::Refused(RequestError { error, hint }) => {
                standing.state = "refused";
                standing.error = Some(error);
                standing.hint = Some(hint);
            }
        }
        Ok(Some(standing))
    }
}

/// Empty: it is about all of them.
async fn ensure_known(store: &Store, channel: &str) -> Result<(), AdminError> {
    ensure_text("channel", channel.contains('\0'))?;
    if channel.is_empty() || store.channel_named(channel).await?.is_some() {
        return Ok(());
    }
    Err(AdminError::Refused(RequestError {
        error: format!("there is no channel {channel:?}"),
        hint: "stanby channel list shows which there are.".to_owned(),
    }))
}

/// Postgres has no null character in texts, and says so of the whole statement.
fn ensure_text(name: &str, has_null: bool) -> Result<(), AdminError> {
    if !has_null {
        return Ok(());
    }
    Err(AdminError::Refused(RequestError {
        error: format!("argument {name:?} has a null character in it"),
        hint: "Take it out: nothing has one in its name.".to_owned(),
    }))
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(all) => all.iter().any(has_null),
        Value::Object(all) => all
            .iter()
            .any(|(name, value)| name.contains('\0') || has_null(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Waits `patience` for a server to take it, and again as long for the answer. `stop`: whoever asked waits no longer.
pub async fn carry_out(
    store: &Store,
    request: &Request,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<Answer, AdminError> {
    let Request {
        verb,
        arguments,
        dry_run,
        asked_by,
    } = request;
    let given = arguments.as_object().into_iter().flatten();
    for (name, value) in given {
        ensure_text(name, name.contains('\0') || has_null(value))?;
    }
    let asked = store.request(verb, arguments, *dry_run, asked_by.as_deref());
    let asked = asked.await?;
    let id = asked.map_err(AdminError::Refused)?;
    let began = Instant::now();
    let mut taken = false;
    loop {
        match store.request_progress(id).await {
            Ok(Progress::Done(result)) => {
                return Ok(Answer {
                    request: id,
                    dry_run: *dry_run,
                    result,
                });
            }
            Ok(Progress::Refused(error)) => return Err(AdminError::Refused(error)),
            Ok(Progress::Withdrawn | Progress::Unknown) => return Err(AdminError::NotTaken),
            Ok(Progress::Waiting) if began.elapsed() > patience || stop.is_cancelled() => {
                if store.withdraw_request(id).await? {
                    return Err(AdminError::NotTaken);
                }
            }
            Ok(Progress::Running) => taken = true,
            // Postgres fails over: the answer is there afterwards.
            Err(Error::Unavailable(why)) if began.elapsed() > 2 * patience => {
                return Err(Error::Unavailable(why).into());
            }
            Ok(Progress::Waiting) | Err(Error::Unavailable(_)) => {}
            Err(other) => return Err(other.into()),
        }
        if taken && (began.elapsed() > 2 * patience || stop.is_cancelled()) {
            return Err(AdminError::Running(id));
        }
        sleep(LOOK_EVERY).await;
    }
}
