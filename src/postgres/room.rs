//! Room for tables on Postgres' disk.

use tokio_postgres::error::{DbError, Severity, SqlState};

/// Postgres itself has found no room for a table. A trigger may raise the same code.
pub fn is_out(error: &DbError) -> bool {
    const FOUND_IN: [&str; 2] = ["md.c", "fd.c"];
    let file = error.file().and_then(|path| path.rsplit('/').next());
    error.parsed_severity() == Some(Severity::Error)
        && error.code() == &SqlState::DISK_FULL
        && file.is_some_and(|file| FOUND_IN.contains(&file))
}
