//! CPU time and memory of the servers' processes, from `/proc`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use crate::cli::failure::Failure;

/// Ticks in which `/proc` counts the CPU time of children that have ended. Linux has had no other for decades.
const TICKS_PER_SECOND: u64 = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) pid: i32,
    /// Postgres works in children of its first process.
    pub(super) with_children: bool,
}

impl Process {
    pub(super) fn myself() -> Self {
        Self {
            name: "stanby bench".to_owned(),
            pid: std::process::id().cast_signed(),
            with_children: false,
        }
    }

    /// A process that the user names.
    pub(super) fn of(pid: i32) -> Result<Self, Failure> {
        let name = command(pid).ok_or_else(|| {
            Failure::Usage(anyhow!(
                "there is no process {pid} on this machine; --pid wants one of the servers' processes"
            ))
        })?;
        Ok(Self {
            with_children: name == "postgres",
            name,
            pid,
        })
    }

    /// CPU time so far: of all threads, and of children that live or have ended, where they count.
    pub(super) fn cpu(&self) -> Duration {
        let own = threads_cpu(self.pid);
        if !self.with_children {
            return own;
        }
        let living: Duration = children(self.pid).into_iter().map(threads_cpu).sum();
        own + living + ended_children_cpu(self.pid)
    }

    /// What it holds in memory, in bytes. Postgres' children share most of theirs, so only private pages count there.
    pub(super) fn resident_bytes(&self) -> u64 {
        let field = |pid, name: &str| {
            let status = fs::read_to_string(path(pid, "status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        if !self.with_children {
            return field(self.pid, "VmRSS:");
        }
        let all = children(self.pid).into_iter().chain([self.pid]);
        all.map(|pid| field(pid, "RssAnon:")).sum()
    }
}

/// Everything of this machine that takes part: the servers of the cluster ID that use the NATS port, the nats-server that
/// listens on it, and the Postgres that the backend belongs to.
pub(super) fn local(
    cluster_id: &str,
    active: Option<i32>,
    nats_port: u16,
    backend: Option<i32>,
) -> Vec<Process> {
    let mut found = Vec::new();
    for pid in pids() {
        let Some(command) = command(pid) else {
            continue;
        };
        let name = match command.as_str() {
            "stanby" if uses(pid, nats_port) && serves(pid, cluster_id, active) => match active {
                Some(active) if active == pid => "stanby active".to_owned(),
                Some(_) => "stanby standby".to_owned(),
                None => "stanby".to_owned(),
            },
            "nats-server" if listens(pid, nats_port) => command,
            _ => continue,
        };
        found.push(Process {
            name,
            pid,
            with_children: false,
        });
    }
    if let Some(parent) = backend.and_then(parent)
        && command(parent).as_deref() == Some("postgres")
    {
        found.push(Process {
            name: "postgres".to_owned(),
            pid: parent,
            with_children: true,
        });
    }
    found.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid)));
    found
}

fn serves(pid: i32, cluster_id: &str, active: Option<i32>) -> bool {
    if active == Some(pid) {
        return true;
    }
    let arguments = words(pid, "cmdline");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let serves = arguments
        .get(1)
        .is_some_and(|first| *first == "serve" || first.starts_with('-'));
    let is_flag = |word: &str| {
        let word = word.trim_start_matches('-').replace('_', "-");
        matches!(word.as_str(), "cluster-id" | "cid")
    };
    let apart = arguments
        .windows(2)
        .filter(|pair| pair[0].starts_with('-') && is_flag(pair[0]))
        .map(|pair| pair[1]);
    let joined = arguments.iter().filter_map(|word| {
        let (flag, value) = word.split_once('=')?;
        (flag.starts_with('-') && is_flag(flag)).then_some(value)
    });
    let named = apart.chain(joined).last().map(str::to_owned);
    let named = named.or_else(|| {
        let environment = words(pid, "environ");
        let set = environment
            .iter()
            .find_map(|word| word.strip_prefix("STANBY_CLUSTER_ID="));
        set.map(str::to_owned)
    });
    serves && named.as_deref().unwrap_or("test-cluster") == cluster_id
}

const LISTENING: &str = "0A";
const ESTABLISHED: &str = "01";

fn listens(pid: i32, port: u16) -> bool {
    has_socket(pid, |local, _, state| state == LISTENING && local == port)
}

/// Whether it has a connection to that port of any machine.
fn uses(pid: i32, port: u16) -> bool {
    has_socket(pid, |_, remote, state| {
        state == ESTABLISHED && remote == port
    })
}

/// Whether one of the process' TCP sockets fits by its ports, here and there, and its state.
fn has_socket(pid: i32, fits: impl Fn(u16, u16, &str) -> bool) -> bool {
    let sockets: Vec<String> = ["net/tcp", "net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(path(pid, table)).ok())
        .flat_map(|table| sockets(&table, &fits))
        .collect();
    let Ok(files) = fs::read_dir(path(pid, "fd")) else {
        return false;
    };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| {
            sockets
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        })
}

/// The sockets of a table of the kernel's that fit, as they are named among a process' files.
fn sockets(table: &str, fits: &impl Fn(u16, u16, &str) -> bool) -> Vec<String> {
    let fitting = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = |word: usize| {
            let (_, port) = words.get(word)?.rsplit_once(':')?;
            u16::from_str_radix(port, 16).ok()
        };
        let (local, remote, state) = (port(1)?, port(2)?, words.get(3)?);
        let inode = words.get(9)?;
        fits(local, remote, state).then(|| format!("socket:[{inode}]"))
    };
    table.lines().skip(1).filter_map(fitting).collect()
}

fn threads_cpu(pid: i32) -> Duration {
    let Ok(threads) = fs::read_dir(path(pid, "task")) else {
        return Duration::ZERO;
    };
    let ran = |thread: fs::DirEntry| -> Option<u64> {
        let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(ran).sum())
}

fn ended_children_cpu(pid: i32) -> Duration {
    let ticks = |index| -> u64 {
        let ticks = stat(pid, index).and_then(|ticks| ticks.parse().ok());
        ticks.unwrap_or(0)
    };
    Duration::from_millis((ticks(13) + ticks(14)) * 1000 / TICKS_PER_SECOND)
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid, 1)?.parse().ok()
}

fn children(pid: i32) -> Vec<i32> {
    let of_it = |candidate: &i32| parent(*candidate) == Some(pid);
    pids().filter(of_it).collect()
}

/// A field of the process' `stat`, counted from the one after its name, which may itself hold blanks.
fn stat(pid: i32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(path(pid, "stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(index).map(str::to_owned)
}

fn command(pid: i32) -> Option<String> {
    let command = fs::read_to_string(path(pid, "comm")).ok()?;
    Some(command.trim_end().to_owned())
}

fn words(pid: i32, file: &str) -> Vec<String> {
    let text = fs::read(path(pid, file)).unwrap_or_default();
    text.split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn path(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_has_used_cpu_and_memory() {
        let this = Process::myself();
        let before = this.cpu();
        let mut sum = 0_u64;
        while this.cpu().saturating_sub(before) < Duration::from_millis(5) {
            sum = (0..100_000).fold(sum, |sum, number| sum.rotate_left(3) ^ number);
        }
        assert!(this.cpu() > before, "{sum}");
        assert!(this.resident_bytes() > 100_000);
        assert!(Process::of(i32::MAX).is_err());
    }

    #[test]
    fn sockets_are_found_by_their_ports() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let this = Process::myself().pid;

        assert!(listens(this, port) && !uses(this, port));
        let connection = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(uses(this, port));
        drop(connection);
        drop(listener);
        assert!(!listens(this, port) && !uses(this, port));
    }
}
