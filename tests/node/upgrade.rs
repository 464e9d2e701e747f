//! Servers of the last landed version and of this one, side by side on one schema: what a rolling upgrade needs.
//! `scripts/previous` builds the former; without it these tests say so and do nothing.

use nix::sys::signal::Signal;

use crate::held::publish;
use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::wait::wait_until;
use crate::takeover::Work;

/// The program of the last landed version.
fn previous() -> Option<String> {
    let program = std::env::var("STANBY_PREVIOUS_BIN").ok();
    if program.is_none() {
        eprintln!(
            "skipped: STANBY_PREVIOUS_BIN does not name the last version (scripts/previous builds it)"
        );
    }
    program
}

/// Two servers of the last version at work, and a new one that has migrated their tables and waits with them.
struct Upgrade {
    group: Group,
    active: Server,
    standby: Server,
    new: Server,
    work: Work,
}

impl Upgrade {
    async fn begin() -> Option<Self> {
        let program = previous()?;
        let group = Group::new(&["--lease", "1s"]).await?;
        let active = group.server_of(&program);
        active.wait_until_active().await;
        let standby = group.server_of(&program);
        group.wait_for_standbys(1).await;
        let work = Work::start(&group).await;
        work.progress(100).await;
        let new = group.server();
        // The last version goes on with tables that are ahead of it.
        work.progress_with_standbys(&[&new]).await;
        Some(Self {
            group,
            active,
            standby,
            new,
            work,
        })
    }
}

#[tokio::test]
async fn a_rolling_upgrade_from_the_last_version_loses_nothing() {
    let Some(upgrade) = Upgrade::begin().await else {
        return;
    };
    let Upgrade {
        group,
        mut active,
        mut standby,
        new,
        work,
    } = upgrade;

    standby.signal(Signal::SIGTERM);
    standby.end().await;
    active.signal(Signal::SIGTERM);
    active.end().await;
    assert_eq!(new.wait_until_active().await, 2);
    work.progress(100).await;
    let second = group.server();
    work.progress_with_standbys(&[&second]).await;
    let pair = Pair {
        group,
        active: new,
        standby: second,
    };

    pair.active.kill().await;
    assert_eq!(pair.standby.wait_until_active().await, 3);
    work.progress(100).await;
    work.finish(&pair.group).await;
}

#[tokio::test]
async fn a_standby_of_the_last_version_can_take_over_after_the_tables_were_migrated() {
    let Some(upgrade) = Upgrade::begin().await else {
        return;
    };
    let Upgrade {
        group,
        active,
        standby,
        mut new,
        work,
    } = upgrade;
    // So that it is not the one that takes over.
    new.signal(Signal::SIGTERM);
    new.end().await;

    active.kill().await;
    assert_eq!(standby.wait_until_active().await, 2);
    work.progress(100).await;

    let new = group.server();
    work.progress_with_standbys(&[&new]).await;
    standby.kill().await;
    assert_eq!(new.wait_until_active().await, 3);
    work.progress(100).await;
    work.finish(&group).await;
}

/// Versions that know nothing of encryption are kept out by the schema: `store::migrate`.
#[tokio::test]
async fn servers_of_the_last_version_without_a_key_are_kept_out_once_messages_are_encrypted() {
    let Some(program) = previous() else { return };
    let Some(group) = Group::new(&["--lease", "1s"]).await else {
        return;
    };
    let active = group.server_of(&program);
    active.wait_until_active().await;
    let mut standby = group.server_of(&program);
    group.wait_for_standbys(1).await;
    let new = group.server_changed(|command| {
        command.env("NATS_STREAMING_ENCRYPTION_KEY", "0123456789abcdef0123");
    });
    group.wait_for_standbys(2).await;
    // So that it is the new one that takes over.
    standby.signal(Signal::SIGSTOP);
    active.kill().await;
    new.wait_until_active().await;
    let client = group.client("alice").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;

    standby.signal(Signal::SIGCONT);
    new.kill().await;
    let mut started = group.server_of(&program);
    for server in [&mut standby, &mut started] {
        assert_eq!(server.end().await.code(), Some(1), "{}", server.log());
        assert!(
            server.log().contains("this server was given no key"),
            "{}",
            server.log()
        );
    }
}

#[tokio::test]
async fn servers_of_the_last_version_are_kept_out_while_acks_are_in_pages() {
    let Some(program) = previous() else { return };
    let Some(upgrade) = Upgrade::begin().await else {
        return;
    };
    let Upgrade {
        group,
        mut active,
        standby,
        new,
        work,
    } = upgrade;
    work.finish(&group).await;
    // So that it is the new one that takes over.
    standby.signal(Signal::SIGSTOP);
    active.signal(Signal::SIGTERM);
    active.end().await;
    new.wait_until_active().await;
    let client = group.client("alice").await;
    let mut taker = client.take("sparse", ("", "books"), 1000).await;
    publish(&client, "sparse", 300).await;
    taker.wait_for(300).await;
    for sequence in (2..=300).step_by(2) {
        taker.ack(sequence).await;
    }
    let tables = group.tables();
    let pages = "SELECT count(*) FROM position_acks";
    // All of them: an ack that is on its way when the server is killed is lost.
    let in_pages = "SELECT coalesce(sum(bit_count(bits)), 0)::bigint FROM position_acks";
    wait_until(LIMIT, async || match tables.number(in_pages).await {
        150 => Ok(()),
        other => Err(format!("{other} acks in pages")),
    })
    .await;

    standby.signal(Signal::SIGCONT);
    new.kill().await;
    let mut started = group.server_of(&program);
    assert_eq!(started.end().await.code(), Some(1), "{}", started.log());
    wait_until(LIMIT, async || {
        let log = standby.log();
        let is_told = log.contains("acks in pages");
        is_told.then_some(()).ok_or(log)
    })
    .await;
    let new = group.server();
    assert_eq!(new.wait_until_active().await, 3);

    // Without pages they are as good as before.
    for sequence in (1..=300).step_by(2) {
        taker.ack(sequence).await;
    }
    wait_until(LIMIT, async || match tables.number(pages).await {
        0 => Ok(()),
        other => Err(format!("{other} pages")),
    })
    .await;
    new.kill().await;
    assert_eq!(standby.wait_until_active().await, 4);
}
