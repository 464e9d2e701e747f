//! Messages go back into channels that hold none, with their sequences and times: in one transaction under the lock that
//! makes a server active, so while none is. All of them, or nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;

use super::error::{Error, Fault};
use super::pool::Store;
use super::status;

/// The limit for a whole file.
const LIMIT: Duration = Duration::from_hours(1);

/// A message as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub channel: String,
    pub sequence: i64,
    /// Nanoseconds since 1970.
    pub published_at: i64,
    pub client_id: String,
    pub guid: String,
    pub reply: String,
    pub data: Vec<u8>,
}

/// What went into a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refilled {
    pub channel: String,
    pub messages: u64,
    pub first_sequence: i64,
    pub last_sequence: i64,
    /// `None` where nothing is written.
    #[serde(skip)]
    id: Option<i64>,
    #[serde(skip)]
    last_published_at: i64,
}

const LOCK: &str =
    "SELECT pg_try_advisory_xact_lock(lock_key), epoch FROM leadership WHERE lock_key IS NOT NULL";

const ENCRYPTS: &str = "SELECT count(*) FROM encryption_status WHERE key_number IS NOT NULL";

/// What a server that ended without a word had yet to write: afterwards it would be written over what comes here.
const CATCH_UP: &str = "SELECT write_channel_updates()";

const FIND: &str = "SELECT channel_id, message_count, last_sequence FROM current_channels WHERE name = $1 AND NOT deleting";

const NAMES: &str = "SELECT name FROM channels WHERE NOT deleting";

const NEXT_ID: &str =
    "UPDATE server_info SET last_channel_id = last_channel_id + 1 RETURNING last_channel_id";

const MAKE: &str = "INSERT INTO channels (channel_id, name, created_at_ns, deleting, first_sequence, last_sequence,
        last_published_at_ns, message_count, byte_count)
    VALUES ($1, $2, $3, false, 1, 0, 0, 0, 0)";

const FILL: &str = "INSERT INTO messages (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data)
    SELECT $1, r.sequence, r.published_at, $2, r.client_id, r.guid, r.reply, r.data
    FROM unnest($3::int8[], $4::int8[], $5::text[], $6::text[], $7::text[], $8::bytea[])
        AS r (sequence, published_at, client_id, guid, reply, data)";

/// What is missing between two messages was missing where they come from.
const HOLES: &str = "INSERT INTO gone_ranges (channel_id, first_sequence, last_sequence, byte_count, reason)
    SELECT $1, t.sequence + 1, t.next - 1, 0, 'imported'
    FROM (SELECT sequence, lead(sequence) OVER (ORDER BY sequence) AS next FROM messages WHERE channel_id = $1) t
    WHERE t.next > t.sequence + 1";

const COUNT: &str = "UPDATE channels c
    SET first_sequence = $2, last_sequence = $3, last_published_at_ns = $4, message_count = $5, byte_count = (
        SELECT sum(message_size(m.sequence, m.published_at_ns, octet_length(c.name), octet_length(m.reply), octet_length(m.data)))
        FROM messages m WHERE m.channel_id = c.channel_id
    )
    WHERE channel_id = $1";

impl Store {
    /// Takes pages of messages of one channel each until there are none. An error of `next` undoes everything. A rehearsal
    /// asks the same and writes nothing; it keeps no lock, so that a server may start meanwhile.
    pub async fn refill<E: fmt::Display>(
        &self,
        next: impl FnMut() -> Result<Option<Vec<Row>>, E> + Send,
        is_rehearsal: bool,
    ) -> Result<Vec<Refilled>, Error> {
        let mut pooled = self.checkout().await?;
        pooled.close_on_drop();
        let work = async {
            status::ensure_tables(pooled.connection(), self.schema()).await?;
            if is_rehearsal {
                return fill(pooled.connection(), next, is_rehearsal).await;
            }
            let mut transaction = pooled.connection().begin().await?;
            transaction
                .execute("SET LOCAL statement_timeout = 0")
                .await?;
            let filled = fill(&mut transaction, next, is_rehearsal).await?;
            transaction.commit().await?;
            Ok::<_, Fault>(filled)
        };
        let done = timeout(LIMIT, work).await;
        pooled.checkin(done, "writing messages")
    }
}

async fn fill<E: fmt::Display>(
    connection: &mut PgConnection,
    mut next: impl FnMut() -> Result<Option<Vec<Row>>, E>,
    is_rehearsal: bool,
) -> Result<Vec<Refilled>, Fault> {
    let refused = |why: &str| Fault::from(Error::Refused(format!("{why}; nothing was imported")));
    let lock: Option<(bool, i64)> = sqlx::query_as(LOCK)
        .fetch_optional(&mut *connection)
        .await?;
    let epoch = match lock {
        Some((true, epoch)) => epoch,
        Some((false, _)) => {
            return Err(refused(
                "a server is active: stop the servers of this schema first, or publish the messages again with --republish",
            ));
        }
        None => {
            return Err(refused(
                "no server has ever been active in this schema; start one once, and stop it again",
            ));
        }
    };
    let encrypts: i64 = sqlx::query_scalar(ENCRYPTS)
        .fetch_one(&mut *connection)
        .await?;
    if encrypts > 0 {
        return Err(refused(
            "the servers encrypt, and what is imported like this would stand there in plain; use --republish",
        ));
    }
    if !is_rehearsal {
        connection.execute(CATCH_UP).await?;
    }
    // Servers create none whose name differs in case only. How they compare names, Postgres does not know.
    let names: Vec<String> = sqlx::query_scalar(NAMES)
        .fetch_all(&mut *connection)
        .await?;
    let mut folded: BTreeMap<String, String> = names
        .into_iter()
        .map(|name| (name.to_lowercase(), name))
        .collect();
    let mut filled: BTreeMap<String, Refilled> = BTreeMap::new();
    while let Some(page) = next().map_err(|why| refused(&format!("{why:#}")))? {
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            continue;
        };
        if !filled.contains_key(&first.channel) {
            let existing = folded
                .entry(first.channel.to_lowercase())
                .or_insert_with(|| first.channel.clone());
            if *existing != first.channel {
                return Err(refused(&format!(
                    "channel {:?} differs from channel {existing:?} only in the case of letters",
                    first.channel
                )));
            }
            let found: Option<(i64, i64, i64)> = sqlx::query_as(FIND)
                .bind(&first.channel)
                .fetch_optional(&mut *connection)
                .await?;
            let id = match found {
                Some((id, 0, last)) if last < first.sequence => Some(id),
                Some((_, count, last)) => {
                    return Err(refused(&format!(
                        "channel {:?} is not empty: it holds {count} messages and has given out sequences up to {last}; delete it \
                         first, or use --republish",
                        first.channel
                    )));
                }
                None if is_rehearsal => None,
                None => {
                    let id: i64 = sqlx::query_scalar(NEXT_ID)
                        .fetch_one(&mut *connection)
                        .await?;
                    let make = sqlx::query(MAKE)
                        .bind(id)
                        .bind(&first.channel)
                        .bind(first.published_at);
                    make.execute(&mut *connection).await?;
                    Some(id)
                }
            };
            let new = Refilled {
                channel: first.channel.clone(),
                messages: 0,
                first_sequence: first.sequence,
                last_sequence: 0,
                id,
                last_published_at: 0,
            };
            filled.insert(first.channel.clone(), new);
        }
        let Some(channel) = filled.get_mut(&first.channel) else {
            continue;
        };
        channel.messages += page.len() as u64;
        channel.last_sequence = last.sequence;
        channel.last_published_at = last.published_at;
        let Some(id) = channel.id.filter(|_| !is_rehearsal) else {
            continue;
        };
        let insert = sqlx::query(FILL)
            .bind(id)
            .bind(epoch)
            .bind(page.iter().map(|row| row.sequence).collect::<Vec<_>>())
            .bind(page.iter().map(|row| row.published_at).collect::<Vec<_>>())
            .bind(
                page.iter()
                    .map(|row| row.client_id.clone())
                    .collect::<Vec<_>>(),
            )
            .bind(page.iter().map(|row| row.guid.clone()).collect::<Vec<_>>())
            .bind(page.iter().map(|row| row.reply.clone()).collect::<Vec<_>>())
            .bind(page.iter().map(|row| row.data.clone()).collect::<Vec<_>>());
        insert.execute(&mut *connection).await?;
    }
    for channel in filled.values().filter(|_| !is_rehearsal) {
        sqlx::query(HOLES)
            .bind(channel.id)
            .execute(&mut *connection)
            .await?;
        let count = sqlx::query(COUNT)
            .bind(channel.id)
            .bind(channel.first_sequence)
            .bind(channel.last_sequence)
            .bind(channel.last_published_at)
            .bind(i64::try_from(channel.messages).unwrap_or(i64::MAX));
        count.execute(&mut *connection).await?;
    }
    Ok(filled.into_values().collect())
}
