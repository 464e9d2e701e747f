//! Which Postgres a session leads to, and which tables there. A primary stays what it is for as long as a session lasts.

use tokio_postgres::error::SqlState;
use tokio_util::task::TaskTracker;

use super::error::Error;
use super::session::{Session, Settings};
use crate::core::database_identity::DatabaseIdentity;

/// On a session of its own, for who does not queue for the lock yet.
pub async fn read_once(
    settings: &Settings,
    tracker: &TaskTracker,
) -> Result<DatabaseIdentity, Error> {
    let session = Session::open(settings, tracker).await?;
    session.pin(settings).await?;
    read(&session, settings).await
}

pub(super) async fn read(
    session: &Session,
    settings: &Settings,
) -> Result<DatabaseIdentity, Error> {
    let client = &session.client;
    let row = session
        .call(
            "asking which database this is",
            client.query_one(
                "SELECT oid, datname::text FROM pg_database WHERE datname = current_database()",
                &[],
            ),
        )
        .await?;
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    // The control file lags behind after a promotion; the name of the current WAL file does not.
    let timeline = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int4";
    Ok(DatabaseIdentity {
        system_identifier: if_supported(client.query_one_scalar(identifier, &[]), session).await?,
        timeline: if_supported(client.query_one_scalar(timeline, &[]), session).await?,
        database_oid: row.get(0),
        database: row.get(1),
        schema: settings.schema.clone(),
        address: settings.url.address(),
    })
}

/// Whether an error is how a platform says that it does not tell (no right, no such function, not supported), and not
/// trouble that passes: then the next one might believe the wrong server.
fn is_silence(code: &SqlState) -> bool {
    // Connection, resources, an operator or a timeout, the system.
    const PASSING: [&str; 4] = ["08", "53", "57", "58"];
    !PASSING.iter().any(|class| code.code().starts_with(class))
}

/// A server that answers but does not tell is a managed platform.
async fn if_supported<T>(
    question: impl Future<Output = Result<T, tokio_postgres::Error>>,
    session: &Session,
) -> Result<Option<T>, Error> {
    let question = async {
        match question.await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.code().is_some_and(is_silence) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the server does not say what it is"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    session.call("asking which server this is", question).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_passes_is_not_taken_for_a_platform_that_does_not_tell() {
        for (code, silent) in [
            (SqlState::INSUFFICIENT_PRIVILEGE, true),
            (SqlState::UNDEFINED_FUNCTION, true),
            (SqlState::FEATURE_NOT_SUPPORTED, true),
            (SqlState::QUERY_CANCELED, false),
            (SqlState::ADMIN_SHUTDOWN, false),
            (SqlState::OUT_OF_MEMORY, false),
            (SqlState::IO_ERROR, false),
        ] {
            assert_eq!(is_silence(&code), silent, "{code:?}");
        }
    }
}
