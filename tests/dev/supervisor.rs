//! `stanby dev` as its user sees it: the real program, and what it prints.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stanby::dev::directory::Directory;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::process::temporary_directory;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// Everything starts at once on machines that do other things too.
const LIMIT: Duration = Duration::from_mins(1);

struct Dev {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
    nats_port: u16,
}

impl Dev {
    /// Starts it on free ports with these arguments; temporary files go to `scratch`.
    fn start(scratch: &Directory, arguments: &[&str]) -> Self {
        let [http_port, _, nats_port] = free_ports();
        let mut child = Command::new(env!("CARGO_BIN_EXE_stanby"))
            .arg("dev")
            .args([
                "--port",
                &nats_port.to_string(),
                "--http-port",
                &http_port.to_string(),
            ])
            .args(arguments)
            .env("TMPDIR", scratch.root())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            seen: Vec::new(),
            nats_port,
        }
    }

    /// Reads until a line holds `text`.
    async fn line_with(&mut self, text: &str) -> String {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.seen.push(line.clone());
                if line.contains(text) {
                    return line;
                }
            }
            let mut errors = String::new();
            let stderr = self.child.stderr.as_mut().unwrap();
            stderr.read_to_string(&mut errors).await.unwrap();
            panic!("it ended without {text:?}: {:#?}\n{errors}", self.seen);
        };
        timeout(LIMIT, reading)
            .await
            .unwrap_or_else(|_| panic!("no line holds {text:?}"))
    }

    fn signal(&self, signal: Signal) {
        kill(pid(self.child.id().unwrap()), signal).unwrap();
    }

    async fn end(&mut self) -> (ExitStatus, String) {
        let mut errors = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        timeout(LIMIT, stderr.read_to_string(&mut errors))
            .await
            .unwrap()
            .unwrap();
        (
            timeout(LIMIT, self.child.wait()).await.unwrap().unwrap(),
            errors,
        )
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed())
}

/// The number after `before` in `line`.
fn number_after(line: &str, before: &str) -> u32 {
    let digits = line.split_once(before).unwrap().1;
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Two neighbours and a third, all free a moment ago.
fn free_ports() -> [u16; 3] {
    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    loop {
        let (first, third) = (listen(0).unwrap(), listen(0).unwrap());
        let first_port = first.local_addr().unwrap().port();
        let Some(Ok(_second)) = first_port.checked_add(1).map(listen) else {
            continue;
        };
        return [
            first_port,
            first_port + 1,
            third.local_addr().unwrap().port(),
        ];
    }
}

/// Whether this machine has what `stanby dev` needs; the harness says so where it has not.
async fn installed() -> bool {
    postgres::database().await.is_some() && nats::url().await.is_some()
}

#[tokio::test]
async fn killing_the_active_shows_a_takeover_and_an_interrupt_ends_everything() {
    if !installed().await {
        return;
    }
    let scratch = temporary_directory();
    let mut dev = Dev::start(&scratch, &["--ephemeral"]);
    let data = dev.line_with("  data ").await;
    let data = PathBuf::from(data.split_ascii_whitespace().nth(1).unwrap());
    let active = number_after(&dev.line_with("  kill -9 ").await, "kill -9 ");
    assert!(
        data.starts_with(scratch.root()) && data.join("postgres").is_dir(),
        "{data:?}"
    );

    kill(pid(active), Signal::SIGKILL).unwrap();

    let ended = dev.line_with(" ended: ").await;
    assert!(ended.contains(&format!("(pid {active})")), "{ended}");
    let successor = number_after(&dev.line_with(" is active").await, "(pid ");
    assert_ne!(successor, active);
    let back = dev.line_with(" is standby").await;
    assert!(back.contains(&format!("kill -9 {successor} ")), "{back}");

    // Open, it can be read when it has been removed.
    let mut postgres_log = std::fs::File::open(data.join("logs/postgres.log")).unwrap();
    dev.signal(Signal::SIGINT);

    let (status, errors) = dev.end().await;
    assert!(status.success(), "{status}: {errors}");
    let mut ending = String::new();
    postgres_log.read_to_string(&mut ending).unwrap();
    assert!(ending.contains("received immediate shutdown"), "{ending}");
    assert!(!ending.contains("received fast shutdown"), "{ending}");
    assert!(kill(pid(successor), None).is_err(), "the active still runs");
    assert!(!data.exists(), "{} is still there", data.display());
    TcpListener::bind((Ipv4Addr::LOCALHOST, dev.nats_port)).unwrap();
}

#[tokio::test]
async fn nothing_outlives_a_killed_supervisor() {
    if !installed().await {
        return;
    }
    let scratch = temporary_directory();
    let mut dev = Dev::start(&scratch, &["--ephemeral"]);
    let active = number_after(&dev.line_with("  kill -9 ").await, "kill -9 ");

    dev.signal(Signal::SIGKILL);
    dev.child.wait().await.unwrap();

    wait_until(LIMIT, async || {
        let left: Vec<_> = std::fs::read_dir(scratch.root())
            .unwrap()
            .flatten()
            .collect();
        let data = left
            .iter()
            .find(|e| e.file_name().to_string_lossy().starts_with("stanby-dev"));
        match (data, kill(pid(active), None)) {
            (None, Err(_)) => Ok(()),
            (data, alive) => Err(format!("data: {data:?}, active: {alive:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_published_is_there_after_a_restart_and_two_cannot_share_it() {
    if !installed().await {
        return;
    }
    let scratch = temporary_directory();
    let data = scratch.root().join("data");
    let keep = ["--data", data.to_str().unwrap()];
    let mut first = Dev::start(&scratch, &keep);
    first.line_with("Ctrl-C stops").await;
    client(&first, &["pub", "orders", "kept"]).await;

    let (status, errors) = Dev::start(&scratch, &keep).end().await;
    assert_eq!(status.code(), Some(1));
    assert!(
        errors.contains("another stanby dev is using") && errors.contains("--data"),
        "{errors}"
    );

    first.signal(Signal::SIGTERM);
    first.end().await;
    let ending = std::fs::read_to_string(data.join("logs/postgres.log")).unwrap();
    assert!(ending.contains("received fast shutdown"), "{ending}");
    let mut second = Dev::start(&scratch, &keep);
    second.line_with("Ctrl-C stops").await;

    let read = client(&second, &["sub", "orders", "--all", "--count", "1"]).await;
    assert!(read.contains("kept"), "{read}");
    second.signal(Signal::SIGINT);
    second.end().await;
}

/// What a command of `stanby` prints when it talks to `dev`.
async fn client(dev: &Dev, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stanby"))
        .args(arguments)
        .args([
            "--nats-server",
            &format!("nats://127.0.0.1:{}", dev.nats_port),
        ])
        .output();
    let output = timeout(LIMIT, output).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_flag_that_chooses_another() {
    if !installed().await {
        return;
    }
    let scratch = temporary_directory();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();

    for flag in ["--port", "--http-port"] {
        let [http_port, _, nats_port] = free_ports();
        let other = if flag == "--port" {
            ("--http-port", http_port)
        } else {
            ("--port", nats_port)
        };
        let output = Command::new(env!("CARGO_BIN_EXE_stanby"))
            .args([
                "dev",
                "--ephemeral",
                flag,
                &port,
                other.0,
                &other.1.to_string(),
            ])
            .env("TMPDIR", scratch.root())
            .output();
        let output = timeout(LIMIT, output).await.unwrap().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            errors.contains(&format!("port {port}")) && errors.contains(flag),
            "{errors}"
        );
    }
}
