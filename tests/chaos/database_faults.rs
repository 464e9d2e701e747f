//! Postgres that ends sessions, restarts, crashes, fails over, or has no room left.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};

use crate::faults::of_lease;
use crate::ground::execute;
use crate::rng::Rng;
use crate::world::{LEASE, World};

/// The process of Postgres that serves the lock's holder.
async fn lock_holder(world: &World) -> i32 {
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

/// A commit that waits in Postgres when its session loses the lock must not happen later: the next term has begun.
pub(crate) async fn end_lock_session_mid_commit(world: &mut World, rng: &mut Rng) {
    let active = world.active().await;
    let holder = lock_holder(world).await;
    let url = world.ground.database_url();
    let mut blocker = PgConnection::connect(&url).await.unwrap();
    let mut transaction = blocker.begin().await.unwrap();
    // Reading goes on, so that another server can take over.
    sqlx::raw_sql("LOCK TABLE stanby.messages IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let pause = of_lease(rng, 200, 500);
    world.hold(pause).await;
    execute(&url, &format!("SELECT pg_terminate_backend({holder})")).await;
    world.active_beside(active).await;
    transaction.rollback().await.unwrap();
}

/// Postgres takes a killed process for a corruption of its memory, and starts all of itself anew.
pub(crate) async fn kill_backend(world: &mut World) {
    let from = world.now().saturating_sub(Duration::from_secs(1));
    let holder = lock_holder(world).await;
    kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
    after_outage(world, from).await;
}

pub(crate) async fn restart(world: &mut World, signal: Signal, rng: &mut Rng) {
    let from = world.now().saturating_sub(Duration::from_secs(1));
    world.ground.end_postgres(signal).await;
    let pause = of_lease(rng, 0, 1500);
    world.hold(pause).await;
    world.ground.start_postgres().await;
    after_outage(world, from).await;
}

/// While no server can reach Postgres, none of them hears requests for long; what is not acked may be tried again.
async fn after_outage(world: &mut World, from: Duration) {
    let since = world.now();
    world.recover(since).await;
    let to = world.now();
    world.excuse("Postgres was away", from, to);
}

/// The primary dies and a replica takes its place. The one that was waited for by every commit lacks nothing; the
/// other may, and then a server says so.
pub(crate) async fn promote(world: &mut World, synchronous: bool) {
    world.ground.add_replica(synchronous).await;
    let since = world.now();
    world.recover(since).await;
    let from = world.now().saturating_sub(Duration::from_secs(1));
    if !synchronous {
        world.ground.silence_replica().await;
        let since = world.now();
        world.recover(since).await;
    }
    world.ground.fail_over().await;
    world.lead_to_primary();
    after_outage(world, from).await;
}

/// No room left, for data or for the log of writes: nothing is acked that was not written.
pub(crate) async fn fill_disk(world: &mut World, rng: &mut Rng) {
    let from = world.now().saturating_sub(Duration::from_secs(1));
    let disk = world
        .ground
        .disk
        .as_ref()
        .expect("the world is on a small disk");
    disk.fill();
    let pause = of_lease(rng, 2000, 4000);
    world.hold(pause).await;
    let log = world.ground.postgres_log();
    assert!(
        log.contains("No space left on device"),
        "the disk was not full"
    );
    if let Some(disk) = &world.ground.disk {
        disk.empty();
    }
    // What was only to be written to its log is missing there.
    world.hold(LEASE).await;
    if world.ground.postgres_has_ended() {
        world.ground.start_postgres().await;
    }
    after_outage(world, from).await;
}
