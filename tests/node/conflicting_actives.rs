//! Two groups with one cluster ID on different databases: no lock keeps one of them from serving, and clients would get
//! two answers.

use nix::sys::signal::Signal;

use crate::cli::{stanby, stdout};
use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::postgres::{self, TestDatabase};
use crate::support::wait::wait_until;

const LEASE: [&str; 2] = ["--lease", "2s"];

/// Long enough that a server which is frozen while another one starts keeps its lock.
const LONG_LEASE: [&str; 2] = ["--lease", "8s"];

/// With the cluster ID and the NATS of this group, and a database of its own.
async fn another_database(group: &Group) -> Option<(TestDatabase, Group)> {
    let database = postgres::database().await?;
    let mut other = Group::over(database.url.clone(), group.nats_url.clone(), &LEASE);
    other.cluster_id.clone_from(&group.cluster_id);
    Some((database, other))
}

async fn rivals_of(server: &Server) -> String {
    let (_, metrics) = server.get("/metrics").await.unwrap_or_default();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("stanby_rivals "));
    line.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_server_does_not_serve_beside_an_active_on_another_database() {
    let Some(group) = Group::new(&LEASE).await else {
        return;
    };
    let first = group.server();
    first.wait_until_active().await;
    let client = group.client("steady").await;
    let Some((database, other)) = another_database(&group).await else {
        return;
    };

    let newcomers = [other.server(), other.server()];
    for newcomer in &newcomers {
        newcomer
            .wait_for_trouble(&format!("for the same cluster ID {:?}", group.cluster_id))
            .await;
    }

    let reason = newcomers[0].get("/readyz").await.unwrap().1;
    for part in [
        "is active in term 1",
        "on host",
        &group.cluster_id,
        &database.name,
        "system identifier",
        "--cluster-id",
    ] {
        assert!(reason.contains(part), "{part} is not in {reason}");
    }
    client.ping().await.unwrap();
    assert_eq!(rivals_of(&first).await, "0");
    let terms = "SELECT epoch FROM stanby.leadership";
    assert_eq!(other.tables().number(terms).await, 0, "no term has begun");

    first.kill().await;
    let newcomers = newcomers.each_ref();
    crate::pair::wait_for_one_active(&newcomers).await;
}

/// The one is frozen when the other asks who is there.
#[tokio::test]
async fn two_actives_on_two_databases_tell_of_each_other_until_one_of_them_ends() {
    let Some(group) = Group::new(&LONG_LEASE).await else {
        return;
    };
    let Some((_database, other)) = another_database(&group).await else {
        return;
    };
    let first = group.server();
    first.wait_until_active().await;
    first.signal(Signal::SIGSTOP);
    let second = other.server();
    second.wait_until_active().await;
    first.signal(Signal::SIGCONT);

    for server in [&first, &second] {
        server.wait_for_trouble("with other tables").await;
        assert_eq!(rivals_of(server).await, "1");
        assert_eq!(server.get("/healthz/active").await.unwrap().0, 200);
        let log = server.log();
        assert_eq!(log.matches("two servers are active").count(), 1, "{log}");
    }
    // The active's conditions stand in its tables, too.
    let noted = "SELECT count(*) FROM stanby.conditions WHERE reason LIKE '%with other tables%'";
    wait_until(LIMIT, async || match group.tables().number(noted).await {
        1 => Ok(()),
        other => Err(format!("{other} conditions")),
    })
    .await;
    let url = &group.database_url;
    let status = stdout(&stanby(&["status", "--database-url", url]).await);
    assert!(status.contains("wrong     conflicting-actives"), "{status}");

    second.kill().await;
    first.wait_until_active().await;
    assert_eq!(rivals_of(&first).await, "0");
}

/// Its own active has only just ended: whoever else claims to serve is the newcomer.
#[tokio::test]
async fn a_standby_follows_its_active_whatever_another_database_s_active_says() {
    let Some(pair) = Pair::new(&LONG_LEASE).await else {
        return;
    };
    let Some((_database, other)) = another_database(&pair.group).await else {
        return;
    };
    pair.active.signal(Signal::SIGSTOP);
    let rival = other.server();
    rival.wait_until_active().await;

    pair.active.kill().await;

    pair.standby.wait_for_trouble("with other tables").await;
    assert_eq!(pair.standby.get("/healthz/active").await.unwrap().0, 200);
}

#[tokio::test]
async fn strangers_on_the_servers_subject_disturb_nobody() {
    let Some(pair) = Pair::new(&LEASE).await else {
        return;
    };
    let subjects = stanby::protocol::Subjects::new(
        &pair.group.cluster_id,
        &stanby::protocol::subjects::Prefixes::default(),
    )
    .unwrap();
    let nats = async_nats::connect(&pair.group.nats_url).await.unwrap();
    let subject = subjects.servers().to_string();
    let mut heard = nats.subscribe(subject.clone()).await.unwrap();
    for garbage in [
        vec![0xff; 2],
        vec![b'x'],
        vec![0x0a; 9000],
        vec![0; 100_000],
    ] {
        let sent = nats.publish(subject.clone(), garbage.into()).await;
        sent.unwrap();
    }
    for _ in 0..10_000 {
        nats.publish(subject.clone(), "".into()).await.unwrap();
    }
    nats.flush().await.unwrap();

    let client = pair.group.client("steady").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;
    let mut announced = 0;
    let all_heard = async {
        for _ in 0..10_004 {
            let message = futures_util::StreamExt::next(&mut heard).await.unwrap();
            announced += u32::from(message.payload.starts_with(b"\x0a\x16"));
        }
    };
    tokio::time::timeout(LIMIT, all_heard).await.unwrap();
    assert!(announced < 500, "{announced} answers to so many questions");
    pair.active.kill().await;
    pair.standby.wait_until_active().await;
    publisher.send_until_acked(LIMIT).await;
    wait_until(LIMIT, async || match &*rivals_of(&pair.standby).await {
        "0" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
}
