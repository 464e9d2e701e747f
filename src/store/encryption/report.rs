//! What `stanby status` shows of encryption, with no key at hand: whether the last active encrypts, with which of the
//! operators' keys, and how many messages stand there as they were published.

use serde::Serialize;
use sqlx::{Acquire, PgConnection, Row};

use crate::store::error::Fault;

/// The last term's key, and how many of the operators' keys open something.
const LAST_TERM: &str = "SELECT key_number, cipher,
        to_char(first_used_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS first_used_at, keys
    FROM encryption_status";

const PLAIN: &str = "SELECT count(*) FROM readable_messages WHERE NOT encrypted";

/// All of a large table is read to count them; whoever asks waits for this and not for more.
const COUNT_LIMIT: &str = "SET LOCAL statement_timeout = '1s'";

/// SQLSTATE of a statement that took too long.
const CANCELED: &str = "57014";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EncryptionReport {
    /// The key of the last active; `None`: it does not encrypt.
    pub writes_with: Option<KeyInUse>,
    /// Operators' keys that are needed to read what is stored. `writes_with` is one of them.
    pub keys: i64,
    /// Messages that stand there as they were published, where anything is encrypted; `None`: there are too many to
    /// count within a second.
    pub plain_messages: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInUse {
    /// As `key` in the log of the active, and `key_number` in the tables.
    pub number: i32,
    pub cipher: String,
    /// ISO 8601, in UTC.
    pub first_used_at: Option<String>,
}

/// `None` where no server has encrypted anything that is still there. To be called in a transaction.
pub(in crate::store) async fn report(
    connection: &mut PgConnection,
) -> Result<Option<EncryptionReport>, Fault> {
    let row = sqlx::query(LAST_TERM).fetch_one(&mut *connection).await?;
    let keys: i64 = row.try_get("keys")?;
    if keys == 0 {
        return Ok(None);
    }
    let number: Option<i32> = row.try_get("key_number")?;
    let cipher: Option<String> = row.try_get("cipher")?;
    let first_used_at = row.try_get("first_used_at")?;
    let writes_with = number.zip(cipher).map(|(number, cipher)| KeyInUse {
        number,
        cipher,
        first_used_at,
    });
    Ok(Some(EncryptionReport {
        writes_with,
        keys,
        plain_messages: plain_messages(connection).await?,
    }))
}

async fn plain_messages(connection: &mut PgConnection) -> Result<Option<i64>, Fault> {
    let mut attempt = connection.begin().await?;
    sqlx::query(COUNT_LIMIT).execute(&mut *attempt).await?;
    let counted = sqlx::query_scalar(PLAIN).fetch_one(&mut *attempt).await;
    // Takes the time limit back, too.
    attempt.rollback().await?;
    match counted {
        Ok(count) => Ok(Some(count)),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(CANCELED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
