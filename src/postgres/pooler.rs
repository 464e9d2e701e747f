//! Whether a pooler answers that gives sessions away between transactions. What is set for a session there is set for
//! whoever gets it next, so that it is asked before anything is set.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::find;
use crate::config::database::{DatabaseError, DatabaseErrorKind, DatabaseUrl};

const END_LIMIT: Duration = Duration::from_secs(1);

/// Why it is refused.
pub fn sentence(url: &DatabaseUrl) -> String {
    format!(
        "a pooler at {} shares sessions between transactions: what is set or locked in one of them would be another's; use Postgres' direct \
         endpoint in its URL (often another port or host name)",
        url.address()
    )
}

/// Whether two sessions keep their processes while one of them is in a transaction. Sets nothing, and prepares nothing.
///
/// # Errors
/// Where nobody answers within `limit`.
pub async fn is_between(url: &DatabaseUrl, limit: Duration) -> Result<bool, DatabaseError> {
    let (one, first) = find::connect(url, &|_| ()).await?;
    let (other, second) = match find::connect(url, &|_| ()).await {
        Ok(found) => found,
        // The role may have room for one session only; what shares sessions takes more than it has.
        Err(error) if error.kind == DatabaseErrorKind::Unavailable => return Ok(false),
        Err(error) => return Err(error),
    };
    let asked = async {
        let before = (process(&one).await?, process(&other).await?);
        other.batch_execute("BEGIN").await?;
        let others = process(&other).await?;
        let after = (process(&one).await?, others);
        other.batch_execute("ROLLBACK").await?;
        Ok::<_, tokio_postgres::Error>(before != after || after.0 == after.1)
    };
    let what = "looking for a pooler";
    let mut driven = pin!(async { tokio::join!(first, second) });
    let asked = tokio::select! {
        asked = timeout(limit, asked) => match asked {
            Ok(asked) => asked.map_err(|error| DatabaseError::of_session(url, &error)),
            Err(_) => Err(DatabaseError::of_timeout(url, what)),
        },
        // Both have ended before they were asked.
        _ = &mut driven => return Err(DatabaseError::of_timeout(url, what)),
    };
    // Postgres is told that they end, and has room for others before the next one is opened.
    drop((one, other));
    timeout(END_LIMIT, driven).await.ok();
    asked
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
async fn process(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    // One name can lead to several servers, whose processes have the same numbers.
    const PROCESS: &str =
        "SELECT pg_catalog.pg_backend_pid() || ' ' || pg_catalog.pg_postmaster_start_time()";
    let answer = client.simple_query(PROCESS).await?;
    Ok(answer.iter().find_map(|message| {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        row.get(0).map(str::to_owned)
    }))
}
