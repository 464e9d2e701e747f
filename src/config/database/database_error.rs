//! What an error of a database connection means for the caller, and a sentence with the remedy. One place for
//! both drivers, because the sentences name what the database URL says.

use std::io;

use tokio_postgres::types::{WasNull, WrongType};

use super::{DatabaseUrl, Roots};
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

/// Begins the remedy where no further connection is taken.
const NO_ROOM: &str = "raise max_connections";

/// The right that is missing, as Postgres names its object in English: in other languages the person has to read it there.
fn grant(user: &str, database: &str, message: &str) -> String {
    let object = message.strip_prefix("permission denied for ");
    let object = object.and_then(|object| object.split_once(' '));
    let statement = match object {
        Some(("schema", name)) => format!("GRANT USAGE ON SCHEMA \"{name}\" TO \"{user}\""),
        Some(("database", _)) => format!("GRANT CONNECT ON DATABASE \"{database}\" TO \"{user}\""),
        Some(("table" | "view", name)) => {
            format!("GRANT ALL ON {name} TO \"{user}\"")
        }
        Some(("function", name)) => format!("GRANT EXECUTE ON FUNCTION {name} TO \"{user}\""),
        _ => {
            return format!(
                "grant {user} what it lacks (`stanby doctor` prints the statements for a server; grant_to_operator() in the schema of \
                 the tables is for who changes channels and durables), or name the owner in the database URL"
            );
        }
    };
    format!(
        "{statement}, where it is for a server (grant_to_operator() in the schema of the tables is for who changes channels and \
         durables), or name the owner in the database URL"
    )
}

const NO_FORCE: &str = "NO FORCE ROW LEVEL SECURITY";

pub const READ_ONLY: &str = "default_transaction_read_only";

/// The name that Postgres has put in quotes.
fn quoted_in(message: &str) -> &str {
    let name = message.split('"').nth(1);
    name.filter(|it| !it.is_empty()).unwrap_or("…")
}

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
        self.text.contains(NO_ROOM)
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
        let (user, database, place) = (url.user(), url.database(), url.address());
        let (kind, remedy) = match code {
            "28P01" => (
                Refused,
                format!("check user and password of {user} in the database URL, and whether the password is still valid there"),
            ),
            "28000" => (
                Refused,
                format!(
                    "check user and password of {user} in the database URL, that the role may log in (ALTER ROLE \"{user}\" LOGIN), \
                     and that pg_hba.conf lets it in"
                ),
            ),
            "3D000" => (
                Refused,
                format!("create it (CREATE DATABASE \"{database}\") or correct the database URL"),
            ),
            // Other sentences with this code name tables.
            "55000" if quoted_in(message) == database => (
                Refused,
                format!("ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS true"),
            ),
            // Postgres names the statement to the owner, in whatever language.
            "42501" if hint.contains(NO_FORCE) => (
                Refused,
                format!("ALTER TABLE {} {NO_FORCE}", quoted_in(message)),
            ),
            "42501" if message.contains("row-level security") => (
                Refused,
                format!(
                    "ALTER ROLE \"{user}\" BYPASSRLS, or ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
                    quoted_in(message)
                ),
            ),
            "42501" => (Refused, grant(user, database, message)),
            // A replica may be promoted.
            "25006" => (
                Unavailable,
                format!(
                    "it is a replica, and the database URL must lead to the primary, or {READ_ONLY} is on, and has to be RESET where it \
                     is set: ALTER ROLE {user}, ALTER DATABASE {database} or ALTER SYSTEM, often once its disk has room"
                ),
            ),
            "53100" => (Unavailable, "free space on the database's disk".to_owned()),
            "53300" => (
                Unavailable,
                format!(
                    "{NO_ROOM}, or the CONNECTION LIMIT of database {database} or role {user} where it names \
                     one, or close connections"
                ),
            ),
            "53400" => (
                Unavailable,
                format!(
                    "raise the limit that it names, as in ALTER ROLE {user} SET temp_file_limit = -1, or work_mem, with \
                     which sorting needs fewer files"
                ),
            ),
            "53200" => (
                Unavailable,
                "give Postgres' machine memory or lower work_mem; where it says shared memory, raise \
                 max_locks_per_transaction"
                    .to_owned(),
            ),
            "57P05" => (
                Unavailable,
                "this server was silent for longer than its lease; if it happens again, the \
                 machine is overloaded or --lease is too short"
                    .to_owned(),
            ),
            "57014" => (
                Unavailable,
                "the database is overloaded or something blocks it".to_owned(),
            ),
            "55P03" => (
                Unavailable,
                "another session holds a lock for too long".to_owned(),
            ),
            "57P01" => (
                Unavailable,
                "this server tries again; where Postgres was not stopped, somebody ends sessions (pg_terminate_backend, a \
                 job that ends idle ones) and has to spare those whose application_name begins with stanby/"
                    .to_owned(),
            ),
            "57P02" | "57P03" => (Unavailable, "this server tries again".to_owned()),
            _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") => {
                (Unavailable, "this server tries again".to_owned())
            }
            _ => (Failed, format!("SQLSTATE {code}")),
        };
        Self {
            kind,
            text: format!("Postgres at {place}: {message}; {remedy}"),
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

    #[test]
    fn a_right_that_is_missing_is_named_with_the_statement_that_grants_it() {
        let url = DatabaseUrl::parse("host=h user=u dbname=d").unwrap();
        for (message, remedy) in [
            (
                "permission denied for table takeovers",
                "GRANT ALL ON takeovers TO \"u\"",
            ),
            (
                "permission denied for schema stanby",
                "GRANT USAGE ON SCHEMA \"stanby\" TO \"u\"",
            ),
            (
                "permission denied for database \"d\"",
                "GRANT CONNECT ON DATABASE \"d\" TO \"u\"",
            ),
            (
                "permission denied for function wait_for_lock",
                "GRANT EXECUTE ON FUNCTION wait_for_lock TO \"u\"",
            ),
            ("keine Berechtigung für Tabelle takeovers", "stanby doctor"),
        ] {
            let error = DatabaseError::of_server(&url, "42501", message, "");
            assert!(error.text.contains(remedy), "{}", error.text);
        }
    }

    #[test]
    fn a_row_policy_is_no_question_of_grants() {
        let url = DatabaseUrl::parse("host=h user=u").unwrap();
        let message = "query would be affected by row-level security policy for table \"outbox\"";
        let hint = "To disable the policy for the table's owner, use ALTER TABLE NO FORCE ROW LEVEL SECURITY.";
        for (hint, remedy) in [
            (hint, "ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY"),
            ("", "ALTER ROLE \"u\" BYPASSRLS"),
        ] {
            let error = DatabaseError::of_server(&url, "42501", message, hint);
            assert_eq!(error.kind, Refused);
            assert!(error.text.contains(remedy), "{}", error.text);
            assert!(!error.text.contains("grant"), "{}", error.text);
        }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        let url = DatabaseUrl::parse("host=h user=u").unwrap();
        for (code, kind) in [
            ("57P03", Unavailable),
            ("57P05", Unavailable),
            ("08006", Unavailable),
            ("53100", Unavailable),
            ("53300", Unavailable),
            ("25006", Unavailable),
            ("42501", Refused),
            ("23505", Failed),
        ] {
            assert_eq!(
                DatabaseError::of_server(&url, code, "why", "").kind,
                kind,
                "{code}"
            );
        }
    }
}
