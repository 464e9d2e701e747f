//! Brings a schema to the version of this server: `migrations/*.sql`, compiled in. A schema that is newer than
//! the server is left as it is, and worked with only where it says that this server can.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, SqlSafeStr};

use super::error::{Error, Fault};
use super::identifier::quoted;
use super::rights::{self, MissingRight};
use super::version::SchemaVersion;
use crate::core::refusal::waits_for_others;

/// In order; a file that has landed is never edited, because servers of two versions share the tables.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "schema",
        include_str!("../../migrations/0001_schema.sql"),
    ),
    (
        2,
        "dropped guids",
        include_str!("../../migrations/0002_dropped_guids.sql"),
    ),
    (
        3,
        "unreadable messages",
        include_str!("../../migrations/0003_unreadable_messages.sql"),
    ),
    (
        4,
        "compatibility",
        include_str!("../../migrations/0004_compatibility.sql"),
    ),
    (
        5,
        "lost ranges",
        include_str!("../../migrations/0005_lost_ranges.sql"),
    ),
    (
        6,
        "encryption",
        include_str!("../../migrations/0006_encryption.sql"),
    ),
    (
        7,
        "partitions",
        include_str!("../../migrations/0007_partitions.sql"),
    ),
    (
        8,
        "plain guids",
        include_str!("../../migrations/0008_plain_guids.sql"),
    ),
    (
        9,
        "ack secret",
        include_str!("../../migrations/0009_ack_secret.sql"),
    ),
    (
        10,
        "closed connections",
        include_str!("../../migrations/0010_closed_connections.sql"),
    ),
    (
        11,
        "told columns",
        include_str!("../../migrations/0011_told_columns.sql"),
    ),
    (
        12,
        "conditions",
        include_str!("../../migrations/0012_conditions.sql"),
    ),
    (
        15,
        "ends of terms",
        include_str!("../../migrations/0015_ends_of_terms.sql"),
    ),
    (
        18,
        "dropped publishes",
        include_str!("../../migrations/0018_dropped_publishes.sql"),
    ),
    (
        19,
        "readers",
        include_str!("../../migrations/0019_readers.sql"),
    ),
    (
        21,
        "gone ranges",
        include_str!("../../migrations/0021_gone_ranges.sql"),
    ),
    (
        22,
        "progress in pages",
        include_str!("../../migrations/0022_progress_in_pages.sql"),
    ),
    (
        40,
        "imports",
        include_str!("../../migrations/0040_imports.sql"),
    ),
    (
        41,
        "fed channels",
        include_str!("../../migrations/0041_fed_channels.sql"),
    ),
    (
        50,
        "outbox",
        include_str!("../../migrations/0050_outbox.sql"),
    ),
    (
        51,
        "acks in SQL",
        include_str!("../../migrations/0051_acks_in_sql.sql"),
    ),
    (
        52,
        "policies",
        include_str!("../../migrations/0052_policies.sql"),
    ),
    (
        55,
        "administration",
        include_str!("../../migrations/0055_administration.sql"),
    ),
    (
        58,
        "views that answer",
        include_str!("../../migrations/0058_views_that_answer.sql"),
    ),
    (
        59,
        "dead letter verbs",
        include_str!("../../migrations/0059_dead_letter_verbs.sql"),
    ),
    (
        60,
        "policies shown",
        include_str!("../../migrations/0060_policies_shown.sql"),
    ),
    (
        61,
        "channel grants",
        include_str!("../../migrations/0061_channel_grants.sql"),
    ),
    (
        67,
        "server settings",
        include_str!("../../migrations/0067_server_settings.sql"),
    ),
    (
        68,
        "acks_and_dead_letters",
        include_str!("../../migrations/0068_acks_and_dead_letters.sql"),
    ),
    (
        75,
        "moved positions",
        include_str!("../../migrations/0075_moved_positions.sql"),
    ),
    (
        79,
        "dropped guids by time",
        include_str!("../../migrations/0079_dropped_guids_by_time.sql"),
    ),
    (
        81,
        "standbys between waits",
        include_str!("../../migrations/0081_standbys_between_waits.sql"),
    ),
    (
        82,
        "clear refusals in SQL",
        include_str!("../../migrations/0082_clear_refusals_in_sql.sql"),
    ),
    (
        83,
        "why a durable waits",
        include_str!("../../migrations/0083_why_a_durable_waits.sql"),
    ),
    (
        86,
        "literals in functions",
        include_str!("../../migrations/0086_literals_in_functions.sql"),
    ),
    (
        87,
        "what a policy waits for",
        include_str!("../../migrations/0087_what_a_policy_waits_for.sql"),
    ),
    (
        88,
        "refusals and dead letters",
        include_str!("../../migrations/0088_refusals_and_dead_letters.sql"),
    ),
    (
        89,
        "rates of young channels",
        include_str!("../../migrations/0089_rates_of_young_channels.sql"),
    ),
    (
        90,
        "a hint for missing rights",
        include_str!("../../migrations/0090_a_hint_for_missing_rights.sql"),
    ),
    (
        91,
        "clear comments",
        include_str!("../../migrations/0091_clear_comments.sql"),
    ),
    (
        92,
        "what stops others in SQL",
        include_str!("../../migrations/0092_what_stops_others_in_sql.sql"),
    ),
    (
        93,
        "clear rights in SQL",
        include_str!("../../migrations/0093_clear_rights_in_sql.sql"),
    ),
    (
        94,
        "channel updates",
        include_str!("../../migrations/0094_channel_updates.sql"),
    ),
];

/// What a server of this version works on.
pub const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

pub(super) const VERSIONS_TABLE: &str = "schema_versions";
pub(super) const COMPATIBILITY_TABLE: &str = "schema_compatibility";

/// How long one server waits for another one that is migrating.
const LOCK_TIMEOUT_MS: u32 = 120_000;

/// A migration that does not get a lock is tried so often, with a pause for those who wait behind it.
const LOCK_TRIES: u32 = 30;
const LOCK_PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<(), Fault> {
    let Some(version) = wanting(connection, schema).await? else {
        return Ok(());
    };
    ensure_allowed(connection, schema, version).await?;
    // A lock of this session, so that it is freed when the server dies half way.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "SET lock_timeout = {LOCK_TIMEOUT_MS}; SET statement_timeout = 0"
    )))
    .execute(&mut *connection)
    .await?;
    let key = "hashtextextended('stanby migrations of ' || $1, 0)";
    sqlx::query(AssertSqlSafe(format!("SELECT pg_advisory_lock({key})")))
        .bind(schema)
        .execute(&mut *connection)
        .await?;
    let migrated = run_pending(connection, schema).await;
    sqlx::query(AssertSqlSafe(format!("SELECT pg_advisory_unlock({key})")))
        .bind(schema)
        .execute(&mut *connection)
        .await?;
    migrated
}

async fn run_pending(connection: &mut PgConnection, schema: &str) -> Result<(), Fault> {
    // Another server may have done it while this one waited.
    if wanting(connection, schema).await?.is_none() {
        return Ok(());
    }
    if !exists(
        connection,
        "SELECT to_regnamespace($1) IS NOT NULL",
        &quoted(schema),
    )
    .await?
    {
        let create = format!("CREATE SCHEMA {}", quoted(schema));
        connection.execute(AssertSqlSafe(create)).await?;
    }
    let migrations = MIGRATIONS.iter().map(|&(version, description, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(
            version,
            Cow::Borrowed(description),
            kind,
            sql.into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // Its own lock is one per database; ours is one per schema.
    migrator.set_locking(false);
    migrator.dangerous_set_table_name(VERSIONS_TABLE);
    for _ in 1..LOCK_TRIES {
        match migrator.run(&mut *connection).await {
            Err(error) if is_locked_out(&error) => {
                tracing::warn!(
                    schema,
                    "a lock of the tables holds up their migration (a dump, VACUUM, or a transaction that has published and is open?); trying again"
                );
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            done => {
                done.map_err(|error| to_fault(error, schema))?;
                return grant_to_readers(connection).await;
            }
        }
    }
    let done = migrator.run(&mut *connection).await;
    done.map_err(|error| to_fault(error, schema))?;
    grant_to_readers(connection).await
}

/// Grants rights to what the migrations made, too.
async fn grant_to_readers(connection: &mut PgConnection) -> Result<(), Fault> {
    connection.execute("SELECT grant_to_readers()").await?;
    Ok(())
}

/// A migration gives up soon where a lock of its own would hold up the active.
fn is_locked_out(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| waits_for_others(&code))
}

/// `None` where the tables need no change.
async fn wanting(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Option<SchemaVersion>, Fault> {
    let version = SchemaVersion::read(connection, schema).await?;
    match version {
        SchemaVersion::Current => Ok(None),
        SchemaVersion::Newer {
            version: newest,
            is_usable: true,
        } => {
            tracing::info!(
                schema,
                newest,
                known = NEWEST,
                "a newer server has migrated the tables; this one can work with them"
            );
            Ok(None)
        }
        SchemaVersion::Newer {
            is_usable: false, ..
        } => Err(Error::Refused(format!("schema {schema} {version}")).into()),
        SchemaVersion::Empty | SchemaVersion::Older { .. } => Ok(Some(version)),
    }
}

/// True when nothing is left to do.
pub(super) fn is_known(applied: &[i64]) -> bool {
    MIGRATIONS
        .iter()
        .all(|(version, ..)| applied.contains(version))
}

/// Names of the tables, views and functions that the migrations make: others may have made more.
pub(super) fn objects() -> Vec<&'static str> {
    let made = made(&["TABLE ", "VIEW ", "FUNCTION "]);
    made.chain([VERSIONS_TABLE]).collect()
}

/// The same of triggers.
pub(super) fn triggers() -> Vec<&'static str> {
    made(&["TRIGGER "]).collect()
}

fn made(kinds: &[&'static str]) -> impl Iterator<Item = &'static str> {
    let lines = MIGRATIONS.iter().flat_map(|(_, _, sql)| sql.lines());
    lines.filter_map(move |line| {
        let made = line.strip_prefix("CREATE ")?;
        let name = kinds.iter().find_map(|kind| made.strip_prefix(kind))?;
        name.split([' ', '(']).next()
    })
}

/// Says what is missing before anything is tried: Postgres would only say "permission denied".
async fn ensure_allowed(
    connection: &mut PgConnection,
    schema: &str,
    version: SchemaVersion,
) -> Result<(), Fault> {
    let Some(MissingRight { what, remedy }) =
        rights::to_migrate(connection, schema, version).await?
    else {
        return Ok(());
    };
    let role: String = sqlx::query_scalar("SELECT session_user::text")
        .fetch_one(connection)
        .await?;
    Err(Error::Refused(format!(
        "schema {schema} {version}, and role {role} {what} (permission denied): {remedy}"
    ))
    .into())
}

async fn exists(
    connection: &mut PgConnection,
    question: &'static str,
    name: &str,
) -> Result<bool, Fault> {
    Ok(sqlx::query(question)
        .bind(name)
        .fetch_one(connection)
        .await?
        .try_get(0)?)
}

fn to_fault(error: MigrateError, schema: &str) -> Fault {
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        return error.into();
    }
    let remedy = if matches!(error, MigrateError::VersionMismatch(_)) {
        ": it was made by another build of the server; run that one, or name another schema"
    } else {
        ""
    };
    Error::Refused(format!(
        "schema {schema} cannot be migrated: {error}{remedy}"
    ))
    .into()
}
