//! Servers whose way out is blocked: a log that nobody reads, a task that something holds up.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs::OpenOptions;
use std::future::ready;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use stanby::Server;

use crate::pair::{Group, LIMIT};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

fn fifo(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path
}

async fn publish_to_new_channels(client: &StanClient, prefix: &str) {
    for number in 0..20 {
        let mut publisher = client.publisher(&format!("{prefix}{number}")).await;
        publisher.send().await;
        publisher.take_all_acks().await;
    }
}

#[tokio::test]
async fn logs_that_nobody_reads_hold_up_neither_the_active_nor_the_standby() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (without_reader, full) = (fifo(&folder, "none"), fifo(&folder, "full"));
    // Opened for both ends, so that nobody waits here; then as full as it gets.
    let mut reader = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags_nonblock()
        .open(&full)
        .unwrap();
    while reader.write(&[b'x'; 4096]).is_ok() {}
    while reader.write(b"x").is_ok() {}
    let log = |path: &PathBuf| format!("--log={}", path.display());

    let active = group.server_with(&[&log(&without_reader)]);
    assert_eq!(active.wait_until_active().await, 1);
    let standby = group.server_with(&[&log(&full)]);
    group.wait_for_standbys(1).await;
    let client = group.client("me").await;
    publish_to_new_channels(&client, "first").await;
    active.signal(Signal::SIGUSR1);
    publish_to_new_channels(&client, "second").await;

    active.kill().await;
    assert_eq!(standby.wait_until_active().await, 2);
    publish_to_new_channels(&client, "third").await;

    // Whoever reads in the end finds what was logged meanwhile.
    let mut found = Vec::new();
    wait_until(LIMIT, || {
        let mut bytes = vec![0; 65536];
        if let Ok(read) = reader.read(&mut bytes) {
            found.extend_from_slice(&bytes[..read]);
        }
        let text = String::from_utf8_lossy(&found);
        let lines = ["took the lock", "third19"];
        let is_there = lines.iter().all(|line| text.contains(line));
        let text = text.trim_start_matches('x').to_owned();
        ready(if is_there { Ok(()) } else { Err(text) })
    })
    .await;
}

trait NonBlocking {
    fn custom_flags_nonblock(&mut self) -> &mut Self;
}

impl NonBlocking for OpenOptions {
    fn custom_flags_nonblock(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
    }
}

const BLOCKING: &str = "STANBY_TEST_BLOCKING_SERVER";

/// A logger as a program around a server may have one: it waits for ever once it is handed a certain line.
struct BlockingLogger;

impl Write for BlockingLogger {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if String::from_utf8_lossy(line).contains("channel created") {
            loop {
                std::thread::park();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the test below runs in a process of its own, which does not outlive it.
#[tokio::test]
async fn blocking_server() {
    let Ok(told) = std::env::var(BLOCKING) else {
        return;
    };
    let told: Vec<&str> = told.split('\n').collect();
    let [database, nats, cluster] = told[..] else {
        panic!("{told:?}");
    };
    tracing_subscriber::fmt()
        .with_writer(|| BlockingLogger)
        .init();
    let mut server = Server::builder()
        .database_url(database)
        .nats_server(nats)
        .cluster_id(cluster)
        .start()
        .await
        .unwrap();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn an_active_that_something_holds_up_gives_up_the_lock_and_ends() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let mut blocking = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "blocked::blocking_server"])
        .env(
            BLOCKING,
            [
                group.database_url.as_str(),
                &group.nats_url,
                &group.cluster_id,
            ]
            .join("\n"),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let client = wait_until(LIMIT, async || {
        let nats = async_nats::connect(&group.nats_url).await.unwrap();
        StanClient::connect(nats, &group.cluster_id, "me").await
    })
    .await;
    let standby = group.server();
    group.wait_for_standbys(1).await;

    let mut publisher = client.publisher("new").await;
    publisher.send().await;

    assert_eq!(standby.wait_until_active().await, 2);
    publisher.take_all_acks().await;
    let ended = wait_until(LIMIT, || {
        let ended = blocking.try_wait().unwrap();
        ready(ended.ok_or_else(|| "it goes on".to_owned()))
    })
    .await;
    assert_eq!(ended.signal(), Some(Signal::SIGABRT as i32), "{ended}");
}
