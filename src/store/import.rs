//! Writes a former store into empty tables, in one transaction on the leader session: all of it, or nothing.

use std::collections::BTreeMap;
use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt as _;
use sqlx::PgConnection;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::copy::{COPY, Checksums, CopyEncoder, CopyRows};
use super::error::{Error, Fault};
use super::former::Extent;
use super::identifier::quoted;
use super::imports::{self, ImportNote};
use super::pool::Store;
use super::row_hash;
use super::rows::parse_multirange;
use super::server_info::ServerInfo;
use super::version::SchemaVersion;
use super::writer::Writer;
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::core::batch::{Batch, ChannelRow, Progress};
use crate::core::ids::{ChannelId, Epoch, PositionId, Sequence};
use crate::core::snapshot::Snapshot;

/// Writes on one session, from before its first write to the commit.
#[derive(Debug)]
pub struct Importer {
    store: Store,
    url: DatabaseUrl,
    schema: String,
    writer: Writer,
    copy: Statement,
    encoder: CopyEncoder,
    /// What was compared already: all up to the last sequence of each channel.
    compared: BTreeMap<ChannelId, (Extent, i64)>,
}

impl Importer {
    pub async fn prepare(
        client: &Client,
        url: &DatabaseUrl,
        schema: &str,
        store: &Store,
    ) -> Result<Self, Error> {
        Ok(Self {
            store: store.clone(),
            url: url.clone(),
            schema: schema.to_owned(),
            writer: Writer::prepare(client, url).await?,
            copy: client
                .prepare(COPY)
                .await
                .map_err(|error| Error::from(DatabaseError::of_session(url, &error)))?,
            encoder: CopyEncoder::default(),
            compared: BTreeMap::new(),
        })
    }

    /// Fails where there is anything already.
    pub async fn begin(&mut self, client: &Client, epoch: Epoch) -> Result<(), Error> {
        self.run(client, "BEGIN").await?;
        let vacant = client.query_one(VACANT, &[]).await;
        let vacant: bool = vacant.map_err(|error| self.to_error(&error))?.get(0);
        if !vacant {
            return Err(occupied(&self.schema));
        }
        let keys = self.store.keys_and_terms(client).await?;
        let sealer = self.store.begin_term(client, epoch, keys).await?;
        self.encoder.begin(epoch, sealer);
        Ok(())
    }

    /// Encodes what [`Self::put`] takes. It is to be used after [`Self::begin`], and not for what is put after a comparison
    /// that has not ended.
    pub fn encoder(&self) -> CopyEncoder {
        self.encoder.clone()
    }

    pub async fn put(&mut self, client: &Client, rows: &CopyRows) -> Result<(), Error> {
        let copied = self.copy(client, rows.bytes.clone()).await;
        let copied = copied.map_err(|error| self.to_error(&error))?;
        let expected = rows.count;
        if copied == expected {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "messages: {copied} rows instead of {expected} were written; another session changed the tables"
        )))
    }

    async fn copy(&self, client: &Client, rows: Bytes) -> Result<u64, tokio_postgres::Error> {
        let mut copying = pin!(client.copy_in::<_, Bytes>(&self.copy).await?);
        copying.send(rows).await?;
        copying.finish().await
    }

    /// Writes everything but the messages, compares all of it with what it should be, and commits.
    pub async fn finish(
        &self,
        client: &Client,
        info: &ServerInfo,
        planned: &Snapshot,
        note: &ImportNote,
        epoch: Epoch,
    ) -> Result<(), Error> {
        ServerInfo::read_or_create(client, &self.url, info).await?;
        let subjects: [&(dyn ToSql + Sync); 6] = [
            &info.discover_prefix,
            &info.publish_prefix,
            &info.subscribe_subject,
            &info.unsubscribe_subject,
            &info.close_subscription_subject,
            &info.close_subject,
        ];
        let written = client.execute(TELL_SUBJECTS, &subjects).await;
        written.map_err(|error| self.to_error(&error))?;
        self.writer
            .apply_within(client, &rows(planned), epoch)
            .await?;
        self.compare(client, planned).await?;
        // Holes of the former store are no riddles. Looking for them reads all messages.
        if !planned.channels.values().all(is_dense) {
            self.run(client, "SELECT note_missing('imported')").await?;
        }
        let noted = imports::write(client, note, planned).await;
        noted.map_err(|error| self.to_error(&error))?;
        self.run(client, "COMMIT").await
    }

    /// Compares the messages that are there so far with what was written, so that only what comes later is left for the end.
    pub async fn compare_so_far(&mut self, client: &Client) -> Result<(), Error> {
        let checksums = self.encoder.checksums();
        let stored = self.stored(client, &checksums).await?;
        for (id, (_, checksum)) in &stored {
            if checksums.get(id) != Some(checksum) {
                return Err(Error::Failed(format!(
                    "messages of channel {id} are not what was written: their checksum differs. Does another program write \
                     to schema {}?",
                    self.schema
                )));
            }
        }
        self.compared = stored;
        Ok(())
    }

    /// What the tables hold of each channel. What was compared already is not read again.
    async fn stored(
        &self,
        client: &Client,
        checksums: &Checksums,
    ) -> Result<BTreeMap<ChannelId, (Extent, i64)>, Error> {
        // The counting reads everything, and nothing else is to be done meanwhile.
        let settings =
            "SET LOCAL enable_seqscan = on; SET LOCAL max_parallel_workers_per_gather = 4";
        self.run(client, settings).await?;
        let rows = if self.compared.is_empty() {
            let extents = format!(
                "SELECT channel_id, count(*), min(sequence), max(sequence), bit_xor({}) FROM messages GROUP BY 1",
                row_hash::SQL
            );
            client.query(&extents, &[]).await
        } else {
            let after = |id: &ChannelId| self.compared.get(id).map_or(0, |(extent, _)| extent.last);
            let ids: Vec<ChannelId> = checksums.keys().copied().collect();
            let after: Vec<i64> = ids.iter().map(|id| after(id).cast_signed()).collect();
            let ids: Vec<i64> = ids.iter().map(|id| id.0.cast_signed()).collect();
            let extents = format!(
                "SELECT v.channel_id, s.* FROM unnest($1::bigint[], $2::bigint[]) AS v (channel_id, after)
                    CROSS JOIN LATERAL (
                        SELECT count(*), coalesce(min(sequence), 0), coalesce(max(sequence), 0), coalesce(bit_xor({}), 0)
                        FROM messages m WHERE m.channel_id = v.channel_id AND m.sequence > v.after
                    ) s",
                row_hash::SQL
            );
            // A table without statistics would be read from one end to the other for each channel.
            self.run(client, "SET LOCAL enable_seqscan = off").await?;
            client.query(&extents, &[&ids, &after]).await
        };
        let rows = rows.map_err(|error| self.to_error(&error))?;
        let mut stored = self.compared.clone();
        for (id, (extent, checksum)) in rows.iter().map(extent) {
            let (all, sum) = stored.entry(id).or_default();
            if extent.count > 0 {
                all.first = if all.count == 0 {
                    extent.first
                } else {
                    all.first
                };
                all.last = extent.last;
                all.count += extent.count;
            }
            *sum ^= checksum;
        }
        Ok(stored)
    }

    async fn compare(&self, client: &Client, planned: &Snapshot) -> Result<(), Error> {
        let wrong = |what: String| {
            Error::Failed(format!(
                "{what}; nothing was imported. Does another program write to schema {}?",
                self.schema
            ))
        };
        let checksums = self.encoder.checksums();
        let stored = self.stored(client, &checksums).await?;
        for (id, row) in &planned.channels {
            let expected = Extent {
                count: row.message_count,
                first: row.first_sequence.0,
                last: row.last_sequence.0,
            };
            let (found, checksum) = stored.get(id).copied().unwrap_or_default();
            if checksum != checksums.get(id).copied().unwrap_or_default() {
                return Err(wrong(format!(
                    "messages of channel {} are not what was written: their checksum is another one",
                    row.name
                )));
            }
            let fits = found.count == expected.count
                && (found.count == 0
                    || found.first == expected.first && found.last <= expected.last);
            if !fits {
                return Err(wrong(format!(
                    "channel {} was to get {expected:?} and has {found:?}",
                    row.name
                )));
            }
        }
        let rows = client.query(POSITIONS, &[]).await;
        let rows = rows.map_err(|error| self.to_error(&error))?;
        let stored: BTreeMap<PositionId, Option<Progress>> = rows.iter().map(position).collect();
        let expected = planned.positions.iter();
        let expected: BTreeMap<_, _> = expected
            .map(|(&id, row)| (id, Some(row.progress.clone())))
            .collect();
        if stored != expected {
            return Err(wrong("positions are not what was written".to_owned()));
        }
        let counts = client.query_one(COUNTS, &[]).await;
        let counts = counts.map_err(|error| self.to_error(&error))?;
        let expected = [planned.clients.len(), planned.subscriptions.len()];
        if [number(&counts, 0), number(&counts, 1)] != expected.map(|count| count as u64) {
            return Err(wrong(
                "clients or subscriptions are not what was written".to_owned(),
            ));
        }
        Ok(())
    }

    async fn run(&self, client: &Client, statement: &str) -> Result<(), Error> {
        let done = client.batch_execute(statement).await;
        done.map_err(|error| self.to_error(&error))
    }

    fn to_error(&self, error: &tokio_postgres::Error) -> Error {
        DatabaseError::of_session(&self.url, error).into()
    }
}

/// Fails where an import would not find the tables empty, or finds the former ones in their place. Tables that are not
/// there are empty.
pub(super) async fn ensure_vacant(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<(), Fault> {
    let is_former = sqlx::query_scalar(FORMER_HERE).bind(quoted(schema));
    if is_former.fetch_one(&mut *connection).await? {
        return Err(Error::Refused(format!(
            "schema {schema} holds the tables of nats-streaming-server; name another one with --schema for those of \
             stanby"
        ))
        .into());
    }
    if SchemaVersion::read(connection, schema).await? == SchemaVersion::Empty {
        return Ok(());
    }
    if sqlx::query_scalar(VACANT).fetch_one(connection).await? {
        Ok(())
    } else {
        Err(occupied(schema).into())
    }
}

fn occupied(schema: &str) -> Error {
    Error::Refused(format!(
        "schema {schema} is not empty: it holds channels or clients, and an import would mix with them; name another \
         one with --schema, or, if you no longer need what it holds, drop it (DROP SCHEMA \"{schema}\" CASCADE)"
    ))
}

/// Nothing between its first and its last sequence is missing.
fn is_dense(channel: &ChannelRow) -> bool {
    channel.last_sequence.0 + 1 - channel.first_sequence.0 == channel.message_count
}

fn rows(planned: &Snapshot) -> Batch {
    Batch {
        counters: Some(planned.counters),
        channels: put(&planned.channels),
        clients: put(&planned.clients),
        positions: put(&planned.positions),
        subscriptions: put(&planned.subscriptions),
        ..Batch::default()
    }
}

fn put<K: Clone + Ord, V: Clone>(rows: &BTreeMap<K, V>) -> BTreeMap<K, Option<V>> {
    let rows = rows.iter();
    rows.map(|(id, row)| (id.clone(), Some(row.clone())))
        .collect()
}

/// The former tables' names are those of ours, but for this one.
const FORMER_HERE: &str = "SELECT to_regclass($1 || '.subspending') IS NOT NULL";

const VACANT: &str = "SELECT NOT EXISTS (SELECT FROM channels) AND NOT EXISTS (SELECT FROM clients)
        AND NOT EXISTS (SELECT FROM messages) AND NOT EXISTS (SELECT FROM positions)";

const TELL_SUBJECTS: &str = "UPDATE server_info SET discover_prefix = $1, publish_prefix = $2,
        subscribe_subject = $3, unsubscribe_subject = $4, close_subscription_subject = $5, close_subject = $6";

const POSITIONS: &str =
    "SELECT position_id, last_sent, acked_floor, acked_above::text FROM positions";

const COUNTS: &str = "SELECT (SELECT count(*) FROM clients), (SELECT count(*) FROM subscriptions)";

fn number(row: &Row, column: usize) -> u64 {
    row.get::<_, i64>(column).cast_unsigned()
}

fn extent(row: &Row) -> (ChannelId, (Extent, i64)) {
    let extent = Extent {
        count: number(row, 1),
        first: number(row, 2),
        last: number(row, 3),
    };
    (ChannelId(number(row, 0)), (extent, row.get(4)))
}

fn position(row: &Row) -> (PositionId, Option<Progress>) {
    let progress = parse_multirange(row.get(3)).map(|acked_above| Progress {
        last_sent: Sequence(number(row, 1)),
        acked_floor: Sequence(number(row, 2)),
        acked_above,
    });
    (PositionId(number(row, 0)), progress)
}
