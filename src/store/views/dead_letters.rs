//! Dead letters.

use serde::{Deserialize, Serialize};

use super::{Argument, iso};
use crate::store::{Error, Store};

/// A message that nobody acked, in its dead-letter channel.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeadLetter {
    pub channel: String,
    pub sequence: u64,
    /// Where it was published, and its sequence there.
    pub origin_channel: String,
    pub origin_sequence: u64,
    pub durable: Option<String>,
    pub queue_group: Option<String>,
    pub deliveries: u64,
    /// What the consumer that refused it last has said.
    pub reason: String,
    pub size_bytes: u64,
    pub publisher: String,
    pub dead_since: String,
    /// `None`: it was never published again.
    pub redriven_at: Option<String>,
    pub redriven_by: Option<u64>,
}

/// Which ones.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterFilter<'a> {
    /// Empty: all channels.
    pub channel: &'a str,
    /// Only those that were never published again.
    pub waiting: bool,
    /// Only those after this sequence.
    pub after: u64,
    pub count: u32,
}

const DEAD_LETTERS: &str = concat!(
    "SELECT channel, sequence, origin_channel, origin_sequence, durable_name AS durable, queue_group, deliveries, reason,
        size_bytes, publisher, ",
    iso!("dead_since"),
    " AS dead_since, ",
    iso!("redriven_at"),
    " AS redriven_at, redriven_by
    FROM dead_letter_status
    WHERE $1 IN ('', channel) AND sequence > $2 AND ($3 = 0 OR redriven_at IS NULL)
    ORDER BY channel, sequence LIMIT $4"
);

impl Store {
    /// By channel and sequence.
    pub async fn dead_letters(
        &self,
        which: DeadLetterFilter<'_>,
    ) -> Result<Vec<DeadLetter>, Error> {
        let given = [
            Argument::Text(which.channel),
            Argument::Number(i64::try_from(which.after).unwrap_or(i64::MAX)),
            Argument::Number(which.waiting.into()),
            Argument::Number(which.count.into()),
        ];
        self.query_view(DEAD_LETTERS, &given).await
    }
}
