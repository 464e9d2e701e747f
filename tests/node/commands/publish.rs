//! What `stanby pub` publishes: arguments, files, standard input, and what `stanby sub` has printed.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::one_server;
use crate::cli::{code, stderr};
use crate::pair::{Group, LIMIT, Server};

#[tokio::test]
async fn many_messages_are_published_with_one_command_and_acked_each() {
    let Some((group, _server)) = one_server().await else {
        return;
    };

    let acks = group
        .lines(&["pub", "bulk", "x", "--count", "50", "--async"])
        .await;
    let quiet = group
        .lines(&["pub", "bulk", "y", "--count", "5", "-q"])
        .await;

    assert_eq!(acks.len(), 50);
    assert!(
        acks.iter().all(|line| line.starts_with("acked bulk ")),
        "{acks:?}"
    );
    assert_eq!(quiet, [""; 0]);
    let rows = group.tables().messages("bulk").await;
    assert_eq!(rows.len(), 55);
    assert!(
        acks.iter()
            .all(|line| rows.iter().any(|row| line.ends_with(&row.guid)))
    );
}

/// What `pub` reads: a file of its own for each test.
fn file(content: &[u8]) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

async fn texts(group: &Group, channel: &str) -> Vec<String> {
    let rows = group.tables().messages(channel).await.into_iter();
    let texts = rows.map(|row| String::from_utf8(row.data).unwrap());
    texts.collect()
}

#[tokio::test]
async fn a_file_is_one_message_or_one_for_each_line() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let (_directory, path) = file(b"first\n\nthird\r\nlast");

    group.lines(&["pub", "whole", "--file", &path]).await;
    let acks = group
        .lines(&["pub", "lines", "--file", &path, "--lines"])
        .await;
    assert_eq!(acks.len(), 4);
    let quiet = ["pub", "fast", "-f", &path, "--lines", "--async", "-q"];
    assert_eq!(group.lines(&quiet).await, [""; 0]);

    assert_eq!(texts(&group, "whole").await, ["first\n\nthird\r\nlast"]);
    for channel in ["lines", "fast"] {
        assert_eq!(texts(&group, channel).await, ["first", "", "third", "last"]);
    }
}

#[tokio::test]
async fn each_line_of_standard_input_is_published_as_it_comes() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let mut command = Server::command();
    command.args(["pub", "log", "--lines"]).args(group.flags());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Command::from(command).kill_on_drop(true).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();

    for line in ["one", "two"] {
        input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        let ack = timeout(LIMIT, acks.next_line()).await.unwrap().unwrap();
        assert!(ack.unwrap().starts_with("acked log "));
    }
    input.write_all(b"three").await.unwrap();
    drop(input);

    let ended = timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert!(ended.success());
    assert_eq!(texts(&group, "log").await, ["one", "two", "three"]);
}

#[tokio::test]
async fn what_cannot_be_published_from_a_file_is_named() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let long = "x".repeat((1 << 20) + 1);
    let (_directory, path) = file(format!("fits\n{long}\nnever sent").as_bytes());

    let output = group.run(&["pub", "big", "--file", &path, "--lines"]).await;
    assert_eq!(code(&output), Some(1));
    let told = stderr(&output);
    assert!(told.contains(&format!("line 2 of {path}: ")), "{told}");
    assert!(told.contains("raise its max_payload"), "{told}");
    assert!(told.contains("1 messages acked"), "{told}");
    assert_eq!(texts(&group, "big").await, ["fits"]);

    for (flags, expected, text) in [
        (&["-f", "/nowhere"][..], 1, "/nowhere cannot be opened"),
        (&["x", "--lines"], 2, "leave out the message"),
        (&["x", "-f", &path], 2, "cannot be used with"),
        (&["--lines", "--count", "2"], 2, "cannot be used with"),
    ] {
        let output = group.run(&[&["pub", "big"], flags].concat()).await;
        assert_eq!(code(&output), Some(expected), "{flags:?}");
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn what_sub_prints_as_json_pub_takes_back_byte_for_byte() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let payloads: [&[u8]; 5] = [
        b"plain",
        b"\xff\x00",
        br#"{"b": 1.0, "a":[1e400]}"#,
        b"two\nlines",
        b"",
    ];
    for payload in payloads {
        let (_directory, path) = file(payload);
        group.lines(&["pub", "orders", "-f", &path]).await;
    }
    for encoding in ["text", "json", "base64"] {
        let read = [
            "sub",
            "orders",
            "--until-end",
            "--json",
            "--payload",
            encoding,
        ];
        let lines = group.lines(&read).await;
        let first: Value = serde_json::from_str(&lines[0]).unwrap();
        assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
        let (_directory, path) = file(lines.join("\n").as_bytes());
        let copy = format!("copy-{encoding}");
        let acks = group.lines(&["pub", &copy, "--json", "-f", &path]).await;
        assert_eq!(acks.len(), payloads.len());
        let copied: Vec<Vec<u8>> = group
            .tables()
            .messages(&copy)
            .await
            .into_iter()
            .map(|row| row.data)
            .collect();
        assert_eq!(copied, payloads, "{encoding}");
    }
    let (_directory, path) = file(b"{\"data\": \"fits\"}\n\n{\"data\": 1}\n");
    let output = group.run(&["pub", "bad", "--json", "-f", &path]).await;
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&format!("line 3 of {path}: ")),
        "{}",
        stderr(&output)
    );
}
