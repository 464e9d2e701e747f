//! `stanby version`

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output;

#[derive(Args, Debug)]
pub struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

pub fn run(args: &VersionArgs) -> Result<ExitCode, Failure> {
    let version = Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
    };
    if args.json {
        output::json(&version)?;
    } else {
        output::line(&format!("{} {}", version.name, version.version))?;
    }
    Ok(ExitCode::SUCCESS)
}
