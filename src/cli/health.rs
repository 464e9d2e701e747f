//! `stanby health`: asks a server on this machine how it is, for container checks. Images without an HTTP client need
//! nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::failure::Failure;
use super::output;
use crate::config::duration::GoDuration;
use crate::config::pages::PagesAddress;

/// The pages' answers have a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Args, Debug)]
pub struct HealthArgs {
    /// Healthy means active; without this flag, a standby that can take over is healthy, too
    #[arg(long)]
    active: bool,

    /// Healthy means that the process answers at all
    #[arg(long, conflicts_with = "active")]
    alive: bool,

    /// Port of the server's pages, as given to serve
    #[arg(
        long,
        env = "STANBY_HTTP_PORT",
        value_name = "PORT",
        default_value_t = 8222
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    http_port: u16,

    /// Address of the server's pages, as given to serve
    #[arg(
        long,
        env = "STANBY_HTTP_HOST",
        value_name = "HOST",
        default_value = "127.0.0.1"
    )]
    http_host: String,

    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    timeout: GoDuration,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    role: String,
    epoch: Option<u64>,
    reason: Option<String>,
}

/// Prints one line. Whatever is wrong exits with 1: Docker reserves the other codes.
pub async fn run(args: &HealthArgs) -> Result<ExitCode, Failure> {
    let asked = tokio::time::timeout(args.timeout.to_std(), args.ask()).await;
    let asked = asked.unwrap_or_else(|_| Err(anyhow!("no answer within {}", args.timeout)));
    match asked {
        Ok((200, answer)) => {
            let epoch = answer.epoch.map(|epoch| format!(", epoch {epoch}"));
            output::line(&format!(
                "{}: {}{}",
                answer.status,
                answer.role,
                epoch.unwrap_or_default()
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok((_, answer)) => {
            let reason = answer.reason.map(|reason| format!(": {reason}"));
            output::line(&format!(
                "{} ({}){}",
                answer.status,
                answer.role,
                reason.unwrap_or_default()
            ))?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(Failure::Failed(error.context(format!(
            "no healthy answer from {}; check that the server runs and that --http-port is the one it was given",
            args.address()
        )))),
    }
}

impl HealthArgs {
    fn address(&self) -> PagesAddress {
        // What a server that listens everywhere was given is no address to ask.
        let host = match self.http_host.parse() {
            Err(_) if self.http_host.is_empty() => Ipv4Addr::LOCALHOST.to_string(),
            Ok(IpAddr::V4(host)) if host.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            Ok(IpAddr::V6(host)) if host.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            Ok(_) | Err(_) => self.http_host.clone(),
        };
        PagesAddress {
            host,
            port: self.http_port,
        }
    }

    fn path(&self) -> &'static str {
        match (self.alive, self.active) {
            (true, _) => "/healthz",
            (false, true) => "/healthz/active",
            (false, false) => "/readyz",
        }
    }

    async fn ask(&self) -> anyhow::Result<(u16, Answer)> {
        let PagesAddress { host, port } = self.address();
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        let request = format!("GET {} HTTP/1.0\r\n\r\n", self.path());
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        parse(&answer)
    }
}

fn parse(answer: &[u8]) -> anyhow::Result<(u16, Answer)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let code = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.trim_end().get(..3)?.parse().ok());
    let code = code.ok_or_else(|| anyhow!("what answers there is not an HTTP server"))?;
    let answer = serde_json::from_str(body)
        .map_err(|_| anyhow!("what answers there is not a stanby server (HTTP status {code})"))?;
    Ok((code, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_somebody_else_is_not_health() {
        for other in [
            "",
            "SSH-2.0-x\r\n",
            "HTTP/1.1\r\n\r\n{}",
            "HTTP/1.1 é\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n<html>",
            "HTTP/1.1 200 OK\r\nx: y",
        ] {
            assert!(parse(other.as_bytes()).is_err(), "{other:?}");
        }
        let ours =
            b"HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\n{\"status\":\"a\",\"role\":\"b\"}";
        assert_eq!(parse(ours).unwrap().0, 503);
    }
}
