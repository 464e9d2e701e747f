//! What Patroni does to a Postgres, under load, and what clients and operators notice of it: a line of a table per run.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use crate::history::{Failover, Outcome, RangeOutcome};
use crate::patroni::{Door, Mode};
use crate::world::{Shape, World, last_epoch};

/// Patroni waits 20 s for a leader that says nothing, and clients for 30 s.
const FLAGS: [&str; 8] = [
    "--lease",
    "2s",
    "--hb-interval",
    "1s",
    "--hb-timeout",
    "5s",
    "--hb-fail-count",
    "20",
];

const FLAGS_SYNCHRONOUS: [&str; 10] = [
    "--lease",
    "2s",
    "--hb-interval",
    "1s",
    "--hb-timeout",
    "5s",
    "--hb-fail-count",
    "20",
    "--database-failover",
    "synchronous",
];

/// The replicas of an asynchronous primary are so far behind when it is lost.
const LAG: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Switchover,
    Failover,
    Killed,
    Frozen,
    KilledWithActive,
}

impl Loss {
    const ALL: [(Self, &str); 5] = [
        (Self::Switchover, "switchover"),
        (Self::Failover, "failover"),
        (Self::Killed, "primary-killed"),
        (Self::Frozen, "primary-frozen"),
        (Self::KilledWithActive, "primary-and-active-killed"),
    ];

    fn is_planned(self) -> bool {
        matches!(self, Self::Switchover | Self::Failover)
    }
}

const DOORS: [(Door, &str); 2] = [(Door::Haproxy, "haproxy"), (Door::Hosts, "hosts")];

fn wanted(variable: &str, name: &str) -> bool {
    let names = std::env::var(variable).unwrap_or_default();
    names.is_empty() || names.split(',').any(|wanted| wanted == name)
}

/// `PATRONI_MODE`, `PATRONI_MEMBERS`, `PATRONI_FAULT` and `PATRONI_DOOR` choose among the combinations, commas between.
#[tokio::test]
#[ignore = "scripts/patroni runs it"]
async fn what_patroni_does_loses_nothing_that_anybody_remembers() {
    eprintln!(
        "mode, members, fault, door: acked, lost, unanswered, restored, told lost, told unknown, seconds"
    );
    let mut broken = Vec::new();
    for mode in Mode::ALL
        .into_iter()
        .filter(|mode| wanted("PATRONI_MODE", mode.name()))
    {
        for members in [2, 3]
            .into_iter()
            .filter(|members: &usize| wanted("PATRONI_MEMBERS", &members.to_string()))
        {
            for (loss, fault) in Loss::ALL
                .into_iter()
                .filter(|(_, name)| wanted("PATRONI_FAULT", name))
            {
                for (door, by) in DOORS
                    .into_iter()
                    .filter(|(_, name)| wanted("PATRONI_DOOR", name))
                {
                    let name = format!("{} {members} {fault} {by}", mode.name());
                    let Some(wrong) = run(&name, mode, members, loss, door).await else {
                        return;
                    };
                    broken.extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

async fn run(
    name: &str,
    mode: Mode,
    members: usize,
    loss: Loss,
    door: Door,
) -> Option<Vec<String>> {
    let is_synchronous = mode != Mode::Asynchronous;
    let shape = Shape {
        patroni: Some((mode, members, door)),
        flags: if is_synchronous {
            &FLAGS_SYNCHRONOUS
        } else {
            &FLAGS
        },
        ..Shape::PAIR
    };
    let mut world = World::start(shape).await?;
    // Standbys look for some seconds before they believe what they see.
    world.hold(LAG * 2).await;
    let primary = world.patroni().primary_beside(None).await.unwrap();
    let epoch = last_epoch(&world.ground.database_url()).await;
    if mode == Mode::Asynchronous && !loss.is_planned() {
        world.patroni().silence_replicas(primary).await;
        world.hold(LAG).await;
    }
    let active = world.active().await;
    let mut ended = None;
    match loss {
        Loss::Switchover | Loss::Failover => {
            let is_planned = loss == Loss::Switchover;
            world.patroni().switch_over(primary, is_planned).await;
        }
        Loss::Killed => world.patroni().signal(primary, Signal::SIGKILL),
        Loss::Frozen => world.patroni().signal(primary, Signal::SIGSTOP),
        Loss::KilledWithActive => {
            world.patroni().signal(primary, Signal::SIGKILL);
            world.end(active, Signal::SIGKILL).await;
            ended = Some(active);
        }
    }
    let writable_since = world.new_primary(primary).await;
    world.term_after(epoch).await;
    world
        .recover_within(Duration::from_mins(1), writable_since)
        .await;
    let took = world.now().saturating_sub(writable_since);
    if let Some(active) = ended {
        world.start_again(active);
    }
    let over_at = world.now();
    world.history.failover = Some(Failover {
        is_synchronous: is_synchronous || loss.is_planned(),
        is_doubted: false,
        had: had(&world.ground.database_url(), epoch).await,
        over_at,
    });
    let (history, stored, wrong) = world.finish_with_stored().await;
    let told = |fate: RangeOutcome| -> i64 {
        let ranges = stored.told.iter().filter(|range| range.fate == fate);
        ranges.map(|range| range.last - range.first + 1).sum()
    };
    let is_stored = |guid: &str| {
        let mut rows = stored.messages.values().flatten();
        rows.any(|row| row.guid == guid)
    };
    let acked = |outcome: &Outcome| matches!(outcome, Outcome::Acked(_));
    let publishes = || history.publishes.iter();
    let lost = publishes().filter(|publish| acked(&publish.outcome) && !is_stored(&publish.guid));
    let silent =
        publishes().filter(|publish| publish.outcome == Outcome::Silence && !publish.is_abandoned);
    eprintln!(
        "{name}: {} acked, {} lost, {} unanswered, {} restored, {} told lost, {} told unknown, {:.1} s",
        history.acked(),
        lost.count(),
        silent.count(),
        told(RangeOutcome::Restored),
        told(RangeOutcome::Lost),
        told(RangeOutcome::Unknown),
        took.as_secs_f64(),
    );
    Some(wrong)
}

/// How far channels were before a server wrote on the new primary.
async fn had(url: &str, epoch: i64) -> BTreeMap<String, i64> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT c.name, max(m.sequence) FROM stanby.messages m JOIN stanby.channels c USING (channel_id)
         WHERE m.epoch <= $1 GROUP BY c.name",
    )
    .bind(epoch)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    rows.into_iter().collect()
}
