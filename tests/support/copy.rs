//! Physical copies of a test's Postgres: replicas, and servers that were the same until the copy was made.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::postgres::Postgres;
use stanby::dev::process::{Process, StopSignals};

use super::process::Own;
use super::wait::wait_until;

/// A copy may have to replay what was written meanwhile.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Ends with the value.
#[derive(Debug)]
pub(crate) struct Copy {
    process: Process,
    data: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Follows the primary, and may be made one.
    Replica,
    /// Follows, but shows what is committed only an hour later.
    Lagging,
    /// A server of its own from here on, with the same system identifier and timeline: like an old primary that is
    /// still up, or a clone of the disk.
    Separate,
}

/// The server that is copied, and where copies go.
#[derive(Clone, Copy)]
pub(crate) struct Original<'a> {
    pub(crate) url: &'a str,
    pub(crate) sockets: &'a Path,
    pub(crate) directory: &'a Directory,
    pub(crate) guardian: &'a Guardian,
}

/// Where the programs of this server are.
pub(crate) async fn programs(connection: &mut PgConnection) -> PathBuf {
    let programs: String =
        sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
            .fetch_one(connection)
            .await
            .unwrap();
    programs.into()
}

impl Copy {
    pub(crate) async fn of(server: &Own<Postgres>, kind: Kind) -> Self {
        let socket = server.socket();
        let original = Original {
            url: &server.url(),
            sockets: socket.parent().unwrap(),
            directory: server.directory(),
            guardian: server.guardian(),
        };
        let settings = ["max_connections=200", "shared_buffers=16MB"];
        Self::start(kind, original, &settings).await
    }

    /// With these settings; a replica must not have fewer connections than its primary.
    pub(crate) async fn start(kind: Kind, original: Original<'_>, settings: &[&str]) -> Self {
        let Original {
            url,
            sockets,
            directory,
            guardian,
        } = original;
        let mut connection = PgConnection::connect(url).await.unwrap();
        let programs = programs(&mut connection).await;
        let owner = sockets.metadata().unwrap();
        let as_owner = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir("/").uid(owner.uid()).gid(owner.gid());
            command
        };
        let name = format!("copy-{kind:?}");
        let data = directory.root().join(&name);
        if data.exists() {
            // Of one before, which has ended.
            std::fs::remove_dir_all(&data).unwrap();
        }
        DirBuilder::new().mode(0o700).create(&data).unwrap();
        chown(&data, Some(owner.uid()), Some(owner.gid())).unwrap();
        let mut copy = as_owner("pg_basebackup");
        copy.args(["-U", "postgres", "-c", "fast", "-h"])
            .arg(sockets)
            .arg("-D")
            .arg(&data);
        if kind != Kind::Separate {
            copy.arg("-R");
        }
        let copied = tokio::process::Command::from(copy).output().await.unwrap();
        assert!(copied.status.success(), "{copied:?}");
        let mut command = as_owner("postgres");
        command
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"])
            .arg(format!("unix_socket_directories={}", data.display()));
        for setting in settings {
            command.args(["-c", setting]);
        }
        if kind == Kind::Lagging {
            command.args(["-c", "recovery_min_apply_delay=1h"]);
        }
        let signals = StopSignals {
            first: Signal::SIGQUIT,
            second: Signal::SIGQUIT,
        };
        let process = Process::spawn(&name, command, directory, signals, guardian).unwrap();
        let copy = Self { process, data };
        let url = copy.url();
        wait_until(START_LIMIT, async || {
            let connected = PgConnection::connect(&url).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
        copy
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.data.join(".s.PGSQL.5432")
    }

    pub(crate) fn url(&self) -> String {
        let sockets = self.data.display();
        format!("postgres:///postgres?host={sockets}&user=postgres")
    }

    pub(crate) async fn stop(mut self, patience: Duration) {
        self.process.stop(patience).await.unwrap();
    }
}
