//! `stanby doctor`: what keeps a server from working as it should, before or while one runs.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output;
use crate::config::{Notes, ServeFlags, Sources};
use crate::node::doctor::{self, Finding, Verdict};

#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Serialize)]
struct Report<'a> {
    failures: usize,
    warnings: usize,
    findings: &'a [Finding],
}

/// `args` are the command line's after `doctor`, `notes` about its flags that mean something else here.
pub async fn run(
    doctor: &DoctorArgs,
    args: &[OsString],
    notes: &Notes,
) -> Result<ExitCode, Failure> {
    let serve: Vec<OsString> = args
        .iter()
        .filter(|arg| *arg != "--json")
        .cloned()
        .collect();
    let sources = Sources::read(&serve)?;
    for warning in sources.warnings(notes).iter().chain(&sources.unknown) {
        output::note(&format!("warning: {warning}"));
    }
    let findings = doctor::diagnose(&sources.config).await?;
    let count = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
    let report = Report {
        failures: count(Verdict::Fail),
        warnings: count(Verdict::Warn),
        findings: &findings,
    };
    if doctor.json {
        output::json(&report)?;
    } else {
        output::line(&text(&report))?;
    }
    Ok(if report.failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    for finding in report.findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let shown = output::name_from_outside(&finding.text);
        lines.push(format!("{verdict:<5}{:<13}{shown}", finding.about));
        if let Some(remedy) = &finding.remedy {
            lines.push(format!("{:18}-> {remedy}", ""));
        }
    }
    lines.push(format!(
        "failures: {}, warnings: {}",
        report.failures, report.warnings
    ));
    lines.join("\n")
}
