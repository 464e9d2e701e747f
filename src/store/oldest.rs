//! Who keeps Postgres from cleaning up. An old snapshot makes every row that is rewritten leave its former versions behind,
//! and each commit then walks over them.

use super::error::Fault;
use super::source::Source;

/// The oldest snapshot that counts for this database, whoever holds it: a transaction, a prepared one, a replication slot, a
/// replica that reports its own. A transaction that has written counts while it is open, whether it looks at anything or not;
/// a `VACUUM` does not, however long it takes. What a role may not see of others is left out.
const OLDEST: &str = "SELECT held.who, coalesce(held.seconds, 0)::bigint AS seconds, (
            SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables
            WHERE relid IN ('channels'::regclass, 'positions'::regclass, 'clients'::regclass, 'messages'::regclass)
        ) AS dead
    FROM (
        SELECT format('process %s (%s) of role %s, %s', pid,
                coalesce(nullif(application_name, ''), nullif(backend_type, 'client backend'), 'without a name'),
                coalesce(usename::text, 'none'), coalesce(state, 'unknown')) AS who,
            extract(epoch FROM clock_timestamp() - xact_start) AS seconds,
            greatest(age(backend_xmin), age(backend_xid)) AS age
        FROM pg_stat_activity a
        WHERE coalesce(backend_xmin, backend_xid) IS NOT NULL AND pid <> pg_backend_pid()
            AND backend_type NOT IN ('walsender', 'parallel worker') AND datname = current_database()
            AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
        UNION ALL
        SELECT format('prepared transaction %L of role %s', gid, owner),
            extract(epoch FROM clock_timestamp() - prepared), age(transaction)
        FROM pg_prepared_xacts WHERE database = current_database()
        UNION ALL
        SELECT format('replication slot %s', slot_name), NULL, age(xmin)
        FROM pg_replication_slots WHERE xmin IS NOT NULL
        UNION ALL
        SELECT format('replica %s (process %s), by hot_standby_feedback', application_name, pid), NULL, age(backend_xmin)
        FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
    ) held
    ORDER BY held.age DESC, held.seconds DESC NULLS LAST LIMIT 1";

/// A snapshot, and what has gathered behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oldest {
    /// In words.
    pub who: String,
    /// 0 where Postgres does not tell.
    pub seconds: u64,
    /// Dead rows of the tables that are rewritten all the time.
    pub dead: u64,
}

pub(super) async fn read(source: &mut Source<'_>) -> Result<Option<Oldest>, Fault> {
    let Some(row) = source.all(OLDEST, &[]).await?.pop() else {
        return Ok(None);
    };
    Ok(Some(Oldest {
        who: row.get("who")?,
        seconds: row.get::<i64>("seconds")?.try_into().unwrap_or(0),
        dead: row.get::<i64>("dead")?.try_into().unwrap_or(0),
    }))
}
