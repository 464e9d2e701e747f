//! Physical copies of a test's Postgres: replicas, and servers that were the same until the copy was made.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};
use stanby::dev::postgres::Postgres;
use stanby::dev::process::{Process, StopSignals};

use super::process::Own;
use super::wait::wait_until;

/// A copy may have to replay what was written meanwhile.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Ends with the value.
#[derive(Debug)]
pub(crate) struct Copy {
    _process: Process,
    data: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Follows, but shows what is committed only an hour later.
    LaggingReplica,
    Replica,
    /// A server of its own from here on, with the same system identifier and timeline: like an old primary that is
    /// still up, or a clone of the disk.
    Separate,
}

impl Copy {
    pub(crate) async fn of(server: &Own<Postgres>, kind: Kind) -> Self {
        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        let programs: String =
            sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        let socket = server.socket();
        let sockets = socket.parent().unwrap();
        let owner = sockets.metadata().unwrap();
        let as_owner = |program: &str| {
            let mut command = Command::new(Path::new(&programs).join(program));
            command.current_dir("/").uid(owner.uid()).gid(owner.gid());
            command
        };
        let name = format!("copy-{kind:?}");
        let data = server.directory().root().join(&name);
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
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=16MB"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", data.display()));
        if kind == Kind::LaggingReplica {
            command.args(["-c", "recovery_min_apply_delay=1h"]);
        }
        let signals = StopSignals {
            first: Signal::SIGQUIT,
            second: Signal::SIGQUIT,
        };
        let (directory, guardian) = (server.directory(), server.guardian());
        let process = Process::spawn(&name, command, directory, signals, guardian).unwrap();
        let copy = Self {
            _process: process,
            data,
        };
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
}
