//! Cleans up after limits that drop messages as fast as they come. Postgres looks only once a minute whether a table
//! wants to be vacuumed, and in that time the dead rows of a busy channel take gigabytes.

use sqlx::{PgConnection, Row};

use super::error::Fault;
use crate::core::vacuum::Dead;

/// Who owns the table may vacuum it.
const DEAD: &str = "SELECT s.n_dead_tup, s.n_live_tup, pg_has_role(c.relowner, 'USAGE') AS is_owner
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    WHERE s.relid = 'messages'::regclass";

/// Ten times as fast as autovacuum by its defaults, and still with pauses for others.
const PACE: &str =
    "SET statement_timeout = 0; SET vacuum_cost_delay = 2; SET vacuum_cost_limit = 2000";

/// What somebody else vacuums is passed over. Giving pages back would lock out the writer.
const VACUUM: &str =
    "VACUUM (SKIP_LOCKED, TRUNCATE false, PARALLEL 0) messages, dropped_guids, channels, positions";

/// Of `messages`; `None` when the role may not vacuum it.
pub(super) async fn dead(connection: &mut PgConnection) -> Result<Option<Dead>, Fault> {
    let row = sqlx::query(DEAD).fetch_one(connection).await?;
    let count = |name| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
    let dead = Dead {
        dead: count("n_dead_tup")?,
        live: count("n_live_tup")?,
    };
    Ok(row.try_get::<bool, _>("is_owner")?.then_some(dead))
}

/// Changes the connection's settings for good.
pub(super) async fn vacuum(connection: &mut PgConnection) -> Result<(), Fault> {
    sqlx::raw_sql(PACE).execute(&mut *connection).await?;
    sqlx::raw_sql(VACUUM).execute(connection).await?;
    Ok(())
}
