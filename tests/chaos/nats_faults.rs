//! A NATS cluster of which one server freezes, shuts down with notice, or loses its way to the other one. The active is at
//! that server, and clients are at the other.

use nix::sys::signal::Signal;

use crate::faults::of_lease;
use crate::pair::LIMIT;
use crate::process_faults::end_active;
use crate::proxy::Link;
use crate::rng::Rng;
use crate::support::wait::wait_until;
use crate::world::World;

/// Returns when the active is alone at the first server.
async fn active_at_first(world: &mut World) -> usize {
    let mut active = world.active().await;
    wait_until_apart(world, active).await;
    // Who has just moved has yet to be heard of at the other server.
    world.settle().await;
    active = world.active().await;
    if wait_until_apart(world, active).await == 0 {
        return active;
    }
    // Whoever follows is at the first one, and whoever comes back goes to where the active is not.
    end_active(world, Signal::SIGTERM).await;
    world.settle().await;
    let active = world.active().await;
    let at = wait_until_apart(world, active).await;
    assert_eq!(at, 0, "a standby at the first server took over");
    world.settle().await;
    active
}

/// Where the active is, once the others are all at the other server.
async fn wait_until_apart(world: &World, active: usize) -> usize {
    wait_until(LIMIT, async || {
        let is_at = |at: usize| {
            let members = world.members.iter().enumerate();
            let mut others = members.filter(|(member, _)| *member != active);
            world.members[active].is_at_nats(at)
                && others.all(|(_, member)| member.is_at_nats(1 - at))
        };
        let found = (0..2).find(|&at| is_at(at));
        found.ok_or_else(|| "the servers are not apart".to_owned())
    })
    .await
}

/// A standby at the other server heard everything.
pub(crate) async fn freeze_nats(world: &mut World, rng: &mut Rng) {
    let active = active_at_first(world).await;
    world.history.stalls += 1;
    world.ground.nats.signal(Signal::SIGSTOP);
    world.active_beside(active).await;
    let pause = of_lease(rng, 100, 2000);
    world.hold(pause).await;
    world.ground.nats.signal(Signal::SIGCONT);
}

/// The active hears no client any more, and no client may be taken for dead.
pub(crate) async fn cut_routes(world: &mut World, rng: &mut Rng) {
    active_at_first(world).await;
    world.excuse("the routes between the NATS servers are cut");
    world.history.stalls += 1;
    let link = rng.pick(&[Link::Silent, Link::Reset]);
    world.ground.nats.route().set(link);
    let pause = of_lease(rng, 500, 4000);
    world.hold(pause).await;
    world.ground.nats.route().set(Link::Up);
}

/// All of them leave at once, and come back to nobody's loss.
pub(crate) async fn lame_duck(world: &mut World) {
    active_at_first(world).await;
    world.ground.nats.signal(Signal::SIGUSR2);
    wait_until(LIMIT, async || {
        let mut members = world.members.iter();
        let has_left = members.all(|member| member.is_at_nats(1));
        has_left
            .then_some(())
            .ok_or_else(|| "a server stays".to_owned())
    })
    .await;
    let since = world.now();
    world.recover(since).await;
    world.ground.nats.ended().await;
    world.ground.start_nats().await;
}
