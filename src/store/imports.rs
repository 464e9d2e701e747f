//! Notes of what was imported, which tell later starts with the same line that it is done.

use tokio_postgres::Client;

use super::error::Fault;
use super::source::Source;
use crate::core::snapshot::Snapshot;

/// What an import leaves behind beside the data, in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportNote {
    /// Without passwords.
    pub source: String,
    /// The fingerprint of each directory that was named (`files::fingerprint`).
    pub fingerprints: Vec<String>,
    pub server_id: String,
}

/// A note, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub source: String,
    pub fingerprints: Vec<String>,
    /// In UTC, to the minute.
    pub at: String,
}

pub(super) async fn write(
    client: &Client,
    note: &ImportNote,
    imported: &Snapshot,
) -> Result<(), tokio_postgres::Error> {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let messages = imported.channels.values().map(|row| row.message_count);
    let positions = imported.positions.values();
    let durables = positions.filter(|position| position.durable_name.is_some());
    client
        .execute(
            WRITE,
            &[
                &note.source,
                &note.fingerprints,
                &count(imported.channels.len()),
                &messages.sum::<u64>().cast_signed(),
                &count(imported.clients.len()),
                &count(durables.count()),
                &note.server_id,
            ],
        )
        .await
        .map(drop)
}

/// In their order.
pub(super) async fn read(source: &mut Source<'_>) -> Result<Vec<Noted>, Fault> {
    let rows = source.all(READ, &[]).await?;
    let noted = rows.iter().map(|row| {
        Ok(Noted {
            source: row.get("source")?,
            fingerprints: row.get("fingerprints")?,
            at: row.get("at")?,
        })
    });
    noted.collect()
}

const WRITE: &str =
    "INSERT INTO imports (source, fingerprints, channels, messages, clients, durables, server_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

const READ: &str =
    "SELECT source, fingerprints, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS at
    FROM imports ORDER BY import_id";
