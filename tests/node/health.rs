//! `stanby health`, as a container's health check runs it.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Output;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Pair, Server};

impl Server {
    async fn health(&self, flags: &[&str]) -> Output {
        let port = self.http_port.to_string();
        stanby(&[&["health", "--http-port", &port], flags].concat()).await
    }
}

#[tokio::test]
async fn an_active_and_a_standby_are_healthy_and_only_one_is_active() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };

    for (server, flags, expected, line) in [
        (&pair.active, &[][..], 0, "ready: active, epoch 1\n"),
        (&pair.standby, &[], 0, "ready: standby\n"),
        (&pair.active, &["--active"], 0, "active: active, epoch 1\n"),
        (&pair.standby, &["--active"], 1, "not active (standby)\n"),
        (&pair.standby, &["--alive"], 0, "ok: standby\n"),
        // As a server that listens everywhere is told.
        (
            &pair.active,
            &["--http-host", "0.0.0.0"],
            0,
            "ready: active, epoch 1\n",
        ),
    ] {
        let output = server.health(flags).await;
        assert_eq!(stdout(&output), line, "{flags:?}: {}", stderr(&output));
        assert_eq!(code(&output), Some(expected), "{flags:?}");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_not_healthy() {
    // Takes connections, and never answers.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = mute.local_addr().unwrap().port().to_string();
    let flags = ["health", "--http-port", &port, "--timeout", "100ms"];
    let output = stanby(&flags).await;
    assert_eq!(code(&output), Some(1));
    let text = stderr(&output);
    assert!(text.contains("no answer within 100ms"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    drop(mute);
    let output = stanby(&flags).await;
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("check that the server runs"));
}
