//! Who holds what of a queue group outlives the active: a full member gets nothing more, idle ones are served at once.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use serde_json::Value;

use crate::pair::{LIMIT, Pair, Server};
use crate::stan::{StanClient, Taker};
use crate::support::wait::wait_until;

const CHANNEL: &str = "orders";

pub(crate) async fn publish(client: &StanClient, channel: &str, count: usize) {
    let mut publisher = client.publisher(channel).await;
    for _ in 0..count {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
}

/// Waits until the page of the active shows that the members hold so many.
async fn wait_for_pending(server: &Server, members: &[(&Taker, usize)]) {
    let path = format!("/streaming/channelsz?channel={CHANNEL}&subs=1");
    wait_until(LIMIT, async || {
        let (code, body) = server.get(&path).await?;
        let page: Value = serde_json::from_str(&body).map_err(|_| format!("{code} {body}"))?;
        let shown = page["subscriptions"]
            .as_array()
            .ok_or_else(|| body.clone())?;
        let fits = members.iter().all(|(member, pending)| {
            let row = shown
                .iter()
                .find(|row| row["inbox"] == member.inbox.as_str());
            row.is_some_and(|row| row["pending_count"] == *pending)
        });
        fits.then_some(()).ok_or(body)
    })
    .await;
}

/// `max` messages are with a member that is full; another one is idle. The active dies, and more is published.
async fn hold_over_a_takeover(durable: &str, max: u32) {
    let Some(pair) = Pair::new(&["--lease", "1s"]).await else {
        return;
    };
    let many = usize::try_from(max).unwrap();
    let group = ("workers", durable);
    let max_in_flight = i32::try_from(max).unwrap();
    let (alice, bob) = (
        pair.group.client("alice").await,
        pair.group.client("bob").await,
    );
    let mut full = alice.take(CHANNEL, group, max_in_flight).await;
    publish(&alice, CHANNEL, many).await;
    full.wait_for(many).await;
    let mut idle = bob.take(CHANNEL, group, max_in_flight).await;
    let tables = pair.group.tables();
    wait_until(LIMIT, async || {
        match tables.number("SELECT count(*) FROM held_messages").await {
            held if held == i64::from(max) => Ok(()),
            held => Err(format!("{held} are told to be held")),
        }
    })
    .await;

    pair.active.kill().await;
    assert_eq!(pair.standby.wait_until_active().await, 2);
    let active = &pair.standby;
    wait_for_pending(active, &[(&full, many), (&idle, 0)]).await;
    publish(&alice, CHANNEL, many + 1).await;
    // All but one, which there is no room for: none of them went to the member that is full.
    idle.wait_for(many).await;
    wait_for_pending(active, &[(&full, many), (&idle, many)]).await;

    full.ack(1).await;
    let all = full.wait_for(many + 1).await;
    let last = u64::try_from(2 * many + 1).unwrap();
    assert!(all.ends_with(&[last]), "{all:?}");
    wait_for_pending(active, &[(&full, many), (&idle, many)]).await;
}

#[tokio::test]
async fn a_full_member_of_a_queue_group_gets_nothing_more_after_a_kill() {
    hold_over_a_takeover("", 5).await;
}

#[tokio::test]
async fn a_full_member_of_a_durable_queue_group_gets_nothing_more_after_a_kill() {
    hold_over_a_takeover("d", 5).await;
}

#[tokio::test]
async fn members_that_take_one_at_a_time_get_one_at_a_time_after_a_kill() {
    hold_over_a_takeover("", 1).await;
    hold_over_a_takeover("d", 1).await;
}
