//! Durables, queue groups and numbers after an import.

use futures_util::StreamExt as _;
use stanby::protocol::client;
use tokio::time::timeout;

use super::{CHANNEL, Old, ensure_imported, fill, group, import, seen};
use crate::former::SubState;
use crate::pair::LIMIT;
use crate::support::wait::wait_until;

#[tokio::test]
async fn durables_of_every_kind_resume_at_their_positions() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    let closed = SubState {
        is_closed: true,
        ..SubState::of(2, "bob").durable("closed")
    };
    tables.subscription(1, 5, &closed).await;
    tables.pending(2, 1, 4).await;
    let of_an_old_server = SubState {
        is_durable: false,
        ..SubState::of(3, "carol").durable("old")
    };
    tables.subscription(1, 9, &of_an_old_server).await;
    let shadow = SubState {
        client_id: String::new(),
        ..SubState::of(4, "").durable_queue("dur:group")
    };
    tables.subscription(1, 7, &shadow).await;
    tables.pending(4, 7, 6).await;
    // Of subscriptions that are no more.
    tables.pending(99, 1, 5).await;
    tables.subscription(1, 10, &SubState::of(5, "nobody")).await;
    tables
        .subscription(1, 3, &SubState::of(40, "bob").durable("gone"))
        .await;
    tables
        .execute("UPDATE Subscriptions SET deleted = TRUE WHERE subid = 40")
        .await;

    ensure_imported(&import(&group).await);
    let server = group.server();
    server.wait_until_active().await;

    for (client, queue, durable, expected) in [
        (
            "bob",
            "",
            "closed",
            vec![
                (4, true),
                (6, false),
                (7, false),
                (8, false),
                (9, false),
                (10, false),
            ],
        ),
        ("carol", "", "old", vec![(10, false)]),
        (
            "dave",
            "group",
            "dur",
            vec![(6, true), (8, false), (9, false), (10, false)],
        ),
        ("bob2", "", "gone", (3..=10).map(|n| (n, false)).collect()),
    ] {
        let client = group.client(client).await;
        let subscription = client.subscribe(CHANNEL, queue, durable).await.unwrap();
        wait_until(LIMIT, async || {
            let received = subscription.received();
            let all: Vec<_> = received.iter().map(seen).collect();
            if all == expected {
                Ok(())
            } else {
                Err(format!("{durable}: {all:?}"))
            }
        })
        .await;
    }
    let lowest = "SELECT min(subscription_id) FROM stanby.subscriptions WHERE subscription_id > 5";
    assert!(group.tables().number(lowest).await > 40);
}

#[tokio::test]
async fn members_of_a_durable_queue_group_share_what_was_in_flight() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    let alice = Old::new(&group, "alice").await;
    let bob = Old::new(&group, "bob").await;
    tables.client(&alice.info).await;
    tables.client(&bob.info).await;
    let (of_alice, to_alice) = alice.subscription(1).await;
    let (of_bob, to_bob) = bob.subscription(2).await;
    let (of_alice, of_bob) = (
        of_alice.durable_queue("dur:group"),
        of_bob.durable_queue("dur:group"),
    );
    tables.subscription(1, 8, &of_alice).await;
    tables.pending_cached((1, 1), 8, Some("[6,8]"), None).await;
    tables.subscription(1, 7, &of_bob).await;
    tables.pending(2, 1, 5).await;

    ensure_imported(&import(&group).await);
    let server = group.server();
    server.wait_until_active().await;

    let mut came = Vec::new();
    let mut both = futures_util::stream::select(
        to_alice.map(|message| (true, message)),
        to_bob.map(|message| (false, message)),
    );
    while came.len() < 5 {
        let (is_alices, message) = timeout(LIMIT, both.next()).await.unwrap().unwrap();
        let delivery = client::delivery(message.payload).unwrap();
        let (old, state) = if is_alices {
            (&alice, &of_alice)
        } else {
            (&bob, &of_bob)
        };
        old.ack(state, delivery.sequence).await;
        came.push(seen(&delivery));
    }
    came.sort_unstable();
    let expected = [(5, true), (6, true), (8, true), (9, false), (10, false)];
    assert_eq!(came, expected);
}

#[tokio::test]
async fn sequences_and_numbers_go_on_and_deleted_channels_stay_deleted() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    tables.channel(1, "expired", 20).await;
    tables.channel(7, "gone", 0).await;
    tables.message(7, "gone", 1, b"x").await;
    tables
        .execute("UPDATE Channels SET deleted = TRUE WHERE id = 7")
        .await;
    let alice = Old::new(&group, "alice").await;
    tables.client(&alice.info).await;
    tables
        .execute("INSERT INTO Clients (id, hbinbox) VALUES ('ancient', '_INBOX.ancient')")
        .await;

    ensure_imported(&import(&group).await);
    let server = group.server();
    server.wait_until_active().await;
    alice.publish(&group, "expired").await;
    alice.publish(&group, "gone").await;

    let sequences = async |channel| -> Vec<i64> {
        let rows = group.tables().messages(channel).await;
        rows.iter().map(|row| row.sequence).collect()
    };
    assert_eq!(sequences("expired").await, [21]);
    assert_eq!(sequences("gone").await, [1]);
    let query = "SELECT channel_id FROM stanby.channels WHERE name = 'gone'";
    assert_eq!(group.tables().number(query).await, 8);
    let clients = group.tables().clients().await;
    let names: Vec<&str> = clients.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, ["alice", "ancient"]);
    assert_eq!(clients[1].1, "");
}
