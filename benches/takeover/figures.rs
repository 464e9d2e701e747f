//! The figures: each event so many times, in worlds of a few each. With several programs, they take turns world by world.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use crate::history::Outcome;
use crate::needs::Needs;
use crate::proxy::Link;
use crate::table::Table;
use crate::world::{Shape, World};

const WORLDS: usize = 4;
const RUNS_PER_WORLD: usize = 5;

const LEASE: Duration = Duration::from_secs(2);

/// As servers are started without flags.
const SHAPE: Shape = Shape {
    needs: Needs::DURABLE,
    idle_clients: 81,
    flags: &["--lease", "2s"],
    ..Shape::PAIR
};

/// Acks that were under way when something happened arrive within this.
const UNDER_WAY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
enum Event {
    Kill,
    Terminate,
    Freeze,
    CutFromPostgres,
    RestartPostgres,
}

impl Event {
    const ALL: [Self; 5] = [
        Self::Kill,
        Self::Terminate,
        Self::Freeze,
        Self::CutFromPostgres,
        Self::RestartPostgres,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Terminate => "terminate",
            Self::Freeze => "freeze",
            Self::CutFromPostgres => "cut",
            Self::RestartPostgres => "restart-postgres",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of the active: first ack after",
            Self::Terminate => "SIGTERM of the active: longest time without an ack",
            Self::Freeze => "SIGSTOP of the active: first ack after, less the lease of 2 s",
            Self::CutFromPostgres => "active cut off from Postgres: the same",
            Self::RestartPostgres => "Postgres restarted: first ack after it takes connections",
        }
    }

    /// Lets it happen, and gives what the title says, in milliseconds.
    async fn measure(self, world: &mut World) -> anyhow::Result<f64> {
        world.settle().await;
        let active = world.active().await;
        let at = world.now();
        let waited = match self {
            Self::Kill => {
                world.end(active, Signal::SIGKILL).await;
                let first = first_ack(world, at + UNDER_WAY).await?;
                world.start_again(active);
                first.saturating_sub(at)
            }
            Self::Terminate => {
                world.end(active, Signal::SIGTERM).await;
                first_ack(world, world.now()).await?;
                world.start_again(active);
                longest_gap(world, at)?
            }
            Self::Freeze => {
                world.members[active].signal(Signal::SIGSTOP);
                let first = first_ack(world, at + UNDER_WAY).await?;
                world.members[active].signal(Signal::SIGCONT);
                return Ok(ms(first.saturating_sub(at)) - ms(LEASE));
            }
            Self::CutFromPostgres => {
                world.members[active].to_postgres.set(Link::Silent);
                let first = first_ack(world, at + UNDER_WAY).await?;
                world.heal();
                return Ok(ms(first.saturating_sub(at)) - ms(LEASE));
            }
            Self::RestartPostgres => {
                world.ground.end_postgres(Signal::SIGINT).await;
                world.ground.start_postgres().await;
                let ready = world.now();
                first_ack(world, ready).await?.saturating_sub(ready)
            }
        };
        Ok(ms(waited))
    }
}

/// `arguments`: programs to measure beside each other, and names of events; without any, this program and all events.
pub(crate) async fn measure(arguments: &[String]) -> anyhow::Result<()> {
    let mut events = Vec::new();
    let mut programs: Vec<Option<&'static str>> = Vec::new();
    for argument in arguments.iter().filter(|argument| *argument != "--bench") {
        match Event::ALL.iter().find(|event| event.name() == argument) {
            Some(&event) => events.push(event),
            None => programs.push(Some(argument.clone().leak())),
        }
    }
    if events.is_empty() {
        events.extend(Event::ALL);
    }
    if programs.is_empty() {
        programs.push(None);
    }
    let mut table = Table::default();
    table.line(&machine("before"));
    table.line("100 clients, 6 of them publishing all the time");
    table.head();
    for event in events {
        let mut figures: Vec<_> = programs.iter().map(|_| Figures::default()).collect();
        for _ in 0..WORLDS {
            for (figures, &program) in figures.iter_mut().zip(&programs) {
                Box::pin(figures.add(event, program)).await?;
            }
        }
        for (figures, program) in figures.iter().zip(&programs) {
            if let Some(program) = program {
                table.line(program);
            }
            table.row(event.title(), "ms", &figures.values);
            let [acked, silent, refused, unheard] = figures.publishes;
            table.line(&format!(
                "    {acked} publishes acked; without an answer {silent}, refused {refused}, not heard {unheard}"
            ));
        }
    }
    table.line(&machine("after"));
    std::io::Write::write_all(&mut std::io::stdout(), table.text().as_bytes())?;
    Ok(())
}

#[derive(Default)]
struct Figures {
    values: Vec<f64>,
    /// Acked, without an answer, refused, heard by nobody.
    publishes: [usize; 4],
}

impl Figures {
    /// What one world gives.
    async fn add(&mut self, event: Event, program: Option<&'static str>) -> anyhow::Result<()> {
        let shape = Shape { program, ..SHAPE };
        let mut world = World::start(shape).await.context("a program is missing")?;
        for _ in 0..RUNS_PER_WORLD {
            self.values.push(event.measure(&mut world).await?);
        }
        if std::env::var_os("TAKEOVER_LOGS").is_some() {
            for member in &world.members {
                eprintln!("{}", member.log());
            }
        }
        let (history, violations) = world.finish().await;
        ensure!(violations.is_empty(), "{}", violations.join("\n"));
        let publishes = history.publishes.iter();
        for publish in publishes.filter(|publish| !publish.is_abandoned) {
            self.publishes[match publish.outcome {
                Outcome::Acked(_) => 0,
                Outcome::Silence => 1,
                Outcome::Refused(_) => 2,
                Outcome::NobodyListens => 3,
            }] += 1;
        }
        Ok(())
    }
}

/// Waits for the first ack after `since`, and gives its time.
async fn first_ack(world: &mut World, since: Duration) -> anyhow::Result<Duration> {
    world.recover(since).await;
    let first = acks(world).into_iter().find(|&at| at > since);
    first.context("no publisher has had an ack")
}

/// Of those that ended after `since`.
fn longest_gap(world: &World, since: Duration) -> anyhow::Result<Duration> {
    let acks = acks(world);
    let pairs = acks
        .iter()
        .zip(&acks[1..])
        .filter(|(_, next)| **next > since);
    let gaps = pairs.map(|(ack, next)| next.saturating_sub(*ack));
    gaps.max().context("no publisher has had an ack")
}

fn acks(world: &World) -> Vec<Duration> {
    let publishes = world.clients.recorder.publishes();
    let acked = |outcome: &Outcome| match outcome {
        Outcome::Acked(at) => Some(*at),
        Outcome::Silence | Outcome::Refused(_) | Outcome::NobodyListens => None,
    };
    let mut acks: Vec<_> = publishes
        .iter()
        .filter_map(|publish| acked(&publish.outcome))
        .collect();
    acks.sort_unstable();
    acks
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What else ran decides much on a small machine.
fn machine(when: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    format!("{cores} cores, load average {when}: {}", load.join(" "))
}
