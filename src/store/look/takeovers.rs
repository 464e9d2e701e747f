//! Takeovers, what clients noticed of them, and what was lost.

use serde::{Deserialize, Serialize};

use super::{Given, iso, seconds};
use crate::store::{Error, Store};

/// A row of the history. What an older server has not noted is `None`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Takeover {
    pub epoch: u64,
    pub at: Option<String>,
    pub from: Option<String>,
    pub to: String,
    pub reason: String,
    pub cause: Option<String>,
    pub detail: Option<String>,
    /// How long the new active had waited as a standby.
    pub lock_wait_seconds: Option<f64>,
    /// From the lock to the restored state.
    pub load_seconds: Option<f64>,
    /// From the lock to the first commit.
    pub first_ack_seconds: Option<f64>,
    /// How long clients waited.
    pub silence_seconds: Option<f64>,
    pub answered_from_memory: Option<u64>,
}

/// Sequences that a failover of Postgres cost.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LostRange {
    pub restored: i64,
    pub lost: i64,
    pub unknown: i64,
    /// In words.
    pub ranges: Option<String>,
}

const TAKEOVERS: &str = concat!(
    "SELECT epoch, ",
    iso!("at"),
    " AS at, from_holder AS \"from\", to_holder AS \"to\", reason, cause, detail, ",
    seconds!("lock_wait"),
    " AS lock_wait_seconds, ",
    seconds!("load_time"),
    " AS load_seconds, ",
    seconds!("first_ack"),
    " AS first_ack_seconds, ",
    seconds!("silence"),
    " AS silence_seconds, answered_from_memory FROM takeovers ORDER BY epoch DESC"
);

const LOST: &str =
    "SELECT restored, lost, unknown, ranges FROM database_failovers WHERE epoch = $1";

impl Store {
    /// The last one first.
    pub async fn takeovers(&self) -> Result<Vec<Takeover>, Error> {
        self.look(TAKEOVERS, &[]).await
    }

    /// What the failover of Postgres before a term cost; `None` where there was none.
    pub async fn lost_at(&self, epoch: u64) -> Result<Option<LostRange>, Error> {
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        Ok(self.look(LOST, &[Given::Number(epoch)]).await?.pop())
    }
}
