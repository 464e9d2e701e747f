//! What a stream feeds a channel with: published as an application would, in the transaction that notes how far it is.

use std::time::Duration;

use bytes::Bytes;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::error::{Error, Fault};
use super::pool::Store;

/// A stream that feeds a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub channel: String,
    pub stream: String,
    /// When the stream was made, in words that stay the same.
    pub created: String,
}

impl Store {
    /// Up to which message of a stream everything is published to the channel that it feeds; `None` before the first.
    pub async fn fed_through(&self, fed: &Feed) -> Result<Option<u64>, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, through(pooled.connection(), fed)).await;
        pooled.checkin(done, "reading how far a stream is")
    }

    /// Publishes what a stream has from behind its message `before` up to `through`, all of it or nothing. False when so much
    /// waits for a server that it has to be tried again.
    pub async fn feed(
        &self,
        fed: &Feed,
        messages: &[Bytes],
        span: (u64, u64),
    ) -> Result<bool, Error> {
        let mut pooled = self.checkout().await?;
        // A transaction that is given up must not be found by somebody else.
        pooled.close_on_drop();
        let limit = self.statement_timeout * 2;
        let done = timeout(limit, publish(pooled.connection(), fed, messages, span)).await;
        pooled.checkin(done, "publishing what a stream has")
    }
}

/// More that no server has taken yet are not added to.
const WAITING_MAX: i64 = 10_000;

/// Up to which message of the stream everything is published; `None` before the first.
async fn through(connection: &mut PgConnection, feed: &Feed) -> Result<Option<u64>, Fault> {
    let row: Option<(String, i64)> = sqlx::query_as(THROUGH)
        .bind(&feed.channel)
        .bind(&feed.stream)
        .fetch_optional(connection)
        .await?;
    match row {
        None => Ok(None),
        Some((created, through)) if created == feed.created => Ok(Some(through.cast_unsigned())),
        Some((_, through)) => Err(Error::Refused(format!(
            "stream {:?} was deleted and created again since its message {through} was published to channel {:?}, so \
             it is not known which of its messages are there; delete its row of table fed_channels if all that the stream holds is new",
            feed.stream, feed.channel
        ))
        .into()),
    }
}

/// Publishes the messages in their order, and notes that all up to `through` is. False when so much waits to be taken that it
/// has to be tried again later.
async fn publish(
    connection: &mut PgConnection,
    feed: &Feed,
    messages: &[Bytes],
    (before, through): (u64, u64),
) -> Result<bool, Fault> {
    let mut transaction = connection.begin().await?;
    let waiting: i64 = sqlx::query_scalar(WAITING)
        .bind(WAITING_MAX)
        .fetch_one(&mut *transaction)
        .await?;
    if waiting >= WAITING_MAX {
        return Ok(false);
    }
    // First: of two at the same stream, one waits here for the other.
    let noted = sqlx::query(NOTE)
        .bind(&feed.channel)
        .bind(&feed.stream)
        .bind(&feed.created)
        .bind(through.cast_signed())
        .bind(before.cast_signed())
        .execute(&mut *transaction)
        .await?;
    if noted.rows_affected() != 1 {
        return Err(Error::Unavailable(format!(
            "another mirror publishes stream {:?} to channel {:?}: one mirror is enough",
            feed.stream, feed.channel
        ))
        .into());
    }
    let payloads: Vec<&[u8]> = messages.iter().map(|message| &message[..]).collect();
    sqlx::query(PUBLISH)
        .bind(&feed.channel)
        .bind(payloads)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

const THROUGH: &str =
    "SELECT stream_created, through FROM fed_channels WHERE channel_name = $1 AND stream = $2";

const WAITING: &str = "SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) waiting";

/// In the order of the stream, which is that of the rows.
const PUBLISH: &str = "SELECT count(publish($1, payload)) FROM (
        SELECT payload FROM unnest($2::bytea[]) WITH ORDINALITY AS given (payload, place) ORDER BY place
    ) ordered";

const NOTE: &str = "INSERT INTO fed_channels (channel_name, stream, stream_created, through)
    SELECT $1, $2, $3, $4
    ON CONFLICT (channel_name, stream) DO UPDATE SET through = excluded.through, at = clock_timestamp()
    WHERE fed_channels.through = $5 AND fed_channels.stream_created = excluded.stream_created";
