//! Has Prometheus' own tool evaluate rules over series.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tokio::process::Command;

use super::cases::{AT, Case, HEALTHY, INTERVAL, Series, values};
use crate::cli::failure::Failure;

#[derive(Debug)]
pub(super) struct Promtool<'a> {
    program: &'a Path,
    labels: &'a [(String, String)],
    /// Belongs to this run alone, and is removed with it.
    folder: Folder,
}

impl<'a> Promtool<'a> {
    pub(super) fn new(
        program: &'a Path,
        rules: &str,
        labels: &'a [(String, String)],
    ) -> Result<Self, Failure> {
        let folder = Folder::new().context("there is no place for temporary files")?;
        folder.write("rules.yml", rules)?;
        Ok(Self {
            program,
            labels,
            folder,
        })
    }

    /// Whether Prometheus takes the rules at all.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let done = self.run(&["check", "rules"], "rules.yml").await?;
        if done.status.success() {
            return Ok(());
        }
        Err(Failure::Failed(anyhow!(
            "Prometheus does not take the rules: {}",
            text(&done)
        )))
    }

    pub(super) async fn fires(&self, case: &Case) -> Result<bool, Failure> {
        let is_firing = format!(
            "count(ALERTS{{alertname=\"{}\", alertstate=\"firing\"}}) > bool 0",
            case.alert
        );
        let expected = json!([{ "labels": "{}", "value": 1 }]);
        let done = self.evaluate(case.series, &is_firing, &expected).await?;
        Ok(done.status.success())
    }

    /// What fires though all is well.
    pub(super) async fn false_alarms(&self) -> Result<Option<String>, Failure> {
        let firing = "ALERTS{alertstate=\"firing\"}";
        let done = self.evaluate(HEALTHY, firing, &json!([])).await?;
        Ok((!done.status.success()).then(|| text(&done)))
    }

    async fn evaluate(
        &self,
        series: &[Series],
        expression: &str,
        expected: &Value,
    ) -> Result<Output, Failure> {
        let series = series.iter().map(|(metric, labels, what)| {
            json!({ "series": self.named(metric, labels), "values": values(what) })
        });
        let test = json!({
            "rule_files": ["rules.yml"],
            "evaluation_interval": INTERVAL,
            "tests": [{
                "interval": INTERVAL,
                "input_series": series.collect::<Vec<_>>(),
                "promql_expr_test": [{
                    "expr": expression, "eval_time": AT, "exp_samples": expected,
                }],
            }],
        });
        // JSON is YAML.
        self.folder.write("test.yml", &test.to_string())?;
        self.run(&["test", "rules"], "test.yml").await
    }

    fn named(&self, metric: &str, labels: &[(&str, &str)]) -> String {
        let is_given = |name: &str| self.labels.iter().any(|(given, _)| given == name);
        let own = [("job", "stanby")]
            .into_iter()
            .chain(labels.iter().copied());
        let own = own.filter(|(name, _)| !is_given(name));
        let given = self
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let labels: Vec<_> = own
            .chain(given)
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        format!("{metric}{{{}}}", labels.join(","))
    }

    async fn run(&self, arguments: &[&str], file: &str) -> Result<Output, Failure> {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .arg(self.folder.0.join(file))
            .stdin(Stdio::null());
        command.output().await.map_err(|error| {
            let program = self.program.display();
            Failure::Usage(if error.kind() == ErrorKind::NotFound {
                anyhow!(
                    "there is no program {program}: install Prometheus (Debian: prometheus), name its promtool with \
                     --promtool, or try routes and receivers alone with --alertmanager"
                )
            } else {
                anyhow!("{program} cannot be started: {error}")
            })
        })
    }
}

/// The text of both streams, which it uses alike.
fn text(done: &Output) -> String {
    let text = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
    text.concat().trim().to_owned()
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let folder = nix::unistd::mkdtemp(&std::env::temp_dir().join("stanby-alerts-XXXXXX"))?;
        Ok(Self(folder))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let file = self.0.join(name);
        let written = std::fs::write(&file, text);
        written.with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
