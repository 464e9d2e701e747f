//! Fires alerts at an Alertmanager, as Prometheus does: `POST /api/v2/alerts`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::cases::Case;
use super::rules::Rule;
use crate::cli::failure::Failure;
use crate::clock::Clock;

const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Who gets it sees that it is a test, and routes may look for this.
const MARK: &str = "stanby_test";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
}

/// As Prometheus would make it of the rule, for the series of the case.
pub(super) fn alert(
    rule: &Rule,
    case: Option<&Case>,
    given: &[(String, String)],
    resolve_after: Duration,
) -> Alert {
    let of_series = case.and_then(|case| case.series.first());
    let of_series = of_series
        .into_iter()
        .flat_map(|(_, labels, _)| labels.iter())
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let mut labels = BTreeMap::from([("job".to_owned(), "stanby".to_owned())]);
    labels.extend(of_series);
    labels.extend(rule.labels.iter().cloned());
    labels.extend(given.iter().cloned());
    labels.insert("alertname".to_owned(), rule.name.clone());
    labels.insert(MARK.to_owned(), "true".to_owned());
    let annotations = rule.annotations.iter();
    let annotations = annotations.map(|(name, text)| (name.clone(), filled(text, &labels)));
    let now = jiff::Timestamp::from_nanosecond(Clock.now().wall.0.into()).unwrap_or_default();
    Alert {
        annotations: annotations.collect(),
        starts_at: now.to_string(),
        ends_at: (now + resolve_after).to_string(),
        labels,
    }
}

/// The templates of the shipped rules use labels and the value alone.
fn filled(text: &str, labels: &BTreeMap<String, String>) -> String {
    let mut filled = text.replace("{{ $value }}", "many");
    for (name, value) in labels {
        filled = filled.replace(&format!("{{{{ $labels.{name} }}}}"), value);
    }
    filled
}

#[derive(Debug)]
pub(super) struct Alertmanager {
    host: String,
    port: u16,
    path: String,
    authorization: Option<String>,
}

impl Alertmanager {
    pub(super) fn at(url: &str) -> anyhow::Result<Self> {
        let what = "http://[USER:PASSWORD@]HOST:PORT[/PREFIX]";
        let parsed = Url::parse(url).map_err(|error| {
            anyhow!("the URL of the Alertmanager cannot be read ({error}); it is {what}")
        })?;
        ensure!(
            parsed.scheme() == "http",
            "the Alertmanager is asked by {what} only, not by {}; behind TLS, run this where it listens, or forward its port",
            parsed.scheme()
        );
        let host = parsed.host_str().unwrap_or_default();
        ensure!(
            !host.is_empty(),
            "the URL of the Alertmanager has no host; it is {what}"
        );
        let user = decoded(parsed.username());
        let password = decoded(parsed.password().unwrap_or_default());
        let is_named = !user.is_empty() || !password.is_empty();
        Ok(Self {
            host: host.to_owned(),
            port: parsed.port().unwrap_or(80),
            path: format!("{}/api/v2/alerts", parsed.path().trim_end_matches('/')),
            authorization: is_named.then(|| BASE64.encode(format!("{user}:{password}").as_bytes())),
        })
    }

    pub(super) async fn send(&self, alerts: &[Alert]) -> Result<(), Failure> {
        let body = serde_json::to_string(alerts).context("the alerts do not fit into JSON")?;
        let address = format!("{}:{}", self.host, self.port);
        let asked = timeout(ANSWER_LIMIT, self.ask(&address, &body)).await;
        let asked = asked.unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_LIMIT:?}")));
        let answer = asked.map_err(|error| {
            Failure::Unreachable(error.context(format!("no Alertmanager answers at {address}")))
        })?;
        accepted(&answer).map_err(|error| {
            Failure::Failed(error.context(format!("the Alertmanager at {address} took no alert")))
        })
    }

    async fn ask(&self, address: &str, body: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let authorization = self.authorization.as_ref();
        let authorization =
            authorization.map_or_else(String::new, |it| format!("Authorization: Basic {it}\r\n"));
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{authorization}\
             Connection: close\r\n\r\n{body}",
            self.path,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn accepted(answer: &str) -> anyhow::Result<()> {
    let status = answer
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5));
    match status {
        Some("200") => Ok(()),
        Some(code) => {
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            bail!("HTTP status {code} {}", body.trim())
        }
        None => bail!("what answers there is not an HTTP server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_of_an_alertmanager_that_took_them_counts() {
        assert!(accepted("HTTP/1.1 200 OK\r\n\r\n").is_ok());
        for other in ["", "SSH-2.0-x\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 é\r\n"] {
            assert!(accepted(other).is_err(), "{other:?}");
        }
        let error = accepted("HTTP/1.1 400 Bad Request\r\n\r\n\"no labels\"").unwrap_err();
        assert!(error.to_string().contains("400 \"no labels\""), "{error}");
    }

    #[test]
    fn a_url_has_a_prefix_and_a_login_and_no_tls() {
        let manager = Alertmanager::at("http://me:s%40y@alerts.local:9093/am/").unwrap();
        assert_eq!(manager.path, "/am/api/v2/alerts");
        assert_eq!(
            (manager.host.as_str(), manager.port),
            ("alerts.local", 9093)
        );
        assert_eq!(manager.authorization.as_deref(), Some("bWU6c0B5"));
        for (wrong, why) in [
            ("alerts.local:9093", "http://"),
            ("https://alerts.local", "TLS"),
            ("", "cannot be read"),
        ] {
            let error = Alertmanager::at(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
