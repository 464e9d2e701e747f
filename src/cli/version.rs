//! `stanby version`

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output;
use crate::known_bad;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

pub fn run(args: &VersionArgs) -> Result<ExitCode, Failure> {
    let version = Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        warning: known_bad::warning(),
    };
    if args.json {
        output::json(&version)?;
    } else {
        output::line(&format!("{} {}", version.name, version.version))?;
        if let Some(warning) = &version.warning {
            output::line(warning)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
