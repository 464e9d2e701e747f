//! What a session of ours never inherits: settings that a role, a database, a file or `ALTER SYSTEM` may give another
//! value, and that change what a statement means, what a commit is worth, or whether Postgres reports it. Each session
//! sets them for itself and reads them back; its own `SET` takes precedence over all of those, also before ones that come later.

use crate::config::database::DatabaseUrl;

/// As `pg_settings` names them and shows their values.
const PLAIN: [(&str, &str); 23] = [
    // First, for they hold for the rest of these.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    // Only a warning says that a commit did not wait for a replica.
    ("client_min_messages", "notice"),
    // What may not be seen is an error, never a row less.
    ("row_security", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("backslash_quote", "safe_encoding"),
    ("bytea_output", "hex"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("exit_on_error", "off"),
    ("quote_all_identifiers", "off"),
    ("check_function_bodies", "on"),
    ("plan_cache_mode", "auto"),
    ("jit", "off"),
];

/// Set only where none of the values is there yet, and to the first one: not every role may, and not every version has
/// them.
const SELECTIVE: [(&str, &[&str]); 7] = [
    ("synchronous_commit", &["on", "remote_apply"]),
    // Triggers and foreign keys act.
    ("session_replication_role", &["origin"]),
    // A damaged page is an error, not a page without rows.
    ("zero_damaged_pages", &["off"]),
    ("ignore_checksum_failure", &["off"]),
    // Others see by it whether a session does anything.
    ("track_activities", &["on"]),
    ("transaction_timeout", &["0"]),
    // Views of the schema can be read.
    ("restrict_nonsystem_relation_kind", &[""]),
];

/// Set where Postgres has them. What a session says means the same without them.
const PREFERRED: [(&str, &str); 1] = [
    // Twenty messages of a mebibyte of JSON are stored in a sixth of the time that pglz takes, and in 17 % more room.
    ("default_toast_compression", "lz4"),
];

/// Statements that set them all, and one query that reads them back as names and values: for [`ensure`]. Names are
/// looked up in `schema` and in Postgres' own, and nowhere before.
pub fn statements(schema: &str) -> String {
    let plain = PLAIN
        .iter()
        .map(|(name, value)| format!("SET {name} = '{value}'; "));
    let path = format!(
        "SET search_path = \"{}\", pg_temp; ",
        schema.replace('"', "\"\"")
    );
    let selective = SELECTIVE.iter().map(|(name, good)| {
        let (first, good) = (good[0], good.join("', '"));
        format!(
            "BEGIN
                IF pg_catalog.current_setting('{name}', true) NOT IN ('{good}') THEN
                    PERFORM pg_catalog.set_config('{name}', '{first}', false);
                END IF;
            EXCEPTION WHEN insufficient_privilege THEN NULL; END; "
        )
    });
    let preferred = PREFERRED.iter().map(|(name, value)| {
        format!(
            "BEGIN
                IF pg_catalog.current_setting('{name}', true) <> '{value}' THEN
                    PERFORM pg_catalog.set_config('{name}', '{value}', false);
                END IF;
            EXCEPTION WHEN invalid_parameter_value THEN NULL; END; "
        )
    });
    let names = PLAIN.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names
        .chain(SELECTIVE.iter().map(|(name, _)| *name))
        .collect();
    format!(
        "{}{path}DO $$ BEGIN {}{}END $$;
        SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('{}')",
        plain.collect::<String>(),
        selective.collect::<String>(),
        preferred.collect::<String>(),
        names.join("', '")
    )
}

/// Fails with a sentence where a setting is not what it was set to.
pub fn ensure<'a>(
    url: &DatabaseUrl,
    rows: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), PinError> {
    let rows: Vec<_> = rows.into_iter().collect();
    let found = |wanted: &str| {
        let row = rows.iter().find(|(name, _)| *name == wanted);
        row.map(|(_, value)| *value)
    };
    for (name, value) in PLAIN {
        let kept = found(name).unwrap_or_default();
        if kept != value {
            return Err(PinError::changed(url, name, kept, value));
        }
    }
    for (name, good) in SELECTIVE {
        let Some(kept) = found(name) else { continue };
        if !good.contains(&kept) {
            return Err(PinError::NotOurs {
                address: url.address().into(),
                name,
                kept: kept.into(),
                needed: good[0],
                user: url.user().into(),
                remedy: reset(url, name).into(),
            });
        }
    }
    Ok(())
}

/// How a setting is undone that is not the session's own.
pub fn reset(url: &DatabaseUrl, setting: &str) -> String {
    format!(
        "undo it where it is set: ALTER ROLE \"{}\" RESET {setting}, ALTER DATABASE \"{}\" RESET {setting}, or ALTER SYSTEM \
         RESET {setting} and SELECT pg_reload_conf()",
        url.user(),
        url.database()
    )
}

/// A session is not what it has to be before it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The session does not keep what was set.
    #[error(
        "Postgres at {address}: the session's setting {name} is {kept:?} although it was set to {value:?}: something between \
         the server and Postgres changes sessions; use Postgres' direct endpoint in the database URL"
    )]
    Changed {
        address: String,
        name: String,
        kept: String,
        value: String,
    },
    /// It is set elsewhere, and the role may not set it.
    #[error(
        "Postgres at {address}: setting {name} is {kept:?}, a server needs {needed:?}, and role {user} may not set it for its \
         session; {remedy}"
    )]
    NotOurs {
        address: Box<str>,
        name: &'static str,
        kept: Box<str>,
        needed: &'static str,
        user: Box<str>,
        remedy: Box<str>,
    },
}

impl PinError {
    pub fn changed(url: &DatabaseUrl, name: &str, kept: &str, value: &str) -> Self {
        Self::Changed {
            address: url.address(),
            name: name.to_owned(),
            kept: kept.to_owned(),
            value: value.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> DatabaseUrl {
        DatabaseUrl::parse("host=localhost user=u dbname=d").unwrap()
    }

    fn right() -> Vec<(&'static str, &'static str)> {
        let selective = SELECTIVE.iter().map(|(name, good)| (*name, good[0]));
        PLAIN.into_iter().chain(selective).collect()
    }

    #[test]
    fn a_setting_that_is_not_as_it_was_set_is_named_with_the_remedy() {
        assert_eq!(ensure(&url(), right()), Ok(()));

        for (name, value, parts) in [
            (
                "client_min_messages",
                "error",
                &["client_min_messages", "direct endpoint"][..],
            ),
            (
                "zero_damaged_pages",
                "on",
                &[
                    "ALTER ROLE \"u\" RESET zero_damaged_pages",
                    "DATABASE \"d\"",
                ],
            ),
            (
                "synchronous_commit",
                "local",
                &["synchronous_commit", "\"local\""],
            ),
        ] {
            let mut rows = right();
            rows.retain(|row| row.0 != name);
            rows.push((name, value));
            let error = ensure(&url(), rows).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn a_commit_that_waits_for_more_than_is_needed_is_left_alone() {
        let mut rows = right();
        rows.retain(|(name, _)| *name != "synchronous_commit" && *name != "transaction_timeout");
        rows.push(("synchronous_commit", "remote_apply"));
        assert_eq!(ensure(&url(), rows), Ok(()));
    }
}
