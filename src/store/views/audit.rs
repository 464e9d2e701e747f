//! What operators have asked for, and what could not be stored or delivered.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Argument, Part, iso, seconds};
use crate::store::{Error, Store};

/// A request of an operator.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Asked {
    pub id: i64,
    pub verb: String,
    pub arguments: Value,
    pub dry_run: bool,
    pub role: String,
    pub application: String,
    pub client_address: Option<String>,
    pub created_at: Option<String>,
    pub state: String,
    pub result: Option<Value>,
    pub error: Option<String>,
    pub hint: Option<String>,
    pub duration_seconds: Option<f64>,
}

/// Messages published in SQL that could not be stored, of one kind.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RefusedGroup {
    pub reason: String,
    pub channel: String,
    pub publisher: String,
    pub messages: u64,
    pub first_id: i64,
    pub last_id: i64,
    pub last_at: Option<String>,
}

/// Messages that were given up after so many deliveries, of one kind.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeadGroup {
    /// The dead-letter channel.
    pub channel: String,
    pub origin_channel: String,
    pub durable: Option<String>,
    pub queue_group: Option<String>,
    pub reason: String,
    pub publisher: String,
    pub messages: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub last_at: Option<String>,
}

/// Messages that cannot be read, of one channel.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct UnreadableGroup {
    pub channel: String,
    pub why: String,
    pub messages: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub noticed_at: Option<String>,
}

macro_rules! asked {
    () => {
        concat!(
            "SELECT id, verb, arguments, dry_run, role, application, client_address, ",
            iso!("created_at"),
            " AS created_at, state, result, error, hint, ",
            seconds!("duration"),
            " AS duration_seconds FROM admin_log "
        )
    };
}

const AUDIT: &str = concat!(
    asked!(),
    "WHERE ($1 = '' OR position(lower($1) IN lower(verb || ' ' || arguments::text || ' ' || application || ' ' || role)) > 0)
        AND ($2 <> 'changes' OR NOT dry_run)
    ORDER BY id DESC LIMIT $3 OFFSET $4"
);

const ASKED: &str = concat!(asked!(), "WHERE id = $1");

/// Rows that are looked at: each is small, but there may be very many.
const REFUSED: &str = concat!(
    "SELECT reason, channel, publisher, count(*) AS messages, min(id) AS first_id, max(id) AS last_id, ",
    iso!("max(refused_at)"),
    " AS last_at
    FROM (SELECT reason, channel, publisher, id, refused_at FROM refused_publishes ORDER BY id DESC LIMIT 10000) r
    GROUP BY 1, 2, 3 ORDER BY messages DESC, 1, 2, 3 LIMIT 200"
);

const DEAD: &str = concat!(
    "SELECT channel, origin_channel, durable_name AS durable, queue_group, reason, publisher, count(*) AS messages,
        min(sequence) AS first_sequence, max(sequence) AS last_sequence, ",
    iso!("max(dead_since)"),
    " AS last_at
    FROM (
        SELECT channel, origin_channel, durable_name, queue_group, reason, publisher, sequence, dead_since
        FROM dead_letter_status WHERE redriven_at IS NULL LIMIT 10000
    ) d
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY messages DESC, 1, 2, 3, 4, 5, 6 LIMIT 200"
);

const UNREADABLE: &str = concat!(
    "SELECT c.name AS channel, u.why, count(*) AS messages, min(u.sequence) AS first_sequence,
        max(u.sequence) AS last_sequence, ",
    iso!("max(u.noticed_at)"),
    " AS noticed_at
    FROM (SELECT channel_id, sequence, why, noticed_at FROM unreadable_messages LIMIT 10000) u
    JOIN channels c USING (channel_id) WHERE u.sequence >= c.first_sequence
    GROUP BY 1, 2 ORDER BY messages DESC, 1, 2 LIMIT 200"
);

impl Store {
    /// The last one first; `changes` without those that only looked.
    pub async fn audit(&self, part: Part<'_>) -> Result<Vec<Asked>, Error> {
        self.query_view(AUDIT, &part.given()).await
    }

    /// The one of this number, while it is kept.
    pub async fn audit_of(&self, id: i64) -> Result<Option<Asked>, Error> {
        Ok(self.query_view(ASKED, &[Argument::Number(id)]).await?.pop())
    }

    /// Groups the newest 10,000.
    pub async fn refused_groups(&self) -> Result<Vec<RefusedGroup>, Error> {
        self.query_view(REFUSED, &[]).await
    }

    /// Groups 10,000 that are not redriven yet.
    pub async fn dead_groups(&self) -> Result<Vec<DeadGroup>, Error> {
        self.query_view(DEAD, &[]).await
    }

    /// Groups 10,000 of them.
    pub async fn unreadable_groups(&self) -> Result<Vec<UnreadableGroup>, Error> {
        self.query_view(UNREADABLE, &[]).await
    }
}
