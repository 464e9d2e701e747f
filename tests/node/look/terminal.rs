//! What fits a terminal: `stanby status` and `stanby top`.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{json, orders, refused, run};
use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{LIMIT, Pair, Server};
use crate::support::wait::wait_until;

#[tokio::test]
async fn status_fits_80_columns_and_shows_only_what_is_asked_for() {
    let Some((group, _server)) = orders().await else {
        return;
    };
    let wide = "x".repeat(120);
    let flags = [
        "--nats-server",
        &group.nats_url,
        "--cluster-id",
        &group.cluster_id,
    ];
    let output = stanby(&[&["pub", &wide, "x", "-q"][..], &flags].concat()).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));

    let mut command = Server::command();
    command
        .args(["status", "--database-url", &group.database_url])
        .env("COLUMNS", "80");
    let text = stdout(
        &tokio::process::Command::from(command)
            .output()
            .await
            .unwrap(),
    );
    assert!(text.contains("books") && text.contains("xxx"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let problems = json(&group, &["status", "--problems"]).await;
    assert_eq!(problems["channels"].as_array().unwrap().len(), 1);
    assert_eq!(problems["durables"][0]["durable_name"], "books");
    let nothing = json(&group, &["status", "--filter", "no such"]).await;
    assert_eq!(nothing["channels"], Value::Array(Vec::new()));
    assert_eq!(nothing["counts"]["channels"], 2, "counts are of all");
}

#[tokio::test]
async fn top_shows_channels_and_durables_on_a_terminal_over_a_takeover_and_ends_with_q() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let reader = group.client("reader").await;
    drop(reader.subscribe("orders", "", "books").await.unwrap());
    let text = run(group, &["top", "--once", "--interval", "100ms"]).await;
    assert!(
        text.contains("active ") && text.contains("orders") && text.contains("books"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let (usage, told) = refused(group, &["top"]).await;
    assert_eq!(usage, Some(2), "{told}");

    let folder = tempfile::tempdir().unwrap();
    let typescript = folder.path().join("typescript");
    let program = env!("CARGO_BIN_EXE_stanby");
    let line = format!(
        "stty rows 24 cols 80; {program} top --interval 100ms --database-url '{}'",
        group.database_url
    );
    let mut command = Server::command();
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = std::process::Command::new("script");
    command.envs(environment).env("TERM", "xterm");
    command
        .args(["-q", "-f", "-e", "-c", &line])
        .arg(&typescript);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null());
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    let wait_for = async |text: &str| {
        wait_until(LIMIT, async || {
            let shown = std::fs::read(&typescript).unwrap_or_default();
            let shown = String::from_utf8_lossy(&shown).into_owned();
            if shown.contains(text) {
                Ok(())
            } else {
                Err(shown)
            }
        })
        .await;
    };
    wait_for("orders").await;
    wait_for("q quit").await;
    pair.active.signal(Signal::SIGKILL);
    pair.standby.wait_until_active().await;
    tokio::io::AsyncWriteExt::write_all(&mut keys, b"\t")
        .await
        .unwrap();
    wait_for("books").await;
    tokio::io::AsyncWriteExt::write_all(&mut keys, b"q")
        .await
        .unwrap();
    let ended = tokio::time::timeout(LIMIT, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(ended.success(), "{ended}");
}
