//! The host of the active's nats-server vanishes: a network namespace of the test's own, from which no packet comes back and
//! no connection ends. Needs root, as CI has it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::pair::{Group, LIMIT};
use crate::silent_nats::{pair, wait_until_apart};
use crate::stan::StanClient;
use crate::support::process::skip;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// A host with a nats-server, at the other end of a cable.
struct Host {
    name: String,
    address: String,
    server: Option<Child>,
}

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Host {
    /// `None` where namespaces may not be made.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !ip("netns list") {
            skip("network namespaces need root and iproute2");
            return None;
        }
        let [.., middle, low] = std::process::id().to_be_bytes();
        let name = format!("stanby-{middle}-{low}");
        let (near, far) = (format!("sn{middle}x{low}"), format!("sf{middle}x{low}"));
        let net = format!("10.{middle}.{low}");
        for arguments in [
            format!("netns add {name}"),
            format!("link add {near} type veth peer name {far} netns {name}"),
            format!("addr add {net}.1/24 dev {near}"),
            format!("link set {near} up"),
            format!("-n {name} addr add {net}.2/24 dev {far}"),
            format!("-n {name} link set {far} up"),
        ] {
            assert!(ip(&arguments), "ip {arguments}");
        }
        let address = format!("{net}.2");
        let program = std::env::var_os("STANBY_NATS_SERVER_BIN").map(PathBuf::from);
        let server = Command::new("ip")
            .args(["netns", "exec", &name])
            .arg(program.unwrap_or_else(|| "nats-server".into()))
            .args(["-a", &address, "-p", "4222", "--cluster_name", "c"])
            .args([
                "--cluster",
                &format!("nats://{address}:6222"),
                "--no_advertise",
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self {
            name,
            address,
            server: Some(server),
        })
    }

    async fn wait_until_up(&self) {
        wait_until(LIMIT, async || {
            let connected = TcpStream::connect((self.address.as_str(), 4222)).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// What is sent there goes nowhere, and nobody says so.
    async fn vanish(&self) {
        let far = self.name.replace("stanby-", "sf").replace('-', "x");
        assert!(ip(&format!("-n {} addr flush dev {far}", self.name)));
        let to = (self.address.as_str(), 4222);
        let answer = timeout(Duration::from_millis(200), TcpStream::connect(to)).await;
        assert!(answer.is_err(), "it still says something: {answer:?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().ok();
            server.wait().ok();
        }
        ip(&format!("netns del {}", self.name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_whose_host_vanishes_hands_its_active_s_work_to_the_standby_at_another_one() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let Some(host) = Host::new() else {
        return;
    };
    host.wait_until_up().await;
    let route = format!("nats://{}:6222", host.address);
    let second = [
        "--cluster_name",
        "c",
        "--cluster",
        "nats://127.0.0.1:-1",
        "--routes",
        &route,
        "--no_advertise",
    ];
    let Some(second) = nats::own_server(&second).await else {
        return;
    };
    let urls = format!("nats://{}:4222,{}", host.address, second.url());
    let group = Group::over(database.url.clone(), urls, &[]);
    let (active, standby) = pair(&group).await;
    // The first of the list, and for the standby another one than the active's.
    let first = format!("server={}:4222", host.address);
    assert!(active.log().contains(&first), "{}", active.log());
    wait_until_apart(&active).await;
    let nats = async_nats::connect(second.url()).await.unwrap();
    let client = StanClient::connect(nats, "own-cluster", "me")
        .await
        .unwrap();
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;

    host.vanish().await;
    let began = Instant::now();
    for _ in 0..100 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
    // A figure for whoever runs this test with --nocapture; a machine may be busy.
    eprintln!("answered {:?} after the host vanished", began.elapsed());
    assert!(publisher.published().errors.is_empty());
    assert_eq!(standby.wait_until_active().await, 2);
    let stored = group.tables().messages("orders").await;
    assert_eq!(stored.len(), 101, "each once");
    let tables = group.tables();
    let causes = tables.texts("SELECT cause FROM takeovers ORDER BY epoch");
    assert_eq!(causes.await, ["first-start", "nats-lost"]);
}
