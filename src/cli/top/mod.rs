//! `stanby top`: a live screen of channels and durables. Reads the tables, so it goes on over a takeover.

mod model;
mod screen;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::model::{List, Model, Sample, Sort};
use super::failure::Failure;
use super::output;
use super::show::width;
use super::signals::Signals;
use super::status::read_failure;
use crate::config::TablesFlags;
use crate::config::duration::GoDuration;
use crate::store::{Error, Store};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL_MIN: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub struct TopArgs {
    /// Print both lists once, for scripts; the rates are those of one interval
    #[arg(long)]
    once: bool,

    /// How often the tables are read
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    interval: GoDuration,

    /// What is shown first
    #[arg(long, value_enum, default_value_t, value_name = "LIST")]
    list: List,

    /// By what rows are sorted
    #[arg(long, value_enum, default_value_t, value_name = "COLUMN")]
    sort: Sort,

    /// Only rows with this in one of their names
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    #[command(flatten)]
    tables: TablesFlags,
}

pub async fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    if !args.once && !io::stdout().is_terminal() {
        return Err(Failure::Usage(anyhow!(
            "top needs a terminal; --once prints the lists for scripts"
        )));
    }
    let (url, schema) = args.tables.read()?;
    let mut signals = Signals::listen()?;
    let store = Store::open(&url, &schema, "stanby/top", STATEMENT_TIMEOUT);
    let mut model = Model {
        list: args.list,
        sort: args.sort,
        filter: args.filter.clone(),
        ..Model::default()
    };
    let every = args.interval.to_std().max(INTERVAL_MIN);
    let done = if args.once {
        signals
            .unless_stopped(once(&store, &mut model, every))
            .await
    } else {
        // What is wrong from the beginning is said on the terminal as it is.
        match signals.unless_stopped(sample(&store)).await {
            Err(stop) => Err(stop),
            Ok(Err(error)) => Ok(Err(read_failure(error))),
            Ok(Ok(first)) => {
                model.take(first, Duration::ZERO);
                let mut terminal =
                    ratatui::try_init().context("the terminal cannot be drawn on")?;
                let done = signals
                    .unless_stopped(live(&store, &mut model, every, &mut terminal))
                    .await;
                ratatui::restore();
                done
            }
        }
    };
    store.close().await;
    match done {
        Ok(done) => done.map(|()| ExitCode::SUCCESS),
        Err(stop) => Ok(stop.code()),
    }
}

async fn sample(store: &Store) -> Result<Sample, Error> {
    Ok(Sample {
        roles: store.roles().await?,
        channels: store.channels("").await?,
        durables: store.durables("").await?,
    })
}

async fn once(store: &Store, model: &mut Model, every: Duration) -> Result<(), Failure> {
    model.take(sample(store).await.map_err(read_failure)?, Duration::ZERO);
    let since = Instant::now();
    tokio::time::sleep(every).await;
    let now = sample(store).await.map_err(read_failure)?;
    let who = screen::who(&now);
    model.take(now, since.elapsed());
    model.list = List::Channels;
    let channels = screen::rows(model, width());
    model.list = List::Durables;
    let durables = screen::rows(model, width());
    output::line(&format!("{who}\n\n{channels}\n\n{durables}"))
}

async fn live(
    store: &Store,
    model: &mut Model,
    every: Duration,
    terminal: &mut DefaultTerminal,
) -> Result<(), Failure> {
    let mut keys = EventStream::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut taken = Instant::now();
    loop {
        terminal
            .draw(|frame| screen::draw(model, frame))
            .context("the terminal is gone")?;
        tokio::select! {
            biased;
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if pressed(model, key) {
                        return Ok(());
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            },
            // Keys are heeded while the database does not answer: reading begins again with the next tick.
            read = async { ticks.tick().await; sample(store).await } => match read {
                Ok(now) => {
                    model.take(now, taken.elapsed());
                    taken = Instant::now();
                }
                Err(error) => model.error = Some(error.to_string()),
            },
        }
    }
}

/// Whether that was the end.
fn pressed(model: &mut Model, key: KeyEvent) -> bool {
    if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
        return true;
    }
    if model.is_typing {
        if key.code == KeyCode::Enter {
            model.is_typing = false;
        } else if key.code == KeyCode::Esc {
            model.is_typing = false;
            model.filter.clear();
        } else if key.code == KeyCode::Backspace {
            model.filter.pop();
        } else if let KeyCode::Char(letter) = key.code {
            model.filter.push(letter);
        }
        return false;
    }
    if key.code == KeyCode::Tab {
        model.list = match model.list {
            List::Channels => List::Durables,
            List::Durables => List::Channels,
        };
        model.scrolled = 0;
    } else if key.code == KeyCode::Down {
        model.scrolled += 1;
    } else if key.code == KeyCode::Up {
        model.scrolled = model.scrolled.saturating_sub(1);
    } else if key.code == KeyCode::PageDown {
        model.scrolled += 10;
    } else if key.code == KeyCode::PageUp {
        model.scrolled = model.scrolled.saturating_sub(10);
    } else if let KeyCode::Char(letter) = key.code {
        match letter {
            'q' => return true,
            's' => model.sort = model.sort.next(),
            'r' => model.is_reversed = !model.is_reversed,
            '/' => model.is_typing = true,
            _ => {}
        }
    }
    false
}
