//! Cleans up after limits that drop messages as fast as they come. Postgres looks only once a minute whether a table
//! wants to be vacuumed, and in that time the dead rows of a busy channel take gigabytes.

use sqlx::{PgConnection, Row};

use super::error::Fault;
use crate::core::vacuum::Dead;

/// Who owns the table may vacuum it; since Postgres 17 there is a right to it, which older ones do not know by name.
const DEAD: &str = "SELECT s.n_dead_tup, s.n_live_tup, pg_has_role(c.relowner, 'USAGE')
        OR CASE WHEN current_setting('server_version_num')::integer >= 170000
            THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END AS may_vacuum
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    WHERE s.relid = 'messages'::regclass";

/// Ten times as fast as autovacuum by its defaults, and still with pauses for others.
const PACE: &str = "SET statement_timeout = 0; SET lock_timeout = '10s'; SET vacuum_cost_delay = 2; SET vacuum_cost_limit = 2000";

/// What somebody else vacuums is passed over. Giving pages back would lock out the writer.
const VACUUM: &str = "VACUUM (SKIP_LOCKED, TRUNCATE false, PARALLEL 0) messages, dropped_guids, channels, positions, outbox, message_ids, pending_acks";

/// Rows of `channel_updates` live for a second, and what they hold stands in the table behind it: 20 MB of it. A scan of what is
/// vacuumed so often is short.
const UPDATES_DUE: &str =
    "SELECT coalesce(sum(s.n_dead_tup), 0) >= 10000 AND (pg_has_role(c.relowner, 'USAGE')
        OR CASE WHEN current_setting('server_version_num')::integer >= 170000
            THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END)
    FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid IN (c.oid, c.reltoastrelid)
    WHERE c.oid = 'channel_updates'::regclass GROUP BY c.oid, c.relowner";

const VACUUM_UPDATES: &str = "VACUUM (SKIP_LOCKED, TRUNCATE false, PARALLEL 0) channel_updates";

/// Whether [`vacuum_updates`] is worth it, and may be done.
pub(super) async fn updates_due(connection: &mut PgConnection) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(UPDATES_DUE)
        .fetch_one(connection)
        .await?)
}

/// Changes the connection's settings for good.
pub(super) async fn vacuum_updates(connection: &mut PgConnection) -> Result<(), Fault> {
    sqlx::raw_sql(PACE).execute(&mut *connection).await?;
    sqlx::raw_sql(VACUUM_UPDATES).execute(connection).await?;
    Ok(())
}

/// Dead and live rows of `messages`.
pub(super) async fn dead(connection: &mut PgConnection) -> Result<Dead, Fault> {
    let row = sqlx::query(DEAD).fetch_one(connection).await?;
    let count = |name| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
    Ok(Dead {
        dead: count("n_dead_tup")?,
        live: count("n_live_tup")?,
        may_vacuum: row.try_get("may_vacuum")?,
    })
}

/// Changes the connection's settings for good.
pub(super) async fn vacuum(connection: &mut PgConnection) -> Result<(), Fault> {
    sqlx::raw_sql(PACE).execute(&mut *connection).await?;
    sqlx::raw_sql(VACUUM).execute(connection).await?;
    Ok(())
}
