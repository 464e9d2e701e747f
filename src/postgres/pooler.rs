//! Whether a pooler answers that gives sessions away between transactions. What is set for a session there is set for
//! whoever gets it next, so that it is asked before anything is set.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::find;
use crate::config::database::{DatabaseError, DatabaseErrorKind, DatabaseUrl};

/// Why it is refused.
pub fn sentence(url: &DatabaseUrl) -> String {
    format!(
        "a pooler at {} shares sessions between transactions, so that two servers could hold the same lock; use Postgres' direct \
         endpoint in the database URL (often another port or host name)",
        url.address()
    )
}

/// Whether two sessions keep their processes while one of them is in a transaction. Sets nothing, and prepares nothing.
///
/// # Errors
/// Where nobody answers within `limit`.
pub async fn is_between(url: &DatabaseUrl, limit: Duration) -> Result<bool, DatabaseError> {
    let (one, first) = find::connect(url, &|_| ()).await?;
    let (other, second) = find::connect(url, &|_| ()).await?;
    let asked = async {
        let before = (process(&one).await?, process(&other).await?);
        other.batch_execute("BEGIN").await?;
        let others = process(&other).await?;
        let after = (process(&one).await?, others);
        Ok::<_, tokio_postgres::Error>(before != after || after.0 == after.1)
    };
    let what = "looking for a pooler";
    tokio::select! {
        asked = timeout(limit, asked) => match asked {
            Ok(asked) => asked.map_err(|error| DatabaseError::of_session(url, &error)),
            Err(_) => Err(DatabaseError::of_timeout(url, what)),
        },
        // Both have ended before they were asked.
        _ = async { tokio::join!(first, second) } => Err(DatabaseError::of_timeout(url, what)),
    }
}

/// Fails with [`sentence`] behind such a pooler.
///
/// # Errors
/// Where nobody answers within `limit`, too.
pub async fn refuse(url: &DatabaseUrl, limit: Duration) -> Result<(), DatabaseError> {
    if is_between(url, limit).await? {
        return Err(DatabaseError {
            kind: DatabaseErrorKind::Refused,
            text: sentence(url),
        });
    }
    Ok(())
}

/// Asked without a prepared statement, which behind such a pooler would be an error of its own. `None` where the answer is
/// not one of Postgres.
async fn process(client: &Client) -> Result<Option<i32>, tokio_postgres::Error> {
    let answer = client
        .simple_query("SELECT pg_catalog.pg_backend_pid()")
        .await?;
    Ok(answer.iter().find_map(|message| {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        row.get(0)?.parse().ok()
    }))
}
