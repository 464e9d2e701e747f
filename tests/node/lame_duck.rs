//! A NATS server that is about to shut down, or dies, while publishes are in flight.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeSet;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};
use stanby::dev::nats::NatsServer;
use stanby::protocol::client as wire;
use tokio::time::timeout;

use crate::pair::{Group, LIMIT, Server};
use crate::silent_nats::{Cluster, pair, wait_until_apart};
use crate::stan::{Load, Publisher, StanClient};
use crate::support::process::Own;
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

/// Waits for the answer to a publish that is stored.
async fn answer_to(guid: &str, mut acks: Subscriber) {
    // Those of before may come again, too.
    let answered = async {
        loop {
            let ack = wire::publish_ack(acks.next().await.unwrap().payload).unwrap();
            assert_eq!(ack.refusal, None);
            if *ack.guid == *guid {
                return;
            }
        }
    };
    timeout(LIMIT, answered).await.unwrap();
}

/// A client that is back at NATS.
async fn back(nats: &NatsServer, inbox: &str) -> Subscriber {
    let nats = async_nats::connect(nats.url()).await.unwrap();
    let acks = nats.subscribe(inbox.to_owned()).await.unwrap();
    nats.flush().await.unwrap();
    acks
}

/// A publish of which NATS goes while it waits for its commit, and that is stored while NATS is away. Returns its guid.
async fn store_without_nats(
    (group, active): (&Group, &Server),
    publisher: &mut Publisher,
    nats: &mut Own<NatsServer>,
) -> String {
    let before = group.tables().messages("orders").await.len();
    let mut holder = PgConnection::connect(&group.database_url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE stanby.messages IN SHARE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    publisher.send().await;
    publisher.flush().await;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock'";
    wait_until(LIMIT, async || {
        if group.tables().number(waits).await > 0 {
            Ok(())
        } else {
            Err("nothing waits".to_owned())
        }
    })
    .await;
    nats.stop(LIMIT).await.unwrap();
    // Until the server knows, its answer would leave for a connection that is dead.
    wait_for_log(active, "lost the connection to NATS").await;
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    wait_until(LIMIT, async || {
        let stored = group.tables().messages("orders").await;
        match stored.get(before) {
            Some(row) => Ok(row.guid.clone()),
            None => Err(format!("{} are stored", stored.len())),
        }
    })
    .await
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

    let stored = store_without_nats((&group, &active), &mut publisher, &mut nats).await;
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

    answer_to(&stored, back(&nats, &publisher.inbox).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_alone_answers_what_it_stored_when_nats_went_for_longer_than_a_lease() {
    let (Some(database), Some(mut nats)) =
        (postgres::database().await, nats::own_server(&[]).await)
    else {
        return;
    };
    let flags = ["--lease", "1s", "--shadow-age", "2m"];
    let group = Group::over(database.url.clone(), nats.url(), &flags);
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    let stored = store_without_nats((&group, &server), &mut publisher, &mut nats).await;
    // Its term is over.
    server.wait_for_trouble("NATS is out of reach").await;
    nats::restart(&mut nats, &[]).await;
    let acks = back(&nats, &publisher.inbox).await;

    assert_eq!(server.wait_until_active().await, 2);
    answer_to(&stored, acks).await;
}

/// Whoever stored it has forgotten it, and whoever heard it has lost the connection to NATS.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_when_nats_went_for_longer_than_a_lease_is_answered_by_who_takes_over() {
    let (Some(database), Some(mut nats)) =
        (postgres::database().await, nats::own_server(&[]).await)
    else {
        return;
    };
    let flags = ["--lease", "1s", "--shadow-age", "2m"];
    let group = Group::over(database.url.clone(), nats.url(), &flags);
    let (active, standby) = pair(&group).await;
    let client = group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    let stored = store_without_nats((&group, &active), &mut publisher, &mut nats).await;
    // Its term is over.
    active.wait_for_trouble("NATS is out of reach").await;
    active.kill().await;
    nats::restart(&mut nats, &[]).await;
    let acks = back(&nats, &publisher.inbox).await;

    assert_eq!(standby.wait_until_active().await, 2);
    answer_to(&stored, acks).await;
}
