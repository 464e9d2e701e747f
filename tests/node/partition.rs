//! Several groups of servers with one cluster ID, each with channels and a schema of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod overlap;

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use stanby::core::request::StartPosition;
use stanby::protocol::client;

use crate::cli::{stanby, stdout};
use crate::pair::{Group, LIMIT, Pair};
use crate::stan::{Load, StanClient};
use crate::support::wait::wait_until;

/// Of the first group, named `orders`.
const ORDERS: [&str; 4] = [
    "--partitioning",
    "--ft-group=orders",
    "--channel-limits=orders.>: max-msgs=100000; audit:",
    "--lease=1s",
];

/// Of the second one.
const BILLING: [&str; 4] = [
    "--partitioning",
    "--ft-group=billing",
    "--channel-limits=billing: max-msgs=100000",
    "--lease=1s",
];

/// Two pairs over two schemas of one database.
async fn two_pairs() -> Option<(Pair, Pair)> {
    let orders = Group::new(&ORDERS).await?;
    let billing = orders.beside("stanby_b", &BILLING);
    Some((Pair::of(orders).await, Pair::of(billing).await))
}

async fn channels(group: &Group) -> Vec<String> {
    group
        .tables()
        .texts("SELECT name FROM channels ORDER BY name")
        .await
}

async fn clients(group: &Group) -> Vec<String> {
    group
        .tables()
        .texts("SELECT client_id FROM clients ORDER BY client_id")
        .await
}

/// Sends a subscribe; the answers come to the inbox.
async fn ask_to_subscribe(client: &StanClient, channel: &str) -> Subscriber {
    let inbox = client.nats.new_inbox();
    let answers = client.nats.subscribe(inbox.clone()).await.unwrap();
    let request = client::subscribe_request(&client::Subscribe {
        client_id: &client.id,
        channel,
        inbox: &client.nats.new_inbox(),
        queue_group: "",
        durable_name: "",
        max_in_flight: 1,
        ack_wait_seconds: 30,
        start: StartPosition::NewOnly,
    });
    let subject = client.subjects.subscribe.to_string();
    client
        .nats
        .publish_with_reply(subject, inbox, request)
        .await
        .unwrap();
    answers
}

async fn receive_all(expected: usize, subscription: &crate::stan::Subscription) {
    wait_until(LIMIT, async || match subscription.sequences().len() {
        got if got == expected => Ok(()),
        got => Err(format!("{got} of {expected}")),
    })
    .await;
}

/// Acceptance: 160.
#[tokio::test]
async fn two_groups_serve_one_client_each_with_its_own_channels() {
    let Some((orders, billing)) = two_pairs().await else {
        return;
    };
    let client = orders.group.client("shop").await;
    let bills = client.subscribe("billing", "", "books").await.unwrap();
    let news = client.subscribe("orders.new", "", "").await.unwrap();
    let mut of_orders = client.publisher("orders.new").await;
    let mut of_billing = client.publisher("billing").await;
    for _ in 0..5 {
        of_orders.send().await;
        of_billing.send().await;
    }
    of_orders.take_all_acks().await;
    of_billing.take_all_acks().await;
    receive_all(5, &bills).await;
    receive_all(5, &news).await;

    assert_eq!(clients(&orders.group).await, ["shop"]);
    assert_eq!(clients(&billing.group).await, ["shop"]);
    assert_eq!(channels(&orders.group).await, ["orders.new"]);
    assert_eq!(channels(&billing.group).await, ["billing"]);

    // A channel of nobody: no server listens to its publishes, and none answers the others.
    let mut stray = client.publisher("stock").await;
    stray.send().await;
    assert!(stray.take_ack(LIMIT).await);
    assert_eq!(stray.published().errors, ["no server listens"]);
    let mut unanswered = ask_to_subscribe(&client, "stock").await;
    for channel in ["orders.new", "billing"] {
        // Of one kind, requests are handled in their order.
        let mut answered = ask_to_subscribe(&client, channel).await;
        assert!(answered.next().await.is_some());
    }
    assert!(unanswered.next().now_or_never().is_none());

    client.ping().await.unwrap();
    client.close().await.unwrap();
    for group in [&orders.group, &billing.group] {
        wait_until(LIMIT, async || match clients(group).await.as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        })
        .await;
    }
}

#[tokio::test]
async fn a_publish_on_its_own_channels_subject_cannot_name_another_groups_channel() {
    let Some(group) = Group::new(&ORDERS).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("sly").await;
    let stray = client::publish_request(client::Publish {
        client_id: "sly",
        connection_id: client.connection_id.as_bytes(),
        guid: "stray",
        channel: "billing",
        data: Bytes::from_static(b"x"),
    });
    let subject = format!("{}.audit", client.subjects.publish_prefix);
    client.nats.publish(subject, stray).await.unwrap();

    let mut publisher = client.publisher("audit").await;
    publisher.send().await;
    publisher.take_all_acks().await;

    assert_eq!(channels(&group).await, ["audit"]);
}

#[tokio::test]
async fn a_publish_that_matches_two_entries_is_stored_once() {
    let entries = "--channel-limits=foo.*:;*.bar:;foo.bar.>:";
    let Some(group) = Group::new(&["--partitioning", entries]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("shop").await;
    for channel in ["foo.bar", "foo.x", "x.bar", "foo.bar.x"] {
        let mut publisher = client.publisher(channel).await;
        publisher.send().await;
        publisher.take_all_acks().await;

        assert_eq!(group.tables().messages(channel).await.len(), 1, "{channel}");
    }
}

#[tokio::test]
async fn the_kill_of_one_groups_active_costs_neither_group_a_message() {
    let Some((orders, billing)) = two_pairs().await else {
        return;
    };
    let client = orders.group.client("shop").await;
    let bills = client.subscribe("billing", "", "books").await.unwrap();
    let news = client.subscribe("orders.new", "", "books").await.unwrap();
    let of_orders = Load::start([client.publisher("orders.new").await], 16);
    let of_billing = Load::start([client.publisher("billing").await], 16);
    let acked = async |load: &Load, more: u64| {
        let until = load.acked() + more;
        wait_until(LIMIT, async || match load.acked() {
            acked if acked >= until => Ok(()),
            acked => Err(format!("{acked} of {until}")),
        })
        .await;
    };
    acked(&of_orders, 100).await;
    acked(&of_billing, 100).await;

    orders.active.kill().await;
    acked(&of_billing, 100).await;
    assert_eq!(orders.standby.wait_until_active().await, 2);
    acked(&of_orders, 100).await;

    for (load, subscription) in [(of_orders, news), (of_billing, bills)] {
        let published = load.finish().await;
        assert_eq!(published.errors, [""; 0]);
        assert_eq!(published.sent.len(), published.acked.len());
        receive_all(published.sent.len(), &subscription).await;
    }
    assert_eq!(billing.group.tables().takeovers().await.len(), 1);
    client.ping().await.unwrap();
}

#[tokio::test]
async fn operators_are_told_which_channels_a_group_serves() {
    let Some(group) = Group::new(&ORDERS).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let database = ["--database-url", &group.database_url];

    let status = stanby(&[&["status"], &database[..]].concat()).await;
    assert!(
        stdout(&status).contains("\nserves    audit, orders.>\n"),
        "{}",
        stdout(&status)
    );
    let asked = [
        "doctor",
        "--nats-server",
        &group.nats_url,
        "--cluster-id",
        &group.cluster_id,
    ];
    let doctor = |flags: Vec<String>| {
        let mut args: Vec<String> = asked.iter().map(|&arg| arg.to_owned()).collect();
        args.extend(database.iter().map(|&arg| arg.to_owned()));
        args.extend(flags);
        async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            stdout(&stanby(&args).await)
        }
    };
    let own = doctor(ORDERS.iter().map(|&flag| flag.to_owned()).collect()).await;
    assert!(
        own.contains("this group serves audit, orders.>; no other group lists one of them"),
        "{own}"
    );
    let another = [
        "--schema=other",
        "--partitioning",
        "--channel-limits=audit:",
    ];
    let another = doctor(another.map(str::to_owned).into()).await;
    assert!(
        another.contains("channel \"audit\" causes conflict with channels on server"),
        "{another}"
    );
}

#[tokio::test]
async fn channels_of_the_tables_that_are_not_listed_are_kept_and_told() {
    let Some(group) = Group::new(&["--lease=1s"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("shop").await;
    for channel in ["audit", "old"] {
        client
            .publisher(channel)
            .await
            .send_until_acked(LIMIT)
            .await;
    }
    let mut server = server;
    server.signal(Signal::SIGTERM);
    server.end().await;

    let server = group.server_with(&["--partitioning", "--channel-limits=audit:"]);
    server.wait_until_active().await;

    // What is logged is written a moment later.
    let told = "the tables hold channels that this group does not list";
    wait_until(LIMIT, async || match server.log() {
        log if log.contains(told) => Ok(()),
        log => Err(log),
    })
    .await;
    let log = server.log();
    assert!(log.contains("first=old"), "{log}");
    assert_eq!(channels(&group).await, ["audit", "old"]);
    // The acks of inboxes that were given out without a group still arrive.
    client
        .publisher("audit")
        .await
        .send_until_acked(LIMIT)
        .await;
}

#[tokio::test]
async fn a_list_that_is_reloaded_changes_limits_but_not_what_is_served() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("group.toml");
    let write = |channels: &str| {
        std::fs::write(&path, format!("partitioning = true\n{channels}")).unwrap();
    };
    write("[channels.audit]\n");
    let server = group.server_with(&["--config", path.to_str().unwrap()]);
    server.wait_until_active().await;

    write("[channels.audit]\nmax_msgs = 1\n[channels.shop]\n");
    server.signal(Signal::SIGHUP);

    let told = "which channels this group serves changes only when the server is started again";
    wait_until(LIMIT, async || {
        let log = server.log();
        if log.contains(told) { Ok(()) } else { Err(log) }
    })
    .await;
    let client = group.client("shop").await;
    let mut publisher = client.publisher("audit").await;
    publisher.send_until_acked(LIMIT).await;
    publisher.send_until_acked(LIMIT).await;
    wait_until(LIMIT, async || {
        match group.tables().messages("audit").await.len() {
            1 => Ok(()),
            kept => Err(format!("{kept} are kept")),
        }
    })
    .await;
    let mut stray = client.publisher("shop").await;
    stray.send().await;
    assert!(stray.take_ack(LIMIT).await);
    assert_eq!(stray.published().errors, ["no server listens"]);
}
