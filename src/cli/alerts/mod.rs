//! `stanby alerts …`: the alert rules that are shipped, and whether they work. `test` has promtool evaluate the rules over series
//! of a pair for which each should fire; `test --alertmanager` fires each once there, so that routes and receivers are tried.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::output;
use crate::config::duration::GoDuration;

mod cases;
mod manager;
mod promtool;
mod rules;

use cases::{CASES, Case};
use rules::Rule;

/// What is also in the package.
const SHIPPED: &str = include_str!("../../../deploy/prometheus/alerts.yml");

#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Print the alert rules for Prometheus
    Print,
    /// Try that each alert fires when it should and not while all is well, or fire each once at an Alertmanager
    Test(TestArgs),
}

#[derive(Args, Debug)]
pub struct TestArgs {
    /// Only these; all by default
    #[arg(value_name = "ALERT")]
    alerts: Vec<String>,

    /// Rules to try in place of those that `alerts print` prints, for example with thresholds of your own
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,

    /// Labels that all series and alerts have, as your rules or routes expect them
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,

    /// The program that evaluates the rules; it comes with Prometheus
    #[arg(long, value_name = "PROGRAM", default_value = "promtool")]
    promtool: PathBuf,

    /// Fire each alert once there instead, with the label `stanby_test="true"`; it is `http://[USER:PASSWORD@]HOST:PORT[/PREFIX]`
    #[arg(long, value_name = "URL")]
    alertmanager: Option<String>,

    /// After so long an alert that was fired is resolved
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5m",
        requires = "alertmanager"
    )]
    resolve_after: GoDuration,

    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// What became of one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Fires,
    Silent,
    Sent,
    /// A rule that is not shipped.
    Unknown,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Fires => "fires",
            Self::Silent => "DOES NOT FIRE",
            Self::Sent => "sent",
            Self::Unknown => "not tried: not a rule of stanby",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fires => "fires",
            Self::Silent => "silent",
            Self::Sent => "sent",
            Self::Unknown => "unknown",
        }
    }
}

pub async fn run(command: &AlertsCommand) -> Result<ExitCode, Failure> {
    match command {
        AlertsCommand::Print => {
            output::line(SHIPPED.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        AlertsCommand::Test(args) => args.run().await,
    }
}

impl TestArgs {
    async fn run(&self) -> Result<ExitCode, Failure> {
        let text = match &self.rules {
            None => SHIPPED.to_owned(),
            Some(file) => std::fs::read_to_string(file).map_err(|error| {
                Failure::Usage(anyhow!("{} cannot be read: {error}", file.display()))
            })?,
        };
        let rules = self.wanted(rules::read(&text).map_err(Failure::Usage)?)?;
        match &self.alertmanager {
            Some(url) => self.fire(&rules, url).await,
            None => self.evaluate(&rules, &text).await,
        }
    }

    fn wanted(&self, mut rules: Vec<Rule>) -> Result<Vec<Rule>, Failure> {
        for name in &self.alerts {
            if !rules.iter().any(|rule| rule.name == *name) {
                let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
                return Err(Failure::Usage(anyhow!(
                    "there is no alert {name:?} in the rules; there are {}",
                    names.join(", ")
                )));
            }
        }
        if !self.alerts.is_empty() {
            rules.retain(|rule| self.alerts.contains(&rule.name));
        }
        if rules.is_empty() {
            return Err(Failure::Usage(anyhow!(
                "the rules have no alert; `stanby alerts print` prints those of stanby"
            )));
        }
        Ok(rules)
    }

    async fn evaluate(&self, rules: &[Rule], text: &str) -> Result<ExitCode, Failure> {
        let promtool = promtool::Promtool::new(&self.promtool, text, &self.labels)?;
        promtool.check().await?;
        let mut all_fire = true;
        for rule in rules {
            let outcome = match case(rule) {
                None => Outcome::Unknown,
                Some(case) if promtool.fires(case).await? => Outcome::Fires,
                Some(_) => Outcome::Silent,
            };
            all_fire &= outcome != Outcome::Silent;
            self.report(&rule.name, outcome)?;
        }
        let false_alarms = promtool.false_alarms().await?;
        if self.json {
            output::json(&json!({ "healthy_pair": { "fires": false_alarms } }))?;
        } else if let Some(text) = &false_alarms {
            output::line(&format!("a healthy pair: SOMETHING FIRES\n{text}"))?;
        } else {
            output::line("a healthy pair: nothing fires")?;
        }
        Ok(if all_fire && false_alarms.is_none() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    async fn fire(&self, rules: &[Rule], url: &str) -> Result<ExitCode, Failure> {
        let manager = manager::Alertmanager::at(url).map_err(Failure::Usage)?;
        let resolve_after: Duration = self.resolve_after.to_std();
        let alerts: Vec<_> = rules
            .iter()
            .map(|rule| manager::alert(rule, case(rule), &self.labels, resolve_after))
            .collect();
        manager.send(&alerts).await?;
        for rule in rules {
            self.report(&rule.name, Outcome::Sent)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn report(&self, alert: &str, outcome: Outcome) -> Result<(), Failure> {
        if self.json {
            return output::json(&json!({ "alert": alert, "outcome": outcome.name() }));
        }
        output::line(&format!("{alert:<26} {}", outcome.word()))
    }
}

fn case(rule: &Rule) -> Option<&'static Case> {
    CASES.iter().find(|case| case.alert == rule.name)
}

fn label(text: &str) -> anyhow::Result<(String, String)> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || it == '_')
    };
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => bail!("it is NAME=VALUE, for example job=stan-prod"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alert_that_is_shipped_has_a_case_and_each_case_an_alert() {
        let shipped = rules::read(SHIPPED).unwrap();
        let mut names: Vec<_> = shipped.iter().map(|rule| rule.name.as_str()).collect();
        let mut cases: Vec<_> = CASES.iter().map(|case| case.alert).collect();
        names.sort_unstable();
        cases.sort_unstable();
        assert_eq!(names, cases);
    }
}
