//! Brings a schema to the version of this server: `migrations/*.sql`, compiled in. A schema that is newer than
//! the server is left as it is, and worked with only where it says that this server can.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, SqlSafeStr};

use super::error::{Error, Fault};
use super::reader::quoted;

/// In order; a file that has landed is never edited, because servers of two versions share the tables.
const MIGRATIONS: [(i64, &str, &str); 5] = [
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
];

const VERSIONS_TABLE: &str = "schema_versions";

/// How long one server waits for another one that is migrating.
const LOCK_TIMEOUT_MS: u32 = 120_000;

pub(super) async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<(), Fault> {
    if is_current(connection, schema).await? {
        return Ok(());
    }
    // Of this session, so it is freed when the server dies half way.
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
    if is_current(connection, schema).await? {
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
    let migrations = MIGRATIONS.map(|(version, description, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(
            version,
            Cow::Borrowed(description),
            kind,
            sql.into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.to_vec());
    // Its own lock is one per database; ours is one per schema.
    migrator.set_locking(false);
    migrator.dangerous_set_table_name(VERSIONS_TABLE);
    migrator
        .run(connection)
        .await
        .map_err(|error| told(error, schema))
}

async fn is_current(connection: &mut PgConnection, schema: &str) -> Result<bool, Fault> {
    let table = format!("{}.{VERSIONS_TABLE}", quoted(schema));
    // Looked up without CREATE … IF NOT EXISTS, which asks for the right to create even when there is nothing to.
    if !exists(connection, "SELECT to_regclass($1) IS NOT NULL", &table).await? {
        return Ok(false);
    }
    let applied: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT version FROM {table} WHERE success"
    )))
    .fetch_all(&mut *connection)
    .await?;
    let known = MIGRATIONS[MIGRATIONS.len() - 1].0;
    if let Some(newest) = applied.iter().max().filter(|&&newest| newest > known) {
        if oldest_server(connection, schema).await? <= known {
            tracing::info!(
                schema,
                newest,
                known,
                "a newer server has migrated the tables; this one can work with them"
            );
            return Ok(true);
        }
        return Err(Error::Refused(format!(
            "schema {schema} has version {newest}, this server knows versions up to {known}: a newer \
             server has migrated it; run that version, or name another schema"
        ))
        .into());
    }
    Ok(MIGRATIONS
        .iter()
        .all(|(version, ..)| applied.contains(version)))
}

/// The oldest version whose servers can work on the tables; the newest there is where the tables do not tell.
async fn oldest_server(connection: &mut PgConnection, schema: &str) -> Result<i64, Fault> {
    let table = format!("{}.schema_compatibility", quoted(schema));
    if !exists(connection, "SELECT to_regclass($1) IS NOT NULL", &table).await? {
        return Ok(i64::MAX);
    }
    let question = format!("SELECT coalesce(max(oldest_server), 0) FROM {table}");
    Ok(sqlx::query(AssertSqlSafe(question))
        .fetch_one(connection)
        .await?
        .try_get(0)?)
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

fn told(error: MigrateError, schema: &str) -> Fault {
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
