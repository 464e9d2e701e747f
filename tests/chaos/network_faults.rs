//! Servers that are cut off from Postgres or NATS, in part or for all, with and without being told.

use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::faults::{a_standby, of_lease};
use crate::pair::LIMIT;
use crate::proxy::Link;
use crate::rng::Rng;
use crate::world::{LEASE, World};

/// Together, more than the narrowest link carries in some leases.
const BURST: usize = 24;
const BURST_BYTES: usize = 128 << 10;

/// The others take over within a lease; what the active still had to write must not arrive when the network is back.
pub(crate) async fn cut_active_from_postgres(world: &mut World, link: Link, rng: &mut Rng) {
    let active = world.active().await;
    world.members[active].to_postgres.set(link);
    world.active_beside(active).await;
    let pause = of_lease(rng, 100, 1500);
    world.hold(pause).await;
    world.heal();
}

/// Slow is no reason for a takeover while renewals get through.
pub(crate) async fn slow_to_postgres(world: &mut World, rng: &mut Rng) {
    let active = world.active().await;
    let delay = rng.millis(20, 80);
    world.members[active].to_postgres.set(Link::Slow(delay));
    let since = world.now();
    world.recover(since).await;
    world.hold(LEASE * 2).await;
    assert_eq!(
        world.active().await,
        active,
        "{delay:?} more to Postgres ended the term"
    );
    world.heal();
}

/// Narrow is none either: messages that take leases to carry there are carried in parts.
pub(crate) async fn slow_upload(world: &mut World, rng: &mut Rng) {
    let active = world.active().await;
    let rate = u32::try_from(rng.range(512 << 10, 2 << 20)).unwrap_or(u32::MAX);
    for member in &world.members {
        member.to_postgres.set(Link::Narrow(rate));
    }
    let mut answered = world.clients.burst(BURST, BURST_BYTES).await;
    let all = timeout(LIMIT, answered.join_next()).await;
    assert!(all.is_ok(), "a publish of the burst has no answer");
    let since = world.now();
    world.recover(since).await;
    assert_eq!(
        world.active().await,
        active,
        "{rate} bytes a second to Postgres ended the term"
    );
    world.heal();
}

pub(crate) async fn cut_standby_from_postgres(world: &mut World, rng: &mut Rng) {
    let standby = a_standby(world, rng).await;
    world.members[standby].to_postgres.set(Link::Silent);
    let pause = of_lease(rng, 500, 2500);
    world.hold(pause).await;
    world.heal();
}

/// An active that hears nobody gives the lock to one that does. Until it has noticed, clients wait.
pub(crate) async fn cut_active_from_nats(world: &mut World, link: Link) {
    let active = world.active().await;
    world.excuse("the active is cut off from NATS");
    world.history.stalls += 1;
    world.members[active].set_to_nats(link);
    world.active_beside(active).await;
    world.heal();
}

pub(crate) async fn cut_standby_from_nats(world: &mut World, rng: &mut Rng) {
    let standby = a_standby(world, rng).await;
    world.members[standby].set_to_nats(Link::Silent);
    let pause = of_lease(rng, 500, 2500);
    world.hold(pause).await;
    world.heal();
}

/// What was on its way through NATS is gone; NATS promises nothing else.
pub(crate) async fn restart_nats(world: &mut World, signal: Signal, rng: &mut Rng) {
    world.excuse("NATS is restarted");
    world.ground.end_nats(signal).await;
    let pause = of_lease(rng, 0, 2500);
    world.hold(pause).await;
    world.ground.start_nats().await;
}
