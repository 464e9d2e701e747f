//! What a world stands on: a Postgres that can be crashed, filled up and failed over, and a nats-server, both of its
//! own. Knows nothing of servers and clients.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::postgres::{Options, Postgres};

use crate::copies::Replica;
use crate::disk::SmallDisk;
use crate::nats_cluster::Nats;
use crate::needs::Needs;
use crate::pair::LIMIT;
use crate::patroni::{self, Patroni};
use crate::proxy::Target;
use crate::support::clock::WallClock;
use crate::support::copy::{Kind, Original, programs};
use crate::support::process::{or_skip, temporary_directory};
use crate::support::wait::wait_until;
use crate::world::Shape;

const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Small enough for a small disk; a replica must not have fewer connections than its primary.
pub(crate) const SETTINGS: [&str; 5] = [
    "max_connections=150",
    "shared_buffers=16MB",
    "max_wal_size=64MB",
    "min_wal_size=32MB",
    "wal_sender_timeout=2s",
];

const PLAIN_ROLE: &str = "plain";

/// It may see who follows the primary, as the documents advise.
const MAKE_PLAIN_ROLE: &str = "CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE postgres TO plain;
    GRANT pg_monitor TO plain";

pub(crate) struct Ground {
    /// `None` where Patroni runs others.
    postgres: Option<Postgres>,
    pub(crate) patroni: Option<Patroni>,
    replica: Option<Replica>,
    /// A copy that only those see who are led there.
    astray: Option<Replica>,
    pub(crate) nats: Nats,
    // Dropped after the servers, in this order: the guardian waits for them, and removes the directory.
    guardian: Guardian,
    directory: Directory,
    needs: Needs,
    clock: Option<WallClock>,
    pub(crate) disk: Option<SmallDisk>,
}

impl Ground {
    /// `None` where a program is missing, or where a small disk is wanted and cannot be made.
    pub(crate) async fn start(shape: Shape) -> Option<Self> {
        let (disk, directory) = if shape.needs.has(Needs::SMALL_DISK) {
            let disk = SmallDisk::mount()?;
            let directory = Directory::open(disk.root()).unwrap();
            (Some(disk), directory)
        } else {
            (None, temporary_directory())
        };
        let guardian = Guardian::start(Some(directory.root())).unwrap();
        let clock = if shape.needs.has(Needs::FALSE_CLOCK_OF_POSTGRES) {
            Some(false_clock(&directory, &guardian).await?)
        } else {
            None
        };
        let (postgres, patroni) = if let Some((mode, members, _)) = shape.patroni {
            let patroni = Patroni::start(mode, members, &directory, &guardian).await?;
            (None, Some(patroni))
        } else {
            let is_durable = shape.needs.has(Needs::DURABLE);
            let started = start_postgres(&directory, &guardian, is_durable, clock.as_ref()).await;
            let postgres = or_skip(started)?;
            if shape.needs.has(Needs::PLAIN_ROLE) {
                execute(&postgres.url(), MAKE_PLAIN_ROLE).await;
            }
            (Some(postgres), None)
        };
        let has_two = shape.needs.has(Needs::TWO_NATS);
        let nats = or_skip(Nats::start(&directory, &guardian, has_two).await)?;
        Some(Self {
            postgres,
            patroni,
            replica: None,
            astray: None,
            nats,
            guardian,
            directory,
            needs: shape.needs,
            clock,
            disk,
        })
    }

    fn postgres(&self) -> &Postgres {
        self.postgres
            .as_ref()
            .expect("Patroni runs no Postgres here")
    }

    fn postgres_mut(&mut self) -> &mut Postgres {
        self.postgres
            .as_mut()
            .expect("Patroni runs no Postgres here")
    }

    /// Of the Postgres that is the primary.
    fn socket(&self) -> PathBuf {
        match &self.replica {
            Some(replica) if replica.is_promoted => replica.socket(),
            _ => self.postgres().socket(),
        }
    }

    /// The way to the primary.
    pub(crate) fn primary(&self) -> Target {
        match &self.patroni {
            Some(patroni) => Target::Port(patroni.port()),
            None => Target::Socket(self.socket()),
        }
    }

    /// Past every proxy of a member.
    pub(crate) fn database_url(&self) -> String {
        match &self.patroni {
            Some(patroni) => patroni::url_on(patroni.port()),
            None => url_on(&self.socket()),
        }
    }

    /// Of the servers' sessions.
    pub(crate) fn role(&self) -> &'static str {
        if self.needs.has(Needs::PLAIN_ROLE) {
            PLAIN_ROLE
        } else {
            "postgres"
        }
    }

    /// The wall clock of Postgres.
    pub(crate) fn clock(&self) -> &WallClock {
        let clock = self.clock.as_ref();
        clock.expect("the Postgres of the world has a false clock")
    }

    pub(crate) fn nats_url(&self) -> String {
        self.nats.url()
    }

    pub(crate) fn nats_port(&self) -> u16 {
        self.nats.port()
    }

    /// Ends Postgres: orderly but at once with SIGINT, without a word with SIGQUIT and SIGKILL.
    pub(crate) async fn end_postgres(&mut self, signal: Signal) {
        self.postgres_mut().signal(signal);
        tokio::time::timeout(LIMIT, self.postgres_mut().wait())
            .await
            .expect("Postgres ends")
            .unwrap();
    }

    /// Backends of a killed postmaster may hold the data for a moment longer.
    pub(crate) async fn start_postgres(&mut self) {
        let started = wait_until(LIMIT, async || {
            let is_durable = self.needs.has(Needs::DURABLE);
            let clock = self.clock.as_ref();
            start_postgres(&self.directory, &self.guardian, is_durable, clock)
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        self.postgres = Some(started);
    }

    pub(crate) fn postgres_has_ended(&mut self) -> bool {
        self.postgres_mut().ended().is_some()
    }

    pub(crate) fn postgres_log(&self) -> String {
        std::fs::read_to_string(self.postgres().log()).unwrap_or_default()
    }

    pub(crate) async fn end_nats(&mut self, signal: Signal) {
        self.nats.end(signal).await;
    }

    /// On the same port.
    pub(crate) async fn start_nats(&mut self) {
        self.nats.start_again(&self.directory, &self.guardian).await;
    }

    /// Of the Postgres that follows the primary.
    pub(crate) fn replica_socket(&self) -> PathBuf {
        self.replica.as_ref().expect("there is a replica").socket()
    }

    /// Copies the primary and follows it, where nobody does. With `synchronous` every commit waits for the copy from now on.
    pub(crate) async fn add_replica(&mut self, synchronous: bool) {
        let url = self.postgres().url();
        if self.replica.is_none() {
            self.replica = Some(self.copy(Kind::Replica).await);
        }
        wait_for(
            &url,
            "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'",
        )
        .await;
        if synchronous {
            execute(&url, "ALTER SYSTEM SET synchronous_standby_names = '*'").await;
            execute(&url, "SELECT pg_reload_conf()").await;
            wait_for(
                &url,
                "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'",
            )
            .await;
        }
    }

    async fn copy(&self, kind: Kind) -> Replica {
        let sockets = self.postgres().socket().parent().unwrap().to_owned();
        let url = self.postgres().url();
        let original = Original {
            url: &url,
            sockets: &sockets,
            directory: &self.directory,
            guardian: &self.guardian,
        };
        Replica::start(kind, original).await
    }

    /// Copies the primary for those that are led astray; says where. There is none of them yet.
    pub(crate) async fn add_astray(&mut self, kind: Kind) -> Target {
        let copy = self.copy(kind).await;
        let target = Target::Socket(copy.socket());
        assert!(self.astray.replace(copy).is_none());
        target
    }

    pub(crate) async fn end_astray(&mut self) {
        let astray = self.astray.take().expect("there is one");
        astray.stop(STOP_LIMIT).await;
    }

    /// From here on the replica hears nothing more, although the primary does not know.
    pub(crate) async fn silence_replica(&self) {
        let mut connection = PgConnection::connect(&self.postgres().url()).await.unwrap();
        let pid: i32 = sqlx::query_scalar("SELECT pid FROM pg_stat_replication")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        signal(pid, Signal::SIGSTOP);
    }

    /// Crashes the primary, which does not come back, and makes the replica the primary.
    pub(crate) async fn fail_over(&mut self) {
        let senders = self.replication_senders().await;
        self.end_postgres(Signal::SIGKILL).await;
        for pid in senders {
            // A frozen one does not notice that its postmaster has gone.
            signal(pid, Signal::SIGKILL);
        }
        let replica = self.replica.as_mut().expect("there is a replica");
        let url = url_on(&replica.socket());
        // Without waiting: what has still to be replayed may cancel a question that lasts.
        execute(&url, "SELECT pg_promote(false)").await;
        wait_for(&url, "SELECT NOT pg_is_in_recovery()").await;
        // The new primary has nobody to wait for.
        execute(&url, "ALTER SYSTEM RESET synchronous_standby_names").await;
        execute(&url, "SELECT pg_reload_conf()").await;
        replica.is_promoted = true;
    }

    async fn replication_senders(&self) -> Vec<i32> {
        let mut connection = PgConnection::connect(&self.postgres().url()).await.unwrap();
        sqlx::query_scalar("SELECT pid FROM pg_stat_replication")
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }
}

async fn start_postgres(
    directory: &Directory,
    guardian: &Guardian,
    is_durable: bool,
    clock: Option<&WallClock>,
) -> Result<Postgres, stanby::dev::Error> {
    let programs = clock.map(WallClock::programs);
    let options = Options {
        programs: programs.or_else(|| std::env::var_os("STANBY_PG_BIN").map(PathBuf::from)),
        volatile: !is_durable,
        settings: SETTINGS.map(String::from).into(),
    };
    Postgres::start(directory, &options, guardian).await
}

/// Whose wall clock tests set. `None` where libfaketime is not installed.
async fn false_clock(directory: &Directory, guardian: &Guardian) -> Option<WallClock> {
    // A server that runs knows where its programs are.
    let started = start_postgres(directory, guardian, false, None).await;
    let mut postgres = or_skip(started)?;
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let clock = WallClock::of_postgres(&programs(&mut connection).await);
    connection.close().await.unwrap();
    postgres.stop(STOP_LIMIT).await.unwrap();
    clock
}

pub(crate) fn url_on(socket: &Path) -> String {
    let sockets = socket.parent().unwrap().display();
    format!("postgres:///postgres?host={sockets}&user=postgres")
}

fn signal(pid: i32, signal: Signal) {
    // It may have ended by itself meanwhile.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).ok();
}

pub(crate) async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .unwrap();
}

/// Waits until the question is answered with true.
async fn wait_for(url: &str, question: &'static str) {
    wait_until(LIMIT, async || {
        let mut connection = PgConnection::connect(url)
            .await
            .map_err(|error| error.to_string())?;
        let answer: Result<bool, _> = sqlx::query_scalar(question)
            .fetch_one(&mut connection)
            .await;
        match answer {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?} for {question}")),
        }
    })
    .await;
}

/// Ends what still runs, so that a directory on a small disk can be unmounted.
impl Ground {
    pub(crate) async fn stop(mut self) {
        drop((self.replica.take(), self.astray.take()));
        if self.postgres.is_some() && !self.postgres_has_ended() {
            self.postgres_mut().stop(STOP_LIMIT).await.unwrap();
        }
        self.nats.stop(STOP_LIMIT).await;
    }
}
