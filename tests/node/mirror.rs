//! `stanby mirror`: channels go on to JetStream, each message exactly once, whatever is killed between.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::timeout;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, PullConsumer};
use futures_util::StreamExt as _;
use stanby::dev::nats::NatsServer;

use crate::cli::{code, stderr, stdout};
use crate::pair::{Group, LIMIT, Server};
use crate::stan::StanClient;
use crate::support::nats;
use crate::support::postgres::{self, TestDatabase};
use crate::support::process::Own;
use crate::support::wait::wait_until;

/// How often mirrors are killed; `scripts/chaos mirror` asks for more.
pub(crate) const KILLS: &str = "STANBY_TEST_KILLS";

pub(crate) struct Ground {
    pub(crate) group: Group,
    nats: Own<NatsServer>,
    folder: tempfile::TempDir,
    _database: TestDatabase,
}

impl Ground {
    pub(crate) async fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let nats = nats::own_server(&["-js", "-sd", folder.path().to_str().unwrap()]).await?;
        let database = postgres::database().await?;
        let group = Group::over(database.url.clone(), nats.url(), &[]);
        Some(Self {
            group,
            _database: database,
            nats,
            folder,
        })
    }

    pub(crate) fn command(&self, what: &str, more: &[&str]) -> Command {
        let mut command = Server::command();
        command.args(["mirror", what]);
        command.args(["--database-url", &self.group.database_url]);
        command.args(["--schema", "stanby", "--nats-server", &self.nats.url()]);
        command.args(more);
        let mut command = Command::from(command);
        command.kill_on_drop(true).stdin(Stdio::null());
        command
    }

    pub(crate) async fn run(&self, what: &str, more: &[&str]) -> Output {
        let run = timeout(LIMIT, self.command(what, more).output());
        run.await.unwrap().unwrap()
    }

    pub(crate) async fn once(&self, more: &[&str]) -> String {
        let args: Vec<&str> = ["--once"].iter().chain(more).copied().collect();
        let output = self.run("jetstream", &args).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        stdout(&output)
    }

    pub(crate) async fn publish(&self, channel: &str, count: usize) {
        let client = self
            .group
            .client(&format!("publisher-of-{channel}").replace('.', "-"))
            .await;
        let mut publisher = client.publisher(channel).await;
        for _ in 0..count {
            publisher.send().await;
        }
        publisher.take_all_acks().await;
        client.close().await.unwrap();
    }

    pub(crate) async fn stream(&self, name: &str) -> Result<jetstream::stream::Stream, String> {
        let client = async_nats::connect(self.nats.url()).await;
        let context = jetstream::new(client.map_err(|error| error.to_string())?);
        context
            .get_stream(name)
            .await
            .map_err(|error| error.to_string())
    }

    async fn length(&self, name: &str) -> Result<u64, String> {
        let stream = self.stream(name).await?;
        let told = stream.get_info().await.map_err(|error| error.to_string())?;
        Ok(told.state.messages)
    }

    /// Where a consumer of the stream of channel "ch" does.
    async fn begins(&self, consumer: &str) -> u64 {
        let stream = self.stream("ch").await.unwrap();
        let config = stream.consumer_info(consumer).await.unwrap().config;
        let DeliverPolicy::ByStartSequence { start_sequence } = config.deliver_policy else {
            panic!("{:?}", config.deliver_policy);
        };
        start_sequence
    }

    /// Of the channel, in the order of the stream.
    async fn sequences(&self, name: &str) -> Vec<u64> {
        let stream = self.stream(name).await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut found = Vec::new();
        for at in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(at).await.unwrap();
            let sequence = message.headers.get("Stan-Sequence").unwrap();
            found.push(sequence.as_str().parse().unwrap());
        }
        found
    }
}

#[tokio::test]
async fn a_mirror_that_is_killed_again_and_again_copies_each_message_once() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    let kills = std::env::var(KILLS).map_or(8, |text| text.parse().unwrap());
    let first = kills * 180 + 60;
    ground.publish("orders.eu", first).await;

    // Killed as soon as the stream has grown, wherever it is then: in the middle of pages, and of their acks.
    for round in 0..kills {
        let mut mirror = ground.command("jetstream", &[]).spawn().unwrap();
        let least = round * 180 + 1;
        wait_until(LIMIT, async || match ground.length("orders_eu").await {
            Ok(length) if length >= least as u64 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        mirror.start_kill().unwrap();
        mirror.wait().await.unwrap();
    }
    // Two at once, too, while the active is taken over and more comes.
    let standby = ground.group.server();
    ground.group.wait_for_standbys(1).await;
    let mut both: Vec<_> = (0..2)
        .map(|_| ground.command("jetstream", &[]).spawn().unwrap())
        .collect();
    server.signal(Signal::SIGKILL);
    standby.wait_until_active().await;
    ground.publish("orders.eu", 500).await;
    let all = first as u64 + 500;
    wait_until(LIMIT, async || match ground.length("orders_eu").await {
        Ok(length) if length == all => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    for mirror in &mut both {
        assert!(mirror.try_wait().unwrap().is_none(), "it goes on");
        mirror.kill().await.unwrap();
    }

    let told = ground.once(&[]).await;
    let copied = format!("message {all} of {all} is copied");
    assert!(told.contains(&copied), "{told}");
    let expected: Vec<u64> = (1..=all).collect();
    assert_eq!(ground.sequences("orders_eu").await, expected);
}

#[tokio::test]
async fn a_mirror_goes_on_after_a_restart_of_nats_and_when_the_duplicate_window_is_over() {
    let Some(mut ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    ground.publish("ch", 40).await;
    ground
        .once(&[
            "--stream-max-msgs",
            "30",
            "--stream-max-bytes",
            "1000000",
            "--stream-max-age",
            "3600",
        ])
        .await;
    let stream = ground.stream("ch").await.unwrap();
    let mut config = stream.get_info().await.unwrap().config;
    assert_eq!((config.max_messages, config.max_bytes), (30, 1_000_000));
    assert_eq!(config.max_age, Duration::from_hours(1));
    // Nothing is known by its ID any more.
    config.duplicate_window = Duration::from_millis(100);
    let client = async_nats::connect(ground.nats.url()).await.unwrap();
    jetstream::new(client).update_stream(config).await.unwrap();
    let mut mirror = ground.command("jetstream", &[]).spawn().unwrap();

    let directory = ground.folder.path().to_str().unwrap().to_owned();
    nats::restart(&mut ground.nats, &["-js", "-sd", &directory]).await;
    wait_until(LIMIT, async || {
        let client = async_nats::connect(ground.nats.url()).await;
        let client = client.map_err(|error| error.to_string())?;
        StanClient::connect(client, &ground.group.cluster_id, "probe").await
    })
    .await;
    ground.publish("ch", 10).await;

    let expected: Vec<u64> = (21..=50).collect();
    wait_until(LIMIT, async || {
        let stream = ground.stream("ch").await?;
        let told = stream.get_info().await.map_err(|error| error.to_string())?;
        match told.state.last_sequence {
            50 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
    assert!(mirror.try_wait().unwrap().is_none(), "it goes on");
    mirror.kill().await.unwrap();
    assert_eq!(ground.sequences("ch").await, expected);
}

#[tokio::test]
async fn what_cannot_be_a_stream_or_is_not_ours_is_refused_by_name() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    ground.publish("a.b", 2).await;
    ground.publish("a_b", 3).await;
    let refused = ground.run("jetstream", &["--once"]).await;
    assert_eq!(code(&refused), Some(1), "{}", stdout(&refused));
    let told = stderr(&refused);
    assert!(
        told.contains("\"a.b\" and \"a_b\"") && told.contains("--stream-of"),
        "{told}"
    );
    ground.once(&["--stream-of", "a.b=AB"]).await;
    assert_eq!(ground.sequences("AB").await, [1, 2]);
    assert_eq!(ground.sequences("a_b").await, [1, 2, 3]);

    let status = ground
        .run("status", &["--json", "--stream-of", "a.b=AB"])
        .await;
    let told: serde_json::Value = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(told[0]["copied"], told[0]["last"], "{told}");

    // A publisher that has moved ends the copying: what it published is no copy.
    let client = async_nats::connect(ground.nats.url()).await.unwrap();
    let context = jetstream::new(client);
    let sent = context.publish("stan.a_b", "new".into()).await;
    sent.unwrap().await.unwrap();
    let refused = ground
        .run("jetstream", &["--once", "--channel", "a_b"])
        .await;
    assert_eq!(code(&refused), Some(1), "{}", stdout(&refused));
    let told = stderr(&refused);
    assert!(told.contains("another client publishes"), "{told}");

    // It ends that of this channel alone.
    ground.publish("a.b", 1).await;
    let both = ["--stream-of", "a.b=AB"];
    let _mirror = ground.command("jetstream", &both).spawn().unwrap();
    wait_until(LIMIT, async || match ground.sequences("AB").await {
        copied if copied == [1, 2, 3] => Ok(()),
        copied => Err(format!("{copied:?}")),
    })
    .await;
    let status = ground.run("status", &both).await;
    let told = stdout(&status);
    assert!(told.contains("nothing is copied"), "{told}");
    assert!(told.contains("message 3 of 3 is copied"), "{told}");

    let refused = ground
        .run("jetstream", &["--once", "--channel", "none"])
        .await;
    assert!(
        stderr(&refused).contains("channel \"none\""),
        "{}",
        stderr(&refused)
    );
}

#[tokio::test]
async fn a_consumer_begins_where_its_durable_stands_and_follows_it_until_it_is_used() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    ground.publish("ch", 10).await;
    let client = ground.group.client("worker").await;
    let mut old = client.take("ch", ("", "durable"), 64).await;
    old.wait_for(10).await;
    for sequence in [1, 2, 3, 6] {
        old.ack(sequence).await;
    }
    let tables = ground.group.tables();
    let floor = async |expected: i64| {
        wait_until(LIMIT, async || {
            let all = tables.number("SELECT acked_floor FROM positions").await;
            if all == expected {
                Ok(())
            } else {
                Err(format!("{all}"))
            }
        })
        .await;
    };
    floor(3).await;

    ground.once(&["--consumers"]).await;
    assert_eq!(ground.begins("worker-durable").await, 4);
    for sequence in [4, 5] {
        old.ack(sequence).await;
    }
    floor(6).await;
    ground.once(&["--consumers"]).await;
    assert_eq!(ground.begins("worker-durable").await, 7);

    let stream = ground.stream("ch").await.unwrap();
    let consumer: PullConsumer = stream.get_consumer("worker-durable").await.unwrap();
    let mut messages = consumer.fetch().max_messages(1).messages().await.unwrap();
    let message = messages.next().await.unwrap().unwrap();
    let headers = message.headers.as_ref().unwrap();
    assert_eq!(headers.get("Stan-Sequence").unwrap().as_str(), "7");
    old.ack(7).await;
    floor(7).await;
    ground.once(&["--consumers"]).await;
    assert_eq!(ground.begins("worker-durable").await, 7);
}

#[tokio::test]
async fn a_mirror_goes_on_where_all_copies_have_grown_too_old() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let server = ground.group.server();
    server.wait_until_active().await;
    ground.publish("ch", 5).await;
    ground.once(&["--stream-max-age", "1"]).await;
    wait_until(LIMIT, async || match ground.length("ch").await {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    ground.publish("ch", 2).await;

    let told = ground.once(&[]).await;

    assert!(told.contains("message 7 of 7 is copied"), "{told}");
    let stream = ground.stream("ch").await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.last_sequence, 7);
}

#[tokio::test]
async fn encrypted_messages_of_every_term_are_mirrored_as_they_were_published() {
    const KEYS: [&str; 3] = ["--encrypt", "--encryption-key", "a key that nobody guesses"];
    let Some(ground) = Ground::new().await else {
        return;
    };
    let first = ground.group.server_with(&KEYS);
    first.wait_until_active().await;
    ground.publish("ch", 3).await;
    let mut mirror = ground
        .command("jetstream", &KEYS[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let grown_to = async |length| {
        wait_until(LIMIT, async || match ground.length("ch").await {
            Ok(found) if found >= length => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };
    grown_to(3).await;

    // The next term encrypts with a key that the mirror has not seen when it began.
    first.kill().await;
    let second = ground.group.server_with(&KEYS);
    second.wait_until_active().await;
    ground.publish("ch", 3).await;
    grown_to(6).await;

    let stream = ground.stream("ch").await.unwrap();
    for at in 1..=6 {
        let message = stream.get_raw_message(at).await.unwrap();
        let text = String::from_utf8(message.payload.to_vec());
        assert!(
            text.is_ok_and(|text| text.starts_with("message ")),
            "{message:?}"
        );
    }
    mirror.kill().await.unwrap();
}
