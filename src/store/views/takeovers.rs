//! Takeovers, what clients noticed of them, and what was lost.

use serde::{Deserialize, Serialize};

use super::{Argument, Part, iso, seconds};
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

macro_rules! takeovers {
    () => {
        concat!(
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
        )
    };
}

const TAKEOVERS: &str = takeovers!();

/// A part of the same.
const TAKEOVER_PAGE: &str = concat!(takeovers!(), " LIMIT $1 OFFSET $2");

#[derive(Deserialize)]
struct OfEpoch {
    epoch: u64,
    #[serde(flatten)]
    lost: LostRange,
}

const FAILOVERS: &str = "SELECT epoch, restored, lost, unknown, ranges FROM database_failovers ORDER BY epoch DESC LIMIT 100";

const LOST: &str =
    "SELECT restored, lost, unknown, ranges FROM database_failovers WHERE epoch = $1";

impl Store {
    /// The last one first.
    pub async fn takeovers(&self) -> Result<Vec<Takeover>, Error> {
        self.query_view(TAKEOVERS, &[]).await
    }

    /// The last one first.
    pub async fn takeover_page(&self, part: Part<'_>) -> Result<Vec<Takeover>, Error> {
        let given = [Argument::Number(part.limit), Argument::Number(part.offset)];
        self.query_view(TAKEOVER_PAGE, &given).await
    }

    /// What failovers of Postgres cost, by the terms that they came before; the last 100.
    pub async fn failovers(&self) -> Result<Vec<(u64, LostRange)>, Error> {
        let all: Vec<OfEpoch> = self.query_view(FAILOVERS, &[]).await?;
        Ok(all.into_iter().map(|it| (it.epoch, it.lost)).collect())
    }

    /// What the failover of Postgres before a term cost; `None` where there was none.
    pub async fn lost_at(&self, epoch: u64) -> Result<Option<LostRange>, Error> {
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        Ok(self
            .query_view(LOST, &[Argument::Number(epoch)])
            .await?
            .pop())
    }
}
