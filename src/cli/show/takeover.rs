//! `stanby explain takeover`: why one server followed another, and what clients saw of it.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::look::LookFlags;
use super::{duration, or_dash, shown, wrapped};
use crate::cli::failure::Failure;
use crate::cli::status::read_failure;
use crate::store::Store;
use crate::store::views::{LostRange, Takeover};

#[derive(Debug, Subcommand)]
pub enum ExplainCommand {
    /// Why there was a takeover, what happened when, and what clients saw
    Takeover(TakeoverArgs),
}

#[derive(Args, Debug)]
pub struct TakeoverArgs {
    /// Number of the term that began with it; the last one unless given
    #[arg(value_name = "N")]
    epoch: Option<u64>,

    #[command(flatten)]
    look: LookFlags,
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    takeover: Takeover,
    /// What a failover of Postgres before it had cost.
    failover: Option<LostRange>,
}

pub(in crate::cli) async fn explain(command: &ExplainCommand) -> Result<ExitCode, Failure> {
    let ExplainCommand::Takeover(args) = command;
    let store = args.look.store()?;
    let read = read(&store, args.epoch).await;
    store.close().await;
    args.look.print(&read?, text)
}

async fn read(store: &Store, epoch: Option<u64>) -> Result<Explained, Failure> {
    let mut all = store.takeovers().await.map_err(read_failure)?;
    let (Some(newest), Some(oldest)) = (
        all.first().map(|it| it.epoch),
        all.last().map(|it| it.epoch),
    ) else {
        return Err(Failure::Failed(anyhow!("no server has been active yet")));
    };
    let epoch = epoch.unwrap_or(newest);
    let Some(index) = all.iter().position(|it| it.epoch == epoch) else {
        return Err(Failure::Usage(anyhow!(
            "there is no takeover {epoch}; those from {oldest} to {newest} are known"
        )));
    };
    let failover = store.lost_at(epoch).await.map_err(read_failure)?;
    Ok(Explained {
        takeover: all.swap_remove(index),
        failover,
    })
}

fn text(it: &Explained) -> String {
    let takeover = &it.takeover;
    let unknown = || "not known".to_owned();
    let after = |seconds: Option<f64>| {
        seconds.map_or_else(unknown, |seconds| format!("{:.0} ms", seconds * 1000.0))
    };
    let mut lines = vec![
        format!(
            "takeover   epoch {} at {}",
            takeover.epoch,
            or_dash(takeover.at.as_deref())
        ),
        format!(
            "from       {}",
            takeover
                .from
                .as_deref()
                .map_or_else(|| "nobody: it was the first".to_owned(), shown)
        ),
        format!("to         {}", shown(&takeover.to)),
        format!(
            "cause      {}",
            match (&takeover.cause, &takeover.detail) {
                (Some(cause), Some(detail)) => format!("{}: {}", shown(cause), shown(detail)),
                (Some(cause), None) => shown(cause),
                (None, _) => shown(&takeover.reason),
            }
        ),
        "timeline".to_owned(),
        format!(
            "           the new active had waited {} as a standby when it got the lock",
            takeover.lock_wait_seconds.map_or_else(unknown, duration)
        ),
        format!(
            "           {} later it had read the tables",
            after(takeover.load_seconds)
        ),
        format!(
            "           {} after the lock came its first commit",
            after(takeover.first_ack_seconds)
        ),
        format!(
            "clients    {}",
            match takeover.silence_seconds {
                Some(_) => format!(
                    "waited {}, from the last sign of the active before to the first commit of the new one",
                    after(takeover.silence_seconds)
                ),
                None =>
                    "how long they waited is not known: the new active had no announcement of the one before"
                        .to_owned(),
            }
        ),
        format!(
            "answered   {}",
            match takeover.answered_from_memory {
                Some(0) => "nothing from memory: no client waited for an answer".to_owned(),
                Some(count) =>
                    format!("{count} requests that the new active had received as a standby"),
                None => unknown(),
            }
        ),
    ];
    lines.push(match &it.failover {
        Some(lost) => format!(
            "lost       {} messages that were acked, {} that may have been; {} were restored{}",
            lost.lost,
            lost.unknown,
            lost.restored,
            lost.ranges
                .as_deref()
                .map_or_else(String::new, |ranges| format!(": {}", shown(ranges)))
        ),
        None => "lost       nothing: the tables were those of the active before".to_owned(),
    });
    let lines = lines.iter().map(|line| wrapped(line, "timeline   ".len()));
    lines.collect::<Vec<_>>().join("\n")
}
