//! Physical copies of a world's Postgres: replicas, and servers that were the same until the copy was made.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

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
use stanby::dev::process::{Process, StopSignals};

use crate::ground::{SETTINGS, url_on};
use crate::pair::LIMIT;
use crate::support::wait::wait_until;

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

/// Ends with the value.
pub(crate) struct Replica {
    process: Process,
    data: PathBuf,
    pub(crate) is_promoted: bool,
}

/// Where those of Postgres are.
pub(crate) async fn programs(connection: &mut PgConnection) -> PathBuf {
    let programs: String =
        sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
            .fetch_one(connection)
            .await
            .unwrap();
    programs.into()
}

impl Replica {
    pub(crate) async fn start(
        kind: Kind,
        url: &str,
        sockets: &Path,
        directory: &Directory,
        guardian: &Guardian,
    ) -> Self {
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
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        if kind == Kind::Lagging {
            command.args(["-c", "recovery_min_apply_delay=1h"]);
        }
        if kind == Kind::Separate {
            // Whoever lost the lock meanwhile would find a free one there.
            command.args(["-c", "default_transaction_read_only=on"]);
        }
        let signals = StopSignals {
            first: Signal::SIGQUIT,
            second: Signal::SIGQUIT,
        };
        let process = Process::spawn(&name, command, directory, signals, guardian).unwrap();
        let replica = Self {
            process,
            data,
            is_promoted: false,
        };
        let url = url_on(&replica.socket());
        wait_until(LIMIT, async || {
            let connected = PgConnection::connect(&url).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
        replica
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.data.join(".s.PGSQL.5432")
    }

    pub(crate) async fn stop(mut self, patience: Duration) {
        self.process.stop(patience).await.unwrap();
    }
}
