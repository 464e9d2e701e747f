//! What an error of a database connection means for the caller, and a sentence with the remedy. One place for
//! both drivers, because the sentences name what the database URL says.

use std::io;

use tokio_postgres::types::{WasNull, WrongType};

pub use super::remedy::READ_ONLY;
use super::{DatabaseUrl, Roots, remedy};
use crate::certificates;

/// An error of the database, worded for the person who runs the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseError {
    pub kind: DatabaseErrorKind,
    /// A whole sentence; holds no secret.
    pub text: String,
}

/// What the caller would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseErrorKind {
    /// The database cannot be reached or used right now: try again.
    Unavailable,
    /// Trying again does not help until somebody changes something.
    Refused,
    /// The statement was wrong for the data that is there.
    Failed,
}

use DatabaseErrorKind::{Failed, Refused, Unavailable};

/// What both drivers say, each in an error of its own.
pub const NO_TLS: &str = "server does not support TLS";

/// What tokio-postgres says where Postgres asks for a password and the URL has none.
const NO_PASSWORD: &str = "password missing";

/// Codes that no server sends.
const CODES: [(&str, DatabaseErrorKind); 3] = [
    ("ZZ0SU", Unavailable),
    ("ZZ0SR", Refused),
    ("ZZ0SF", Failed),
];

impl DatabaseError {
    pub fn of_session(url: &DatabaseUrl, error: &tokio_postgres::Error) -> Self {
        if let Some(error) = error.as_db_error() {
            return Self::of_server(
                url,
                error.code().code(),
                error.message(),
                error.hint().unwrap_or_default(),
            );
        }
        let source = std::error::Error::source(error);
        if source.is_some_and(|it| it.is::<WasNull>() || it.is::<WrongType>()) {
            return Self::of_value(url, &error.to_string());
        }
        Self::of_cause(url, error)
    }

    pub fn of_pool(url: &DatabaseUrl, error: &sqlx::Error) -> Self {
        if let sqlx::Error::Database(error) = error {
            let code = error.code();
            let code = code.as_deref().unwrap_or_default();
            if let Some((_, kind)) = CODES.iter().find(|(known, _)| *known == code) {
                return Self {
                    kind: *kind,
                    text: error.message().to_owned(),
                };
            }
            let hint = error
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .and_then(sqlx::postgres::PgDatabaseError::hint);
            return Self::of_server(url, code, error.message(), hint.unwrap_or_default());
        }
        if let sqlx::Error::Configuration(why) = error {
            return Self {
                kind: Refused,
                text: why.to_string(),
            };
        }
        if let sqlx::Error::ColumnDecode { index, source } = error {
            return Self::of_value(url, &format!("column {index}: {source}"));
        }
        if matches!(error, sqlx::Error::PoolTimedOut) {
            let text = format!(
                "no connection to Postgres at {} became free in time",
                url.address()
            );
            return Self {
                kind: Unavailable,
                text,
            };
        }
        Self::of_cause(url, error)
    }

    /// In place of an SQLSTATE, where it comes in Postgres' protocol: [`DatabaseError::of_pool`] knows it again.
    pub fn code(&self) -> &'static str {
        let known = CODES.iter().find(|(_, kind)| *kind == self.kind);
        known.map_or("", |(code, _)| *code)
    }

    pub fn of_io(url: &DatabaseUrl, error: &io::Error) -> Self {
        Self::of_cause(url, error)
    }

    /// No further connection is taken, of this role or at all.
    pub fn is_for_want_of_room(&self) -> bool {
        self.text.contains(remedy::NO_ROOM)
    }

    /// A call that was given up.
    pub fn of_timeout(url: &DatabaseUrl, what: &str) -> Self {
        Self {
            kind: Unavailable,
            text: format!(
                "Postgres at {} did not answer in time ({what})",
                url.address()
            ),
        }
    }

    /// What was read is not what servers write.
    fn of_value(url: &DatabaseUrl, what: &str) -> Self {
        Self {
            kind: Failed,
            text: format!(
                "Postgres at {}: a row was changed by hand, or a column lost its NOT NULL or its type, and holds what no server \
                 writes ({what}); give it a value, or delete the row, and take back the change of the column",
                url.address()
            ),
        }
    }

    fn of_server(url: &DatabaseUrl, code: &str, message: &str, hint: &str) -> Self {
        let (kind, remedy) = remedy::of(url, code, message, hint);
        Self {
            kind,
            text: format!("Postgres at {}: {message}; {remedy}", url.address()),
        }
    }

    fn of_cause(url: &DatabaseUrl, error: &(dyn std::error::Error + 'static)) -> Self {
        let place = url.address();
        let mut cause = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        if cause.to_string() == NO_PASSWORD {
            let user = url.user();
            return Self {
                kind: Refused,
                text: format!(
                    "Postgres at {place} asks for a password of {user}, and none is given: put it into a passfile, PGPASSWORD \
                     or the database URL"
                ),
            };
        }
        let broken = cause.downcast_ref::<io::Error>();
        if let Some(error) = of_tls(cause) {
            let cause = certificates::describe(error);
            let remedy = if matches!(url.roots, Roots::File(_)) {
                "check the host and sslrootcert in the database URL"
            } else {
                "name the certificate of its authority with sslrootcert=FILE in the database URL; \
                 a managed service offers it for download"
            };
            return Self {
                kind: Refused,
                text: format!("TLS to {place} failed: {cause}; {remedy}"),
            };
        }
        if cause.to_string() == NO_TLS {
            let remedy = "turn ssl on there, or say with sslmode=disable in the database URL that \
                          nothing has to be encrypted";
            return Self {
                kind: Refused,
                text: format!("Postgres at {place}: {cause}; {remedy}"),
            };
        }
        let remedy = match broken.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
                "; check that it runs there and that the database URL is right"
            }
            Some(_) | None => "",
        };
        Self {
            kind: Unavailable,
            text: format!("cannot reach Postgres at {place}: {cause}{remedy}"),
        }
    }
}

/// What TLS itself says, where that is the cause.
fn of_tls<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// True where a connection failed in its TLS.
pub fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    of_tls(error).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_wrong_is_the_users_to_correct_and_is_not_shown() {
        let url = DatabaseUrl::parse("postgres://app:geheim@db.example/d").unwrap();

        let error = DatabaseError::of_server(
            &url,
            "28P01",
            "password authentication failed for user \"app\"",
            "",
        );

        assert_eq!(error.kind, Refused);
        assert!(
            error.text.contains("check user and password of app"),
            "{}",
            error.text
        );
        assert!(!error.text.contains("geheim"));
    }

    #[test]
    fn a_password_that_is_missing_does_not_come_by_itself() {
        let url = DatabaseUrl::parse("postgres://app@db.example/d").unwrap();
        let error = DatabaseError::of_cause(&url, &io::Error::other(NO_PASSWORD));
        assert_eq!(error.kind, Refused);
        assert!(error.text.contains("PGPASSWORD"), "{}", error.text);
    }
}
