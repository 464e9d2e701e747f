//! `stanby alerts`: the rules are tried by Prometheus' own tool, and fired at a real Alertmanager.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::read;
use crate::tools::is_installed;
use crate::wait::wait_until;
use crate::yaml::documents;

const RULES: &str = "deploy/prometheus/alerts.yml";
const LIMIT: Duration = Duration::from_mins(1);

fn stanby(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanby"));
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn shipped() -> BTreeSet<String> {
    let rules = &documents(RULES)[0]["groups"][0]["rules"];
    let names = rules.as_vec().unwrap().iter();
    names
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect()
}

/// The shipped rules with something else in them.
fn changed(from: &str, to: &str) -> tempfile::NamedTempFile {
    let text = read(RULES);
    assert!(text.contains(from), "{from}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.replace(from, to).as_bytes()).unwrap();
    file
}

#[test]
fn each_alert_that_is_shipped_fires_when_it_should_and_none_for_a_healthy_pair() {
    if !is_installed("promtool") {
        return;
    }
    let printed = stanby(&["alerts", "print"]);
    assert_eq!(stdout(&printed), read(RULES));

    let tried = stanby(&["alerts", "test", "--label", "job=prod"]);
    assert_eq!(tried.status.code(), Some(0), "{tried:?}");
    let lines = stdout(&tried);
    for name in shipped() {
        let fires = lines.lines().filter(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words == [name.as_str(), "fires"]
        });
        assert_eq!(fires.count(), 1, "{name}: {lines}");
    }
    assert!(
        lines.ends_with("a healthy pair: nothing fires\n"),
        "{lines}"
    );
}

#[test]
fn a_rule_that_can_never_fire_and_one_that_always_does_are_found() {
    if !is_installed("promtool") {
        return;
    }
    let never = changed("expr: stanby_ready == 0", "expr: stanby_ready == 7");
    let never = never.path().to_str().unwrap();
    let tried = stanby(&["alerts", "test", "StanbyNotReady", "--rules", never]);
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
    assert!(stdout(&tried).contains("DOES NOT FIRE"), "{tried:?}");

    let always = changed("stanby_durable_lag > 100000", "stanby_durable_lag > 1");
    let always = always.path().to_str().unwrap();
    let tried = stanby(&[
        "alerts",
        "test",
        "StanbyDurableLags",
        "--json",
        "--rules",
        always,
    ]);
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
    let lines = stdout(&tried);
    let mut lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(lines.next().unwrap()["outcome"], "fires");
    let healthy = lines.next().unwrap()["healthy_pair"]["fires"].clone();
    assert!(
        healthy.as_str().unwrap().contains("StanbyDurableLags"),
        "{healthy}"
    );

    // A label that the rules ask for and the series lack.
    let elsewhere = changed(
        "expr: stanby_ready == 0",
        "expr: stanby_ready{env=\"prod\"} == 0",
    );
    let elsewhere = elsewhere.path().to_str().unwrap();
    for (more, code) in [(&[][..], 1), (&["--label", "env=prod"], 0)] {
        let arguments = ["alerts", "test", "StanbyNotReady", "--rules", elsewhere];
        let tried = stanby(&[&arguments, more].concat());
        assert_eq!(tried.status.code(), Some(code), "{more:?}: {tried:?}");
    }
}

#[test]
fn what_cannot_be_tried_is_refused_with_what_to_do() {
    let broken = changed("expr: stanby_ready == 0", "expr: stanby_ready == == 0");
    let broken = broken.path().to_str().unwrap();
    let mut cases = vec![
        (&["NoSuch"][..], 2, "StanbyNoActive"),
        (&["--rules", "/no/such.yml"], 2, "cannot be read"),
        (&["--rules", "/dev/null"], 2, "is empty"),
        (
            &["--promtool", "/no/such/promtool"],
            2,
            "install Prometheus",
        ),
        (&["--label", "job"], 2, "NAME=VALUE"),
        (&["--resolve-after", "1m"], 2, "--alertmanager"),
        (&["--alertmanager", "https://here:1"], 2, "behind TLS"),
        (
            &["--alertmanager", "http://127.0.0.1:1"],
            3,
            "no Alertmanager answers at 127.0.0.1:1",
        ),
    ];
    let broken = ["--rules", broken];
    if is_installed("promtool") {
        cases.push((&broken, 1, "does not take the rules"));
    }
    for (more, code, told) in cases {
        let tried = stanby(&[&["alerts", "test"], more].concat());
        assert_eq!(tried.status.code(), Some(code), "{more:?}: {tried:?}");
        assert!(
            stderr(&tried).contains(told),
            "{more:?}: {}",
            stderr(&tried)
        );
    }
}

/// A real one, which tells nobody.
struct Alertmanager {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Alertmanager {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alertmanager.yml");
        std::fs::write(
            &file,
            "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n",
        )
        .unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            port,
            _folder: folder,
        }
    }

    fn get(&self, path: &str) -> Result<String, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(text)?;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(text)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(answer),
        }
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn an_alertmanager_gets_each_alert_once_marked_as_a_test_and_it_resolves_by_itself() {
    if !is_installed("prometheus-alertmanager") {
        return;
    }
    let manager = Alertmanager::start();
    wait_until(LIMIT, async || manager.get("/-/ready").map(drop)).await;
    let url = format!("http://127.0.0.1:{}", manager.port);

    let arguments = [
        "alerts",
        "test",
        "--label",
        "team=sre",
        "--alertmanager",
        &url,
    ];
    let sent = stanby(&arguments);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");

    let shown = wait_until(LIMIT, async || {
        let shown = manager.get("/api/v2/alerts?filter=stanby_test=true")?;
        let shown: Vec<Value> = serde_json::from_str(&shown).map_err(|it| it.to_string())?;
        match shown.len() {
            0 => Err("none yet".to_owned()),
            _ => Ok(shown),
        }
    })
    .await;
    let names: Vec<_> = shown
        .iter()
        .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), shipped().len(), "each once: {names:?}");
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), shipped());
    for alert in &shown {
        let (labels, annotations) = (&alert["labels"], &alert["annotations"]);
        assert!(
            labels["severity"].is_string() && labels["team"] == "sre",
            "{alert}"
        );
        let summary = annotations["summary"].as_str().unwrap();
        assert!(!summary.contains("{{"), "a template is left: {summary}");
        assert!(annotations["look"].is_string(), "{alert}");
        let ends = alert["endsAt"].as_str().unwrap();
        assert!(ends > alert["startsAt"].as_str().unwrap(), "{alert}");
    }

    // Resolved at once.
    let resolved = stanby(&[
        "alerts",
        "test",
        "--alertmanager",
        &url,
        "--label",
        "team=sre",
        "--resolve-after",
        "1ms",
    ]);
    assert_eq!(resolved.status.code(), Some(0), "{resolved:?}");
    wait_until(LIMIT, async || {
        match manager
            .get("/api/v2/alerts?filter=stanby_test=true")?
            .trim()
        {
            "[]" => Ok(()),
            left => Err(left.to_owned()),
        }
    })
    .await;
}
