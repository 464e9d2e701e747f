//! `stanby pub`, `stanby sub` and `stanby status` with a server that answers.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod publish;
mod subscribe;

use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::wait::wait_until;

impl Group {
    fn flags(&self) -> [&str; 4] {
        [
            "--nats-server",
            &self.nats_url,
            "--cluster-id",
            &self.cluster_id,
        ]
    }

    /// Runs `pub` or `sub` to its end.
    async fn run(&self, args: &[&str]) -> Output {
        stanby(&[args, &self.flags()].concat()).await
    }

    /// What a command prints that must succeed.
    async fn lines(&self, args: &[&str]) -> Vec<String> {
        let output = self.run(args).await;
        assert_eq!(code(&output), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output).lines().map(str::to_owned).collect()
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = Server::command();
        command.args(args).args(self.flags()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Command::from(command).kill_on_drop(true).spawn().unwrap()
    }

    async fn wait_for_subscriptions(&self, count: i64) {
        let tables = self.tables();
        let query = "SELECT count(*) FROM stanby.subscriptions WHERE online";
        wait_until(LIMIT, async || match tables.number(query).await {
            found if found == count => Ok(()),
            found => Err(format!("{found} of {count} subscriptions")),
        })
        .await;
    }

    async fn status(&self) -> Value {
        let output = stanby(&["status", "--json", "--database-url", &self.database_url]).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

async fn one_server() -> Option<(Group, Server)> {
    let group = Group::new(&[]).await?;
    let server = group.server();
    server.wait_until_active().await;
    Some((group, server))
}

async fn publish(group: &Group, channel: &str, messages: &[&str]) {
    for message in messages {
        let acks = group.lines(&["pub", channel, message]).await;
        assert_eq!(acks.len(), 1, "{acks:?}");
    }
}

#[tokio::test]
async fn what_the_server_refuses_exits_with_1_and_its_words() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let _here = group.client("taken").await;

    let output = group
        .run(&["pub", "orders", "x", "--client-id", "taken"])
        .await;
    assert_eq!(code(&output), Some(1));
    let text = stderr(&output);
    assert!(text.contains("stan: clientID already registered"), "{text}");

    let output = group.run(&["pub", "or..ders", "x"]).await;
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
}

#[tokio::test]
async fn status_tells_who_is_active_who_waits_and_how_far_a_durable_is_behind() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let reader = group.client("reader").await;
    drop(reader.subscribe("orders", "", "books").await.unwrap());
    // Nobody acks from here on.
    let acks = group
        .lines(&["pub", "orders", "x", "--count", "70", "--async"])
        .await;
    assert_eq!(acks.len(), 70);

    let status = wait_until(LIMIT, async || {
        let status = group.status().await;
        let complete = status["durables"][0]["last_sent"] == 64
            && status["standbys"]
                .as_array()
                .is_some_and(|list| list.len() == 1);
        if complete {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })
    .await;

    assert_eq!(status["cluster_id"], group.cluster_id);
    assert_eq!(status["active"]["holds_lock"], true);
    assert_eq!(status["active"]["epoch"], 1);
    assert_eq!(status["active"]["pid"], pair.active.pid());
    let durable = &status["durables"][0];
    assert_eq!(durable["status"], "stalled");
    assert_eq!(
        (&durable["unacked"], &durable["unsent"], &durable["lag"]),
        (&64.into(), &6.into(), &70.into())
    );
    assert!(
        durable["behind_seconds"].as_f64().unwrap() >= 0.0,
        "{durable}"
    );
    assert_eq!(status["counts"]["messages"], 70);
    assert_eq!(status["clients"][0]["client_id"], "reader");
    let output = stanby(&["status", "--database-url", &group.database_url]).await;
    let text = stdout(&output);
    let serverz = pair.standby.get("/streaming/serverz").await.unwrap().1;
    let serverz: serde_json::Value = serde_json::from_str(&serverz).unwrap();
    let standby = text
        .lines()
        .find_map(|line| line.strip_prefix("standby   "));
    let id = serverz["server_id"].as_str().unwrap();
    assert!(standby.unwrap().starts_with(id), "{id} in {text}");
}

/// What a command prints until it ends by itself or is told to.
async fn ended(mut child: Child, signal: Option<Signal>) -> (Option<i32>, String) {
    if let Some(signal) = signal {
        kill(Pid::from_raw(child.id().unwrap().cast_signed()), signal).unwrap();
    }
    let code = timeout(LIMIT, child.wait()).await.unwrap().unwrap().code();
    let output = child.wait_with_output().await.unwrap();
    (code, format!("{}{}", stdout(&output), stderr(&output)))
}

#[tokio::test]
async fn ctrl_c_ends_pub_and_sub_whatever_they_wait_for() {
    let Some((group, server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["a"]).await;
    let reading = group.spawn(&["sub", "orders"]);
    group.wait_for_subscriptions(1).await;
    // The server does not answer any more, not even to the farewell.
    server.signal(Signal::SIGSTOP);
    assert_eq!(ended(reading, Some(Signal::SIGINT)).await.0, Some(0));
    for args in [["sub", "orders"], ["pub", "orders"]] {
        let mut command = Server::command();
        command.args(args).args(group.flags()).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let waiting = Command::from(command).kill_on_drop(true).spawn().unwrap();
        // Once it heeds signals it is past its start.
        let pid = waiting.id().unwrap();
        wait_until(LIMIT, async || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))
                .unwrap();
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
            if caught & 2 == 2 { Ok(()) } else { Err(status) }
        })
        .await;
        assert_eq!(
            ended(waiting, Some(Signal::SIGINT)).await.0,
            Some(0),
            "{args:?}"
        );
    }
    server.signal(Signal::SIGCONT);
}
