//! A pair at two NATS servers of one cluster, of which one freezes or loses its way to the other.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::net::{Ipv4Addr, TcpListener};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stanby::dev::nats::NatsServer;

use crate::pair::{Group, LIMIT, Server};
use crate::proxy::{Link, Proxy, Target};
use crate::stan::StanClient;
use crate::support::process::Own;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

const CLUSTER: &str = "own-cluster";

pub(crate) struct Cluster {
    pub(crate) first: Own<NatsServer>,
    pub(crate) second: Own<NatsServer>,
    /// Between the two.
    route: Proxy,
}

impl Cluster {
    pub(crate) async fn start() -> Option<Self> {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free().local_addr().unwrap().port();
        let listens = format!("nats://127.0.0.1:{port}");
        let first = [
            "--cluster_name",
            "c",
            "--cluster",
            &listens,
            "--no_advertise",
        ];
        let first = nats::own_server(&first).await?;
        let route = Proxy::start(Target::Port(port)).await;
        let leads = format!("nats://127.0.0.1:{}", route.port);
        let own = format!("nats://127.0.0.1:{}", free().local_addr().unwrap().port());
        let second = [
            "--cluster_name",
            "c",
            "--cluster",
            &own,
            "--cluster_advertise",
            "127.0.0.1:9",
            "--routes",
            &leads,
            "--no_advertise",
        ];
        let second = nats::own_server(&second).await?;
        Some(Self {
            first,
            second,
            route,
        })
    }

    pub(crate) fn urls(&self) -> String {
        format!("{},{}", self.first.url(), self.second.url())
    }

    pub(crate) async fn client(&self, nats: &NatsServer, id: &str) -> StanClient {
        let nats = async_nats::connect(nats.url()).await.unwrap();
        StanClient::connect(nats, CLUSTER, id).await.unwrap()
    }
}

pub(crate) async fn pair(group: &Group) -> (Server, Server) {
    let active = group.server();
    active.wait_until_active().await;
    let standby = group.server();
    group.wait_for_standbys(1).await;
    (active, standby)
}

/// The standby has gone to the other NATS server, and the active has heard so.
pub(crate) async fn wait_until_apart(active: &Server) {
    wait_until(LIMIT, async || {
        let log = active.log();
        if log.contains("is_elsewhere=true") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_that_freezes_hands_its_active_s_work_to_the_standby_at_another_one() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let group = Group::over(database.url.clone(), cluster.urls(), &[]);
    let (active, standby) = pair(&group).await;
    wait_until_apart(&active).await;
    let client = cluster.client(&cluster.second, "me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;

    let frozen = Pid::from_raw(cluster.first.pid().try_into().unwrap());
    kill(frozen, Signal::SIGSTOP).unwrap();
    // All that is published meanwhile is answered, by the server that heard it.
    for _ in 0..100 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
    assert!(publisher.published().errors.is_empty());
    assert_eq!(standby.wait_until_active().await, 2);
    let log = active.log();
    kill(frozen, Signal::SIGCONT).unwrap();
    assert!(log.contains("a standby listens at another one"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_does_not_hear_the_active_says_so_and_vanished_clients_stay_for_a_while() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let flags = ["--hb-interval", "300ms", "--hb-fail-count", "9"];
    let group = Group::over(database.url.clone(), cluster.urls(), &flags);
    let (active, standby) = pair(&group).await;
    wait_until_apart(&active).await;
    let mut clients = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        clients.push(cluster.client(&cluster.second, id).await);
    }

    cluster.route.set(Link::Reset);
    wait_for_condition(&standby, "active-unheard").await;
    wait_for_condition(&active, "clients-unreachable").await;
    cluster.route.set(Link::Up);
    wait_until(LIMIT, async || {
        let pages = [standby.get("/readyz").await?, active.get("/readyz").await?];
        let hold = ["active-unheard", "clients-unreachable"];
        match pages
            .iter()
            .find(|(_, page)| hold.iter().any(|it| page.contains(it)))
        {
            None => Ok(()),
            Some((_, page)) => Err(page.clone()),
        }
    })
    .await;
    for client in &clients {
        client.ping().await.unwrap();
    }
    assert!(!active.log().contains("timed out"), "{}", active.log());
}

async fn wait_for_condition(server: &Server, kind: &str) {
    wait_until(LIMIT, async || match server.get("/readyz").await {
        Ok((_, page)) if page.contains(kind) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
