//! A `MariaDB` of a test's own, with the tables of a nats-streaming-server as its script for `MySQL` makes them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection, PgConnection};
use sqlx::{Row as _, postgres::PgRow};
use stanby::dev::guardian::Guardian;
use stanby::dev::process::{Process, StopSignals};

use crate::certificates::Signed;
use crate::pair::{LIMIT, free_port};
use crate::support::process::{Own, skip, temporary_directory};
use crate::support::wait::wait_until;

const TABLES: &str = "
    CREATE TABLE ServerInfo (uniquerow INTEGER DEFAULT 1, id VARCHAR(1024), proto BLOB, version INTEGER,
        PRIMARY KEY (uniquerow));
    CREATE TABLE Clients (id VARCHAR(1024), hbinbox TEXT, proto BLOB, PRIMARY KEY (id(256)));
    CREATE TABLE Channels (id INTEGER, name VARCHAR(1024) NOT NULL, maxseq BIGINT UNSIGNED DEFAULT 0,
        maxmsgs INTEGER DEFAULT 0, maxbytes BIGINT DEFAULT 0, maxage BIGINT DEFAULT 0,
        deleted BOOL DEFAULT FALSE, PRIMARY KEY (id), INDEX Idx_ChannelsName (name(256)));
    CREATE TABLE Messages (id INTEGER, seq BIGINT UNSIGNED, timestamp BIGINT, size INTEGER, data BLOB,
        CONSTRAINT PK_MsgKey PRIMARY KEY (id, seq), INDEX Idx_MsgsTimestamp (timestamp));
    CREATE TABLE Subscriptions (id INTEGER, subid BIGINT UNSIGNED, lastsent BIGINT UNSIGNED DEFAULT 0, proto BLOB,
        deleted BOOL DEFAULT FALSE, CONSTRAINT PK_SubKey PRIMARY KEY (id, subid));
    CREATE TABLE SubsPending (subid BIGINT UNSIGNED, `row` BIGINT UNSIGNED, seq BIGINT UNSIGNED DEFAULT 0,
        lastsent BIGINT UNSIGNED DEFAULT 0, pending BLOB, acks BLOB,
        CONSTRAINT PK_MsgPendingKey PRIMARY KEY (subid, `row`), INDEX Idx_SubsPendingSeq (seq));
    CREATE TABLE StoreLock (id VARCHAR(30), tick BIGINT UNSIGNED DEFAULT 0);";

#[derive(Debug)]
pub(crate) struct MariaDb {
    _process: Process,
    port: u16,
    socket: PathBuf,
}

/// `None` where it is not installed. `tls` is its certificate.
pub(crate) async fn own_server(tls: Option<&Signed>) -> Option<Own<MariaDb>> {
    let program = ["/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd"];
    let Some(program) = program.into_iter().find(|path| Path::new(path).exists()) else {
        skip("mariadbd is not installed (Debian's package mariadb-server)");
        return None;
    };
    let directory = temporary_directory();
    let guardian = Guardian::start(Some(directory.root())).unwrap();
    let data = directory.root().join("mariadb");
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap();
    let user = user.unwrap().name;
    let made = Command::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--user={user}"))
        // Two in processes of the same number would share their temporary tables.
        .env("TMPDIR", directory.root())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let (port, socket) = (free_port(), directory.root().join("mysql.sock"));
    let mut command = Command::new(program);
    command
        .args([
            "--no-defaults",
            "--bind-address=127.0.0.1",
            "--innodb-flush-log-at-trx-commit=0",
        ])
        .arg(format!("--port={port}"))
        .arg(format!("--user={user}"))
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", data.join("pid").display()));
    if let Some(tls) = tls {
        command
            .arg(format!("--ssl-cert={}", tls.certificate.display()))
            .arg(format!("--ssl-key={}", tls.key.display()));
    }
    let signals = StopSignals {
        first: Signal::SIGTERM,
        second: Signal::SIGKILL,
    };
    let process = Process::spawn("mariadb", command, &directory, signals, &guardian).unwrap();
    let server = MariaDb {
        _process: process,
        port,
        socket,
    };
    let mut admin = wait_until(LIMIT, async || {
        let admin = server.admin("mysql").connect().await;
        admin.map_err(|error| error.to_string())
    })
    .await;
    for statement in [
        "CREATE DATABASE stan",
        "CREATE USER 'stan'@'%' IDENTIFIED BY 'geheim@mysql'",
        "GRANT SELECT ON stan.* TO 'stan'@'%'",
        "DELETE FROM mysql.global_priv WHERE user = ''",
        "FLUSH PRIVILEGES",
    ] {
        sqlx::raw_sql(statement).execute(&mut admin).await.unwrap();
    }
    server.execute(TABLES).await;
    Some(Own::new(server, guardian, directory))
}

impl MariaDb {
    /// Of a user who may read only.
    pub(crate) fn url(&self) -> String {
        format!("mysql://stan:geheim%40mysql@127.0.0.1:{}/stan", self.port)
    }

    /// As the former server is told it.
    pub(crate) fn source(&self) -> String {
        format!(
            "stan:geheim@mysql@tcp(127.0.0.1:{})/stan?readTimeout=5s&writeTimeout=5s",
            self.port
        )
    }

    fn admin(&self, database: &str) -> MySqlConnectOptions {
        MySqlConnectOptions::new()
            .socket(&self.socket)
            .username("root")
            .database(database)
            .ssl_mode(MySqlSslMode::Disabled)
    }

    pub(crate) async fn connect(&self) -> MySqlConnection {
        self.admin("stan").connect().await.unwrap()
    }

    pub(crate) async fn execute(&self, statements: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    /// In place of what it holds, what the same tables in schema `public` of a Postgres do.
    pub(crate) async fn take(&self, database_url: &str) {
        let mut from = PgConnection::connect(database_url).await.unwrap();
        let mut to = self.connect().await;
        for (table, columns) in COLUMNS {
            let delete = format!("DELETE FROM {table}");
            sqlx::raw_sql(AssertSqlSafe(delete))
                .execute(&mut to)
                .await
                .unwrap();
            let read: Vec<String> = columns.iter().map(Column::read).collect();
            let read = format!("SELECT {} FROM public.{table}", read.join(", "));
            let rows = sqlx::query(AssertSqlSafe(read))
                .fetch_all(&mut from)
                .await
                .unwrap();
            let names: Vec<String> = columns
                .iter()
                .map(|it| format!("`{}`", it.name()))
                .collect();
            let insert = format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                names.join(", "),
                vec!["?"; columns.len()].join(", ")
            );
            for row in rows {
                let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
                for (index, column) in columns.iter().enumerate() {
                    query = column.bind(query, &row, index);
                }
                query.execute(&mut to).await.unwrap();
            }
        }
    }
}

enum Column {
    Number(&'static str),
    Text(&'static str),
    Bytes(&'static str),
}

use Column::{Bytes, Number, Text};

const COLUMNS: [(&str, &[Column]); 7] = [
    (
        "ServerInfo",
        &[
            Number("uniquerow"),
            Text("id"),
            Bytes("proto"),
            Number("version"),
        ],
    ),
    ("Clients", &[Text("id"), Text("hbinbox"), Bytes("proto")]),
    (
        "Channels",
        &[
            Number("id"),
            Text("name"),
            Number("maxseq"),
            Number("deleted"),
        ],
    ),
    (
        "Messages",
        &[
            Number("id"),
            Number("seq"),
            Number("timestamp"),
            Number("size"),
            Bytes("data"),
        ],
    ),
    (
        "Subscriptions",
        &[
            Number("id"),
            Number("subid"),
            Number("lastsent"),
            Bytes("proto"),
            Number("deleted"),
        ],
    ),
    (
        "SubsPending",
        &[
            Number("subid"),
            Number("row"),
            Number("seq"),
            Number("lastsent"),
            Bytes("pending"),
            Bytes("acks"),
        ],
    ),
    ("StoreLock", &[Text("id"), Number("tick")]),
];

type Query<'q> = sqlx::query::Query<'q, sqlx::MySql, sqlx::mysql::MySqlArguments>;

impl Column {
    fn name(&self) -> &'static str {
        match self {
            Number(name) | Text(name) | Bytes(name) => name,
        }
    }

    fn read(&self) -> String {
        match self {
            Number("deleted") => "deleted::int::bigint".to_owned(),
            Number(name) => format!("\"{name}\"::bigint"),
            Text(name) => format!("{name}::text"),
            Bytes(name) => (*name).to_owned(),
        }
    }

    fn bind<'q>(&self, query: Query<'q>, row: &PgRow, index: usize) -> Query<'q> {
        match self {
            Number(_) => query.bind(row.get::<Option<i64>, _>(index)),
            Text(_) => query.bind(row.get::<Option<String>, _>(index)),
            Bytes(_) => query.bind(row.get::<Option<Vec<u8>>, _>(index)),
        }
    }
}
