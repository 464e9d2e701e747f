//! Servers that are killed, stopped, frozen, or told a wrong time.

use nix::sys::signal::Signal;
use stanby::clock::Clock;

use crate::faults::{a_standby, of_lease};
use crate::log_pipe::LogPipe;
use crate::member::Member;
use crate::pair::LIMIT;
use crate::rng::Rng;
use crate::stan::StanClient;
use crate::support::wait::wait_until;
use crate::world::{LEASE, World};

/// No publish goes without an answer: a standby heard them all.
pub(crate) async fn end_active(world: &mut World, signal: Signal) {
    let active = world.active().await;
    world.end(active, signal).await;
    world.active_beside(active).await;
    world.start_again(active);
}

/// And the one that follows it as soon as it is active: the third has heard everything.
pub(crate) async fn kill_two_actives(world: &mut World) {
    let first = world.active().await;
    world.end(first, Signal::SIGKILL).await;
    let second = world.active_beside(first).await;
    world.end(second, Signal::SIGKILL).await;
    world.active_beside(second).await;
    world.start_again(first);
    world.start_again(second);
}

/// Nobody is left who heard anything.
pub(crate) async fn kill_all(world: &mut World) {
    // On a busy machine a takeover that nobody made may have just ended: what was sent before it is answered first.
    world.recover(world.now()).await;
    world.excuse("no server runs");
    for member in 0..world.members.len() {
        world.members[member].signal(Signal::SIGKILL);
    }
    for member in 0..world.members.len() {
        world.end(member, Signal::SIGKILL).await;
        world.start_again(member);
    }
}

pub(crate) async fn kill_standby(world: &mut World, rng: &mut Rng) {
    let standby = a_standby(world, rng).await;
    world.end(standby, Signal::SIGKILL).await;
    let pause = of_lease(rng, 100, 1000);
    world.hold(pause).await;
    world.start_again(standby);
}

/// For less than a lease: it goes on as if nothing had been.
pub(crate) async fn freeze_briefly(world: &mut World, rng: &mut Rng) {
    let active = world.active().await;
    freeze(world, active).await;
    let pause = of_lease(rng, 100, 600);
    world.hold(pause).await;
    world.members[active].signal(Signal::SIGCONT);
}

/// For longer than a lease, while clients go on: another server takes over.
pub(crate) async fn freeze_long(world: &mut World, rng: &mut Rng) {
    let active = world.active().await;
    freeze(world, active).await;
    world.active_beside(active).await;
    let pause = of_lease(rng, 100, 2000);
    world.hold(pause).await;
    world.members[active].signal(Signal::SIGCONT);
}

/// Nothing is sent from the takeover until after the frozen server has woken up, so that what it still has in its
/// buffers comes before anything that could tell it of its successor. Among it is the close of a client that has
/// come back since.
pub(crate) async fn freeze_quiet(world: &mut World) {
    let leaver = client(world).await;
    let active = world.active().await;
    freeze(world, active).await;
    leaver.close_unheard().await;
    world.hold(LEASE / 4).await;
    world.clients.pause(true);
    world.active_beside(active).await;
    let back = client(world).await;

    world.members[active].signal(Signal::SIGCONT);
    world.hold(LEASE / 2).await;
    world.clients.pause(false);
    world.settle().await;
    let pinged = back.ping().await;
    assert_eq!(
        pinged,
        Ok(()),
        "a close from before the takeover reached the client that came back"
    );
    assert_eq!(back.close().await, Ok(()));
}

/// Nobody reads what some of them log, or all. Logging waits for nobody: they serve, take over, start and end.
pub(crate) async fn block_logs(world: &mut World, rng: &mut Rng) {
    let active = world.active().await;
    let blocked: &dyn Fn(usize) -> bool = match rng.range(0, 3) {
        0 => &|member| member == active,
        1 => &|member| member != active,
        _ => &|_| true,
    };
    for (at, member) in world.members.iter().enumerate() {
        if blocked(at) {
            log_pipe(member).block();
        }
    }
    let since = world.now();
    world.recover(since).await;
    world.hold(LEASE * 2).await;
    assert_eq!(
        world.active().await,
        active,
        "a log that nobody reads ended the term"
    );
    let signal = rng.pick(&[Signal::SIGKILL, Signal::SIGTERM]);
    end_active(world, signal).await;
    world.settle().await;
    for member in &world.members {
        log_pipe(member).unblock();
    }
}

fn log_pipe(member: &Member) -> &LogPipe {
    let log_pipe = member.log_pipe.as_ref();
    log_pipe.expect("the world has pipes for logs")
}

async fn client(world: &World) -> StanClient {
    let nats = crate::clients::connect(&world.ground.nats_url())
        .await
        .expect("NATS is there");
    let client = StanClient::connect(nats, "own-cluster", "leaver").await;
    client.expect("it is let in")
}

/// Returns when no thread of it runs any more.
pub(crate) async fn freeze(world: &World, member: usize) {
    world.members[member].signal(Signal::SIGSTOP);
    let status = format!("/proc/{}/status", world.members[member].server().pid());
    wait_until(LIMIT, async || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        if text.contains("State:\tT") {
            return Ok(());
        }
        Err(text)
    })
    .await;
}

/// The active's wall clock jumps forward, and back behind where it was; then a server with the right time takes over.
pub(crate) async fn jump_clocks(world: &mut World, rng: &mut Rng) {
    let active = world.active().await;
    for seconds in [3600, -3600, 86_400] {
        world.clock(active).jump(seconds);
        let since = world.now();
        world.recover(since).await;
        let pause = of_lease(rng, 500, 1500);
        world.hold(pause).await;
        assert_eq!(
            world.active().await,
            active,
            "a jump of the clock ended the term"
        );
        if seconds > 0 {
            let ahead = world.newest_message().await - Clock.now().wall.0;
            let jumped = ahead > (seconds - 60) * 1_000_000_000;
            assert!(jumped, "the clock is {ahead} ns ahead after {seconds} s");
        }
    }
    end_active(world, Signal::SIGKILL).await;
    world.clock(active).jump(0);
}
