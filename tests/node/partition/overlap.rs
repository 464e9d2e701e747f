//! Groups whose lists overlap do not serve beside each other.

use std::time::Duration;

use async_nats::{Request, RequestErrorKind};
use stanby::dev::nats::NatsServer;

use super::ORDERS;
use crate::pair::{Group, LIMIT, free_port};
use crate::stan::Publisher;
use crate::support::process::Own;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// Acceptance: 161.
#[tokio::test]
async fn a_group_that_lists_a_channel_of_another_does_not_start() {
    let Some(orders) = Group::new(&ORDERS).await else {
        return;
    };
    let server = orders.server();
    server.wait_until_active().await;
    for entry in ["audit", "orders.eu", "*.new", ">"] {
        let entries = format!("--channel-limits=billing:;{entry}:");
        let flags = ["--partitioning", "--ft-group=copy", &entries];
        let mut refused = orders.beside("stanby_b", &flags).server();

        assert!(!refused.end().await.success());
        let log = refused.log();
        let conflict = format!("channel \"{entry}\" causes conflict with channels on server \"");
        assert!(log.contains(&conflict), "{log}");
        assert!(log.contains("\" of group \"orders\""), "{log}");
    }
    // A member of the same group may bring another list, to be served once it is active.
    let member = orders.server_with(&["--channel-limits=shop:"]);
    orders.wait_for_standbys(1).await;
    server.kill().await;
    member.wait_until_active().await;
    let client = orders.client("shop").await;
    client.publisher("shop").await.send_until_acked(LIMIT).await;
}

/// It would answer for every channel, theirs included.
#[tokio::test]
async fn a_group_with_a_list_and_one_without_do_not_serve_beside_each_other() {
    let Some(orders) = Group::new(&ORDERS).await else {
        return;
    };
    let everything = orders.beside("stanby_b", &["--ft-group=everything", "--lease=1s"]);
    let listed = orders.server();
    listed.wait_until_active().await;

    let unlisted = everything.server();
    let reason = format!("for the same cluster ID {:?}", orders.cluster_id);
    unlisted.wait_for_trouble(&reason).await;
    let term = "SELECT epoch::text FROM leadership";
    assert_eq!(everything.tables().texts(term).await, ["0"]);

    listed.kill().await;
    unlisted.wait_until_active().await;
    let listed = orders.server();
    listed.wait_for_trouble(&reason).await;
    assert_eq!(orders.tables().texts(term).await, ["1"]);
}

/// The addresses of the routes are no matter of clients.
fn of_cluster(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

/// Returns when what is published on one of the two arrives on the other.
async fn wait_for_route(from: &str, to: &str) {
    let (from, to) = (async_nats::connect(from), async_nats::connect(to));
    let (from, to) = (from.await.unwrap(), to.await.unwrap());
    // NATS itself says whether anybody listens, wherever that is.
    let _heard = to.subscribe("route").await.unwrap();
    wait_until(LIMIT, async || {
        let request = Request::new().timeout(Some(Duration::from_millis(100)));
        match from.send_request("route", request).await {
            Err(error) if error.kind() == RequestErrorKind::TimedOut => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn own_nats(arguments: &[&str]) -> Option<Own<NatsServer>> {
    nats::own_server(arguments).await
}

/// Acceptance: 164.
#[tokio::test]
async fn of_two_groups_that_hear_of_each_other_later_one_ends_and_one_goes_on() {
    let (Some(first), Some(second)) = (postgres::database().await, postgres::database().await)
    else {
        return;
    };
    let port = free_port();
    let cluster = of_cluster(port);
    let arguments = ["--cluster_name=c", "--cluster", &cluster];
    let Some(near) = own_nats(&arguments).await else {
        return;
    };
    let Some(mut far) = own_nats(&[]).await else {
        return;
    };
    let near_group = Group::over(first.url.clone(), near.url(), &ORDERS);
    // Of two names, or they would be taken for one group.
    let copy = [
        "--partitioning",
        "--ft-group=copy",
        "--channel-limits=audit:",
        "--lease=1s",
    ];
    let far_group = Group::over(second.url.clone(), far.url(), &copy);
    let stays = near_group.server();
    stays.wait_until_active().await;
    let mut ends = far_group.server();
    ends.wait_until_active().await;

    let own_cluster = of_cluster(free_port());
    let routes = [
        "--cluster_name=c",
        "--cluster",
        &own_cluster,
        "--routes",
        &cluster,
    ];
    nats::restart(&mut far, &routes).await;
    wait_for_route(&far.url(), &near.url()).await;

    assert!(!ends.end().await.success());
    let log = ends.log();
    assert!(
        log.contains("channel \"audit\" causes conflict with channels on server"),
        "{log}"
    );
    assert!(log.contains("stepped down and released the lock"), "{log}");
    let log = stays.log();
    assert!(
        log.contains("another group of servers lists a channel"),
        "{log}"
    );
    let client = near_group.client("shop").await;
    let mut publisher: Publisher = client.publisher("audit").await;
    publisher.send_until_acked(LIMIT).await;
}
