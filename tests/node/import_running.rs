//! `stanby import --from-stan`: what a running server serves goes on under another one. The source is a real server with
//! tables of its own, seen only through its protocol and its pages.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::{Output, Stdio};

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cli::{code, stderr, stdout};
use crate::pair::{Group, LIMIT, Server};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

const CHANNEL: &str = "orders";

/// Of the new servers, beside that of the source.
const NEW: &str = "moved";

/// Messages that are not the same on both sides.
const DIFFERENT: &str =
    "SELECT count(*) FROM (SELECT c.name, m.* FROM stanby.messages m JOIN stanby.channels c USING (channel_id)) a
        FULL JOIN (SELECT c.name, m.* FROM moved.messages m JOIN moved.channels c USING (channel_id)) b
        USING (name, sequence)
    WHERE a.data IS DISTINCT FROM b.data OR a.published_at_ns IS DISTINCT FROM b.published_at_ns";

fn command(group: &Group, source: &Server, flags: &[&str]) -> Command {
    let monitor = format!("http://127.0.0.1:{}", source.http_port);
    command_of(group, &monitor, &group.cluster_id, flags)
}

fn command_of(group: &Group, monitor: &str, cluster_id: &str, flags: &[&str]) -> Command {
    let mut command = Server::command();
    command
        .arg("import")
        .args(["--from-stan", &group.nats_url])
        .args(["--monitor", monitor])
        .args(["--database-url", &group.database_url, "--schema", NEW])
        .args(["--nats-server", &group.nats_url])
        .args(["--cluster-id", cluster_id])
        .args(flags);
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

async fn output(command: &mut Command) -> Output {
    timeout(LIMIT, command.output()).await.unwrap().unwrap()
}

/// An import that has read all that there was, and follows.
pub(crate) struct Following {
    pub(crate) process: Child,
    told: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

impl Following {
    pub(crate) async fn start(command: &mut Command) -> Self {
        let mut process = command
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = process.stderr.take().unwrap();
        let mut told = BufReader::new(stderr).lines();
        let follows = async {
            let mut before = Vec::new();
            while let Some(line) = told.next_line().await.unwrap() {
                if line.contains("new messages are followed") {
                    return;
                }
                before.push(line);
            }
            panic!("it has ended: {before:?}");
        };
        timeout(LIMIT, follows).await.unwrap();
        Self { process, told }
    }

    /// What it prints at its end, which must be a good one.
    pub(crate) async fn end(self) -> String {
        let (is_good, told, text) = self.ended().await;
        assert!(is_good, "{told:?}");
        text
    }

    /// Why it fails.
    pub(crate) async fn failure(self) -> String {
        let (is_good, told, text) = self.ended().await;
        assert!(!is_good, "{text}");
        told.join("\n")
    }

    async fn ended(mut self) -> (bool, Vec<String>, String) {
        let mut text = String::new();
        let mut stdout = self.process.stdout.take().unwrap();
        let ended = async {
            stdout.read_to_string(&mut text).await.unwrap();
            self.process.wait().await.unwrap()
        };
        let status = timeout(LIMIT, ended).await.unwrap();
        let mut told = Vec::new();
        while let Some(line) = self.told.next_line().await.unwrap() {
            told.push(line);
        }
        (status.success(), told, text)
    }
}

pub(crate) async fn publish(client: &StanClient, channel: &str, count: usize) {
    let mut publisher = client.publisher(channel).await;
    for _ in 0..count {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
}

#[tokio::test]
async fn a_running_server_is_followed_until_it_has_gone_and_nothing_of_it_is_lost() {
    let Some(group) = Group::new(&["--max-msgs", "1000"]).await else {
        return;
    };
    let mut source = group.server();
    source.wait_until_active().await;
    let app = group.client("app").await;
    let consumed = app.subscribe(CHANNEL, "", "d").await.unwrap();
    let workers = app.subscribe(CHANNEL, "workers", "w").await.unwrap();
    let plain = app.subscribe(CHANNEL, "", "").await.unwrap();
    publish(&app, CHANNEL, 50).await;
    publish(&app, "others", 3).await;
    let tables = group.tables();
    wait_until(LIMIT, async || {
        let query = "SELECT count(*) FROM stanby.positions WHERE acked_floor = 50";
        match tables.number(query).await {
            3 => Ok(()),
            other => Err(format!("{other} of 3 have acked everything")),
        }
    })
    .await;

    let import = Following::start(&mut command(&group, &source, &[])).await;
    publish(&app, CHANNEL, 10).await;
    publish(&app, "began.later", 2).await;
    // What a server that has gone had not sent, nobody can read any more.
    wait_until(LIMIT, async || {
        let query = "SELECT count(*) FROM stanby.positions JOIN stanby.channels USING (channel_id)
            WHERE name = 'began.later' AND last_sent = 2";
        match tables.number(query).await {
            0 => Err("nobody reads the channel that began later".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    drop((consumed, workers, plain, app));
    source.signal(Signal::SIGTERM);
    source.end().await;
    let told = import.end().await;
    assert!(
        told.contains("imported channels: 3, messages: 65"),
        "{told}"
    );
    assert!(told.contains("--max-msgs=1000"), "{told}");
    assert!(told.contains("without a durable name"), "{told}");

    assert_eq!(tables.number(DIFFERENT).await, 0);

    let moved = group.beside(NEW, &[]);
    let server = moved.server();
    server.wait_until_active().await;
    let app = moved.client("app").await;
    let consumed = app.subscribe(CHANNEL, "", "d").await.unwrap();
    let workers = app.subscribe(CHANNEL, "workers", "w").await.unwrap();
    publish(&app, CHANNEL, 1).await;
    for durable in [&consumed, &workers] {
        wait_until(LIMIT, async || {
            let sequences = durable.sequences();
            if sequences.contains(&61) {
                Ok(())
            } else {
                Err(format!("{sequences:?}"))
            }
        })
        .await;
        let sequences = durable.sequences();
        assert!(sequences.first() > Some(&50), "acked before: {sequences:?}");
    }
    server.kill().await;
}

#[tokio::test]
async fn a_dry_run_reads_a_running_server_and_writes_nothing() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let source = group.server();
    source.wait_until_active().await;
    let app = group.client("app").await;
    publish(&app, CHANNEL, 20).await;
    // Never acks: nothing tells how far it is.
    app.hold(CHANNEL, "", "held", 5).await.unwrap();

    let told = output(&mut command(&group, &source, &["--dry-run"])).await;
    assert_eq!(code(&told), Some(0), "{}", stderr(&told));
    let text = stdout(&told);
    assert!(
        text.contains("would import channels: 1, messages: 20"),
        "{text}"
    );
    assert!(
        text.contains("durable \"held\" of client \"app\""),
        "{text}"
    );
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'moved'";
    assert_eq!(group.tables().number(made).await, 0);
    // It has taken leave.
    let left = "SELECT count(*) FROM stanby.clients WHERE client_id LIKE 'stanby-import%'";
    let tables = group.tables();
    wait_until(LIMIT, async || match tables.number(left).await {
        0 => Ok(()),
        other => Err(format!("{other} clients of imports")),
    })
    .await;
    drop(app);
}

#[tokio::test]
async fn an_import_from_a_running_server_that_is_killed_leaves_nothing_and_can_be_run_again() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let source = group.server();
    source.wait_until_active().await;
    let app = group.client("app").await;
    publish(&app, CHANNEL, 5).await;
    let mut import = Following::start(&mut command(&group, &source, &[])).await;
    import.process.kill().await.unwrap();
    let query = "SELECT count(*) FROM moved.messages";
    assert_eq!(group.tables().number(query).await, 0);

    let import = Following::start(&mut command(&group, &source, &[])).await;
    drop(app);
    source.kill().await;
    let told = import.end().await;
    assert!(told.contains("imported channels: 1, messages: 5"), "{told}");

    // Once.
    let source = group.server();
    source.wait_until_active().await;
    let again = output(&mut command(&group, &source, &[])).await;
    assert_eq!(code(&again), Some(1), "{}", stdout(&again));
    assert!(
        stderr(&again).contains("is not empty"),
        "{}",
        stderr(&again)
    );
    source.kill().await;
}

#[tokio::test]
async fn pages_that_are_missing_or_of_another_cluster_are_refused_by_name() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let source = group.server();
    source.wait_until_active().await;
    let monitor = format!("http://127.0.0.1:{}", source.http_port);
    let remedy = format!("give --cluster-id {}", group.cluster_id);
    for (monitor, cluster_id, part) in [
        (&monitor[..], "another", "are the pages of cluster ID"),
        (&monitor, "another", &remedy),
        (&group.nats_url, &group.cluster_id, "--monitor"),
        ("http://127.0.0.1:1", &group.cluster_id, "cannot be had"),
    ] {
        let told = output(&mut command_of(&group, monitor, cluster_id, &[])).await;
        assert_ne!(code(&told), Some(0), "{part}");
        assert!(stderr(&told).contains(part), "{part}: {}", stderr(&told));
    }
    source.kill().await;
}
