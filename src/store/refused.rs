//! What Postgres refuses to store: made out of its errors, and kept in `refused_writes` for people and for the next term.

use tokio_postgres::Client;
use tokio_postgres::error::{DbError, Severity};

use super::error::Error;
use super::identifier::identifier;
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::core::refusal::{self, Refusal};
use crate::postgres::room;

/// Clients get this.
const REASON_BYTES_MAX: usize = 500;

/// `None` for an error that passes, or of a connection.
pub(super) fn refusal(part: &'static str, error: &tokio_postgres::Error) -> Option<Refusal> {
    let error = error.as_db_error()?;
    let sqlstate = error.code().code();
    let is_out_of_room = room::is_out(error);
    if refusal::passes(sqlstate) && !is_out_of_room && !is_of_what_is_written(error) {
        return None;
    }
    let named = named_in(error.message()).or_else(|| error.where_().and_then(named_in));
    let table = error.table().or(named).unwrap_or(part);
    let rule = error.constraint().or(error.column()).unwrap_or_default();
    // Other details show whole rows, what clients published among it.
    let detail = error.detail().filter(|_| sqlstate == "23505");
    let mut reason = error.message().to_owned();
    if let Some(detail) = detail {
        reason.push_str(": ");
        reason.push_str(detail);
    }
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Some(Refusal {
        part,
        table: table.to_owned(),
        sqlstate: sqlstate.to_owned(),
        rule: rule.to_owned(),
        reason,
        remedy: if is_out_of_room {
            "free space on the database's disk".to_owned()
        } else {
            remedy(error, table, rule)
        },
        is_out_of_room,
    })
}

/// For an error that passes elsewhere: whether it comes from what is written, and not from Postgres or its session. A trigger that asks
/// another server raises what that one says, or that it is away; one that takes too long is cancelled like a statement that hangs.
fn is_of_what_is_written(error: &DbError) -> bool {
    let sqlstate = error.code().code();
    let is_of_session = error.parsed_severity() != Some(Severity::Error);
    if is_of_session {
        return false;
    }
    let is_of_connections = ["08", "28", "57P"]
        .iter()
        .any(|class| sqlstate.starts_with(class));
    // In whatever language: where a function or a row was at work, it is named.
    is_of_connections
        || refusal::waits_for_others(sqlstate)
        || error.where_().is_some_and(|at| !at.is_empty())
}

/// The table that a sentence of Postgres names, in whatever language, where the error names none by itself.
fn named_in(message: &str) -> Option<&str> {
    let mut quoted = message.split('"').skip(1).step_by(2);
    quoted.find(|name| OURS.contains(name))
}

/// What batches write.
const OURS: [&str; 24] = [
    "messages",
    "channels",
    "channel_updates",
    "clients",
    "positions",
    "subscriptions",
    "server_info",
    "dropped_guids",
    "closed_connections",
    "lost_ranges",
    "unreadable_messages",
    "outbox",
    "outbox_refused",
    "message_ids",
    "deleted_channels",
    "pending_acks",
    "delivery_counts",
    "dead_letters",
    "dropped_messages",
    "position_acks",
    "position_holders",
    "paused_positions",
    "set_limits",
    "admin_requests",
];

/// The tables that a part of a batch writes, where its name is not that of one.
fn tables_of(part: &str) -> &str {
    match part {
        "outbox" => "outbox, outbox_refused or message_ids",
        "acks in SQL" => "pending_acks",
        "progress" => "positions, position_acks or position_holders",
        "delivery counts" => "delivery_counts",
        "dead letters" => "dead_letters",
        "dropped messages" => "dropped_messages",
        "messages trimmed" => "messages, gone_ranges or dropped_guids",
        "lost ranges" => "lost_ranges",
        "unreadable messages" => "unreadable_messages",
        "requests" => "admin_requests",
        "limits" => "set_limits",
        "paused" => "paused_positions",
        other => other,
    }
}

/// Rows that somebody else took away, or kept a statement from writing.
pub(super) fn miscount(part: &'static str, expected: usize, found: u64) -> Refusal {
    Refusal {
        part,
        table: part.to_owned(),
        reason: format!(
            "{found} rows instead of {expected} were written; another session changed the tables, or a trigger dropped rows"
        ),
        remedy: "look for triggers and rules on the table, and for rows that were deleted by hand"
            .to_owned(),
        ..Refusal::default()
    }
}

/// Whether the servers rely on it that what they write is unique by this.
fn is_our_key(error: &DbError, rule: &str) -> bool {
    const OURS: [&str; 3] = ["channels_name", "pending_acks_once", "policies_once"];
    let is_primary = |table| rule.strip_suffix("_pkey") == Some(table);
    OURS.contains(&rule) || error.table().is_none_or(is_primary)
}

/// The statement for a rule that may be either: Postgres does not say which.
fn drop_index(schema: Option<&str>, rule: &str) -> String {
    let schema = schema.map(|schema| format!("{}.", identifier(schema)));
    let rule = identifier(rule);
    let index = format!("{}{rule}", schema.unwrap_or_default());
    format!(
        "DROP INDEX {index}, or, where it is a constraint, ALTER TABLE … DROP CONSTRAINT {rule}"
    )
}

/// What is too large is an index row in these files of Postgres, and ours hold no payload. Elsewhere it is something else, such as
/// the last transaction number before a wraparound.
const OF_INDEXES: [&str; 7] = ["nbt", "gin", "gist", "spg", "brin", "hash", "indextuple"];

/// A limit of Postgres itself: `file` is where Postgres has found it.
fn limit_reached(
    file: Option<&str>,
    message: &str,
    hint: Option<&str>,
    schema: Option<&str>,
    table: &str,
) -> String {
    let file = file.map(|path| path.rsplit('/').next().unwrap_or(path));
    let is_index = file.is_some_and(|file| OF_INDEXES.iter().any(|start| file.starts_with(start)));
    // In whatever language.
    match message.split('"').nth(1).filter(|_| is_index) {
        Some(index) => format!(
            "{index} on {table} is not of stanby: {}",
            drop_index(schema, index)
        ),
        None if is_index => {
            format!("look for an index on {table} that stanby did not make, and drop it")
        }
        None => hint.map_or_else(
            || "this is a limit of Postgres: its log says more".to_owned(),
            |hint| hint.replace('\n', " "),
        ),
    }
}

/// In place of a table, where the end of a transaction is refused, which only deferred rules and triggers do.
const COMMITTED: &str = "COMMIT";

const DEFERRED: &str = "look for deferred constraints and constraint triggers that stanby did not make: SELECT tgrelid::regclass, tgname FROM \
    pg_trigger WHERE tgdeferrable";

fn remedy(error: &DbError, table: &str, rule: &str) -> String {
    let schema = error.schema();
    let table = match schema {
        Some(schema) => format!("{schema}.{table}"),
        None => tables_of(table).to_owned(),
    };
    match error.code().code() {
        "23514" | "23P01" | "23503" if !rule.is_empty() => {
            format!("ALTER TABLE {table} DROP CONSTRAINT {}", identifier(rule))
        }
        "23502" if !rule.is_empty() => {
            format!("ALTER TABLE {table} ALTER COLUMN {rule} DROP NOT NULL, or give it a default")
        }
        "23505" if is_our_key(error, rule) => {
            format!("a row in {table} that no server wrote is in the way: delete it")
        }
        "23505" if !rule.is_empty() => format!(
            "{rule} on {table} is not of stanby, and forbids what clients may do: {}",
            drop_index(schema, rule)
        ),
        "54000" => limit_reached(error.file(), error.message(), error.hint(), schema, &table),
        "42501" if error.where_().is_none_or(str::is_empty) => {
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA … to the servers' role"
                .to_owned()
        }
        code if refusal::passes(code) && table != COMMITTED => format!(
            "look for triggers on {table} that stanby did not make: what they do takes too long, or fails elsewhere"
        ),
        "55000" => {
            format!("ALTER TABLE {table} REPLICA IDENTITY FULL, or take it out of the publication")
        }
        // Other sentences with this code have no detail.
        "42P10" if let Some(detail) = error.detail() => format!(
            "leave {table} out of the publication, or publish all of its columns and rows: {detail}"
        ),
        "XX001" | "XX002" => format!("REINDEX TABLE {table}; check the disk of Postgres"),
        "22P05" | "22021" => "the database's encoding lacks characters that clients use".to_owned(),
        code if code.starts_with("42") && code != "42501" && table != COMMITTED => {
            format!("{table} is not as stanby made it: take back what was changed by hand")
        }
        _ if table == COMMITTED => DEFERRED.to_owned(),
        _ => format!("look for constraints and triggers on {table} that stanby did not make"),
    }
}

/// True when something was refused within the last hour: the term is to take care.
pub async fn is_recent(client: &Client, url: &DatabaseUrl) -> Result<bool, Error> {
    let found = client.query_typed_one(RECENT, &[]).await;
    match found.and_then(|row| row.try_get(0)) {
        Ok(found) => Ok(found),
        Err(error) if error.as_db_error().is_some() && !client.is_closed() => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "what was refused before cannot be read");
            Ok(true)
        }
        Err(error) => Err(DatabaseError::of_session(url, &error).into()),
    }
}

const RECENT: &str = "SELECT EXISTS (SELECT FROM refused_writes WHERE last_at > clock_timestamp() - interval '1 hour')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_index_whose_row_is_too_large_is_to_be_dropped() {
        let remedy = |file, message, hint| {
            limit_reached(Some(file), message, hint, Some("stanby"), "stanby.messages")
        };
        let index = "index row size 2712 exceeds btree version 4 maximum 2704 for index \"mine\"";
        let text = remedy("nbtutils.c", index, Some("Values larger than …"));
        assert!(text.contains("DROP INDEX stanby.mine"), "{text}");

        let unnamed = "index row requires 8208 bytes, maximum size is 8191";
        let text = remedy("indextuple.c", unnamed, None);
        assert!(
            text.contains("look for an index on stanby.messages"),
            "{text}"
        );

        let wraparound = "database is not accepting commands that assign new XIDs to avoid wraparound data loss in database \"app\"";
        let hint = "Execute a database-wide VACUUM in that database.\nYou might also need …";
        let text = remedy("varsup.c", wraparound, Some(hint));
        assert_eq!(
            text,
            "Execute a database-wide VACUUM in that database. You might also need …"
        );
    }
}
