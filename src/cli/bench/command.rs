//! The command: a run, or a report of some.

use std::process::ExitCode;

use super::args::{BenchArgs, BenchCommand};
use super::{print, report, run as bench};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::signals::Stop;

pub async fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    if let Some(BenchCommand::Report(args)) = &args.command {
        return report::run(args);
    }
    let (outcome, stop) = bench::run(&args.load).await?;
    if args.load.json {
        output::json(&outcome)?;
    } else {
        output::line(&print::text(&outcome))?;
    }
    Ok(stop.map_or(ExitCode::SUCCESS, Stop::code))
}
