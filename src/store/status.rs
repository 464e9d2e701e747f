//! What an operator asks first: who is active, and how far everybody is. Read from the views with nothing but the
//! database URL, so it also answers when no server runs.

mod report;

use std::fmt;

use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use super::encryption;
use super::error::{Error, Fault};
use super::fence::NO_ROW;
use super::holders;
use super::identifier::quoted;
use super::source::Source;

pub use super::encryption::{EncryptionReport, KeyInUse};
pub use report::{
    Active, Channel, Client, Condition, Counts, Durable, LastTakeover, Report, Roles, Standby,
    Unreadable,
};

/// Lists longer than this are cut; the counts are not.
pub const ROWS_MAX: i64 = 1000;

/// A part of a report. Where another transaction holds a lock on it, the rest is shown without it.
macro_rules! part {
    ($on:ident, $unread:ident, $what:literal, $read:expr) => {{
        $on.execute("SAVEPOINT part").await?;
        match $read.await {
            Err(fault) if fault.is_lock() => {
                $on.execute("ROLLBACK TO SAVEPOINT part").await?;
                $unread.push($what);
                Default::default()
            }
            read => read?,
        }
    }};
}

pub(super) async fn roles(connection: &mut PgConnection, schema: &str) -> Result<Roles, Fault> {
    ensure_tables(connection, schema).await?;
    Ok(Roles {
        active: rows(connection, ACTIVE, active).await?.pop(),
        standbys: rows(connection, STANDBYS, standby).await?,
    })
}

/// Sends the payloads to every session of this database that listens on the channel.
pub(super) async fn notify(
    connection: &mut PgConnection,
    channel: &str,
    payloads: &[String],
) -> Result<(), Fault> {
    for payload in payloads {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(channel)
            .bind(payload)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn read(connection: &mut PgConnection, schema: &str) -> Result<Report, Fault> {
    ensure_tables(connection, schema).await?;
    let mut transaction = connection.begin().await?;
    transaction
        .execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await?;
    let mut unread = Vec::new();
    let on = &mut transaction;
    let known = part!(on, unread, "the cluster", cluster(on));
    let (cluster_id, serves) = known.unwrap_or_default();
    let mut conditions = part!(on, unread, "conditions", rows(on, CONDITIONS, condition));
    let held = holders::of_takeovers(&mut Source::Pool(&mut *on)).await?;
    if let Some(holder) = held
        && conditions.iter().all(|it| it.kind != TAKEOVER_BLOCKED)
    {
        conditions.push(Condition {
            kind: TAKEOVER_BLOCKED.to_owned(),
            reason: holder.keeps_takeovers_out(),
            since: None,
        });
    }
    let report = Report {
        cluster_id: cluster_id.unwrap_or_default(),
        schema: schema.to_owned(),
        serves,
        active: part!(on, unread, "the active", rows(on, ACTIVE, active)).pop(),
        standbys: part!(on, unread, "standbys", rows(on, STANDBYS, standby)),
        last_takeover: part!(on, unread, "takeovers", rows(on, TAKEOVER, last_takeover)).pop(),
        conditions,
        stranger: part!(on, unread, "strangers", rows(on, STRANGERS, stranger)).pop(),
        counts: part!(on, unread, "amounts", counts(on)),
        encryption: part!(on, unread, "encryption", encryption::report(on)),
        clients: part!(on, unread, "clients", rows(on, CLIENTS, client)),
        channels: part!(on, unread, "channels", rows(on, CHANNELS, channel)),
        durables: part!(on, unread, "durables", rows(on, DURABLES, durable)),
        unreadable: part!(
            on,
            unread,
            "unreadable messages",
            rows(on, UNREADABLE, unreadable)
        ),
        unread,
    };
    transaction.commit().await?;
    Ok(report)
}

/// As the servers call it.
const TAKEOVER_BLOCKED: &str = "takeover-blocked";

async fn cluster(
    connection: &mut PgConnection,
) -> Result<Option<(Option<String>, Option<Vec<String>>)>, Fault> {
    let row = sqlx::query("SELECT cluster_id, serves FROM cluster")
        .fetch_optional(connection)
        .await?;
    let row = row.ok_or_else(|| Error::Unavailable(NO_ROW.to_owned()))?;
    Ok(Some((row.try_get(0)?, row.try_get(1)?)))
}

pub(super) async fn ensure_tables(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<(), Fault> {
    let table = format!("{}.server_info", quoted(schema));
    let (known, is_replica): (bool, bool) =
        sqlx::query_as("SELECT to_regclass($1) IS NOT NULL, pg_is_in_recovery()")
            .bind(table)
            .fetch_one(&mut *connection)
            .await?;
    if is_replica {
        return Err(Error::Refused(
            "the database URL leads to a replica, which lags and does not know who holds the lock; lead it to the \
             primary"
                .to_owned(),
        )
        .into());
    }
    if !known {
        return Err(Error::Refused(format!(
            "schema {schema} holds no tables of a server; name the right one with --schema, or start \
             a server once"
        ))
        .into());
    }
    Ok(())
}

async fn rows<T>(
    connection: &mut PgConnection,
    query: &'static str,
    read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, Fault> {
    let query = format!("{query} LIMIT {ROWS_MAX}");
    let rows = sqlx::query(AssertSqlSafe(query))
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// A time as ISO 8601 text in UTC, to the millisecond.
macro_rules! iso {
    ($column:literal) => {
        concat!(
            "to_char(",
            $column,
            " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        )
    };
}

const ACTIVE: &str = concat!(
    // What an operator has emptied by hand.
    "SELECT epoch, holder, coalesce(host, ''), coalesce(pid, 0), coalesce(",
    iso!("since"),
    ", ''), holds_lock FROM active"
);

fn active(row: &PgRow) -> Result<Active, sqlx::Error> {
    Ok(Active {
        epoch: row.try_get(0)?,
        holder: row.try_get(1)?,
        host: row.try_get(2)?,
        pid: row.try_get(3)?,
        since: row.try_get(4)?,
        holds_lock: row.try_get(5)?,
    })
}

const STANDBYS: &str = concat!(
    "SELECT application_name, host(client_addr), ",
    iso!("connected_since"),
    " FROM standbys ORDER BY connected_since"
);

fn standby(row: &PgRow) -> Result<Standby, sqlx::Error> {
    Ok(Standby {
        name: row.try_get(0)?,
        address: row.try_get(1)?,
        connected_since: row.try_get(2)?,
    })
}

const TAKEOVER: &str = concat!(
    "SELECT epoch, ",
    iso!("at"),
    ", from_holder, to_holder, cause, detail, (extract(epoch FROM silence) * 1000)::bigint, answered_from_memory
    FROM takeovers WHERE epoch = (SELECT max(epoch) FROM takeovers)"
);

fn last_takeover(row: &PgRow) -> Result<LastTakeover, sqlx::Error> {
    Ok(LastTakeover {
        epoch: row.try_get(0)?,
        at: row.try_get(1)?,
        from: row.try_get(2)?,
        to: row.try_get(3)?,
        cause: row.try_get(4)?,
        detail: row.try_get(5)?,
        silence_ms: row.try_get(6)?,
        answered_from_memory: row.try_get(7)?,
    })
}

const CONDITIONS: &str = concat!(
    "SELECT kind, reason, ",
    iso!("since"),
    " FROM conditions ORDER BY kind"
);

fn condition(row: &PgRow) -> Result<Condition, sqlx::Error> {
    Ok(Condition {
        kind: row.try_get(0)?,
        reason: row.try_get(1)?,
        since: row.try_get(2)?,
    })
}

/// A session that holds the lock without being a server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stranger {
    /// The process ID of the backend, for `pg_terminate_backend`.
    pub pid: i32,
    pub role: Option<String>,
    pub application_name: Option<String>,
    pub connected_since: Option<String>,
}

const STRANGERS: &str = concat!(
    "SELECT pid, role, application_name, ",
    iso!("connected_since"),
    " FROM lock_holders WHERE NOT is_server"
);

fn stranger(row: &PgRow) -> Result<Stranger, sqlx::Error> {
    Ok(Stranger {
        pid: row.try_get(0)?,
        role: row.try_get(1)?,
        application_name: row.try_get(2)?,
        connected_since: row.try_get(3)?,
    })
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the lock is held by session {} of role {:?} (application {:?}), which is no server: no server can become \
             active; end it with SELECT pg_terminate_backend({})",
            self.pid,
            self.role.as_deref().unwrap_or_default(),
            self.application_name.as_deref().unwrap_or_default(),
            self.pid
        )
    }
}

pub(super) async fn find_stranger(
    connection: &mut PgConnection,
) -> Result<Option<Stranger>, Fault> {
    Ok(rows(connection, STRANGERS, stranger).await?.pop())
}

async fn counts(connection: &mut PgConnection) -> Result<Counts, Fault> {
    let row = sqlx::query(
        "SELECT c.clients, h.channels, c.subscriptions, c.durables, h.messages, h.bytes
         FROM cluster c, (
             SELECT count(*) AS channels, coalesce(sum(message_count), 0)::bigint AS messages,
                 coalesce(sum(byte_count), 0)::bigint AS bytes
             FROM channels WHERE NOT deleting
         ) h",
    )
    .fetch_one(connection)
    .await?;
    Ok(Counts {
        clients: row.try_get(0)?,
        channels: row.try_get(1)?,
        subscriptions: row.try_get(2)?,
        durables: row.try_get(3)?,
        messages: row.try_get(4)?,
        bytes: row.try_get(5)?,
    })
}

const CLIENTS: &str = concat!(
    "SELECT client_id, status, ",
    iso!("connected_at"),
    ", ",
    iso!("last_heartbeat_at"),
    ", missed_heartbeats, subscriptions FROM client_status ORDER BY missed_heartbeats DESC, client_id"
);

fn client(row: &PgRow) -> Result<Client, sqlx::Error> {
    Ok(Client {
        client_id: row.try_get(0)?,
        status: row.try_get(1)?,
        connected_at: row.try_get(2)?,
        last_heartbeat_at: row.try_get(3)?,
        missed_heartbeats: row.try_get(4)?,
        subscriptions: row.try_get(5)?,
    })
}

const CHANNELS: &str = concat!(
    "SELECT name, status, first_sequence, last_sequence, message_count, byte_count, subscriptions,
        furthest_behind, ",
    iso!("last_published_at"),
    " FROM channel_status ORDER BY furthest_behind DESC, name, channel_id"
);

fn channel(row: &PgRow) -> Result<Channel, sqlx::Error> {
    Ok(Channel {
        name: row.try_get(0)?,
        status: row.try_get(1)?,
        first_sequence: row.try_get(2)?,
        last_sequence: row.try_get(3)?,
        messages: row.try_get(4)?,
        bytes: row.try_get(5)?,
        subscriptions: row.try_get(6)?,
        furthest_behind: row.try_get(7)?,
        last_published_at: row.try_get(8)?,
    })
}

const DURABLES: &str =
    "SELECT channel, durable_name, queue_group, clients, members, status, last_sent,
        acked_floor, unacked, lag, unsent, round(extract(epoch FROM behind), 3)::float8, why
    FROM durables ORDER BY status IN ('stalled', 'paused') DESC, lag DESC, channel, durable_name";

fn durable(row: &PgRow) -> Result<Durable, sqlx::Error> {
    Ok(Durable {
        channel: row.try_get(0)?,
        durable_name: row.try_get(1)?,
        queue_group: row.try_get(2)?,
        clients: row.try_get(3)?,
        members: row.try_get(4)?,
        status: row.try_get(5)?,
        last_sent: row.try_get(6)?,
        acked_floor: row.try_get(7)?,
        unacked: row.try_get(8)?,
        lag: row.try_get(9)?,
        unsent: row.try_get(10)?,
        behind_seconds: row.try_get(11)?,
        why: row.try_get(12)?,
    })
}

const UNREADABLE: &str = concat!(
    "SELECT c.name, u.sequence, u.why, ",
    iso!("u.noticed_at"),
    " FROM unreadable_messages u JOIN channels c USING (channel_id)
    WHERE u.sequence >= c.first_sequence ORDER BY c.name, u.sequence"
);

fn unreadable(row: &PgRow) -> Result<Unreadable, sqlx::Error> {
    Ok(Unreadable {
        channel: row.try_get(0)?,
        sequence: row.try_get(1)?,
        why: row.try_get(2)?,
        noticed_at: row.try_get(3)?,
    })
}
