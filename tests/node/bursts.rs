//! Many clients at once, and several that want to be the same one.

use std::time::Duration;

use async_nats::{Request, RequestErrorKind};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pair::{Group, LIMIT};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

const TAKEN: &str = "the server refuses: stan: clientID already registered";

#[tokio::test]
async fn three_hundred_clients_come_at_once_publish_and_leave_nothing_behind() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(async_nats::connect(&group.nats_url).await.unwrap());
    }

    for round in 0..2 {
        let mut clients = JoinSet::new();
        for (number, nats) in (0..300).zip(connections.iter().cycle()) {
            let (nats, cluster_id) = (nats.clone(), group.cluster_id.clone());
            clients.spawn(async move {
                let id = format!("client-{number}");
                let client = StanClient::connect(nats, &cluster_id, &id).await?;
                let _received = client.subscribe("burst", "all", "").await?;
                let mut publisher = client.publisher("burst").await;
                publisher.send().await;
                if !publisher.take_ack(LIMIT).await || publisher.published().acked.len() != 1 {
                    return Err(format!("not acked: {:?}", publisher.published()));
                }
                client.close().await
            });
        }
        let failed: Vec<_> = clients.join_all().await;
        let failed: Vec<_> = failed.into_iter().filter_map(Result::err).collect();
        assert_eq!(failed, [""; 0], "round {round}");
        assert_eq!(group.tables().clients().await, [], "round {round}");
    }

    let tables = group.tables();
    assert_eq!(tables.messages("burst").await.len(), 600);
    let left = "SELECT (SELECT count(*) FROM stanby.subscriptions) + (SELECT count(*) FROM stanby.positions)";
    wait_until(LIMIT, async || match tables.number(left).await {
        0 => Ok(()),
        rows => Err(format!("{rows} rows of subscriptions are left")),
    })
    .await;
}

#[tokio::test]
async fn of_many_clients_that_want_one_id_at_once_one_gets_it() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;

    let mut rivals = JoinSet::new();
    for _ in 0..20 {
        let nats = async_nats::connect(&group.nats_url).await.unwrap();
        let cluster_id = group.cluster_id.clone();
        rivals.spawn(async move { StanClient::connect(nats, &cluster_id, "wanted").await });
    }

    let (mut winners, mut refused) = (Vec::new(), Vec::new());
    // Nobody hangs up before all have their answer: the winner must be there to be asked.
    for answer in rivals.join_all().await {
        match answer {
            Ok(client) => winners.push(client),
            Err(refusal) => refused.push(refusal),
        }
    }
    assert_eq!(winners.len(), 1, "{refused:?}");
    assert_eq!(refused, [TAKEN; 19]);
    assert_eq!(winners[0].ping().await, Ok(()));
}

/// NATS says at once that nobody listens on the old inbox, so nobody waits for the half second that a client has
/// to answer: forty of them would be longer than the limit.
#[tokio::test]
async fn a_client_whose_connection_is_gone_is_replaced_at_once() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;

    let replacing = async {
        let mut last = group.client("same").await;
        for _ in 0..40 {
            let next = async_nats::connect(&group.nats_url).await.unwrap();
            let inbox = last.heartbeat_inbox.clone();
            drop(last);
            wait_until(LIMIT, async || {
                // Unanswered where the one that is leaving has still got it.
                let question = Request::new().timeout(Some(Duration::from_millis(100)));
                let asked = next.send_request(inbox.clone(), question).await;
                match asked.map_err(|error| error.kind()) {
                    Err(RequestErrorKind::NoResponders) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
            let connected = StanClient::connect(next, &group.cluster_id, "same").await;
            last = connected.unwrap();
        }
        last
    };
    let last = timeout(Duration::from_secs(15), replacing).await.unwrap();

    assert_eq!(last.ping().await, Ok(()));
    let clients = group.tables().clients().await;
    assert_eq!(clients, [("same".to_owned(), last.connection_id.clone())]);
    assert!(server.log().contains("silent client was replaced"));
}
