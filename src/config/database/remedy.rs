//! What an error of Postgres means by its SQLSTATE, and what mends it: the statement or the setting, with the names of the database
//! URL. Messages may be in any language.

use super::DatabaseUrl;
use super::database_error::DatabaseErrorKind::{self, Failed, Refused, Unavailable};

/// Begins the remedy where no further connection is taken.
pub(super) const NO_ROOM: &str = "raise max_connections";

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

/// What Postgres' translations put names in.
const QUOTATION_MARKS: [char; 9] = ['"', '„', '“', '”', '‟', '«', '»', '「', '」'];

/// The name that Postgres has put in quotes.
fn quoted_in(message: &str) -> &str {
    let name = message.split(QUOTATION_MARKS).nth(1);
    name.map(str::trim)
        .filter(|it| !it.is_empty())
        .unwrap_or("…")
}

/// Directories of Postgres' own files, below its data directory.
const DATA_FILES: [&str; 4] = ["base/", "global/", "pg_", "/"];

/// A file is missing: a library that a setting names, as `$libdir/plugins/x` or `x`, or one of the database's own.
fn missing_file(user: &str, database: &str, message: &str) -> String {
    let file = quoted_in(message);
    if DATA_FILES.iter().any(|start| file.starts_with(start)) {
        return "a file of its data directory is missing: restore it from a backup".to_owned();
    }
    format!(
        "install the library {file} there, or undo the setting that names it (session_preload_libraries, local_preload_libraries): \
         ALTER ROLE \"{user}\" RESET …, ALTER DATABASE \"{database}\" RESET …, or ALTER SYSTEM RESET … and a reload"
    )
}

/// What the error of the given SQLSTATE means for the caller, and what a person does about it.
pub(super) fn of(
    url: &DatabaseUrl,
    code: &str,
    message: &str,
    hint: &str,
) -> (DatabaseErrorKind, String) {
    let (user, database) = (url.user(), url.database());
    match code {
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
            "58P01" => (Refused, missing_file(user, database, message)),
            "58030" => (
                Unavailable,
                "its disk fails: look into the logs of Postgres and of its machine".to_owned(),
            ),
            "XX001" | "XX002" => (
                Failed,
                "its disk holds damaged data: REINDEX what it names, where that is an index, or restore from a backup".to_owned(),
            ),
            "3F000" | "42P01" | "42703" | "42883" => (
                Failed,
                "this role may not see the schema, or the tables were changed by hand: `stanby doctor` says which; what was dropped has to come back from a backup".to_owned(),
            ),
            // For the first two: sessions stood in each other's way.
        "40001" | "40P01" | "57P02" | "57P03" => {
            (Unavailable, "this server tries again".to_owned())
        }
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") => {
                (Unavailable, "this server tries again".to_owned())
            }
            _ => (Failed, format!("SQLSTATE {code}")),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let (_, text) = of(&url, "42501", message, "");
            assert!(text.contains(remedy), "{}", text);
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
            let (kind, text) = of(&url, "42501", message, hint);
            assert_eq!(kind, Refused);
            assert!(text.contains(remedy), "{}", text);
            assert!(!text.contains("grant"), "{}", text);
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
            ("40P01", Unavailable),
            ("25006", Unavailable),
            ("42501", Refused),
            ("23505", Failed),
        ] {
            assert_eq!(of(&url, code, "why", "").0, kind, "{code}");
        }
    }

    #[test]
    fn a_database_that_is_missing_or_closed_is_named_whatever_the_language() {
        let url = DatabaseUrl::parse("host=h user=u dbname=d").unwrap();
        for (code, message, remedy) in [
            (
                "3D000",
                "database \"d\" does not exist",
                "CREATE DATABASE \"d\"",
            ),
            (
                "55000",
                "database \"d\" is not currently accepting connections",
                "ALTER DATABASE \"d\" ALLOW_CONNECTIONS true",
            ),
            (
                "55000",
                "Datenbank „d“ akzeptiert gegenwärtig keine Verbindungen",
                "ALLOW_CONNECTIONS true",
            ),
            (
                "55000",
                "la base de données «\u{a0}d\u{a0}» n'accepte pas les connexions",
                "ALLOW_CONNECTIONS true",
            ),
        ] {
            let (kind, text) = of(&url, code, message, "");
            assert_eq!(kind, Refused, "{message}");
            assert!(text.contains(remedy), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_a_library_to_install_or_data_to_restore() {
        let url = DatabaseUrl::parse("host=h user=u dbname=d").unwrap();
        for (message, remedy) in [
            (
                "could not access file \"auto_explane\": No such file or directory",
                "undo the setting that names it",
            ),
            (
                "could not access file \"$libdir/plugins/x\": No such file or directory",
                "install the library $libdir/plugins/x",
            ),
            (
                "could not open file \"base/16384/16397\": No such file or directory",
                "restore it from a backup",
            ),
        ] {
            let (kind, text) = of(&url, "58P01", message, "");
            assert_eq!(kind, Refused, "{message}");
            assert!(text.contains(remedy), "{text}");
        }
    }
}
