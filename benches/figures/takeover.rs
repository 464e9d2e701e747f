//! How long a publisher waits when the active is killed, frozen or stopped.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use stanby::node::clock::Clock;

use crate::ground::Ground;
use crate::pair::Pair;
use crate::script::Script;
use crate::table::Table;

const LIMIT: Duration = Duration::from_mins(1);
const LEASE_MS: f64 = 2000.0;
const WINDOW: &str = "10";

pub(crate) async fn measure(ground: &Ground, table: &mut Table) -> anyhow::Result<()> {
    let mut pair = ground.pair("takeover").await?;
    let url = ground.nats_url();

    let mut gaps = Vec::new();
    for _ in 0..10 {
        gaps.push(gap(&mut pair, &url, Event::Kill).await?);
    }
    table.row("kill -9 of the active: gap between acks", "ms", &gaps);

    let mut gaps = Vec::new();
    for _ in 0..5 {
        gaps.push(gap(&mut pair, &url, Event::Terminate).await?);
    }
    table.row("SIGTERM of the active: gap between acks", "ms", &gaps);

    let mut gaps = Vec::new();
    for _ in 0..3 {
        gaps.push(gap(&mut pair, &url, Event::Freeze).await? - LEASE_MS);
    }
    table.row(
        "SIGSTOP of the active: gap between acks, less the lease of 2 s",
        "ms",
        &gaps,
    );
    Ok(())
}

#[derive(Clone, Copy)]
enum Event {
    Kill,
    Terminate,
    Freeze,
}

/// The longest time without an ack that ended after the event, for a Node client that publishes all the time.
async fn gap(pair: &mut Pair, url: &str, event: Event) -> anyhow::Result<f64> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures");
    let arguments = ["publisher.js", url, "takeover", WINDOW];
    let mut publisher = Script::start(Path::new("node"), &arguments, &directory);
    publisher.wait_for("publishing", LIMIT).await;
    let active = pair.wait_for_roles().await;

    let at_ms = wall_ms();
    match event {
        Event::Kill => pair.end(active, Signal::SIGKILL).await,
        Event::Terminate => pair.end(active, Signal::SIGTERM).await,
        Event::Freeze => pair.server(active).signal(Signal::SIGSTOP),
    }
    match event {
        Event::Kill | Event::Terminate => pair.add().await,
        Event::Freeze => {
            let other = 1 - active;
            pair.wait_for_role(other, crate::pair::Role::Active).await;
            pair.server(active).signal(Signal::SIGCONT);
            pair.wait_for_roles().await;
        }
    }
    publisher.tell("stop").await;
    let lines = publisher.finish(LIMIT).await;
    let acks: Vec<f64> = serde_json::from_str(lines.last().context("no times were printed")?)?;
    acks.windows(2)
        .filter(|acks| acks[1] > at_ms)
        .map(|acks| acks[1] - acks[0])
        .reduce(f64::max)
        .context("no ack came after the event")
}

fn wall_ms() -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a quarter of a microsecond is close enough"
    )]
    let nanos = Clock.now().wall.0 as f64;
    nanos / 1e6
}
