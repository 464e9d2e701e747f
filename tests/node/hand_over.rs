//! Planned hand-overs under load: `stanby step-down`, and a rolling restart of both servers.

use std::collections::BTreeSet;
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::Value;

use stanby::core::ids::Epoch;

use crate::cli::{code, stanby, stderr};
use crate::pair::{Group, LIMIT, Pair, Says, Server};
use crate::stan::Subscription;
use crate::support::wait::wait_until;
use crate::takeover::Work;
use crate::watch::Watch;

impl Group {
    async fn step_down(&self, more: &[&str]) -> Output {
        let args = ["step-down", "--database-url", &self.database_url];
        stanby(&[&args, more].concat()).await
    }
}

/// A repeated delivery says that it is one.
fn assert_repeats_are_flagged(subscription: &Subscription) {
    let mut seen = BTreeSet::new();
    for delivery in subscription.received() {
        let is_first = seen.insert(delivery.sequence);
        assert!(is_first || delivery.redelivered, "#{}", delivery.sequence);
    }
}

#[tokio::test]
async fn step_down_hands_over_under_load_and_the_old_active_becomes_the_standby() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let watch = Watch::over(&[&pair.active, &pair.standby]);
    let work = Work::start(&pair.group).await;
    work.progress(200).await;

    for epoch in 2..=3 {
        let output = pair.group.step_down(&["--json"]).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["epoch"], epoch);
        assert_ne!(told["from"], told["to"]);
        let (active, standby) = pair.roles().await;
        assert_eq!(active.says().await, Says::Active(epoch));
        assert!(standby.log().contains("stepped down as an operator asked"));
        work.progress(200).await;
    }

    assert_repeats_are_flagged(&work.durable);
    work.finish(&pair.group).await;
    let reason = || "released by the previous active".to_owned();
    let takeovers = pair.group.tables().takeovers().await;
    assert_eq!(takeovers[1..], [(2, reason()), (3, reason())]);
    assert_eq!(watch.seen().contradictions, "");
}

#[tokio::test]
async fn a_dry_run_of_a_step_down_says_who_would_hand_over_to_whom() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let output = pair.group.step_down(&["--dry-run", "--json"]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (active, standby) = pair.roles().await;
    assert_eq!(active.says().await, Says::Active(1));
    let from = told["from"].as_str().unwrap();
    let to = told["to"][0].as_str().unwrap();
    assert!(from != to && !from.is_empty() && !to.is_empty(), "{told}");
    assert_eq!(told["dry_run"], true);

    let text = pair.group.step_down(&["--dry-run"]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    assert_eq!(
        text,
        format!("{from} would hand over to {to}; nothing was done\n")
    );
    assert_eq!(standby.says().await, Says::Standby);

    let done = pair.group.step_down(&["--yes", "--json"]).await;
    assert_eq!(code(&done), Some(0), "{}", stderr(&done));
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        [done["from"].as_str(), done["to"].as_str()],
        [Some(from), Some(to)]
    );
}

#[tokio::test]
async fn step_down_without_a_standby_is_refused_unless_forced() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;

    let refused = group.step_down(&[]).await;
    assert_eq!(code(&refused), Some(1));
    let text = stderr(&refused);
    assert!(
        text.contains("no standby waits") && text.contains("--force"),
        "{text}"
    );
    assert_eq!(server.says().await, Says::Active(1));

    let forced = group.step_down(&["--force"]).await;
    assert_eq!(code(&forced), Some(0), "{}", stderr(&forced));
    assert_eq!(server.wait_until_active().await, 2);
}

#[tokio::test]
async fn step_down_says_so_when_no_server_is_active() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let mut server = group.server();
    server.wait_until_active().await;
    server.signal(Signal::SIGTERM);
    server.end().await;

    let refused = group.step_down(&[]).await;
    assert_eq!(code(&refused), Some(3));
    let text = stderr(&refused);
    assert!(text.contains("no server is active"), "{text}");
}

/// Nor one that is no number.
#[tokio::test]
async fn a_request_to_step_down_ends_no_other_term_than_the_one_it_names() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let tables = pair.group.tables();
    let secret = tables
        .texts("SELECT encode(ack_secret, 'hex') FROM leadership")
        .await;
    let secret = data_encoding::HEXLOWER
        .decode(secret[0].as_bytes())
        .unwrap();
    let asked = |epoch| stanby::leadership::step_down::request("stanby", Epoch(epoch), &secret);
    let (channel, [payload, plain]) = asked(1);

    for stale in [&asked(0).1[0], &asked(2).1[0], &plain, "", "all"] {
        let notify = format!("SELECT pg_notify('{channel}', '{stale}')");
        tables.execute(notify).await;
    }
    // Notifications come in order, so after this one the others were seen.
    tables
        .execute(format!("SELECT pg_notify('{channel}', '{payload}')"))
        .await;

    assert_eq!(pair.standby.wait_until_active().await, 2);
    pair.roles().await;
    assert_eq!(tables.takeovers().await.len(), 2);
}

#[tokio::test]
async fn a_rolling_restart_under_load_loses_and_repeats_nothing_that_was_acked() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let Pair {
        group,
        active,
        standby,
    } = pair;
    let done = group.client("done").await;
    let mut publisher = done.publisher("done").await;
    let books = done.subscribe("done", "", "books").await.unwrap();
    for _ in 0..50 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
    let tables = group.tables();
    let floor = "SELECT acked_floor FROM stanby.durables WHERE channel = 'done'";
    wait_until(LIMIT, async || match tables.number(floor).await {
        50 => Ok(()),
        found => Err(format!("acked up to {found}")),
    })
    .await;
    let work = Work::start(&group).await;
    work.progress(100).await;

    let mut servers = [active, standby];
    for _ in 0..2 {
        for server in &mut servers {
            restart(&group, server).await;
            work.progress(100).await;
        }
    }

    assert_repeats_are_flagged(&work.durable);
    work.finish(&group).await;
    let done: Vec<u64> = books.received().iter().map(|it| it.sequence).collect();
    assert_eq!(done, (1..=50).collect::<Vec<_>>());
}

/// As a deployment does it: stops a server, starts its successor, and goes on when that one waits for the lock.
async fn restart(group: &Group, server: &mut Server) {
    server.signal(Signal::SIGTERM);
    server.end().await;
    *server = group.server();
    group.wait_for_standbys(1).await;
}
