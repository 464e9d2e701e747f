//! How a channel has grown in the last day.

use serde::{Deserialize, Serialize};

use super::{Argument, iso};
use crate::store::{Error, Store};

/// The beginning of an hour of a channel.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Hour {
    pub at: Option<String>,
    pub first_sequence: u64,
    /// Sequences within it.
    pub messages: u64,
}

const HOURS: &str = concat!(
    "SELECT ",
    iso!("h.at"),
    " AS at, h.first_sequence, greatest(lead(h.first_sequence, 1, h.next) OVER (ORDER BY h.at) - h.first_sequence, 0) AS messages
    FROM (
        SELECT g.at, sequence_at(c.channel_id, g.at) AS first_sequence, c.last_sequence + 1 AS next
        FROM channels c CROSS JOIN generate_series(
            date_trunc('hour', clock_timestamp()) - interval '23 hours', date_trunc('hour', clock_timestamp()), interval '1 hour'
        ) AS g(at)
        WHERE c.name = $1 AND NOT c.deleting
    ) h ORDER BY h.at"
);

impl Store {
    /// The last 24 hours, the oldest first; each is found by the primary key.
    pub async fn hours(&self, channel: &str) -> Result<Vec<Hour>, Error> {
        self.query_view(HOURS, &[Argument::Text(channel)]).await
    }
}
