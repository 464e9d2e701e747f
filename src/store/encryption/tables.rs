//! Rows of `encryption_keys` and `term_keys`. A term reads and writes them on the leader session.

use tokio_postgres::Client;

use super::operator_key::KeyRow;
use crate::store::error::Fault;
use crate::store::source::Source;

/// A row for each key that terms still need; more than a few are a mistake, and each costs a start its time.
const KEYS: &str =
    "SELECT key_number, salt, iterations, known_value, first_used_at::timestamptz(0)::text AS first_used_at
    FROM encryption_keys ORDER BY key_number LIMIT 100";

const TERMS: &str = "SELECT epoch, key_number, cipher, wrapped_key FROM term_keys ORDER BY epoch";

/// Everything that a term changes at once: a key without its known value, or the other way round, is never there.
/// What could not be opened keeps its operator's key, in case that it is repaired.
const BEGIN: &str = "WITH operator AS (
        INSERT INTO encryption_keys (key_number, salt, iterations, known_value)
        VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
    ), wrapped_anew AS (
        UPDATE term_keys t SET key_number = $1, wrapped_key = n.wrapped_key
        FROM unnest($5::int8[], $6::bytea[]) AS n (epoch, wrapped_key)
        WHERE t.epoch = n.epoch
    ), unused AS (
        DELETE FROM encryption_keys k
        WHERE k.key_number <> $1 AND NOT EXISTS (
            SELECT FROM term_keys t WHERE t.key_number = k.key_number AND t.epoch <> ALL ($5)
        )
    )
    INSERT INTO term_keys (epoch, key_number, cipher, wrapped_key) VALUES ($7, $1, $8, $9)";

/// Epochs never decrease along a channel, so its first message has its oldest.
const FORGET: &str = "DELETE FROM term_keys WHERE epoch < (
        SELECT coalesce(min(first.epoch), (SELECT epoch FROM leadership))
        FROM (SELECT channel_id FROM channels) c
        CROSS JOIN LATERAL (
            SELECT m.epoch FROM messages m WHERE m.channel_id = c.channel_id ORDER BY m.sequence LIMIT 1
        ) first
    );
    DELETE FROM encryption_keys k
    WHERE NOT EXISTS (SELECT FROM term_keys t WHERE t.key_number = k.key_number)";

/// A row of `term_keys`.
#[derive(Clone, Debug)]
pub(in crate::store) struct TermRow {
    pub(super) epoch: i64,
    pub(super) key_number: i32,
    pub(super) cipher: String,
    pub(super) wrapped_key: Vec<u8>,
}

pub(in crate::store) async fn keys(source: &mut Source<'_>) -> Result<Vec<KeyRow>, Fault> {
    let rows = source.all(KEYS, &[]).await?;
    let rows = rows.iter().map(|row| {
        Ok(KeyRow {
            number: row.get("key_number")?,
            salt: row.get("salt")?,
            iterations: row.get("iterations")?,
            known_value: row.get("known_value")?,
            first_used_at: row.get("first_used_at")?,
        })
    });
    rows.collect()
}

pub(in crate::store) async fn keys_and_terms(
    client: &Client,
) -> Result<(Vec<KeyRow>, Vec<TermRow>), Fault> {
    // Asked together: a takeover waits once.
    let (mut first, mut second) = (Source::Session(client), Source::Session(client));
    tokio::try_join!(keys(&mut first), terms(&mut second))
}

pub(in crate::store) async fn terms(source: &mut Source<'_>) -> Result<Vec<TermRow>, Fault> {
    let rows = source.all(TERMS, &[]).await?;
    let rows = rows.iter().map(|row| {
        Ok(TermRow {
            epoch: row.get("epoch")?,
            key_number: row.get("key_number")?,
            cipher: row.get("cipher")?,
            wrapped_key: row.get("wrapped_key")?,
        })
    });
    rows.collect()
}

/// Stores the key of a new term, and its operator's key where it is new; `wrapped_anew` are keys of terms that stood
/// there under another operator's key.
pub(super) async fn begin(
    client: &Client,
    operator: &KeyRow,
    wrapped_anew: &[TermRow],
    term: &TermRow,
) -> Result<(), tokio_postgres::Error> {
    let epochs: Vec<i64> = wrapped_anew.iter().map(|row| row.epoch).collect();
    let keys: Vec<&[u8]> = wrapped_anew
        .iter()
        .map(|row| row.wrapped_key.as_slice())
        .collect();
    let begun = client
        .execute(
            BEGIN,
            &[
                &operator.number,
                &operator.salt,
                &operator.iterations,
                &operator.known_value,
                &epochs,
                &keys,
                &term.epoch,
                &term.cipher,
                &term.wrapped_key,
            ],
        )
        .await;
    begun.map(drop)
}

/// Deletes keys that no message needs any more.
pub(super) async fn forget(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(FORGET).await
}
