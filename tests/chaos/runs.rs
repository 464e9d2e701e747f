//! The runs: the ones that every change has to pass, and the one that is asked for.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::faults::{Fault, strike};
use crate::history::History;
use crate::needs::Needs;
use crate::node_clients::{NODE_CHANNEL, NodeClients};
use crate::rng::Rng;
use crate::support::tools;
use crate::tables::Tables;
use crate::world::{Shape, World};
use crate::{database_faults, refusal_faults};

/// Worlds are busy and have deadlines: one at a time.
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Lets the faults happen one after the other, and fails with everything that is wrong afterwards.
async fn run(seed: u64, shape: Shape, faults: &[Fault]) -> Option<History> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let names: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
    eprintln!(
        "chaos: CHAOS_SEED={seed} CHAOS_FAULT={} scripts/chaos",
        names.join(",")
    );
    let mut rng = Rng::new(seed);
    let mut world = Box::pin(World::start(shape)).await?;
    for &fault in faults {
        Box::pin(strike(&mut world, fault, &mut rng)).await;
    }
    let (history, violations) = Box::pin(world.finish()).await;
    eprintln!(
        "    {} publishes, {} acked, {} terms",
        history.publishes.len(),
        history.acked(),
        history.beginnings.len()
    );
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    Some(history)
}

#[tokio::test]
async fn servers_that_are_killed_stopped_and_frozen_lose_nothing() {
    let faults = [
        Fault::KillActive,
        Fault::StopActive,
        Fault::FreezeBriefly,
        Fault::FreezeLong,
        Fault::FreezeQuiet,
        Fault::KillStandby,
        Fault::KillAll,
    ];
    run(1, Shape::PAIR, &faults).await;
}

#[tokio::test]
async fn a_third_server_answers_for_two_that_are_killed_in_a_row() {
    let fault = Fault::KillTwoActives;
    run(10, fault.shape(), &[fault, fault]).await;
}

#[tokio::test]
async fn unmodified_node_clients_notice_nothing_but_pauses() {
    let Some(directory) = tools::node() else {
        return;
    };
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(mut world) = World::start(Shape::PAIR).await else {
        return;
    };
    let mut clients = NodeClients::start(&directory, &world.ground.nats_url()).await;
    let mut rng = Rng::new(11);
    for fault in [
        Fault::KillActive,
        Fault::FreezeLong,
        Fault::EndLockSession,
        Fault::RestartPostgres,
    ] {
        clients.progress().await;
        strike(&mut world, fault, &mut rng).await;
    }
    clients.progress().await;

    let saw = clients.stop().await;
    let stored = Tables::new(&world.ground.database_url())
        .messages(NODE_CHANNEL)
        .await;
    let (_, violations) = world.finish().await;

    assert_eq!(saw.troubles, [""; 0]);
    assert_eq!(saw.acked, saw.published);
    let stored: Vec<_> = stored
        .into_iter()
        .map(|row| (row.sequence, row.data))
        .collect();
    let sent: Vec<_> = (1..=saw.published)
        .map(|number| (number, format!("message {number}").into_bytes()))
        .collect();
    assert_eq!(stored, sent, "each of them once, in order");
    assert_eq!(saw.received, sent);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[tokio::test]
async fn a_lock_that_is_lost_in_the_middle_of_commits_loses_nothing() {
    let faults = [
        Fault::EndLockSession,
        Fault::EndLockSessionMidCommit,
        Fault::SlowCommit,
    ];
    run(2, Shape::PAIR, &faults).await;
}

#[tokio::test]
async fn a_postgres_that_restarts_and_crashes_loses_nothing() {
    let faults = [
        Fault::RestartPostgres,
        Fault::CrashPostgres,
        Fault::KillPostmaster,
        Fault::KillBackend,
    ];
    run(3, Shape::PAIR, &faults).await;
}

#[tokio::test]
async fn a_network_that_cuts_servers_off_from_postgres_loses_nothing() {
    let faults = [
        Fault::CutActiveFromPostgres,
        Fault::ResetActiveFromPostgres,
        Fault::SlowActiveToPostgres,
        Fault::CutStandbyFromPostgres,
    ];
    run(4, Shape::PAIR, &faults).await;
}

#[tokio::test]
async fn a_network_that_cuts_servers_off_from_nats_loses_nothing() {
    let faults = [
        Fault::CutActiveFromNats,
        Fault::ResetActiveFromNats,
        Fault::CutStandbyFromNats,
        Fault::RestartNats,
        Fault::KillNats,
    ];
    run(5, Shape::PAIR, &faults).await;
}

#[tokio::test]
async fn a_promoted_synchronous_replica_has_everything() {
    let faults = [Fault::LeadStandbyToReplica, Fault::PromoteSynchronous];
    // A standby that could not look for two seconds is right to doubt: on a busy machine it gets another chance.
    for _ in 0..3 {
        let history = run(6, Shape::PAIR, &faults).await;
        let failover = history.and_then(|history| history.failover);
        if failover.is_none_or(|failover| !failover.is_doubted) {
            return;
        }
    }
    panic!("each time the standby doubted that the replica had everything");
}

#[tokio::test]
async fn what_a_promoted_asynchronous_replica_lacks_is_reported() {
    run(7, Shape::PAIR, &[Fault::PromoteAsynchronous]).await;
}

#[tokio::test]
async fn what_a_living_server_remembers_is_put_back_whoever_takes_over() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for is_former_first in [false, true] {
        let Some(mut world) = World::start(Shape::PAIR).await else {
            return;
        };
        database_faults::promote_for(&mut world, is_former_first).await;
        let (_, stored, violations) = world.finish_with_stored().await;

        let passed_over = stored.told.iter().filter(|range| range.is_passed_over());
        assert_eq!(
            passed_over.count(),
            0,
            "{is_former_first}: {:?}",
            stored.told
        );
        assert!(!stored.told.is_empty(), "the replica lacked nothing");
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
}

#[tokio::test]
async fn a_full_disk_delays_and_loses_nothing() {
    run(8, Fault::FillDisk.shape(), &[Fault::FillDisk]).await;
}

#[tokio::test]
async fn clocks_that_jump_change_nothing() {
    run(9, Fault::JumpClock.shape(), &[Fault::JumpClock]).await;
}

/// What the faults need is merged into one world.
async fn run_faults(seed: u64, faults: &[Fault]) {
    run(seed, shape_for(faults), faults).await;
}

#[tokio::test]
async fn logs_that_nobody_reads_hold_up_nobody() {
    run_faults(12, &[Fault::BlockLogs, Fault::BlockLogs]).await;
}

#[tokio::test]
async fn rows_that_postgres_refuses_cost_what_is_refused_and_one_term_at_most() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(mut world) = World::start(Shape::PAIR).await else {
        return;
    };
    let mut rng = Rng::new(13);
    refusal_faults::refuse_rows_in_every_way(&mut world, &mut rng).await;
    let (_, violations) = world.finish().await;
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[tokio::test]
async fn rows_that_a_policy_hides_and_settings_of_the_role_lose_nothing() {
    run_faults(
        14,
        &[Fault::HideRows, Fault::ChangeRoleSettings, Fault::HideRows],
    )
    .await;
}

#[tokio::test]
async fn reads_that_lead_elsewhere_or_get_no_answer_skip_nothing() {
    let faults = [
        Fault::LeadReadsToReplica,
        Fault::LeadReadsToOldPrimary,
        Fault::FreezeReaders,
        Fault::FreezeLockSession,
    ];
    run_faults(15, &faults).await;
}

#[tokio::test]
async fn links_that_are_narrow_or_cut_one_way_lose_nothing() {
    let faults = [
        Fault::SlowUpload,
        Fault::CutWordsToPostgres,
        Fault::CutAnswersOfPostgres,
        Fault::CutWordsToNats,
        Fault::CutRequestsFromNats,
    ];
    run_faults(16, &faults).await;
}

#[tokio::test]
async fn a_nats_server_that_freezes_shuts_down_or_loses_its_routes_loses_nothing() {
    let faults = [Fault::FreezeNats, Fault::LameDuck, Fault::CutRoutes];
    run_faults(17, &faults).await;
}

#[tokio::test]
async fn a_clock_of_postgres_that_jumps_loses_nothing() {
    run_faults(18, &[Fault::JumpClockOfPostgres]).await;
}

/// `CHAOS_FAULT` names one fault or several, `CHAOS_SEED` a seed, `CHAOS_MINUTES` for how long fresh seeds are tried.
#[tokio::test]
#[ignore = "scripts/chaos runs it"]
async fn what_is_asked_for() {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let number = |name| variable(name).map(|value| value.parse::<u64>().expect("a number"));
    let named: Option<Vec<Fault>> = variable("CHAOS_FAULT").map(|names| {
        let find = |name: &str| {
            let found = Fault::ALL.iter().find(|fault| fault.name() == name);
            *found.unwrap_or_else(|| panic!("there is no fault {name:?}: {}", all_names()))
        };
        names.split(',').map(find).collect()
    });
    let minutes = number("CHAOS_MINUTES").unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(minutes * 60);
    let mut seed = number("CHAOS_SEED").unwrap_or_else(fresh_seed);
    loop {
        let faults = named.clone().unwrap_or_else(|| plan(seed));
        run(seed, shape_for(&faults), &faults).await;
        if Instant::now() >= until {
            return;
        }
        seed = Rng::new(seed).next();
    }
}

fn all_names() -> String {
    let names = Fault::ALL.iter().map(|fault| fault.name());
    names.collect::<Vec<_>>().join(", ")
}

pub(crate) fn fresh_seed() -> u64 {
    u64::try_from(stanby::clock::Clock.now().wall.0).expect("after 1970")
}

/// Some faults in any order, those that cannot be repeated last.
fn plan(seed: u64) -> Vec<Fault> {
    // The faults themselves draw from the seed as it is.
    let mut rng = Rng::new(!seed);
    let count = rng.range(3, 10);
    let mut faults: Vec<_> = (0..count).map(|_| rng.pick(Fault::ALL)).collect();
    let last = faults.iter().position(|fault| !fault.is_repeatable());
    if let Some(last) = last {
        faults.truncate(last + 1);
    }
    faults
}

fn shape_for(faults: &[Fault]) -> Shape {
    Shape {
        servers: if faults.len() > 5 || faults.contains(&Fault::KillTwoActives) {
            3
        } else {
            2
        },
        needs: faults
            .iter()
            .fold(Needs::NONE, |needs, fault| needs.and(fault.needs())),
        ..Shape::PAIR
    }
}
