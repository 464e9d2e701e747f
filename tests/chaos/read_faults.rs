//! Connections for reading that lead elsewhere, or whose other end does nothing, while the session with the lock is well.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};

use crate::database_faults::lock_holder;
use crate::faults::of_lease;
use crate::pair::LIMIT;
use crate::rng::Rng;
use crate::support::copy::Kind;
use crate::support::wait::wait_until;
use crate::world::{LEASE, World};

/// What servers hold beside the lock and the queue for it.
const READERS: &str = "SELECT pid FROM pg_stat_activity
    WHERE application_name LIKE 'stanby/%' AND pid <> (SELECT backend_pid FROM stanby.leadership)
        AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";

async fn readers(connection: &mut PgConnection) -> Vec<i32> {
    sqlx::query_scalar(READERS)
        .fetch_all(connection)
        .await
        .unwrap()
}

async fn end_readers(world: &World) {
    let url = world.ground.database_url();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for pid in readers(&mut connection).await {
        sqlx::query("SELECT pg_terminate_backend($1)")
            .bind(pid)
            .execute(&mut connection)
            .await
            .unwrap();
    }
}

/// As a balancer, or a Service after a failover, may do it: new connections lead to a copy that lacks the latest messages.
/// Everything is delivered all the same, and no position moves by what the copy lacks.
pub(crate) async fn lead_reads_astray(world: &mut World, kind: Kind, rng: &mut Rng) {
    let place = world.ground.add_astray(kind).await;
    let since = world.now();
    world.recover(since).await;
    for member in &world.members {
        member.to_postgres.lead_new_to(place.clone());
    }
    end_readers(world).await;
    let active = world.active().await;
    let is_killed = rng.chance(500);
    if is_killed {
        // What the next one has not read it cannot have in memory.
        world.end(active, Signal::SIGKILL).await;
        world.active_beside(active).await;
    }
    a_late_durable_gets_everything(world).await;
    let pause = of_lease(rng, 500, 2000);
    world.hold(pause).await;
    for member in &world.members {
        member.to_postgres.lead_new_to(world.ground.primary());
    }
    if is_killed {
        world.start_again(active);
    }
    world.ground.end_astray().await;
}

/// Everything that was stored by now, that is.
async fn a_late_durable_gets_everything(world: &mut World) {
    let (name, channel) = world.clients.late_durable().await;
    let stored = world.messages(channel).await;
    wait_until(LIMIT, async || {
        let got = world.clients.distinct_arrivals(&name);
        (got >= stored)
            .then_some(())
            .ok_or_else(|| format!("{name} got {got} of {stored}: {}", world.logs()))
    })
    .await;
    let since = world.now();
    world.recover(since).await;
}

/// One session alone gives no answer.
pub(crate) async fn freeze_readers(world: &mut World, rng: &mut Rng) {
    let url = world.ground.database_url();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let frozen = readers(&mut connection).await;
    send(&frozen, Signal::SIGSTOP);
    a_late_durable_gets_everything(world).await;
    let pause = of_lease(rng, 500, 2000);
    world.hold(pause).await;
    send(&frozen, Signal::SIGCONT);
}

/// The one with the lock: nobody else can have it meanwhile. What it was told before must not be done after another term has
/// begun.
pub(crate) async fn freeze_lock_session(world: &mut World, rng: &mut Rng) {
    let holder = lock_holder(world).await;
    send(&[holder], Signal::SIGSTOP);
    let pause = of_lease(rng, 200, 2500);
    world.hold(pause).await;
    send(&[holder], Signal::SIGCONT);
    world.hold(LEASE / 2).await;
}

fn send(pids: &[i32], signal: Signal) {
    for &pid in pids {
        // It may have ended by itself.
        kill(Pid::from_raw(pid), signal).ok();
    }
}
