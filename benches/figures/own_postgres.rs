//! The Postgres that figures are measured on: it syncs to disk as in production.

use anyhow::ensure;
use sqlx::{Connection, PgConnection};
use stanby::dev::postgres::Postgres;

const TOLD: [&str; 4] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
];

/// Its settings in a line: those above, and `more`. Refuses a Postgres that does not sync each commit to disk: its figures
/// would mean nothing.
pub(crate) async fn settings(postgres: &Postgres, more: &[&str]) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    let mut text = String::from("Postgres:");
    for &name in TOLD.iter().chain(more) {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        let syncs = name != "fsync" && name != "synchronous_commit" || value == "on";
        ensure!(syncs, "{name} is {value}");
        text.extend([" ", name, "=", &value]);
    }
    connection.close().await?;
    Ok(text)
}

/// Makes a database; its URL.
pub(crate) async fn database(postgres: &Postgres, name: &str) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    let statement = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(postgres.url_of(name))
}
