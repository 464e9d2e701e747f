//! Reads the files and prints the page.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;

use super::page;
use crate::cli::bench::result::Outcome;
use crate::cli::failure::Failure;
use crate::cli::output;

/// A page of more runs shows nothing any more.
const RUNS_MAX: usize = 64;

#[derive(Args, Debug)]
pub(in crate::cli::bench) struct ReportArgs {
    /// What `stanby bench --json` printed: one or several runs in each file
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(in crate::cli::bench) fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let mut runs = Vec::new();
    for file in &args.files {
        read(file, &mut runs)?;
    }
    if runs.is_empty() {
        return Err(Failure::Failed(anyhow!("the files hold no run")));
    }
    if runs.len() > RUNS_MAX {
        return Err(Failure::Usage(anyhow!(
            "{} runs do not fit on a page; name fewer files, {RUNS_MAX} runs at most",
            runs.len()
        )));
    }
    output::line(&page::page(&runs))?;
    Ok(ExitCode::SUCCESS)
}

/// A run and what to call it.
fn read(file: &Path, runs: &mut Vec<(String, Outcome)>) -> Result<(), Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("{shown} cannot be read"))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<&str> = lines.collect();
    for (number, line) in lines.iter().enumerate() {
        let outcome: Outcome = serde_json::from_str(line).with_context(|| {
            format!(
                "line {} of {shown} is not what stanby bench --json prints",
                number + 1
            )
        })?;
        let name = if lines.len() > 1 {
            format!("{name} {}", number + 1)
        } else {
            name.to_string()
        };
        runs.push((name, outcome));
    }
    Ok(())
}
