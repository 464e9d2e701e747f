//! A connection of the pool while a call has it.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, Postgres};
use tokio::time::timeout;

use super::error::{Error, Fault};
use super::fence::Gate;
use super::source::Source;
use crate::config::database::{DatabaseError, DatabaseUrl};

/// A pooled connection for one call. Dropped within a transaction, it is closed.
pub(super) struct PooledConnection<'a> {
    /// There until it is checked in.
    pub(super) connection: Option<PoolConnection<Postgres>>,
    pub(super) url: &'a DatabaseUrl,
    pub(super) gate: &'a Gate,
    pub(super) in_transaction: bool,
}

impl PooledConnection<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is not checked in yet")
    }

    pub(super) fn source(&mut self) -> Source<'_> {
        Source::Pool(self.connection())
    }

    pub(super) fn close_on_drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }

    /// Closes the connection at once.
    pub(super) fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }

    pub(super) fn checkin<T>(
        mut self,
        done: Result<Result<T, Fault>, tokio::time::error::Elapsed>,
        what: &str,
    ) -> Result<T, Error> {
        if let Ok(result) = done {
            return result.map_err(|fault| fault.into_error(self.url));
        }
        // Back in the pool it would make the next caller wait for the lost answer.
        self.close();
        Err(DatabaseError::of_timeout(self.url, what).into())
    }

    /// After a read that has proved whose tables it saw.
    pub(super) fn end<T>(
        mut self,
        done: Result<Result<T, Fault>, tokio::time::error::Elapsed>,
        what: &'static str,
    ) -> Result<T, Error> {
        let failed = match done {
            Ok(Ok(value)) => {
                self.gate.succeeded_at(what);
                if self.in_transaction {
                    self.commit();
                }
                return Ok(value);
            }
            Ok(Err(fault)) => fault.into_error(self.url),
            Err(_) => DatabaseError::of_timeout(self.url, what).into(),
        };
        self.close();
        if !matches!(failed, Error::Corrupt { .. }) {
            self.gate.failed_at(what, &failed);
        }
        Err(failed)
    }

    /// Ends the transaction, which has only read: nobody has to wait for that.
    fn commit(&mut self) {
        self.in_transaction = false;
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "closing the pool waits for its connections"
        )]
        tokio::spawn(async move {
            let ended = timeout(END_LIMIT, connection.execute("COMMIT")).await;
            if !matches!(ended, Ok(Ok(_))) {
                drop(connection.detach());
            }
        });
    }
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        if self.in_transaction {
            self.close();
        }
    }
}

/// The end of a transaction that has only read.
const END_LIMIT: Duration = Duration::from_secs(2);
