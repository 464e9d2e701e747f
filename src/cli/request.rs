//! What the commands that change something have in common: they ask the active through the tables, and print its answer.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::output;
use super::signals::Signals;
use super::status::read_failure;
use crate::administration::{AdminError, Answer, Request, carry_out};
use crate::config::TablesFlags;
use crate::config::duration::GoDuration;
use crate::store::{Error, Store};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// For a server, before there is none: four seconds.
const LOOKS: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub(super) struct RequestFlags {
    /// Report what would be done, in counts, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask for confirmation
    #[arg(long, short = 'y')]
    yes: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// How long to wait for a server to accept the request
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    timeout: GoDuration,

    #[command(flatten)]
    tables: TablesFlags,
}

/// Which durable or queue group is meant.
#[derive(Args, Debug)]
pub(super) struct WhichDurable {
    /// Name of the channel
    #[arg(value_name = "CHANNEL")]
    pub(super) channel: String,

    /// Name of the durable; not needed for a queue group without one. "": the queue group that has none
    #[arg(value_name = "DURABLE")]
    pub(super) durable: Option<String>,

    /// Client ID of the durable's owner, if several clients have a durable of this name
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,

    /// Name of the queue group
    #[arg(long, value_name = "GROUP")]
    pub(super) queue_group: Option<String>,
}

/// Which messages of a channel.
#[derive(Args, Debug)]
pub(super) struct WhichMessages {
    /// Sequence of the message
    #[arg(long, value_name = "N")]
    pub(super) sequence: Option<u64>,

    /// The first of several, with --last
    #[arg(long, value_name = "N", requires = "last")]
    pub(super) first: Option<u64>,

    /// The last of several, with --first
    #[arg(long, value_name = "N", requires = "first")]
    pub(super) last: Option<u64>,
}

/// Whether the command asks before it does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Impact {
    /// What it does can be undone.
    Reversible,
    Destroys,
}

pub(super) async fn run(
    verb: &str,
    arguments: Value,
    impact: Impact,
    flags: &RequestFlags,
) -> Result<ExitCode, Failure> {
    let asks = impact == Impact::Destroys && !flags.yes && !flags.dry_run;
    if asks && !io::stdin().is_terminal() {
        return Err(Failure::Usage(anyhow!(
            "there is no terminal to ask for confirmation; give --yes, or --dry-run to see what it would do"
        )));
    }
    let (url, schema) = flags.tables.read()?;
    let store = Store::open(&url, &schema, "stanby/admin", STATEMENT_TIMEOUT);
    let done = ask(&store, verb, arguments, asks, flags).await;
    store.close().await;
    let Some(answer) = done? else {
        output::note("nothing was done");
        return Ok(ExitCode::FAILURE);
    };
    if flags.json {
        output::json(&answer)?;
    } else {
        let would = if answer.dry_run { "would be: " } else { "" };
        output::line(&format!("{would}{}", shown(&answer.result)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `None` where a person did not mean it.
async fn ask(
    store: &Store,
    verb: &str,
    arguments: Value,
    asks: bool,
    flags: &RequestFlags,
) -> Result<Option<Answer>, Failure> {
    ensure_anybody_serves(store).await?;
    let patience = flags.timeout.to_std();
    let mut request = Request {
        verb: verb.to_owned(),
        arguments,
        dry_run: true,
        asked_by: None,
    };
    if asks {
        let would = carry_out(store, &request, patience, &CancellationToken::new()).await;
        let would = would.map_err(|error| failure(error, flags))?;
        if !is_meant(&format!("{verb}: {}. Go on? [y/N] ", shown(&would.result))) {
            return Ok(None);
        }
    }
    request.dry_run = flags.dry_run;
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let answer = carry_out(store, &request, patience, &stop);
    tokio::pin!(answer);
    let answer = if let Ok(answer) = signals.unless_stopped(&mut answer).await {
        answer
    } else {
        stop.cancel();
        answer.await
    };
    if let (Err(AdminError::NotTaken), true) = (&answer, stop.is_cancelled()) {
        return Err(Failure::Failed(anyhow!(
            "interrupted before a server had taken the request; it is withdrawn, and nothing was done"
        )));
    }
    Ok(Some(answer.map_err(|error| failure(error, flags))?))
}

/// Where no server runs at all, nobody waits for one. In the middle of a takeover it may look like that for a moment.
async fn ensure_anybody_serves(store: &Store) -> Result<(), Failure> {
    for _ in 0..LOOKS {
        let roles = store.roles().await.map_err(read_failure)?;
        let is_active = roles.active.is_some_and(|active| active.holds_lock);
        if is_active || !roles.standbys.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Failure::Unreachable(anyhow!(
        "no server is active, and only the active changes anything; start one (`stanby status` says how they are)"
    )))
}

fn failure(error: AdminError, flags: &RequestFlags) -> Failure {
    match error {
        AdminError::Refused(error) => Failure::Usage(anyhow!("{}. {}", error.error, error.hint)),
        AdminError::NotTaken => Failure::Unreachable(anyhow!(
            "no server has taken the request within {}; it is withdrawn, and nothing was done (`stanby status` says who \
             is active)",
            flags.timeout
        )),
        AdminError::Running(id) => Failure::Failed(anyhow!(
            "request {id} is not done yet; it goes on, and view admin_log shows when it is done"
        )),
        AdminError::Starting | AdminError::Busy => {
            Failure::Unreachable(anyhow!("too much is under way; ask again"))
        }
        AdminError::Tables(error) => write_failure(error),
    }
}

/// Who lacks a right has named the wrong role, as one may name a wrong channel.
pub(super) fn write_failure(error: Error) -> Failure {
    match error {
        Error::Refused(_) => Failure::Usage(error.into()),
        Error::Unavailable(_)
        | Error::Pooler(_)
        | Error::OtherCluster(_)
        | Error::Key(_)
        | Error::Corrupt { .. }
        | Error::NotStored { .. }
        | Error::Failed(_) => read_failure(error),
    }
}

fn is_meant(question: &str) -> bool {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}")
        .and_then(|()| stderr.flush())
        .ok();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok();
    matches!(answer.trim(), "y" | "Y" | "yes")
}

/// `messages 7, bytes 1234`.
fn shown(result: &Value) -> String {
    let Value::Object(facts) = result else {
        return output::name_from_outside(&result.to_string());
    };
    let facts = facts.iter().map(|(name, value)| {
        let name = name.replace('_', " ");
        if let Value::String(text) = value {
            format!("{name} {}", output::name_from_outside(text))
        } else {
            format!("{name} {value}")
        }
    });
    facts.collect::<Vec<_>>().join(", ")
}
