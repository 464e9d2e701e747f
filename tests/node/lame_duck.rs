//! A NATS server that is about to shut down, or dies, while publishes are in flight.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};
use stanby::protocol::client as wire;
use tokio::time::timeout;

use crate::pair::{Group, LIMIT, Server};
use crate::silent_nats::{Cluster, pair, wait_until_apart};
use crate::stan::{Load, StanClient};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

const PUBLISHERS: usize = 4;
const WINDOW: usize = 16;

async fn publishers(client: &StanClient) -> Load {
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        publishers.push(client.publisher("orders").await);
    }
    Load::start(publishers, WINDOW)
}

async fn wait_for_acks(load: &Load, more: u64) {
    let wanted = load.acked() + more;
    wait_until(LIMIT, async || match load.acked() {
        acked if acked >= wanted => Ok(()),
        acked => Err(format!("{acked} of {wanted}")),
    })
    .await;
}

async fn wait_for_log(server: &Server, text: &str) {
    wait_until(LIMIT, async || {
        let log = server.log();
        if log.contains(text) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_in_lame_duck_mode_is_left_without_a_publish_lost_or_taken_twice() {
    let (Some(database), Some(cluster)) = (postgres::database().await, Cluster::start().await)
    else {
        return;
    };
    let group = Group::over(database.url.clone(), cluster.urls(), &[]);
    // Alone: nobody else could answer for it.
    let active = group.server();
    active.wait_until_active().await;
    let client = cluster.client(&cluster.second, "me").await;
    let load = publishers(&client).await;
    wait_for_acks(&load, 100).await;

    // As `nats-server --signal ldm` does it.
    let lame = Pid::from_raw(cluster.first.pid().try_into().unwrap());
    kill(lame, Signal::SIGUSR2).unwrap();
    wait_for_log(&active, "moved to another NATS server").await;
    wait_for_acks(&load, 500).await;
    let published = load.finish().await;

    assert!(published.errors.is_empty(), "{:?}", published.errors);
    assert_eq!(
        published.acked.len(),
        published.sent.len(),
        "each is answered"
    );
    let stored = group.tables().messages("orders").await;
    let guids: BTreeSet<&str> = stored.iter().map(|row| row.guid.as_str()).collect();
    assert_eq!(guids.len(), stored.len(), "none is stored twice");
    assert_eq!(stored.len(), published.sent.len());
    assert!(
        !active.log().contains("lost the connection to NATS"),
        "{}",
        active.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_when_a_nats_server_was_killed_is_answered() {
    let (Some(database), Some(cluster)) = (postgres::database().await, Cluster::start().await)
    else {
        return;
    };
    let group = Group::over(database.url.clone(), cluster.urls(), &[]);
    let (active, standby) = pair(&group).await;
    wait_until_apart(&active).await;
    let client = cluster.client(&cluster.second, "me").await;
    let load = publishers(&client).await;
    wait_for_acks(&load, 300).await;

    let killed = Pid::from_raw(cluster.first.pid().try_into().unwrap());
    kill(killed, Signal::SIGKILL).unwrap();
    // Requests that died with it were heard by the standby alone, and are stored by nobody: these are new ones.
    let mut another = client.publisher("orders").await;
    another.send_until_acked(LIMIT).await;
    let mut published = load.finish().await;
    published
        .acked
        .extend(another.published().acked.iter().cloned());

    let stored = group.tables().messages("orders").await;
    let unanswered: Vec<&str> = stored
        .iter()
        .map(|row| row.guid.as_str())
        .filter(|guid| !published.acked.contains(*guid))
        .collect();
    assert!(stored.len() > 300, "{}", stored.len());
    assert!(
        unanswered.is_empty(),
        "{unanswered:?}; {}; {}",
        active.log(),
        standby.log()
    );
}

/// The client is back later than the server, as those are whose library waits before it tries again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_while_nats_is_away_is_answered_when_the_client_is_back() {
    let (Some(database), Some(mut nats)) =
        (postgres::database().await, nats::own_server(&[]).await)
    else {
        return;
    };
    // NATS is away for less than a lease: the term goes on.
    let group = Group::over(database.url.clone(), nats.url(), &["--lease", "30s"]);
    let active = group.server();
    active.wait_until_active().await;
    let client = group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    let mut holder = PgConnection::connect(&group.database_url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE stanby.messages IN SHARE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    publisher.send().await;
    publisher.flush().await;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    wait_until(LIMIT, async || {
        let waiting = group.tables().number(waits).await;
        if waiting > 0 {
            Ok(())
        } else {
            Err("nothing waits".to_owned())
        }
    })
    .await;
    nats.stop(LIMIT).await.unwrap();
    wait_for_log(&active, "lost the connection to NATS").await;
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    wait_until(LIMIT, async || {
        match group.tables().messages("orders").await.len() {
            2 => Ok(()),
            stored => Err(format!("{stored} of 2")),
        }
    })
    .await;
    nats::restart(&mut nats, &[]).await;
    wait_until(LIMIT, async || {
        let log = active.log();
        match log
            .matches("INFO stanby::nats::reconnect: connected")
            .count()
        {
            2 => Ok(()),
            _ => Err(log),
        }
    })
    .await;

    let back = async_nats::connect(nats.url()).await.unwrap();
    let mut acks = back.subscribe(publisher.inbox.clone()).await.unwrap();
    let stored = group.tables().messages("orders").await;
    // The one of before may come again, too.
    let answered = async {
        loop {
            let ack = wire::publish_ack(acks.next().await.unwrap().payload).unwrap();
            assert_eq!(ack.refusal, None);
            if *ack.guid == *stored[1].guid {
                return;
            }
        }
    };
    timeout(LIMIT, answered).await.unwrap();
}
