//! What a client may not get by asking the servers for it, and what its names may not do to those who read them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use stanby::core::request::StartPosition;
use stanby::dev::nats::NatsServer;
use stanby::protocol::announcement::Announcement;
use stanby::protocol::client as wire;
use stanby::protocol::{Subjects, subjects::Prefixes};
use tokio::time::timeout;

use crate::cli::{stanby, stdout};
use crate::pair::{Group, LIMIT};
use crate::permissions::{SERVER_PASSWORD, connect, nats_server, printed};
use crate::stan::StanClient;
use crate::support::postgres;

const CLUSTER: &str = "own-cluster";

fn url(server: &NatsServer) -> String {
    format!(
        "nats://stanby:{SERVER_PASSWORD}@127.0.0.1:{}",
        server.port()
    )
}

fn publish(client: &StanClient, guid: &str, channel: &str) -> Bytes {
    wire::publish_request(wire::Publish {
        client_id: &client.id,
        connection_id: client.connection_id.as_bytes(),
        guid,
        channel,
        data: Bytes::from_static(b"x"),
    })
}

async fn ask(nats: &Client, subject: String, request: Bytes) -> Bytes {
    let answer = timeout(LIMIT, nats.request(subject, request)).await;
    answer.unwrap().unwrap().payload
}

#[tokio::test]
async fn a_publish_to_another_channel_than_its_subject_names_is_refused() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let flags = ["--cluster-id", CLUSTER, "--channels", "orders.>"];
    let Some(nats) = nats_server(&printed(&flags).await).await else {
        return;
    };
    let group = Group::over(database.url.clone(), url(&nats), &[]);
    let server = group.server();
    server.wait_until_active().await;
    let client = StanClient::connect(connect(&nats).await, CLUSTER, "me").await;
    let client = client.unwrap();
    let prefix = client.subjects.publish_prefix.to_string();

    for (subject, channel) in [
        ("orders.a", "invoices"),
        ("orders.a", "orders.b"),
        ("orders.a", "orders"),
        ("orders.a", "orders.a.b"),
        ("orders.a", "Orders.a"),
    ] {
        let request = publish(&client, channel, channel);
        let answer = ask(&client.nats, format!("{prefix}.{subject}"), request).await;
        let answer = wire::publish_ack(answer).unwrap();
        let refusal = answer.refusal;
        let expected = Some("stan: invalid publish request".to_owned());
        assert_eq!((&*answer.guid, refusal), (channel, expected));
    }
    let allowed = publish(&client, "allowed", "orders.a");
    let answer = ask(&client.nats, format!("{prefix}.orders.a"), allowed).await;
    assert!(wire::publish_ack(answer).unwrap().refusal.is_none());

    let tables = group.tables();
    let stored = "SELECT count(*) FROM stanby.messages";
    assert_eq!(tables.number(stored).await, 1);
    let channels = "SELECT count(*) FROM stanby.channels";
    assert_eq!(tables.number(channels).await, 1);
}

#[tokio::test]
async fn servers_send_nothing_that_a_client_asked_for_to_where_they_talk_among_each_other() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let Some(nats) = nats_server(&printed(&["--cluster-id", CLUSTER]).await).await else {
        return;
    };
    let group = Group::over(
        database.url.clone(),
        url(&nats),
        &["--hb-interval", "100ms"],
    );
    let server = group.server();
    server.wait_until_active().await;
    let spy = async_nats::ConnectOptions::new()
        .user_and_password("stanby".into(), SERVER_PASSWORD.into());
    let spy = spy.connect(nats.url()).await.unwrap();
    let subjects = Subjects::new(CLUSTER, &Prefixes::default()).unwrap();
    let mut servers = spy.subscribe(subjects.servers().to_string()).await.unwrap();
    let mut partition_peers = spy
        .subscribe(subjects.partition_peers().to_string())
        .await
        .unwrap();
    spy.flush().await.unwrap();
    let client = StanClient::connect(connect(&nats).await, CLUSTER, "me").await;
    let client = client.unwrap();
    let own = || {
        [
            subjects.servers().to_string(),
            subjects.partition_peers().to_string(),
        ]
    };

    // As a reply subject: the answer would be read as an announcement of a server with this name.
    let to = format!("{}.orders", client.subjects.publish_prefix);
    for reply in own() {
        let forged = publish(&client, "forged", "orders");
        let sent = client.nats.publish_with_reply(to.clone(), reply, forged);
        sent.await.unwrap();
    }
    for inbox in own() {
        // As a heartbeat inbox, and as the inbox of a subscription.
        let request = wire::connect_request(&wire::Connect {
            client_id: "other",
            heartbeat_inbox: &inbox,
            protocol: 1,
            connection_id: b"other-connection",
            ping_interval: 5,
            ping_max_out: 3,
        });
        let answer = ask(&client.nats, subjects.discover().to_string(), request).await;
        assert!(wire::connect_response(answer).is_err());
        let request = wire::subscribe_request(&wire::Subscribe {
            client_id: "me",
            channel: "orders",
            inbox: &inbox,
            queue_group: "",
            durable_name: "",
            max_in_flight: 1,
            ack_wait_seconds: 1,
            start: StartPosition::First,
        });
        let answer = ask(&client.nats, client.subjects.subscribe.to_string(), request).await;
        assert!(wire::subscribe_response(answer).is_err());
    }
    // What came before is carried out: nothing but the active's own announcements was to be heard.
    client.ping().await.unwrap();
    let stored = "SELECT count(*) FROM stanby.messages";
    assert_eq!(group.tables().number(stored).await, 2);
    for _ in 0..3 {
        let heard = timeout(LIMIT, servers.next()).await.unwrap().unwrap();
        let announcement = Announcement::decode(&heard.payload).unwrap();
        assert_ne!(announcement.server_id, "forged");
    }
    assert!(futures_util::FutureExt::now_or_never(partition_peers.next()).is_none());
}

#[tokio::test]
async fn what_permissions_cannot_do_is_as_the_page_says() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let flags = ["--cluster-id", CLUSTER, "--inboxes", "_INBOX"];
    let Some(nats) = nats_server(&printed(&flags).await).await else {
        return;
    };
    let group = Group::over(database.url.clone(), url(&nats), &[]);
    let server = group.server();
    server.wait_until_active().await;
    let victim = StanClient::connect(connect(&nats).await, CLUSTER, "victim").await;
    let victim = victim.unwrap();
    let stranger = connect(&nats).await;

    // It hears the inboxes of all, with the name of the ack inbox, and publishes in another's name.
    let mut inboxes = stranger.subscribe("_INBOX.>").await.unwrap();
    stranger.flush().await.unwrap();
    victim.hold("orders", "", "", 1).await.unwrap();
    let mut heard_ack_inbox = false;
    while !heard_ack_inbox {
        let heard = timeout(LIMIT, inboxes.next()).await.unwrap().unwrap();
        heard_ack_inbox = wire::subscribe_response(heard.payload).is_ok();
    }
    let to = format!("{}.orders", victim.subjects.publish_prefix);
    let answer = ask(&stranger, to, publish(&victim, "not-mine", "orders")).await;
    assert!(wire::publish_ack(answer).unwrap().refusal.is_none());
    // It closes another by its ID.
    let close = wire::close_request("victim");
    let answer = ask(&stranger, victim.subjects.close_client.to_string(), close).await;
    wire::close_response(answer).unwrap();
    assert!(victim.ping().await.is_err());
}

/// Begins another line, colours it, and turns it round.
const NASTY: &str = "a\nINFO forged\x1b[31m\u{9b}\u{202e}b";

#[tokio::test]
async fn no_name_forges_a_line_or_steers_a_terminal_wherever_it_shows() {
    for format in ["text", "json"] {
        let flags = ["--hb-interval", "200ms", "--hb-fail-count", "0"];
        let Some(group) = Group::new(&[&flags[..], &["--log-format", format]].concat()).await
        else {
            return;
        };
        let server = group.server();
        server.wait_until_active().await;
        // Its client ID is refused, and the refusal repeats nothing.
        let nats = async_nats::connect(&group.nats_url).await.unwrap();
        let refused = StanClient::connect(nats, &group.cluster_id, NASTY).await;
        assert_is_safe("a refusal", &refused.err().unwrap());
        let client = group.client("me").await;
        // Whoever subscribes creates the channel, which is logged.
        client.hold(NASTY, "", NASTY, 1).await.unwrap();
        client.hold(NASTY, NASTY, NASTY, 1).await.unwrap();

        for page in [
            "/streaming/channelsz?subs=1",
            "/streaming/clientsz?subs=1",
            "/metrics",
            "/readyz",
        ] {
            let (_, text) = server.get(page).await.unwrap();
            assert_is_safe(page, &text);
        }
        let status = ["status", "--database-url", &group.database_url];
        let text = stdout(&stanby(&status).await);
        assert!(text.contains("forged"), "{text}");
        assert_is_safe("status", &text);
        let status = [&status[..], &["--json"]].concat();
        assert_is_safe("status --json", &stdout(&stanby(&status).await));

        let log = server.log();
        let created = log.lines().find(|line| line.contains("channel created"));
        assert!(created.unwrap().contains("forged"), "{log}");
        assert_is_safe("the log", &log);
    }
}

fn assert_is_safe(place: &str, text: &str) {
    for line in text.lines() {
        assert!(
            !line.trim_start().starts_with("INFO forged"),
            "{place}: {text}"
        );
    }
    let found = text
        .chars()
        .find(|&c| c != '\n' && stanby::printable::is_unsafe(c));
    assert_eq!(found, None, "{place}: {text}");
}
