//! Postgres and NATS go away and come back under running servers: no process ends, one is active again.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod stopping;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};
use stanby::clock::Clock;
use stanby::protocol::subjects::Prefixes;
use stanby::protocol::{Subjects, client as wire};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::pair::{Group, LIMIT, Pair, Says};
use crate::stan::{Publisher, StanClient};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};
use crate::watch::Watch;

const CHANNEL: &str = "orders";

const LEASE: [&str; 2] = ["--lease", "1s"];

const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Acceptance: 130, 150.
#[tokio::test]
async fn a_restart_of_postgres_costs_no_acked_message_and_no_process() {
    let (Some(mut database), Some(nats_url)) = (postgres::own_server().await, nats::url().await)
    else {
        return;
    };
    let mut group = Group::over(database.url(), nats_url, &LEASE);
    group.cluster_id = "restarts".to_owned();
    let mut pair = Pair::of(group).await;
    let watch = Watch::over(&[&pair.active, &pair.standby]);
    let client = pair.group.client("steady").await;
    let received = client.subscribe(CHANNEL, "", "books").await.unwrap();
    let mut publisher = client.publisher(CHANNEL).await;
    publisher.send_until_acked(LIMIT).await;

    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        database.signal(signal);
        database.wait().await.unwrap();
        postgres::restart(&mut database).await;

        publisher.send_until_acked(LIMIT).await;
        pair.roles().await;
        assert_eq!(client.ping().await, Ok(()), "after {signal}");
    }

    database.stop(STOP_LIMIT).await.unwrap();
    for server in [&pair.active, &pair.standby] {
        server.wait_for_trouble("cannot reach Postgres at").await;
        assert_eq!(server.get("/readyz").await.unwrap().0, 503);
        assert_eq!(server.get("/healthz").await.unwrap().0, 200);
    }
    publisher.take_acks().await;
    let acked = publisher.published().acked.len();
    publisher.send().await;
    // Both have noticed the outage and say so again: time enough for an answer, were there one.
    for server in [&pair.active, &pair.standby] {
        server.wait_for_trouble("cannot reach Postgres at").await;
    }
    publisher.take_acks().await;
    assert_eq!(publisher.published().acked.len(), acked);

    postgres::restart(&mut database).await;
    publisher.send_until_acked(LIMIT).await;
    pair.roles().await;
    assert_acked_is_stored(&pair.group, &publisher).await;
    let last = pair.group.tables().messages(CHANNEL).await.len();
    wait_until(LIMIT, async || match received.sequences().len() {
        got if got == last => Ok(()),
        got => Err(format!("{got} of {last}")),
    })
    .await;
    assert!(pair.active.is_running() && pair.standby.is_running());
    assert_eq!(watch.seen().contradictions, "");
}

/// Whoever of the two has it in its hands or has heard it: nobody has to publish again.
#[tokio::test]
async fn a_publish_while_postgres_is_away_gets_its_ack_when_it_is_back() {
    let (Some(mut database), Some(nats_url)) = (postgres::own_server().await, nats::url().await)
    else {
        return;
    };
    let flags = ["--lease", "1s", "--shadow-age", "1m"];
    let mut group = Group::over(database.url(), nats_url, &flags);
    group.cluster_id = "away".to_owned();
    let pair = Pair::of(group).await;
    let client = pair.group.client("steady").await;
    let mut publisher = client.publisher(CHANNEL).await;
    publisher.send_until_acked(LIMIT).await;

    database.stop(STOP_LIMIT).await.unwrap();
    for _ in 0..3 {
        publisher.send().await;
        for server in [&pair.active, &pair.standby] {
            server.wait_for_trouble("cannot reach Postgres at").await;
        }
    }
    postgres::restart(&mut database).await;

    publisher.take_all_acks().await;
    assert_eq!(publisher.published().acked.len(), 4);
    assert_acked_is_stored(&pair.group, &publisher).await;
}

/// Acceptance: 131.
#[tokio::test]
async fn a_restart_of_nats_costs_no_acked_message_and_no_process() {
    let (Some(database), Some(mut nats)) =
        (postgres::database().await, nats::own_server(&[]).await)
    else {
        return;
    };
    let group = Group::over(database.url.clone(), nats.url(), &LEASE);
    let mut pair = Pair::of(group).await;
    let watch = Watch::over(&[&pair.active, &pair.standby]);
    let client = pair.group.client("steady").await;
    let received = client.subscribe(CHANNEL, "", "books").await.unwrap();
    let mut publisher = client.publisher(CHANNEL).await;
    publisher.send_until_acked(LIMIT).await;

    nats::restart(&mut nats, &[]).await;
    publisher.send_until_acked(LIMIT).await;
    pair.roles().await;

    // Away for longer than a lease: the active gives the lock up, and nobody takes it who could not serve.
    nats.stop(STOP_LIMIT).await.unwrap();
    for server in [&pair.active, &pair.standby] {
        server.wait_for_trouble("NATS is out of reach").await;
    }
    assert_eq!(pair.group.tables().standbys().await.unwrap(), 0);
    nats::restart(&mut nats, &[]).await;
    publisher.send_until_acked(LIMIT).await;
    pair.roles().await;

    assert_eq!(client.ping().await, Ok(()), "it has not been forgotten");
    assert_acked_is_stored(&pair.group, &publisher).await;
    let last = pair.group.tables().messages(CHANNEL).await.len();
    wait_until(LIMIT, async || match received.sequences().len() {
        got if got == last => Ok(()),
        got => Err(format!("{got} of {last}")),
    })
    .await;
    assert!(pair.active.is_running() && pair.standby.is_running());
    assert_eq!(watch.seen().contradictions, "");
}

/// Longer than the server may believe in its lock without an answer, shorter than a statement may take.
const SLOW_COMMIT: Duration = Duration::from_secs(4);

/// Batches with messages take until the table is empty. No lock of others is in their way: while one is, the lease is renewed.
const SLOW: &str = "CREATE TABLE public.slow AS SELECT true AS is_slow;
    CREATE FUNCTION public.wait_while_slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WHILE EXISTS (SELECT FROM public.slow) LOOP
            PERFORM pg_sleep(0.05);
        END LOOP;
        RETURN NULL;
    END $$;
    CREATE TRIGGER slow AFTER INSERT ON stanby.messages FOR EACH STATEMENT EXECUTE FUNCTION public.wait_while_slow()";

#[tokio::test]
async fn a_commit_that_is_slow_ends_neither_the_process_nor_the_term() {
    let Some(mut pair) = Pair::new(&LEASE).await else {
        return;
    };
    let client = pair.group.client("steady").await;
    let mut publisher = client.publisher(CHANNEL).await;
    publisher.send_until_acked(LIMIT).await;

    let mut blocker = PgConnection::connect(&pair.group.database_url)
        .await
        .unwrap();
    sqlx::raw_sql(SLOW).execute(&mut blocker).await.unwrap();
    let since = Instant::now();
    publisher.send().await;
    wait_until(LIMIT, async || {
        match pair.active.get("/healthz/active").await {
            Ok((503, _)) if since.elapsed() > SLOW_COMMIT => Ok(()),
            other => Err(format!("{other:?} after {:?}", since.elapsed())),
        }
    })
    .await;
    assert!(pair.active.is_running(), "{}", pair.active.log());
    sqlx::raw_sql("DELETE FROM public.slow")
        .execute(&mut blocker)
        .await
        .unwrap();

    publisher.take_all_acks().await;
    assert_eq!(pair.active.wait_until_active().await, 1);
    assert_eq!(publisher.published().errors, [""; 0]);
}

/// While it cannot believe in its lock, the active looks at nothing: not at NATS either, which may go and come back.
#[tokio::test]
async fn a_client_is_asked_again_when_nats_went_and_came_back_during_a_slow_commit() {
    let (Some(database), Some(mut nats)) =
        (postgres::database().await, nats::own_server(&[]).await)
    else {
        return;
    };
    let heartbeats = [
        "--hb-interval",
        "1s",
        "--hb-timeout",
        "3s",
        "--hb-fail-count",
        "0",
    ];
    let flags: Vec<&str> = LEASE.into_iter().chain(heartbeats).collect();
    let group = Group::over(database.url.clone(), nats.url(), &flags);
    let server = group.server();
    server.wait_until_active().await;
    let steady = group.client("steady").await;
    let mut publisher = steady.publisher(CHANNEL).await;
    publisher.send_until_acked(LIMIT).await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let inbox = client.new_inbox();
    let mut probes = client.subscribe(inbox.clone()).await.unwrap();
    connect(&client, &group.cluster_id, "quiet", &inbox).await;

    // The answer to this one is lost.
    probes.next().await.unwrap();
    let asked = Instant::now();
    let mut blocker = PgConnection::connect(&group.database_url).await.unwrap();
    sqlx::raw_sql(SLOW).execute(&mut blocker).await.unwrap();
    publisher.send().await;
    // By then it has noticed, too.
    wait_until(LIMIT, async || match server.get("/healthz/active").await {
        Ok((503, _)) if asked.elapsed() > HEARTBEAT_TIMEOUT / 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    nats::restart(&mut nats, &[]).await;
    wait_until(LIMIT, async || {
        let connects = server.log().matches("connected to NATS").count();
        client.flush().await.map_err(|error| error.to_string())?;
        match (connects, asked.elapsed() > HEARTBEAT_TIMEOUT) {
            (2, true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    sqlx::raw_sql("DELETE FROM public.slow")
        .execute(&mut blocker)
        .await
        .unwrap();

    for _ in 0..2 {
        let probe = timeout(LIMIT, probes.next())
            .await
            .expect("it is asked again");
        let reply = probe.unwrap().reply.unwrap();
        client.publish(reply, "".into()).await.unwrap();
    }
    assert!(!server.log().contains("timed out on heartbeats"));
}

/// Longer than a client is given to answer that it still has its ID, shorter than the server may believe in its lock.
const PAUSE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_client_that_answers_while_the_active_is_frozen_keeps_its_id() {
    let Some(group) = Group::new(&["--lease", "5s"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = async_nats::connect(&group.nats_url).await.unwrap();
    let inbox = client.new_inbox();
    let mut probes = client.subscribe(inbox.clone()).await.unwrap();
    connect(&client, &group.cluster_id, "owner", &inbox).await;
    let nats = async_nats::connect(&group.nats_url).await.unwrap();
    let mut second = JoinSet::new();
    let cluster_id = group.cluster_id.clone();
    second.spawn(async move {
        let connected = StanClient::connect(nats, &cluster_id, "owner").await;
        connected.map(drop)
    });

    let probe = probes.next().await.unwrap();
    server.signal(Signal::SIGSTOP);
    client
        .publish(probe.reply.unwrap(), "".into())
        .await
        .unwrap();
    client.flush().await.unwrap();
    let since = Instant::now();
    wait_until(LIMIT, async || match since.elapsed() {
        pause if pause > PAUSE => Ok(()),
        pause => Err(format!("{pause:?}")),
    })
    .await;
    server.signal(Signal::SIGCONT);

    // It is asked once more, or its first answer has been read by then.
    let refused = loop {
        tokio::select! {
            answer = second.join_next() => break answer.unwrap().unwrap(),
            probe = probes.next() => {
                let reply = probe.unwrap().reply.unwrap();
                client.publish(reply, "".into()).await.unwrap();
            }
        }
    };
    let refused = refused.unwrap_err();
    assert!(refused.contains("clientID already registered"), "{refused}");
}

/// As in the flags of the test.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);

async fn connect(nats: &async_nats::Client, cluster_id: &str, id: &str, heartbeat_inbox: &str) {
    let subjects = Subjects::new(cluster_id, &Prefixes::default()).unwrap();
    let request = wire::connect_request(&wire::Connect {
        client_id: id,
        heartbeat_inbox,
        protocol: 1,
        connection_id: id.as_bytes(),
        ping_interval: 5,
        ping_max_out: 3,
    });
    let subject = subjects.discover().to_string();
    let answer = nats.request(subject, request).await.unwrap();
    wire::connect_response(answer.payload).unwrap();
}

/// The process of Postgres behind the leader session.
async fn backend_of_active(group: &Group) -> Pid {
    let mut connection = PgConnection::connect(&group.database_url).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT backend_pid FROM stanby.leadership")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    Pid::from_raw(pid)
}

/// Acceptance: 131.
#[tokio::test]
async fn without_nats_between_them_the_standby_waits_as_long_as_the_active_holds_the_lock() {
    let (Some(database), Some(one), Some(other)) = (
        postgres::database().await,
        nats::own_server(&[]).await,
        nats::own_server(&[]).await,
    ) else {
        return;
    };
    // Each has a nats-server of its own: neither hears of the other's.
    let here = Group::over(database.url.clone(), one.url(), &LEASE);
    let there = Group::over(database.url.clone(), other.url(), &LEASE);
    let active = here.server();
    assert_eq!(active.wait_until_active().await, 1);
    let standby = there.server();
    here.wait_for_standbys(1).await;
    let watch = Watch::over(&[&active, &standby]);
    let client = here.client("here").await;
    let mut publisher = client.publisher(CHANNEL).await;

    // For three leases.
    let began = Clock.now().monotonic;
    while Clock.now().monotonic.since(began) < Duration::from_secs(3) {
        publisher.send().await;
        publisher.take_all_acks().await;
    }
    let nats = async_nats::connect(other.url()).await.unwrap();
    let connecting = StanClient::connect(nats, &there.cluster_id, "there");
    let answer = timeout(Duration::from_secs(1), connecting).await;
    assert!(answer.is_err(), "the standby answers");
    assert_eq!(standby.says().await, Says::Standby);
    assert_eq!(watch.seen().contradictions, "");
    assert_eq!(watch.seen().epochs, BTreeSet::from([1]));

    active.kill().await;
    assert_eq!(standby.wait_until_active().await, 2);
    let successor = here.server();
    here.wait_for_standbys(1).await;
    assert_acked_is_stored(&there, &publisher).await;
    let mut publisher = there.client("there").await.publisher(CHANNEL).await;
    publisher.send_until_acked(LIMIT).await;
    assert_eq!(successor.says().await, Says::Standby);
}

/// Whatever was acked is there, once and as it was sent; what was not acked may be there, once.
async fn assert_acked_is_stored(group: &Group, publisher: &Publisher) {
    let done = publisher.published();
    let rows = group.tables().messages(CHANNEL).await;
    for guid in &done.acked {
        let stored: Vec<_> = rows.iter().filter(|row| row.guid == *guid).collect();
        assert_eq!(stored.len(), 1, "{guid}");
        assert_eq!(stored[0].data, done.sent[guid]);
    }
    for (row, sequence) in rows.iter().zip(1..) {
        assert_eq!(row.sequence, sequence);
        assert!(done.sent.contains_key(&row.guid));
    }
}
