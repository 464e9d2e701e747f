//! A session on the database that a former server kept its tables in. Statements are written as Postgres takes them, with
//! names as that server's scripts spell them: `MySQL` distinguishes upper and lower case in names of tables.

use std::fmt;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::mysql::{
    MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode,
};
use sqlx::postgres::PgRow;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, PgConnection, Row as _,
};
use tokio::time::timeout;

use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::config::mysql::{self, MySqlUrl, Tls};
use crate::config::secret::Secret;
use crate::postgres::bridge::Bridge;
use crate::postgres::pooler;
use crate::store::error::Error;
use crate::store::identifier::quoted;

/// To `MySQL`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the former tables are.
#[derive(Clone, Debug)]
pub enum FormerTables {
    Postgres {
        url: Box<DatabaseUrl>,
        schema: String,
    },
    MySql(Box<MySqlUrl>),
}

#[derive(Debug)]
pub(super) struct Connection {
    session: Session,
    place: FormerTables,
}

#[derive(Debug)]
enum Session {
    Postgres {
        connection: Box<PgConnection>,
        /// Carries the connection.
        _bridge: Box<Bridge>,
    },
    MySql(Box<MySqlConnection>),
}

/// What a column of a new row gets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Number(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// Parameters of one statement, and bytes of them: `MySQL` takes 65,535, and by default no packet above 16 MiB.
const PARAMETERS_MAX: usize = 5000;
const PACKET_BYTES: usize = 4 << 20;

/// A row of either.
pub(super) enum Cells {
    Postgres(PgRow),
    MySql(MySqlRow),
}

impl FormerTables {
    /// What holds the tables, in the words of that database.
    pub(super) fn holder(&self) -> String {
        match self {
            Self::Postgres { schema, .. } => format!("schema {schema}"),
            Self::MySql(url) => format!("database {}", url.database),
        }
    }

    pub(super) fn lacks(&self, table: &str) -> Error {
        Error::Refused(match self {
            Self::Postgres { url, schema } => format!(
                "database {} has no table {schema}.{table}: these are not the tables of nats-streaming-server; name the \
                 right database with --from and their schema with --from-schema",
                url.database()
            ),
            Self::MySql(url) => format!(
                "database {} has no table {table}: these are not the tables of nats-streaming-server; name the right \
                 database with --from, and a user who may read its tables",
                url.database
            ),
        })
    }

    fn to_error(&self, error: &sqlx::Error) -> Error {
        match self {
            Self::Postgres { url, .. } => DatabaseError::of_pool(url, error).into(),
            Self::MySql(url) => of_mysql(url, error),
        }
    }
}

/// Without passwords.
impl fmt::Display for FormerTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres { url, schema } => write!(f, "{url}, schema {schema}"),
            Self::MySql(url) => write!(f, "{url}"),
        }
    }
}

impl Connection {
    pub(super) async fn open(place: &FormerTables) -> Result<Self, Error> {
        let (session, settings) = match place {
            FormerTables::Postgres { url, schema } => {
                if pooler::is_between(url, CONNECT_TIMEOUT).await? {
                    return Err(Error::Pooler(pooler::sentence(url)));
                }
                let bridge = Bridge::open(url);
                let options = bridge.options().application_name("stanby/import");
                let connected = timeout(url.connect_timeout(), options.connect()).await;
                let connected =
                    connected.map_err(|_| DatabaseError::of_timeout(url, "connecting"))?;
                let session = Session::Postgres {
                    connection: Box::new(connected.map_err(|error| place.to_error(&error))?),
                    _bridge: Box::new(bridge),
                };
                // Between two reads it may be silent for as long as writing takes. What may not be seen is an error, never a row
                // less.
                let settings = format!(
                    "SET search_path = {}; SET statement_timeout = 0; SET lock_timeout = '10s'; SET jit = off;
                     SET idle_in_transaction_session_timeout = 0; SET row_security = off",
                    quoted(schema)
                );
                (session, settings)
            }
            FormerTables::MySql(url) => {
                let connected = timeout(CONNECT_TIMEOUT, options(url).connect()).await;
                let connected = connected.map_err(|_| {
                    let why = "did not answer in time (connecting)";
                    Error::Unavailable(format!("MySQL at {} {why}", url.address))
                })?;
                let connection = connected.map_err(|error| place.to_error(&error))?;
                let settings = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;
                    SET SESSION wait_timeout = 86400, SESSION net_write_timeout = 86400";
                (Session::MySql(Box::new(connection)), settings.to_owned())
            }
        };
        let mut opened = Self {
            session,
            place: place.clone(),
        };
        opened.execute(&settings).await?;
        Ok(opened)
    }

    /// Statements that give no rows.
    pub(super) async fn execute(&mut self, statements: &str) -> Result<(), Error> {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        let done = match &mut self.session {
            Session::Postgres { connection, .. } => {
                statements.execute(&mut **connection).await.map(drop)
            }
            Session::MySql(connection) => statements.execute(&mut **connection).await.map(drop),
        };
        done.map_err(|error| self.place.to_error(&error))
    }

    /// From here on everything is read as of one moment.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        let begin = match &self.session {
            Session::Postgres { .. } => {
                "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
            }
            Session::MySql(_) => "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        };
        self.execute(begin).await
    }

    /// `$1` and `$2`, where they are, stand for the arguments, in this order.
    pub(super) fn rows(
        &mut self,
        statement: &'static str,
        arguments: &[i64],
    ) -> BoxStream<'_, Result<Cells, Error>> {
        let Self { session, place } = self;
        match session {
            Session::Postgres { connection, .. } => {
                let mut query = sqlx::query(statement);
                for argument in arguments {
                    query = query.bind(*argument);
                }
                let rows = query.fetch(&mut **connection).map_ok(Cells::Postgres);
                rows.map_err(|error| place.to_error(&error)).boxed()
            }
            Session::MySql(connection) => {
                let mut query = sqlx::query(AssertSqlSafe(for_mysql(statement)));
                for argument in arguments {
                    query = query.bind(*argument);
                }
                let rows = query.fetch(&mut **connection).map_ok(Cells::MySql);
                rows.map_err(|error| place.to_error(&error)).boxed()
            }
        }
    }

    /// Rows for a table; `columns` is its name and theirs, as in `Clients (id, proto)`.
    pub(super) async fn insert(
        &mut self,
        columns: &'static str,
        rows: &[Vec<Cell<'_>>],
    ) -> Result<(), Error> {
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let (mut taken, mut bytes) = (1, size(first));
            while let Some(next) = rest.get(taken) {
                bytes += size(next);
                if bytes > PACKET_BYTES || (taken + 1) * next.len() > PARAMETERS_MAX {
                    break;
                }
                taken += 1;
            }
            let (some, left) = rest.split_at(taken);
            self.insert_at_once(columns, some).await?;
            rest = left;
        }
        Ok(())
    }

    async fn insert_at_once(
        &mut self,
        columns: &'static str,
        rows: &[Vec<Cell<'_>>],
    ) -> Result<(), Error> {
        let Self { session, place } = self;
        let cells = rows.iter().flatten();
        let width = rows.first().map_or(0, Vec::len);
        let done = match session {
            Session::Postgres { connection, .. } => {
                let values = (0..rows.len()).map(|row| {
                    let cells = (1..=width).map(|column| format!("${}", row * width + column));
                    format!("({})", cells.collect::<Vec<_>>().join(", "))
                });
                let values = values.collect::<Vec<_>>().join(", ");
                let mut query = sqlx::query(AssertSqlSafe(format!(
                    "INSERT INTO {columns} VALUES {values}"
                )));
                for cell in cells {
                    query = match *cell {
                        Cell::Number(number) => query.bind(number),
                        Cell::Text(text) => query.bind(text),
                        Cell::Bytes(bytes) => query.bind(bytes),
                    };
                }
                query.execute(&mut **connection).await.map(drop)
            }
            Session::MySql(connection) => {
                let row = format!("({})", vec!["?"; width].join(", "));
                let values = vec![row; rows.len()].join(", ");
                let text = format!("INSERT INTO {columns} VALUES {values}");
                let mut query = sqlx::query(AssertSqlSafe(for_mysql(&text)));
                for cell in cells {
                    query = match *cell {
                        Cell::Number(number) => query.bind(number),
                        Cell::Text(text) => query.bind(text),
                        Cell::Bytes(bytes) => query.bind(bytes),
                    };
                }
                query.execute(&mut **connection).await.map(drop)
            }
        };
        done.map_err(|error| place.to_error(&error))
    }

    pub(super) async fn first(&mut self, statement: &'static str) -> Result<Option<Cells>, Error> {
        let mut rows = self.rows(statement, &[]);
        let first = rows.try_next().await?;
        // What is left would come before the next answer.
        while rows.try_next().await?.is_some() {}
        Ok(first)
    }

    /// Those of `tables`, in lower case, that exist.
    pub(super) async fn tables(&mut self, tables: &[&str]) -> Result<Vec<String>, Error> {
        if let Session::Postgres { connection, .. } = &mut self.session
            && let FormerTables::Postgres { schema, .. } = &self.place
        {
            let query = sqlx::query_scalar::<_, String>(
                "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = $1 AND c.relname = ANY ($2)",
            );
            let found = query
                .bind(schema)
                .bind(tables)
                .fetch_all(&mut **connection)
                .await;
            return found.map_err(|error| self.place.to_error(&error));
        }
        let all = "SELECT lower(table_name) FROM information_schema.tables WHERE table_schema = database()";
        let mut rows = self.rows(all, &[]);
        let mut names = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let name = row.text(0)?;
            if tables.contains(&name) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    pub(super) fn place(&self) -> &FormerTables {
        &self.place
    }

    pub(super) async fn close(self) {
        // It has nothing to lose.
        match self.session {
            Session::Postgres { connection, .. } => connection.close().await.ok(),
            Session::MySql(connection) => connection.close().await.ok(),
        };
    }
}

impl Cells {
    /// Statements cast what they select; `MySQL` would tell of its signs all the same.
    pub(super) fn number(&self, column: usize) -> Result<i64, Error> {
        let number = match self {
            Self::Postgres(row) => row.try_get(column),
            Self::MySql(row) => row.try_get_unchecked(column),
        };
        number.map_err(|error| unexpected(&error))
    }

    /// The former server stores unsigned numbers, on Postgres in signed columns.
    pub(super) fn unsigned(&self, column: usize) -> Result<u64, Error> {
        let number = self.number(column)?;
        u64::try_from(number).map_err(|_| {
            let name = match self {
                Self::Postgres(row) => row.columns()[column].name(),
                Self::MySql(row) => row.columns()[column].name(),
            };
            Error::Refused(format!(
                "a number in column {name:?} of the former tables is {number}"
            ))
        })
    }

    pub(super) fn bytes_or_none(&self, column: usize) -> Result<Option<&[u8]>, Error> {
        let bytes = match self {
            Self::Postgres(row) => row.try_get_unchecked(column),
            Self::MySql(row) => row.try_get_unchecked(column),
        };
        bytes.map_err(|error| unexpected(&error))
    }

    /// Empty where there is nothing.
    pub(super) fn bytes(&self, column: usize) -> Result<&[u8], Error> {
        Ok(self.bytes_or_none(column)?.unwrap_or_default())
    }

    pub(super) fn text(&self, column: usize) -> Result<&str, Error> {
        std::str::from_utf8(self.bytes(column)?)
            .map_err(|_| Error::Refused("a text in the former tables is not UTF-8".to_owned()))
    }
}

fn unexpected(error: &sqlx::Error) -> Error {
    Error::Refused(format!(
        "a column of the former tables has another type than nats-streaming-server gave it: {error}"
    ))
}

fn options(url: &MySqlUrl) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        .username(&url.user)
        .database(&url.database)
        .ssl_mode(match url.tls {
            Tls::Disabled => MySqlSslMode::Disabled,
            Tls::Preferred => MySqlSslMode::Preferred,
            Tls::Required => MySqlSslMode::Required,
            Tls::VerifyCa => MySqlSslMode::VerifyCa,
            Tls::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        });
    options = match &url.address {
        mysql::Address::Tcp { host, port } => options.host(host).port(*port),
        mysql::Address::Unix(path) => options.socket(path),
    };
    if let Some(password) = &url.password {
        options = options.password(Secret::expose(password));
    }
    if let Some(ca) = &url.ca {
        options = options.ssl_ca(ca);
    }
    options
}

/// Bytes of a row on its way.
fn size(row: &[Cell<'_>]) -> usize {
    let cells = row.iter().map(|cell| match cell {
        Cell::Number(_) => 8,
        Cell::Text(text) => text.len(),
        Cell::Bytes(bytes) => bytes.len(),
    });
    cells.sum()
}

fn for_mysql(statement: &str) -> String {
    statement
        .replace(" AS BIGINT)", " AS SIGNED)")
        .replace("\"row\"", "`row`")
        .replace("$1", "?")
        .replace("$2", "?")
}

fn of_mysql(url: &MySqlUrl, error: &sqlx::Error) -> Error {
    let place = &url.address;
    let sqlx::Error::Database(refusal) = error else {
        let text = format!("MySQL at {place}: {error}");
        return if matches!(error, sqlx::Error::Tls(_)) {
            Error::Refused(format!(
                "{text}; ssl-mode and ssl-ca in the URL say how TLS is spoken and whom it trusts"
            ))
        } else if matches!(error, sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed) {
            Error::Unavailable(text)
        } else {
            Error::Refused(text)
        };
    };
    let number = refusal
        .try_downcast_ref::<MySqlDatabaseError>()
        .map_or(0, MySqlDatabaseError::number);
    let text = format!("MySQL at {place}: {}", refusal.message());
    match number {
        // ER_DBACCESS_DENIED, ER_ACCESS_DENIED, ER_BAD_DB, ER_TABLEACCESS_DENIED, ER_COLUMNACCESS_DENIED
        1044 | 1045 | 1049 | 1142 | 1143 | 1698 => Error::Refused(format!(
            "{text}; check user, password and database in the URL, and that {} may read the tables",
            url.user
        )),
        // ER_CON_COUNT, ER_SERVER_SHUTDOWN, ER_LOCK_WAIT_TIMEOUT, ER_QUERY_INTERRUPTED
        1040 | 1053 | 1205 | 1317 => Error::Unavailable(text),
        _ => Error::Refused(format!("{text} (error {number})")),
    }
}
