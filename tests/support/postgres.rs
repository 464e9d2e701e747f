//! A Postgres for the tests: shared by a process' tests, with a database for each of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use stanby::dev::Error;
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::postgres::{Options, Postgres};
use tokio::sync::OnceCell;

use super::clock::WallClock;
use super::process::{DIRECTORY, GUARDIAN, Own, RUNTIME, or_skip, temporary_directory};

static SHARED: OnceCell<Option<Postgres>> = OnceCell::const_new();

/// An empty database of one test. It is dropped with this value.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    pub(crate) url: String,
    pub(crate) name: String,
    /// Of the server, for a test that puts a proxy before it.
    pub(crate) socket: PathBuf,
    admin_url: String,
}

/// Makes a database; `None` where Postgres is not installed.
pub(crate) async fn database() -> Option<TestDatabase> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);

    let server = SHARED.get_or_init(shared).await.as_ref()?;
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    execute(&server.url(), format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    Some(TestDatabase {
        url: server.url_of(&name),
        name,
        socket: server.socket(),
        admin_url: server.url(),
    })
}

async fn shared() -> Option<Postgres> {
    or_skip(
        RUNTIME
            .spawn(start(&DIRECTORY, &GUARDIAN, &[]))
            .await
            .unwrap(),
    )
}

/// A Postgres of the test's own, for tests that stop, freeze or crash it. It ends with the test's runtime.
pub(crate) async fn own_server() -> Option<Own<Postgres>> {
    own_server_with(&[]).await
}

/// The same with settings, as `name=value`, that a restart does not keep.
pub(crate) async fn own_server_with(settings: &[&str]) -> Option<Own<Postgres>> {
    let directory = temporary_directory();
    let guardian = Guardian::start(Some(directory.root())).unwrap();
    let server = or_skip(start(&directory, &guardian, settings).await)?;
    Some(Own::new(server, guardian, directory))
}

/// One whose wall clock is what `FAKETIME_TIMESTAMP_FILE` says. `None` where libfaketime is not installed either.
pub(crate) async fn own_server_with_clock() -> Option<(Own<Postgres>, WallClock)> {
    let database = database().await?;
    let programs: String =
        sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
            .fetch_one(&mut PgConnection::connect(&database.url).await.unwrap())
            .await
            .unwrap();
    let clock = WallClock::of_postgres(&PathBuf::from(programs))?;
    let directory = temporary_directory();
    let guardian = Guardian::start(Some(directory.root())).unwrap();
    let started = start_from(Some(clock.programs()), &directory, &guardian, &[]).await;
    let server = or_skip(started)?;
    Some((Own::new(server, guardian, directory), clock))
}

/// Starts the test's own server again, after it was stopped or crashed.
pub(crate) async fn restart(own: &mut Own<Postgres>) {
    own.stop(Duration::from_secs(10)).await.unwrap();
    let server = start(own.directory(), own.guardian(), &[]).await.unwrap();
    own.replace(server);
}

async fn start(
    directory: &Directory,
    guardian: &Guardian,
    more: &[&str],
) -> Result<Postgres, Error> {
    let programs = std::env::var_os("STANBY_PG_BIN").map(PathBuf::from);
    start_from(programs, directory, guardian, more).await
}

async fn start_from(
    programs: Option<PathBuf>,
    directory: &Directory,
    guardian: &Guardian,
    more: &[&str],
) -> Result<Postgres, Error> {
    let settings = ["max_connections=200", "shared_buffers=32MB"];
    let options = Options {
        programs,
        volatile: true,
        settings: settings
            .iter()
            .chain(more)
            .map(|&it| it.to_owned())
            .collect(),
    };
    Postgres::start(directory, &options, guardian).await
}

impl Drop for TestDatabase {
    // Nobody waits: a test that failed should say so at once.
    fn drop(&mut self) {
        let url = self.admin_url.clone();
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        RUNTIME.spawn(async move {
            if let Err(error) = execute(&url, statement).await {
                eprintln!("a test's database was not dropped: {error}");
            }
        });
    }
}

async fn execute(url: &str, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    connection.close().await
}
