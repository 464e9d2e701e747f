//! What clients, operators and scripts rely on, shown on whole servers where the core alone cannot show it.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::pair::{Group, LIMIT, Pair, Server};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

const CHANNEL: &str = "orders";

async fn serverz(server: &Server) -> Value {
    wait_until(LIMIT, async || {
        let (_, body) = server.get("/streaming/serverz").await?;
        serde_json::from_str(&body).map_err(|error| error.to_string())
    })
    .await
}

async fn wait_for_log(server: &Server, text: &str, times: usize) {
    wait_until(LIMIT, async || {
        let log = server.log();
        match log.matches(text).count() {
            found if found >= times => Ok(()),
            found => Err(format!("{text:?} stands {found} times in {log}")),
        }
    })
    .await;
}

/// Acceptance: 6, 126, 140.
#[tokio::test]
async fn one_of_two_is_active_and_both_are_silent_to_other_clusters() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };

    assert_eq!(serverz(&pair.active).await["state"], "FT_ACTIVE");
    assert_eq!(serverz(&pair.standby).await["state"], "FT_STANDBY");
    let nats = async_nats::connect(&pair.group.nats_url).await.unwrap();
    let refused = StanClient::connect(nats, "no-such-cluster", "me").await;
    let why = refused.err().unwrap();
    assert!(why.contains("no responders"), "{why}");

    // Were the standby to answer as well, an ack would come twice.
    let client = pair.group.client("me").await;
    let mut publisher = client.publisher(CHANNEL).await;
    for _ in 0..20 {
        publisher.send().await;
    }
    for _ in 0..20 {
        assert!(publisher.take_ack(LIMIT).await);
    }
    client.ping().await.unwrap();
    assert!(!publisher.take_ack(std::time::Duration::ZERO).await);
    assert_eq!(publisher.published().acked.len(), 20);
    let clients = serverz(&pair.standby).await["clients"].clone();
    assert_eq!(clients, 0);
}

/// Acceptance: 39.
#[tokio::test]
async fn a_burst_is_acked_whatever_flags_for_batches_say() {
    const COUNT: usize = 1124;

    let Some(group) = Group::new(&["-io_batch_size=50", "-io_sleep_time", "500"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    let mut publisher = client.publisher(CHANNEL).await;

    for _ in 0..COUNT {
        publisher.send().await;
    }
    while publisher.published().acked.len() < COUNT {
        assert!(
            publisher.take_ack(LIMIT).await,
            "{:?}",
            publisher.published()
        );
    }

    assert_eq!(publisher.published().errors, [""; 0]);
    assert_eq!(group.tables().messages(CHANNEL).await.len(), COUNT);
    assert!(server.log().contains(": -io_batch_size, -io_sleep_time"));
}

/// Acceptance: 98, 100.
#[tokio::test]
async fn a_durable_that_comes_back_in_the_middle_gets_every_message() {
    const COUNT: u64 = 500;

    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("writer").await;
    let mut publisher = client.publisher(CHANNEL).await;
    for _ in 0..COUNT {
        publisher.send().await;
    }
    for _ in 0..COUNT {
        assert!(publisher.take_ack(LIMIT).await);
    }

    let reader = group.client("reader").await;
    let before = reader.subscribe(CHANNEL, "", "books").await.unwrap();
    wait_until(LIMIT, async || match before.sequences().len() {
        got if got >= 100 => Ok(()),
        got => Err(format!("{got} of 100")),
    })
    .await;
    let received = before.sequences();
    drop(before);
    reader.close().await.unwrap();
    let reader = group.client("reader").await;
    let after = reader.subscribe(CHANNEL, "", "books").await.unwrap();

    let all: BTreeSet<u64> = (1..=COUNT).collect();
    wait_until(LIMIT, async || {
        let got: BTreeSet<u64> = received.union(&after.sequences()).copied().collect();
        if got == all {
            Ok(())
        } else {
            Err(format!("{} of {COUNT}", got.len()))
        }
    })
    .await;
}

/// Acceptance: 145.
#[tokio::test]
async fn counters_go_on_when_the_same_server_is_active_again() {
    let Some(group) = Group::new(&["--lease", "1s"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    let _subscription = client.subscribe(CHANNEL, "", "").await.unwrap();
    let mut publisher = client.publisher(CHANNEL).await;
    let counts = async |server: &Server| {
        let page = serverz(server).await;
        ["in_msgs", "out_msgs"].map(|name| page[name].as_u64().unwrap())
    };
    let wait_for = async |least: [u64; 2]| {
        wait_until(LIMIT, async || {
            let [received, sent] = counts(&server).await;
            if received == least[0] && sent >= least[1] {
                Ok(())
            } else {
                Err(format!("in {received}, out {sent}"))
            }
        })
        .await;
    };

    for _ in 0..5 {
        publisher.send().await;
        assert!(publisher.take_ack(LIMIT).await);
    }
    wait_for([5, 5]).await;
    let end = "SELECT pg_terminate_backend(backend_pid) FROM stanby.leadership";
    group.tables().execute(end).await;
    wait_until(LIMIT, async || {
        let says = server.says().await;
        if matches!(says, crate::pair::Says::Active(2)) {
            return Ok(());
        }
        Err(format!("{says:?}"))
    })
    .await;
    wait_for([5, 5]).await;
    publisher.send().await;
    assert!(publisher.take_ack(LIMIT).await);
    wait_for([6, 6]).await;
}

/// Acceptance: 169, 170.
#[tokio::test]
async fn signals_of_old_scripts_do_no_harm_and_the_log_has_the_lines_they_look_for() {
    let Some(group) = Group::new(&["-mm", "0", "-mc", "7"]).await else {
        return;
    };
    let mut server = group.server();
    server.wait_until_active().await;

    for times in 1..=3 {
        server.signal(Signal::SIGUSR1);
        let ignored = "File log re-open ignored, not a file logger";
        wait_for_log(&server, ignored, times).await;
    }
    server.signal(Signal::SIGHUP);
    wait_for_log(&server, "configuration reloaded", 1).await;
    assert_eq!(
        server.wait_until_active().await,
        1,
        "it has not stepped down"
    );
    let page = server.get("/streaming/serverz").await.unwrap().1;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let id = page["server_id"].as_str().unwrap();

    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().await.code(), Some(143));
    let log = server.log();
    for line in [
        "Streaming Server is ready",
        "Shutting down.",
        "store limits",
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
    assert!(log.contains("max_msgs=\"unlimited\""), "{log}");
    assert!(log.contains("max_channels=\"7\""), "{log}");
    let starting = log.lines().find(|line| line.contains("starting version="));
    let starting = starting.expect("a log says what wrote it");
    for part in [
        format!("server_id=\"{id}\""),
        format!("pid={}", server.pid()),
    ] {
        assert!(starting.contains(&part), "{part} in {starting}");
    }
    let limits = log.lines().find(|line| line.contains("store limits"));
    assert!(!limits.unwrap().contains("\"-1\""), "{limits:?}");
}

/// Acceptance: 169.
#[tokio::test]
async fn a_log_file_that_was_renamed_is_begun_anew_each_time_it_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("stanby.log");
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server_with(&["--log", file.to_str().unwrap()]);
    server.wait_until_active().await;

    for times in 1..=3 {
        let kept = directory.path().join(format!("stanby.log.{times}"));
        std::fs::rename(&file, &kept).unwrap();
        server.signal(Signal::SIGUSR1);
        wait_until(LIMIT, async || {
            let log = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let begun = log.contains("File log re-opened");
            begun.then_some(()).ok_or(log)
        })
        .await;
    }
    assert_eq!(server.wait_until_active().await, 1);
    let first = std::fs::read_to_string(directory.path().join("stanby.log.1")).unwrap();
    assert!(first.contains("Streaming Server is ready"), "{first}");
}

/// Acceptance: 156.
#[tokio::test]
async fn a_missing_server_info_is_written_again_and_everything_is_still_there() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let mut server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    let mut publisher = client.publisher(CHANNEL).await;
    publisher.send().await;
    assert!(publisher.take_ack(LIMIT).await);
    server.signal(Signal::SIGTERM);
    server.end().await;

    let tables = group.tables();
    tables.execute("DELETE FROM stanby.server_info").await;
    let next = group.server();
    next.wait_until_active().await;

    assert_eq!(client.ping().await, Ok(()));
    publisher.send().await;
    assert!(publisher.take_ack(LIMIT).await);
    let sequences: Vec<i64> = tables
        .messages(CHANNEL)
        .await
        .iter()
        .map(|row| row.sequence)
        .collect();
    assert_eq!(sequences, [1, 2]);
    let warned = next.log().contains("the server's own row was missing");
    assert!(warned, "{}", next.log());
    let infos = "SELECT count(*) FROM stanby.server_info";
    assert_eq!(tables.number(infos).await, 1);
}

/// Acceptance: 148.
#[tokio::test]
async fn a_column_that_somebody_dropped_is_named() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let mut server = group.server();
    server.wait_until_active().await;
    server.signal(Signal::SIGTERM);
    server.end().await;

    let drop_column = "ALTER TABLE stanby.messages DROP COLUMN guid CASCADE";
    group.tables().execute(drop_column).await;
    let next = group.server();

    next.wait_for_trouble("guid").await;
}
