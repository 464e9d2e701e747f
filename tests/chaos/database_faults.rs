//! Postgres that ends sessions, restarts, crashes, fails over, or has no room left.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection, Transaction};
use tokio::time::timeout;

use crate::faults::{a_standby, of_lease};
use crate::ground::execute;
use crate::history::Failover;
use crate::pair::{LIMIT, Says};
use crate::process_faults::freeze;
use crate::proxy::Target;
use crate::rng::Rng;
use crate::support::wait::wait_until;
use crate::world::{LEASE, World, last_epoch};

/// The process of Postgres that serves the lock's holder.
pub(crate) async fn lock_holder(world: &World) -> i32 {
    let mut connection = PgConnection::connect(&world.ground.database_url())
        .await
        .unwrap();
    sqlx::query_scalar("SELECT backend_pid FROM stanby.leadership")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

pub(crate) async fn end_lock_session(world: &mut World) {
    let active = world.active().await;
    let holder = lock_holder(world).await;
    let url = world.ground.database_url();
    execute(&url, &format!("SELECT pg_terminate_backend({holder})")).await;
    world.active_beside(active).await;
}

/// Holds up every batch with messages. Reading goes on, so that another server can take over.
async fn hold_commits_up(world: &World) -> Transaction<'static, sqlx::Postgres> {
    let pool = sqlx::PgPool::connect_lazy(&world.ground.database_url()).unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM stanby.channels FOR UPDATE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction
}

/// A commit that waits in Postgres when its session loses the lock must not happen later: the next term has begun.
pub(crate) async fn end_lock_session_mid_commit(world: &mut World, rng: &mut Rng) {
    let mut held_up = hold_commits_up(world).await;
    let pause = of_lease(rng, 200, 500);
    world.hold(pause).await;
    a_commit_waits_for(&mut held_up, world).await;
    // Only now: a term that ended before its commit waited would prove nothing.
    let active = world.active().await;
    let holder = lock_holder(world).await;
    let url = world.ground.database_url();
    execute(&url, &format!("SELECT pg_terminate_backend({holder})")).await;
    world.active_beside(active).await;
    held_up.rollback().await.unwrap();
}

/// Until Postgres says that another session waits for a lock of this transaction.
async fn a_commit_waits_for(held_up: &mut Transaction<'static, sqlx::Postgres>, world: &World) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))";
    let wait = async {
        loop {
            let one = sqlx::query_scalar(waiting);
            let found: i64 = one.fetch_one(&mut **held_up).await.unwrap();
            if found > 0 {
                break;
            }
            world.hold(LEASE / 100).await;
        }
    };
    timeout(LIMIT, wait).await.expect("a commit waits");
}

/// For longer than the active may believe in its lock without an answer: it keeps silent, and keeps the lock.
pub(crate) async fn slow_commit(world: &mut World, rng: &mut Rng) {
    let active = world.active().await;
    let held_up = hold_commits_up(world).await;
    let pause = of_lease(rng, 500, 3000);
    world.hold(pause).await;
    held_up.rollback().await.unwrap();
    assert_eq!(world.active().await, active, "a slow commit ended the term");
}

/// As a wrong name or a list of hosts may do it. A replica grants locks like any other Postgres.
pub(crate) async fn lead_standby_to_replica(world: &mut World, rng: &mut Rng) {
    world.ground.add_replica(false).await;
    let standby = a_standby(world, rng).await;
    let taken = |world: &World| {
        let log = world.members[standby].log();
        log.matches("took the lock").count()
    };
    let before = taken(world);

    let replica = Target::Socket(world.ground.replica_socket());
    world.members[standby].to_postgres.lead_to(replica);
    wait_until(LIMIT, async || {
        assert_eq!(
            taken(world),
            before,
            "a replica's lock was taken for the lock"
        );
        match world.members[standby].server().says().await {
            Says::NotReady(reason) if reason.contains("is a replica") => Ok(()),
            said @ (Says::Active(_) | Says::Standby | Says::NotReady(_) | Says::Nothing(_)) => {
                Err(format!("{said:?}"))
            }
        }
    })
    .await;
    let pause = of_lease(rng, 1000, 2000);
    world.hold(pause).await;
    assert_eq!(
        taken(world),
        before,
        "a replica's lock was taken for the lock"
    );
    world.lead_to_primary();
}

/// Postgres takes a killed process for a corruption of its memory, and starts all of itself anew.
pub(crate) async fn kill_backend(world: &mut World) {
    let holder = lock_holder(world).await;
    kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
}

/// No server can do anything meanwhile; all of them remember what they heard.
pub(crate) async fn restart(world: &mut World, signal: Signal, rng: &mut Rng) {
    world.ground.end_postgres(signal).await;
    let pause = of_lease(rng, 0, 1500);
    world.hold(pause).await;
    world.ground.start_postgres().await;
}

/// The primary dies and a replica takes its place. The one that was waited for by every commit lacks nothing, and a
/// standby knows that although the active has died, too; the other may lack something, and then a server says so.
pub(crate) async fn promote(world: &mut World, synchronous: bool) {
    world.ground.add_replica(synchronous).await;
    let since = world.now();
    world.recover(since).await;
    if synchronous {
        // A standby has to see it for a while.
        world.hold(LEASE * 5).await;
    } else {
        world.excuse("Postgres loses rows");
        world.ground.silence_replica().await;
        let since = world.now();
        world.recover(since).await;
    }
    let before = last_sequences(world).await;
    let active = world.active().await;
    if synchronous {
        world.end(active, Signal::SIGKILL).await;
    }
    world.ground.fail_over().await;
    let had = last_sequences(world).await;
    let epoch = last_epoch(&world.ground.database_url()).await;
    let lacks = |(channel, last): (&String, &i64)| had.get(channel).is_none_or(|had| had < last);
    let lacks_something = before.iter().any(lacks);
    assert_ne!(
        lacks_something, synchronous,
        "the replica has {had:?}, and the primary had {before:?}"
    );
    world.lead_to_primary();
    world.term_after(epoch).await;
    world.history.failover = Some(Failover {
        is_synchronous: synchronous,
        is_doubted: false,
        had,
        over_at: world.now(),
    });
    if synchronous {
        world.start_again(active);
    }
}

/// A replica that was behind becomes the primary, and both servers live: the one that was active finds it first, or the other.
pub(crate) async fn promote_for(world: &mut World, is_former_first: bool) {
    world.ground.add_replica(false).await;
    let since = world.now();
    world.recover(since).await;
    world.ground.silence_replica().await;
    let since = world.now();
    world.recover(since).await;
    let active = world.active().await;
    world.ground.fail_over().await;
    let had = last_sequences(world).await;
    let epoch = last_epoch(&world.ground.database_url()).await;
    let first = world.members.iter().enumerate();
    let first = first.filter(|(at, _)| (*at == active) == is_former_first);
    for (_, member) in first {
        member.to_postgres.lead_to(world.ground.primary());
    }
    world.term_after(epoch).await;
    assert_eq!(world.active().await == active, is_former_first);
    world.lead_to_primary();
    world.history.failover = Some(Failover {
        is_synchronous: false,
        is_doubted: false,
        had,
        over_at: world.now(),
    });
}

/// Nobody's time counts by Postgres' wall clock. In the end the active freezes while it goes back.
pub(crate) async fn jump_clock(world: &mut World, rng: &mut Rng) {
    for seconds in [3600, 0, -3600, 36_000] {
        world.ground.clock().jump(seconds);
        let since = world.now();
        world.recover(since).await;
        let pause = of_lease(rng, 200, 1500);
        world.hold(pause).await;
    }
    let active = world.active().await;
    freeze(world, active).await;
    world.ground.clock().jump(0);
    world.active_beside(active).await;
    world.members[active].signal(Signal::SIGCONT);
}

/// What a role may be given, and what changes what statements mean or how long they last.
const ROLE_SETTINGS: [&str; 24] = [
    "client_min_messages = error",
    "synchronous_commit = off",
    "search_path = nowhere",
    "bytea_output = escape",
    "\"DateStyle\" = German",
    "\"IntervalStyle\" = sql_standard",
    "\"TimeZone\" = 'Asia/Kathmandu'",
    "client_encoding = 'LATIN1'",
    "extra_float_digits = -15",
    "standard_conforming_strings = off",
    "backslash_quote = off",
    "array_nulls = off",
    "transform_null_equals = on",
    "quote_all_identifiers = on",
    "statement_timeout = '300ms'",
    "lock_timeout = '100ms'",
    "idle_session_timeout = '200ms'",
    "idle_in_transaction_session_timeout = '100ms'",
    "default_transaction_isolation = serializable",
    "default_transaction_deferrable = on",
    "plan_cache_mode = force_generic_plan",
    "jit = on",
    "enable_indexscan = off",
    "work_mem = '64kB'",
];

/// Sessions that begin from then on have their own settings all the same.
pub(crate) async fn change_role_settings(world: &mut World, rng: &mut Rng) {
    let url = world.ground.database_url();
    let role = world.ground.role();
    let end_sessions =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    for _ in 0..6 {
        let place = rng.pick(&["", "IN DATABASE postgres"]);
        let setting = rng.pick(&ROLE_SETTINGS);
        execute(&url, &format!("ALTER ROLE {role} {place} SET {setting}")).await;
    }
    execute(&url, &end_sessions).await;
    let since = world.now();
    world.recover(since).await;
    let pause = of_lease(rng, 500, 2000);
    world.hold(pause).await;
    let reset =
        format!("ALTER ROLE {role} RESET ALL; ALTER ROLE {role} IN DATABASE postgres RESET ALL");
    execute(&url, &reset).await;
    execute(&url, &end_sessions).await;
}

/// Of each channel.
async fn last_sequences(world: &World) -> BTreeMap<String, i64> {
    let mut connection = PgConnection::connect(&world.ground.database_url())
        .await
        .unwrap();
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT name, last_sequence FROM stanby.channels")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    rows.into_iter().collect()
}

/// No room left, for data or for the log of writes: nothing is acked that was not written.
pub(crate) async fn fill_disk(world: &mut World, rng: &mut Rng) {
    // The log of Postgres is on that disk and may have no room for the line; servers tell it, too.
    let refusals = |world: &World| {
        let logs = [world.ground.postgres_log(), world.logs()];
        logs.map(|log| log.matches("No space left on device").count())
            .iter()
            .sum::<usize>()
    };
    let before = refusals(world);
    let full = async {
        while refusals(world) == before && !world.ground.postgres_has_ended() {
            // Postgres gives some room back when it cleans up its log of writes.
            let disk = world.ground.disk.as_ref();
            disk.expect("the world is on a small disk").fill().await;
            world.hold(LEASE / 10).await;
        }
    };
    timeout(LIMIT, full).await.expect("the disk is full");
    let pause = of_lease(rng, 1000, 3000);
    world.hold(pause).await;
    if let Some(disk) = &world.ground.disk {
        disk.empty();
    }
    // What was only to be written to its log is missing there.
    world.hold(LEASE).await;
    if world.ground.postgres_has_ended() {
        world.ground.start_postgres().await;
    }
}
