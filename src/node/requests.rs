//! Asks the active for what an operator wants, through the tables: whoever reaches the database can, a standby too. The
//! command line and the pages are the same to it.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::core::admin::Complaint;
use crate::store::requests::Progress;
use crate::store::{Error, Store};

/// Between two looks whether it is answered.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a server has to take it: longer than a takeover.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What an operator wants, in the words of the command line.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: String,
    /// An object; what is null is not given.
    pub arguments: Value,
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    pub request: i64,
    pub dry_run: bool,
    pub result: Value,
}

#[derive(Debug)]
pub enum Trouble {
    /// The request itself is wrong, or cannot be carried out.
    Refused(Complaint),
    /// No server took it in time, and none will.
    NotTaken,
    /// A server has taken it, and it is not done yet: it goes on.
    Running(i64),
    /// The tables cannot be asked.
    Tables(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Tables(error)
    }
}

/// Waits `patience` for a server to take it, and again as long for the answer.
pub async fn carry_out(
    store: &Store,
    request: &Request,
    patience: Duration,
) -> Result<Answer, Trouble> {
    let Request {
        verb,
        arguments,
        dry_run,
    } = request;
    let asked = store.request(verb, arguments, *dry_run).await?;
    let id = asked.map_err(Trouble::Refused)?;
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
            Ok(Progress::Refused(complaint)) => return Err(Trouble::Refused(complaint)),
            Ok(Progress::Withdrawn) => return Err(Trouble::NotTaken),
            Ok(Progress::Waiting) if began.elapsed() > patience => {
                if store.withdraw_request(id).await? {
                    return Err(Trouble::NotTaken);
                }
            }
            Ok(Progress::Running) => taken = true,
            Ok(Progress::Waiting) => {}
            // Postgres fails over: the answer is there afterwards.
            Err(Error::Unavailable(why)) if began.elapsed() > 2 * patience => {
                return Err(Error::Unavailable(why).into());
            }
            Err(Error::Unavailable(_)) => {}
            Err(other) => return Err(other.into()),
        }
        if taken && began.elapsed() > 2 * patience {
            return Err(Trouble::Running(id));
        }
        sleep(LOOK_EVERY).await;
    }
}
