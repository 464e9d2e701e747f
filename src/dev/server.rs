//! One `stanby serve` child, and what its health endpoint says.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Error;
use super::console::Token;
use super::directory::Directory;
use super::guardian::Guardian;
use super::process::{Process, StopSignals};

/// A server that is asked to end finishes its batch first.
const STOP: StopSignals = StopSignals {
    first: Signal::SIGTERM,
    second: Signal::SIGKILL,
};

const ANSWER_LIMIT: Duration = Duration::from_millis(500);
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What all servers of a group share.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// This executable.
    pub(super) program: PathBuf,
    pub(super) database_url: String,
    pub(super) nats_url: String,
    pub(super) cluster_id: String,
    pub(super) token: Token,
}

#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    http_port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing listens on its port.
    Starting,
    /// Somebody accepts, nobody answers: a frozen process looks like this.
    Silent,
    NotReady(String),
    Standby,
    Active {
        epoch: Option<u64>,
    },
}

impl Server {
    pub(super) fn start(
        number: usize,
        group: &Group,
        http_port: u16,
        directory: &Directory,
        guardian: &Guardian,
    ) -> Result<Self, Error> {
        let mut command = Command::new(&group.program);
        command
            .arg("serve")
            .args(["--database-url", &group.database_url])
            .args(["--nats-server", &group.nats_url])
            .args(["--cluster-id", &group.cluster_id])
            .args(["--http-host", "127.0.0.1"])
            .args(["--http-port", &http_port.to_string()])
            .arg("--api-token-file")
            .arg(&group.token.file);
        let process = Process::spawn(
            &format!("server-{number}"),
            command,
            directory,
            STOP,
            guardian,
        )?;
        Ok(Self { process, http_port })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn log(&self) -> &Path {
        self.process.log()
    }

    pub(super) fn failure(&self, what: impl fmt::Display) -> Error {
        self.process.failure(what)
    }

    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    pub(super) async fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        self.process.stop(patience).await
    }

    pub(super) async fn health(&self) -> Health {
        health(self.http_port).await
    }
}

/// Fails with a sentence when somebody else listens on `port`.
pub(super) fn ensure_free(port: u16) -> Result<(), Error> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = if error.kind() == ErrorKind::AddrInUse {
                String::from("is taken")
            } else {
                format!("cannot be used ({error})")
            };
            Err(Error::Refused(format!(
                "port {port}, wanted for a monitoring page, {why}: choose others with --http-port (it and the \
                 next number are used)"
            )))
        }
    }
}

async fn health(port: u16) -> Health {
    match timeout(ANSWER_LIMIT, ask(port)).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Health::Starting,
        Ok(Err(_)) | Err(_) => Health::Silent,
    }
}

async fn ask(port: u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    // HTTP/1.0: the answer ends where the connection ends, so there is nothing to parse for its length.
    stream
        .write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

#[derive(Deserialize)]
struct Answer {
    role: String,
    epoch: Option<u64>,
    reason: Option<String>,
}

fn read(answer: &[u8]) -> Health {
    let body = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .map(|end| &answer[end + 4..]);
    let Some(answer) = body.and_then(|body| serde_json::from_slice::<Answer>(body).ok()) else {
        return Health::NotReady(String::from(
            "something else answers on its monitoring port",
        ));
    };
    match (answer.reason, answer.role.as_str()) {
        (Some(reason), _) => Health::NotReady(reason),
        (None, "active") => Health::Active {
            epoch: answer.epoch,
        },
        (None, _) => Health::Standby,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: &str, body: &str) -> Health {
        read(format!("HTTP/1.1 {code}\r\ncontent-type: application/json\r\n\r\n{body}").as_bytes())
    }

    #[test]
    fn role_and_trouble_are_read_from_the_ready_page() {
        let active = answer("200 OK", r#"{"status":"ready","role":"active","epoch":3}"#);
        assert_eq!(active, Health::Active { epoch: Some(3) });

        let standby = answer(
            "200 OK",
            "{\n  \"status\": \"ready\",\n  \"role\": \"standby\"\n}\n",
        );
        assert_eq!(standby, Health::Standby);

        let body = r#"{"status":"unavailable","role":"standby","reason":"NATS is out of reach"}"#;
        let not_ready = Health::NotReady(String::from("NATS is out of reach"));
        assert_eq!(answer("503 Service Unavailable", body), not_ready);
    }

    #[test]
    fn a_stranger_on_the_port_is_not_taken_for_a_server() {
        for stranger in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\n\r\n<html>",
            "\r\n\r\n{}",
        ] {
            assert!(
                matches!(read(stranger.as_bytes()), Health::NotReady(_)),
                "{stranger:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_a_server_that_is_starting() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(health(port).await, Health::Silent);
        let refused = ensure_free(port).unwrap_err().to_string();
        assert!(
            refused.contains("is taken") && refused.contains("--http-port"),
            "{refused}"
        );

        drop(listener);

        assert_eq!(health(port).await, Health::Starting);
        ensure_free(port).unwrap();
    }
}
