//! `stanby step-down`: makes the active hand over to a standby, through the database that both share.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output;
use super::request::write_failure;
use super::status::read_failure;
use crate::config::TablesFlags;
use crate::config::duration::GoDuration;
use crate::core::ids::Epoch;
use crate::leadership::step_down;
use crate::store::status::{Active, Roles, Standby};
use crate::store::{Error, Store};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct StepDownArgs {
    /// How long to wait until another server is active
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    timeout: GoDuration,

    /// Step down although no standby waits; the same server becomes active again
    #[arg(long)]
    force: bool,

    /// Say who would hand over to whom, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask for confirmation, as with other commands; this one never asks
    #[arg(long, short = 'y')]
    yes: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    tables: TablesFlags,
}

/// Who handed over to whom.
#[derive(Debug, Serialize)]
struct HandOver {
    from: String,
    to: String,
    epoch: i64,
    /// From the request to the new term.
    took_ms: u128,
}

/// Who would hand over, and who waits to take over: whoever has waited for longest comes first.
#[derive(Debug, Serialize)]
struct Planned {
    from: String,
    to: Vec<String>,
    dry_run: bool,
}

pub async fn run(args: &StepDownArgs) -> Result<ExitCode, Failure> {
    let (url, schema) = args.tables.read()?;
    let store = Store::open(&url, &schema, "stanby/step-down", STATEMENT_TIMEOUT);
    if args.dry_run {
        let planned = plan(&store, args).await;
        store.close().await;
        return show(&planned?, args.json);
    }
    let done = hand_over(&store, &schema, args).await;
    store.close().await;
    let done = done?;
    if args.json {
        output::json(&done)?;
    } else {
        output::line(&format!(
            "{} handed over to {} (epoch {}) after {} ms",
            shown(&done.from),
            shown(&done.to),
            done.epoch,
            done.took_ms
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn plan(store: &Store, args: &StepDownArgs) -> Result<Planned, Failure> {
    let Ready { active, standbys } = ready(store, args).await?;
    let from = active.holder;
    store.ack_secret().await.map_err(not_allowed)?;
    // The active is named by its ID alone.
    let id = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let to: Vec<String> = standbys.iter().map(|it| id(&it.name)).collect();
    Ok(Planned {
        to: if to.is_empty() {
            vec![from.clone()]
        } else {
            to
        },
        from,
        dry_run: true,
    })
}

fn show(planned: &Planned, json: bool) -> Result<ExitCode, Failure> {
    if json {
        output::json(planned)?;
    } else {
        let to: Vec<String> = planned.to.iter().map(|name| shown(name)).collect();
        output::line(&format!(
            "{} would hand over to {}; nothing was done",
            shown(&planned.from),
            to.join(" or ")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An active that holds the lock, and a standby unless it is forced.
async fn ready(store: &Store, args: &StepDownArgs) -> Result<Ready, Failure> {
    let Roles { active, standbys } = store.roles().await.map_err(read_failure)?;
    let Some(active) = active.filter(|active| active.holds_lock) else {
        return Err(Failure::Unreachable(anyhow!(
            "no server is active; start one (`stanby status` says how they are)"
        )));
    };
    if standbys.is_empty() && !args.force {
        return Err(Failure::Failed(anyhow!(
            "no standby waits to take over from {}; start one, or give --force",
            shown(&active.holder)
        )));
    }
    Ok(Ready { active, standbys })
}

struct Ready {
    active: Active,
    standbys: Vec<Standby>,
}

async fn hand_over(store: &Store, schema: &str, args: &StepDownArgs) -> Result<HandOver, Failure> {
    let Ready { active, .. } = ready(store, args).await?;
    let secret = store.ack_secret().await.map_err(not_allowed)?;
    let epoch = Epoch(active.epoch.cast_unsigned());
    let (channel, payloads) = step_down::request(schema, epoch, &secret);
    #[expect(clippy::disallowed_methods, reason = "a figure for a person")]
    let asked = Instant::now();
    store
        .notify(&channel, &payloads)
        .await
        .map_err(write_failure)?;
    let limit = args.timeout.to_std();
    let next = tokio::time::timeout(limit, next_active(store, &active)).await;
    let next = next.map_err(|_| {
        Failure::Failed(anyhow!(
            "{} was asked to step down and no other term began within {}; see its log, and `stanby status`",
            shown(&active.holder),
            args.timeout
        ))
    })??;
    Ok(HandOver {
        from: active.holder,
        to: next.holder,
        epoch: next.epoch,
        took_ms: asked.elapsed().as_millis(),
    })
}

/// Readers may look, and no more.
fn not_allowed(error: Error) -> Failure {
    if let Error::Refused(why) = &error
        && why.contains("permission denied")
    {
        return Failure::Usage(anyhow!(
            "this role may not ask the active to step down ({why}); give the database URL of the servers, or that of the \
             tables' owner"
        ));
    }
    write_failure(error)
}

async fn next_active(store: &Store, last: &Active) -> Result<Active, Failure> {
    loop {
        let roles = store.roles().await.map_err(read_failure)?;
        if let Some(active) = roles.active.filter(|active| active.epoch > last.epoch) {
            return Ok(active);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn shown(name: &str) -> String {
    output::name_from_outside(name)
}
