//! Who holds locks on the tables of the schema that somebody waits for: a forgotten transaction, a prepared one, `VACUUM FULL`,
//! an index that is built. Looks into Postgres' own tables alone, so that no lock keeps it from answering.

/// What a takeover reads: nobody can become active while one of these is locked as a whole (`ACCESS EXCLUSIVE`).
pub const READ_BY_TAKEOVERS: &[&str] = &[
    "messages",
    "channels",
    "channel_updates",
    "server_info",
    "clients",
    "positions",
    "moved_positions",
    "position_acks",
    "position_holders",
    "subscriptions",
    "paused_positions",
    "gone_ranges",
    "dropped_guids",
    "closed_connections",
    "pending_acks",
    "policies",
    "set_limits",
    "delivery_counts",
    "leadership",
    "term_keys",
    "encryption_keys",
];

/// Locks that writers wait for, or that come with rows that were changed or locked; one row, of who is most likely in the way.
/// $1: the tables in question, which come first. $2: [`READ_BY_TAKEOVERS`]. $3: only who keeps takeovers from beginning, and has
/// for more than a second.
pub const HOLDERS: &str = "SELECT l.pid, coalesce(a.usename::text, p.owner::text, '') AS role,
        coalesce(a.application_name, '') AS application, coalesce(a.state, '') AS state,
        to_char(coalesce(a.xact_start, p.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC' AS since,
        p.gid AS prepared, string_agg(DISTINCT c.relname || ' (' || l.mode || CASE WHEN l.granted THEN '' ELSE ', waited for' END || ')', ', ')
            AS holds,
        -- Of all holders. What a takeover reads, only the last of these modes keeps from being read.
        bool_or(bool_or(c.relname IN ('messages', 'channels', 'channel_updates') AND l.mode NOT IN ('RowShareLock', 'RowExclusiveLock')
            OR l.mode = 'AccessExclusiveLock' AND c.relname = ANY ($2::text[]))) OVER () AS locks_all
    FROM pg_locks l
    JOIN pg_class c ON c.oid = l.relation AND c.relkind = 'r' AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN LATERAL (
        -- Until Postgres restarts it goes by the virtual number of the session that it was prepared on.
        SELECT p.gid, p.owner, p.prepared FROM pg_locks own JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
        WHERE l.pid IS NULL AND own.pid IS NULL AND own.virtualtransaction = l.virtualtransaction
    ) p ON true
    -- Who waits for all of a table keeps everybody else waiting, too.
    WHERE (l.granted OR l.mode = 'AccessExclusiveLock') AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
        -- The first write of a term is to the row of leadership.
        AND (NOT $3::boolean OR (c.relname = 'leadership' OR l.mode = 'AccessExclusiveLock' AND c.relname = ANY ($2::text[]))
            AND coalesce(a.xact_start, p.prepared, '-infinity') < clock_timestamp() - interval '1 second')
    GROUP BY l.pid, a.usename, p.owner, a.application_name, a.state, a.xact_start, p.prepared, p.gid
    ORDER BY bool_or(c.relname = ANY ($1::text[])) DESC, bool_or(l.mode = 'AccessExclusiveLock') DESC,
        coalesce(a.xact_start, p.prepared) NULLS LAST
    LIMIT 1";

/// A row of [`HOLDERS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub pid: Option<i32>,
    pub role: String,
    pub application: String,
    pub state: String,
    pub since: Option<String>,
    pub prepared: Option<String>,
    pub holds: String,
    pub locks_all: bool,
}

/// Who holds what somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    who: String,
    pub remedy: String,
    /// Nothing can be published, or no other term can begin, while it is held.
    pub locks_all: bool,
}

impl From<Row> for LockHolder {
    fn from(row: Row) -> Self {
        let Row {
            role,
            application,
            state,
            holds,
            ..
        } = row;
        let since = row.since.as_deref().unwrap_or("an unknown time");
        let (who, remedy) = match (row.prepared, row.pid) {
            (Some(name), _) => (
                format!("the prepared transaction {name:?} of role {role:?}"),
                format!(
                    "COMMIT PREPARED or ROLLBACK PREPARED '{}'",
                    name.replace('\'', "''")
                ),
            ),
            (None, Some(pid)) => (
                format!("session {pid} of role {role:?} (application {application:?}, {state})"),
                format!("end its transaction, or the session: SELECT pg_terminate_backend({pid})"),
            ),
            (None, None) => (
                "a prepared transaction".to_owned(),
                "look at pg_prepared_xacts, and ROLLBACK PREPARED it".to_owned(),
            ),
        };
        Self {
            who: format!("{who}, open since {since}, holds {holds}"),
            remedy,
            locks_all: row.locks_all,
        }
    }
}

impl LockHolder {
    /// `waits`: what waits for it, as in "a commit".
    pub fn sentence(&self, waits: &str) -> String {
        format!(
            "another transaction holds a lock that {waits} needs: {}",
            self.who
        )
    }

    /// That it keeps every server from becoming active, with the remedy: in the same words wherever it is told.
    pub fn keeps_takeovers_out(&self) -> String {
        format!("{}; {}", self.sentence("a takeover"), self.remedy)
    }
}

/// The same where it is not known who: it has gone meanwhile, or this role may not see it.
pub fn nobody(tables: &str, waits: &str) -> (String, String) {
    (
        format!("another transaction held a lock on {tables} that {waits} needs"),
        "look at pg_locks and pg_stat_activity for who holds it".to_owned(),
    )
}

/// Waits until all that a takeover reads can be read, or fails for want of a lock. Several statements, so that they are a transaction
/// of their own: the locks go with it at once.
pub fn touch_all() -> String {
    let tables = READ_BY_TAKEOVERS.join(", ");
    format!("SELECT 1; LOCK TABLE {tables} IN ACCESS SHARE MODE")
}
