//! A Postgres that Patroni watches over: etcd, members with a replica or two, and `HAProxy` in front of them. What it does by
//! itself is what is tried here.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

#[path = "patroni/files.rs"]
mod files;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::process::{Process, StopSignals};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pair::free_port;
use crate::support::wait::wait_until;
use files::{haproxy_settings, settings_of};

/// Of a cluster on a busy machine, and of a failover that begins when the leader's key has run out.
const PATRONI_LIMIT: Duration = Duration::from_secs(150);

const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How commits wait for replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Asynchronous,
    Synchronous,
    /// No commit without a replica.
    Strict,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Asynchronous, Self::Synchronous, Self::Strict];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Asynchronous => "asynchronous",
            Self::Synchronous => "synchronous",
            Self::Strict => "strict",
        }
    }
}

/// How the servers find the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Haproxy,
    /// All members, in the servers' URL.
    Hosts,
}

pub(crate) struct Patroni {
    members: Vec<Member>,
    haproxy_port: u16,
    // Ended after the members.
    _haproxy: Process,
    _etcd: Process,
}

struct Member {
    process: Process,
    data: PathBuf,
    port: u16,
    rest: u16,
}

fn signals() -> StopSignals {
    StopSignals {
        first: Signal::SIGKILL,
        second: Signal::SIGKILL,
    }
}

impl Patroni {
    /// `None` where one of the programs is not installed.
    pub(crate) async fn start(
        mode: Mode,
        members: usize,
        directory: &Directory,
        guardian: &Guardian,
    ) -> Option<Self> {
        let owner = User::from_name("postgres").unwrap()?;
        let programs = postgres_programs()?;
        let installed = |program: &str| {
            let found = Command::new(program).arg("--version").output();
            found.is_ok() || {
                crate::support::process::skip(&format!(
                    "{program} is not installed: scripts/patroni installs it"
                ));
                false
            }
        };
        if !["etcd", "patroni", "haproxy"].into_iter().all(installed) {
            return None;
        }
        let (client, peer) = (free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let mut command = Command::new("etcd");
        command
            .args(["--name", "default", "--unsafe-no-fsync", "--data-dir"])
            .arg(directory.root().join("etcd"))
            .args(["--listen-client-urls", &url(client)])
            .args(["--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer)])
            .args(["--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &format!("default={}", url(peer))]);
        let etcd = Process::spawn("etcd", command, directory, signals(), guardian).unwrap();
        wait_until(PATRONI_LIMIT, async || {
            request(client, "GET", "/health", "").await
        })
        .await;

        let mut started: Vec<Member> = Vec::new();
        for number in 0..members {
            let home = directory.root().join(format!("pg{number}"));
            DirBuilder::new().mode(0o700).create(&home).unwrap();
            chown(&home, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
            let (port, rest) = (free_port(), free_port());
            let settings = home.join("patroni.yml");
            let text = settings_of(mode, number, port, rest, client, &home, &programs);
            std::fs::write(&settings, text).unwrap();
            chown(
                &settings,
                Some(owner.uid.as_raw()),
                Some(owner.gid.as_raw()),
            )
            .unwrap();
            let mut command = Command::new("patroni");
            command
                .arg(&settings)
                .current_dir("/")
                .uid(owner.uid.as_raw())
                .gid(owner.gid.as_raw());
            let name = format!("patroni{number}");
            let process = Process::spawn(&name, command, directory, signals(), guardian).unwrap();
            started.push(Member {
                process,
                data: home.join("data"),
                port,
                rest,
            });
            if number == 0 {
                wait_until(PATRONI_LIMIT, async || {
                    request(rest, "GET", "/primary", "").await
                })
                .await;
            }
        }
        let haproxy_port = free_port();
        let settings = directory.root().join("haproxy.cfg");
        std::fs::write(&settings, haproxy_settings(haproxy_port, &started)).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&settings);
        let haproxy = Process::spawn("haproxy", command, directory, signals(), guardian).unwrap();
        let cluster = Self {
            members: started,
            haproxy_port,
            _haproxy: haproxy,
            _etcd: etcd,
        };
        cluster.wait_for_replicas(mode, members - 1).await;
        Some(cluster)
    }

    /// By the port of `HAProxy` that leads to the primary.
    pub(crate) fn port(&self) -> u16 {
        self.haproxy_port
    }

    /// Without `HAProxy`.
    pub(crate) fn url_of_all(&self) -> String {
        let hosts: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("127.0.0.1:{}", member.port))
            .collect();
        let hosts = hosts.join(",");
        format!("postgres://postgres@{hosts}/postgres?target_session_attrs=read-write")
    }

    async fn wait_for_replicas(&self, mode: Mode, replicas: usize) {
        let wanted = i64::from(mode != Mode::Asynchronous);
        wait_until(PATRONI_LIMIT, async || {
            let mut connection = PgConnection::connect(&url_on(self.haproxy_port))
                .await
                .map_err(|error| error.to_string())?;
            let (streaming, synchronous): (i64, i64) = sqlx::query_as(
                "SELECT count(*) FILTER (WHERE state = 'streaming'),
                    count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) FROM pg_stat_replication",
            )
            .fetch_one(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
            let enough = streaming == i64::try_from(replicas).unwrap() && synchronous >= wanted;
            enough
                .then_some(())
                .ok_or_else(|| format!("{streaming} replicas, {synchronous} synchronous"))
        })
        .await;
        // Patroni has to know of its synchronous member before it may promote it.
        if mode != Mode::Asynchronous {
            wait_until(PATRONI_LIMIT, async || {
                let cluster = self.cluster().await?;
                let found = cluster.contains("sync_standby");
                found.then_some(()).ok_or(cluster)
            })
            .await;
        }
    }

    async fn cluster(&self) -> Result<String, String> {
        let mut last = "nobody answers".to_owned();
        for member in &self.members {
            match request(member.rest, "GET", "/cluster", "").await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Which member takes writes, as Postgres itself says.
    pub(crate) async fn primary_beside(&self, other: Option<usize>) -> Option<usize> {
        for (at, member) in self.members.iter().enumerate() {
            if Some(at) == other {
                continue;
            }
            let asked = async {
                let mut connection = PgConnection::connect(&url_on(member.port)).await?;
                sqlx::query_scalar("SELECT NOT pg_is_in_recovery()")
                    .fetch_one(&mut connection)
                    .await
            };
            let answer: Result<Result<bool, sqlx::Error>, _> =
                timeout(Duration::from_secs(1), asked).await;
            if let Ok(Ok(true)) = answer {
                return Some(at);
            }
        }
        None
    }

    /// The member that Patroni would make the primary.
    async fn candidate(&self) -> String {
        wait_until(PATRONI_LIMIT, async || {
            let text = self.cluster().await?;
            let cluster: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let members = cluster["members"].as_array().cloned().unwrap_or_default();
            let of = |role: &str| {
                let found = members.iter().find(|member| member["role"] == role);
                found.and_then(|member| Some(member["name"].as_str()?.to_owned()))
            };
            of("sync_standby").or_else(|| of("replica")).ok_or(text)
        })
        .await
    }

    /// Asks for another primary; returns when Patroni says that it is there.
    pub(crate) async fn switch_over(&self, primary: usize, is_planned: bool) {
        let candidate = self.candidate().await;
        let rest = self.members[primary].rest;
        let (path, body) = if is_planned {
            let body = format!(r#"{{"leader":"pg{primary}","candidate":"{candidate}"}}"#);
            ("/switchover", body)
        } else {
            ("/failover", format!(r#"{{"candidate":"{candidate}"}}"#))
        };
        request_within(PATRONI_LIMIT, rest, "POST", path, &body)
            .await
            .unwrap();
    }

    /// Replicas hear nothing more, although the primary does not know.
    pub(crate) async fn silence_replicas(&self, primary: usize) {
        let mut connection = PgConnection::connect(&url_on(self.members[primary].port))
            .await
            .unwrap();
        let pids: Vec<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_replication")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        for pid in pids {
            kill(Pid::from_raw(pid), Signal::SIGSTOP).ok();
        }
    }

    /// To a member's Patroni and its Postgres, all processes, as if its machine died or froze.
    pub(crate) fn signal(&self, member: usize, signal: Signal) {
        let member = &self.members[member];
        member.process.signal(signal);
        let pid_file =
            std::fs::read_to_string(member.data.join("postmaster.pid")).unwrap_or_default();
        let postmaster = pid_file.lines().next().and_then(|pid| pid.parse().ok());
        // What was killed leaves the file behind, and its number is soon somebody else's.
        let Some(postmaster) = postmaster.filter(|&pid| serves(pid, &member.data)) else {
            return;
        };
        let children = children_of(postmaster);
        for pid in std::iter::once(postmaster).chain(children) {
            kill(Pid::from_raw(pid), signal).ok();
        }
    }
}

/// Patroni that is killed leaves its Postgres behind.
impl Drop for Patroni {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.signal(member, Signal::SIGKILL);
        }
    }
}

fn serves(postmaster: i32, data: &Path) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{postmaster}/cmdline"));
    command.is_ok_and(|command| command.contains(&*data.to_string_lossy()))
}

fn children_of(parent: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(parent.to_string().as_str())
    })
    .collect()
}

fn postgres_programs() -> Option<PathBuf> {
    if let Some(programs) = std::env::var_os("STANBY_PG_BIN") {
        return Some(programs.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    programs
        .filter(|programs| programs.join("initdb").exists())
        .max()
}

pub(crate) fn url_on(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

async fn request(port: u16, method: &str, path: &str, body: &str) -> Result<String, String> {
    request_within(ANSWER_LIMIT, port, method, path, body).await
}

/// The body of an answer of 200.
async fn request_within(
    limit: Duration,
    port: u16,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String, String> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(limit, asked)
        .await
        .map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let is_good = head
        .split_whitespace()
        .nth(1)
        .is_some_and(|code| code == "200");
    is_good.then(|| body.to_owned()).ok_or(answer)
}
