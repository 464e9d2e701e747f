//! What `stanby bench` asks Postgres: how much WAL was written, what is stored, and how fast the same Postgres takes
//! rows without a server in front of it. It writes to a table of its own only, which [`Measure::close`] drops.

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

use super::error::{Error, Fault};
use super::identifier::quoted;
use super::writer::insert_messages_into;
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::postgres::bridge::Bridge;
use crate::postgres::pooler;

const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// Counting millions of rows takes its time.
const STATEMENT_LIMIT: Duration = Duration::from_mins(10);

/// One connection for everything.
#[derive(Debug)]
pub struct Measure {
    connection: PgConnection,
    /// Carries the connection.
    _bridge: Bridge,
    url: DatabaseUrl,
    schema: String,
    /// The scratch table and the statement that fills it.
    scratch: Option<(String, String)>,
}

/// Rows of some channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub rows: u64,
    /// Different publishes among them.
    pub distinct: u64,
    /// Sequences that were given out, for rows too that a limit has dropped since.
    pub sequences: u64,
    /// Transactions that wrote the rows.
    pub commits: u64,
}

/// A batch for the scratch table; its rows go to channel 1 from `first` on.
#[derive(Debug)]
pub struct Rows<'a> {
    pub first: i64,
    pub client_id: &'a [&'a str],
    pub guid: &'a [&'a str],
    pub reply: &'a [&'a str],
    pub data: &'a [&'a [u8]],
}

impl Measure {
    pub async fn connect(url: &DatabaseUrl, schema: &str) -> Result<Self, Error> {
        if pooler::is_between(url, LOOK_LIMIT).await? {
            return Err(Error::Pooler(pooler::sentence(url)));
        }
        let bridge = Bridge::open(url);
        let options = bridge.options().application_name("stanby/bench");
        let connected = tokio::time::timeout(url.connect_timeout(), options.connect()).await;
        let connected = connected.map_err(|_| DatabaseError::of_timeout(url, "connecting"))?;
        let connection = connected.map_err(|error| DatabaseError::of_pool(url, &error))?;
        let mut measure = Self {
            connection,
            _bridge: bridge,
            url: url.clone(),
            schema: schema.to_owned(),
            scratch: None,
        };
        let settings = format!(
            "SET search_path = {}; SET statement_timeout = {}; SET synchronous_commit = on; SET jit = off",
            quoted(schema),
            STATEMENT_LIMIT.as_millis()
        );
        let set = measure.connection.execute(AssertSqlSafe(settings)).await;
        set.map_err(|error| measure.to_error(error))?;
        measure.ensure_tables().await?;
        Ok(measure)
    }

    async fn ensure_tables(&mut self) -> Result<(), Error> {
        let known = sqlx::query_scalar("SELECT to_regclass('messages') IS NOT NULL")
            .fetch_one(&mut self.connection)
            .await;
        if known.map_err(|error| self.to_error(error))? {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "schema {} holds no tables of a server; name the right one with --schema, or start a server once",
            self.schema
        )))
    }

    /// The process at the other end of the connection.
    pub async fn backend_pid(&mut self) -> Result<i32, Error> {
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut self.connection)
            .await;
        pid.map_err(|error| self.to_error(error))
    }

    /// Process and host of the active, if there is one.
    pub async fn active(&mut self) -> Result<Option<(Option<i32>, Option<String>)>, Error> {
        let active = sqlx::query_as("SELECT pid, host FROM active WHERE holds_lock")
            .fetch_optional(&mut self.connection)
            .await;
        active.map_err(|error| self.to_error(error))
    }

    /// Version and the settings that decide what a commit is worth.
    pub async fn settings(&mut self) -> Result<Vec<(String, String)>, Error> {
        let settings = sqlx::query_as(
            "SELECT name, setting FROM pg_settings
             WHERE name IN ('server_version', 'fsync', 'full_page_writes', 'wal_sync_method', 'shared_buffers',
                 'max_wal_size', 'synchronous_standby_names', 'wal_compression', 'data_checksums')
             ORDER BY name",
        )
        .fetch_all(&mut self.connection)
        .await;
        settings.map_err(|error| self.to_error(error))
    }

    /// Bytes of WAL since the beginning of the cluster, whoever wrote them.
    pub async fn wal_bytes(&mut self) -> Result<u64, Error> {
        let bytes: Result<i64, _> =
            sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8")
                .fetch_one(&mut self.connection)
                .await;
        bytes.map(count).map_err(|error| self.to_error(error))
    }

    pub async fn stored(&mut self, channels: &[String]) -> Result<Stored, Error> {
        let row: Result<(i64, i64, i64, i64), _> = sqlx::query_as(
            "SELECT count(*), count(DISTINCT (client_id, guid)),
                (SELECT coalesce(sum(last_sequence), 0)::int8 FROM current_channels WHERE name = ANY($1) AND NOT deleting),
                count(DISTINCT m.xmin::text)
             FROM messages m JOIN channels c USING (channel_id)
             WHERE c.name = ANY($1) AND NOT c.deleting",
        )
        .bind(channels)
        .fetch_one(&mut self.connection)
        .await;
        let (rows, distinct, sequences, commits) = row.map_err(|error| self.to_error(error))?;
        Ok(Stored {
            rows: count(rows),
            distinct: count(distinct),
            sequences: count(sequences),
            commits: count(commits),
        })
    }

    /// Makes a table like `messages`, empty.
    pub async fn make_scratch(&mut self) -> Result<(), Error> {
        let name = quoted(&format!("bench_scratch_{}", self.backend_pid().await?));
        let statement = format!("CREATE TABLE {name} (LIKE messages INCLUDING ALL)");
        let made = self.connection.execute(AssertSqlSafe(statement)).await;
        made.map_err(|error| self.to_error(error))?;
        self.scratch = Some((name.clone(), insert_messages_into(&name)));
        Ok(())
    }

    /// Commits the rows as one batch of a server does.
    ///
    /// # Panics
    /// Without a scratch table.
    pub async fn insert(&mut self, rows: &Rows<'_>) -> Result<(), Error> {
        let (_, statement) = self.scratch.as_ref().expect("make_scratch comes first");
        let many = rows.data.len();
        let last = i64::try_from(many).unwrap_or(i64::MAX);
        let sequences: Vec<i64> = (rows.first..rows.first.saturating_add(last)).collect();
        let inserted = sqlx::query(AssertSqlSafe(statement.clone()))
            .bind(1_i64)
            .bind(vec![1_i64; many])
            .bind(sequences)
            .bind(vec![1_600_000_000_000_000_000_i64; many])
            .bind(rows.client_id)
            .bind(rows.guid)
            .bind(rows.reply)
            .bind(rows.data)
            .bind(false)
            .execute(&mut self.connection)
            .await;
        inserted.map(drop).map_err(|error| self.to_error(error))
    }

    /// Drops the scratch table.
    pub async fn close(mut self) -> Result<(), Error> {
        if let Some((name, _)) = self.scratch.take() {
            let statement = format!("DROP TABLE IF EXISTS {name}");
            let dropped = self.connection.execute(AssertSqlSafe(statement)).await;
            dropped.map_err(|error| self.to_error(error))?;
        }
        // What was asked has been answered.
        self.connection.close().await.ok();
        Ok(())
    }

    fn to_error(&self, error: sqlx::Error) -> Error {
        Fault::from(error).into_error(&self.url)
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
