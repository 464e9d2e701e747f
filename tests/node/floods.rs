//! Clients that publish far more than is stored, without waiting for answers, beside one that does.

use bytes::Bytes;
use stanby::protocol::client as wire;
use tokio::task::JoinSet;

use crate::pair::{Group, LIMIT};
use crate::stan::StanClient;
use crate::support::{nats, postgres};

const FLOODERS: usize = 2;
const MESSAGES: usize = 120;
const MESSAGE_BYTES: usize = 1_000_000;
const MEMORY_MAX: f64 = 512.0 * 1024.0 * 1024.0;

/// With nats-server 2.11 and newer those who wait for answers lost theirs: it cut the server off.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_answers_gets_them_beside_a_flood_of_large_messages() {
    let (Some(database), Some(nats)) = (postgres::database().await, nats::own_server(&[]).await)
    else {
        return;
    };
    let group = Group::over(database.url.clone(), nats.url(), &[]);
    let server = group.server();
    server.wait_until_active().await;
    let connect = async |id: &str| {
        let nats = async_nats::connect(nats.url()).await;
        let nats = nats.unwrap_or_else(|error| panic!("NATS is there: {error}"));
        let client = StanClient::connect(nats, "own-cluster", id).await;
        client.unwrap_or_else(|error| panic!("it is let in: {error}"))
    };
    let modest = connect("modest").await;
    let mut flood = JoinSet::new();
    for flooder in 0..FLOODERS {
        let flooder = connect(&format!("flooder-{flooder}")).await;
        flood.spawn(async move {
            let to = format!("{}.flood", flooder.subjects.publish_prefix);
            let inbox = flooder.nats.new_inbox();
            for number in 0..MESSAGES {
                let request = wire::publish_request(wire::Publish {
                    client_id: &flooder.id,
                    connection_id: flooder.connection_id.as_bytes(),
                    guid: &format!("{inbox}-{number}"),
                    channel: "flood",
                    data: Bytes::from(vec![b'x'; MESSAGE_BYTES]),
                });
                let sent = flooder
                    .nats
                    .publish_with_reply(to.clone(), inbox.clone(), request);
                sent.await
                    .unwrap_or_else(|error| panic!("connected: {error}"));
            }
            flooder.nats.flush().await.ok();
        });
    }

    let mut publisher = modest.publisher("orders").await;
    for _ in 0..50 {
        publisher.send().await;
        assert!(
            publisher.take_ack(LIMIT).await,
            "no answer; {}",
            server.log()
        );
    }
    flood.join_all().await;
    publisher.send().await;
    publisher.take_all_acks().await;

    assert!(publisher.published().errors.is_empty());
    let page = server.get("/metrics").await.map(|(_, page)| page);
    let page = page.unwrap_or_default();
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|value| value.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name} in {page}"))
    };
    assert!(value("stanby_nats_disconnects_total ") < 0.5, "{page}");
    let memory = value("stanby_resident_memory_bytes ");
    assert!(memory < MEMORY_MAX, "{memory}");
    // A figure for whoever runs this test with --nocapture.
    eprintln!(
        "{}: refused {}, paused {}, resident {:.0} MiB",
        nats.url(),
        value("stanby_nats_refused_total "),
        value("stanby_nats_pauses_total "),
        memory / 1024.0 / 1024.0
    );
}
