//! `stanby pub`, `stanby sub` and `stanby status` with a server that answers.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::wait::wait_until;

impl Group {
    fn flags(&self) -> [&str; 4] {
        [
            "--nats-server",
            &self.nats_url,
            "--cluster-id",
            &self.cluster_id,
        ]
    }

    /// Runs `pub` or `sub` to its end.
    async fn run(&self, args: &[&str]) -> Output {
        stanby(&[args, &self.flags()].concat()).await
    }

    /// What a command prints that must succeed.
    async fn lines(&self, args: &[&str]) -> Vec<String> {
        let output = self.run(args).await;
        assert_eq!(code(&output), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output).lines().map(str::to_owned).collect()
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = Server::command();
        command.args(args).args(self.flags()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Command::from(command).kill_on_drop(true).spawn().unwrap()
    }

    async fn wait_for_subscriptions(&self, count: i64) {
        let tables = self.tables();
        let query = "SELECT count(*) FROM stanby.subscriptions WHERE online";
        wait_until(LIMIT, async || match tables.number(query).await {
            found if found == count => Ok(()),
            found => Err(format!("{found} of {count} subscriptions")),
        })
        .await;
    }

    async fn status(&self) -> Value {
        let output = stanby(&["status", "--json", "--database-url", &self.database_url]).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

async fn one_server() -> Option<(Group, Server)> {
    let group = Group::new(&[]).await?;
    let server = group.server();
    server.wait_until_active().await;
    Some((group, server))
}

async fn publish(group: &Group, channel: &str, messages: &[&str]) {
    for message in messages {
        let acks = group.lines(&["pub", channel, message]).await;
        assert_eq!(acks.len(), 1, "{acks:?}");
    }
}

#[tokio::test]
async fn every_start_position_begins_where_it_says() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["a", "b", "c"]).await;

    for (flags, expected) in [
        (
            &["--all", "--count", "3"][..],
            &["[#1] a", "[#2] b", "[#3] c"][..],
        ),
        (&["--all", "--count", "2"], &["[#1] a", "[#2] b"]),
        (&["--last", "--count", "1"], &["[#3] c"]),
        (&["--seq", "2", "--count", "2"], &["[#2] b", "[#3] c"]),
        (&["--since", "1h", "--count", "1"], &["[#1] a"]),
    ] {
        let lines = group.lines(&[&["sub", "orders"], flags].concat()).await;
        assert_eq!(lines, expected, "{flags:?}");
    }

    let new_only = group.spawn(&["sub", "orders", "--count", "1"]);
    group.wait_for_subscriptions(1).await;
    publish(&group, "orders", &["d"]).await;
    let output = timeout(LIMIT, new_only.wait_with_output()).await.unwrap();
    assert_eq!(stdout(&output.unwrap()), "[#4] d\n");
    assert_eq!(group.tables().clients().await, [], "all have closed");
}

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

#[tokio::test]
async fn a_durable_goes_on_where_it_was_until_it_is_unsubscribed() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["a", "b", "c", "d"]).await;
    let durable = [
        "sub",
        "orders",
        "--all",
        "--durable",
        "books",
        "--client-id",
        "me",
    ];
    let one = [&durable[..], &["--max-in-flight", "1", "--count", "1"]].concat();
    // The next one may be under way to a reader that has had its count.
    let read = async |flags: &[&str]| group.lines(flags).await.concat().replace(" again", "");

    assert_eq!(read(&one).await, "[#1] a");
    assert_eq!(read(&one).await, "[#2] b");
    let status = group.status().await;
    let kept = &status["durables"][0];
    assert_eq!(
        (&kept["durable_name"], &kept["channel"]),
        (&"books".into(), &"orders".into())
    );
    assert_eq!(
        (&kept["status"], &kept["acked_floor"]),
        (&"offline".into(), &2.into())
    );
    assert!(kept["lag"].as_i64().unwrap() <= 2, "{kept}");

    let last = [&one[..], &["--unsubscribe"]].concat();
    assert_eq!(read(&last).await, "[#3] c");
    assert_eq!(group.status().await["durables"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn members_of_a_queue_group_share_the_messages() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let member = ["sub", "jobs", "--queue", "workers"];
    let mut members = [group.spawn(&member), group.spawn(&member)];
    group.wait_for_subscriptions(2).await;

    let acks = group
        .lines(&["pub", "jobs", "x", "--count", "20", "--async"])
        .await;
    assert_eq!(acks.len(), 20);
    let acked = "SELECT coalesce(max(acked_floor), 0) FROM stanby.positions";
    wait_until(LIMIT, async || match group.tables().number(acked).await {
        20 => Ok(()),
        floor => Err(format!("acked up to {floor}")),
    })
    .await;

    let mut numbers: Vec<u64> = Vec::new();
    for (member, signal) in members.iter_mut().zip([Signal::SIGINT, Signal::SIGTERM]) {
        let pid = Pid::from_raw(member.id().unwrap().cast_signed());
        kill(pid, signal).unwrap();
        let ended = timeout(LIMIT, member.wait()).await.unwrap().unwrap();
        let expected = if signal == Signal::SIGINT { 0 } else { 143 };
        assert_eq!(ended.code(), Some(expected));
    }
    for member in members {
        let text = stdout(&member.wait_with_output().await.unwrap());
        assert!(!text.is_empty(), "both get a share");
        numbers.extend(
            text.lines()
                .map(|line| line[2..line.find(']').unwrap()].parse::<u64>().unwrap()),
        );
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    assert_eq!(group.tables().clients().await, []);
}

#[tokio::test]
async fn json_lines_hold_what_a_script_needs() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["grüße"]).await;

    let read = ["sub", "orders", "--all", "--count", "1", "--json"];
    let lines = group.lines(&read).await;

    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    let row = &group.tables().messages("orders").await[0];
    assert_eq!(line["sequence"], 1);
    assert_eq!(line["channel"], "orders");
    assert_eq!(line["data"], "grüße");
    assert_eq!(line["redelivered"], false);
    assert_eq!(line["timestamp"], row.published_at_ns);
}

#[tokio::test]
async fn a_message_that_was_not_acked_comes_again() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["a"]).await;

    let read = [
        "sub",
        "orders",
        "--all",
        "--no-ack",
        "--ack-wait",
        "1s",
        "--count",
        "2",
    ];

    assert_eq!(group.lines(&read).await, ["[#1] a", "[#1 again] a"]);
}

#[tokio::test]
async fn what_the_server_refuses_exits_with_1_and_its_words() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let _here = group.client("taken").await;

    let output = group
        .run(&["pub", "orders", "x", "--client-id", "taken"])
        .await;
    assert_eq!(code(&output), Some(1));
    let text = stderr(&output);
    assert!(text.contains("stan: clientID already registered"), "{text}");

    let output = group.run(&["pub", "or..ders", "x"]).await;
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
}

#[tokio::test]
async fn status_tells_who_is_active_who_waits_and_how_far_a_durable_is_behind() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let reader = group.client("reader").await;
    drop(reader.subscribe("orders", "", "books").await.unwrap());
    // Nobody acks from here on.
    let acks = group
        .lines(&["pub", "orders", "x", "--count", "70", "--async"])
        .await;
    assert_eq!(acks.len(), 70);

    let status = wait_until(LIMIT, async || {
        let status = group.status().await;
        let complete = status["durables"][0]["last_sent"] == 64
            && status["standbys"]
                .as_array()
                .is_some_and(|list| list.len() == 1);
        if complete {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })
    .await;

    assert_eq!(status["cluster_id"], group.cluster_id);
    assert_eq!(status["active"]["holds_lock"], true);
    assert_eq!(status["active"]["epoch"], 1);
    assert_eq!(status["active"]["pid"], pair.active.pid());
    let durable = &status["durables"][0];
    assert_eq!(durable["status"], "stalled");
    assert_eq!(
        (&durable["unacked"], &durable["unsent"], &durable["lag"]),
        (&64.into(), &6.into(), &70.into())
    );
    assert!(
        durable["behind_seconds"].as_f64().unwrap() >= 0.0,
        "{durable}"
    );
    assert_eq!(status["counts"]["messages"], 70);
    assert_eq!(status["clients"][0]["client_id"], "reader");
    let output = stanby(&["status", "--database-url", &group.database_url]).await;
    let text = stdout(&output);
    let serverz = pair.standby.get("/streaming/serverz").await.unwrap().1;
    let serverz: serde_json::Value = serde_json::from_str(&serverz).unwrap();
    let standby = text
        .lines()
        .find_map(|line| line.strip_prefix("standby   "));
    let id = serverz["server_id"].as_str().unwrap();
    assert!(standby.unwrap().starts_with(id), "{id} in {text}");
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

/// What a command prints until it ends by itself or is told to.
async fn ended(mut child: Child, signal: Option<Signal>) -> (Option<i32>, String) {
    if let Some(signal) = signal {
        kill(Pid::from_raw(child.id().unwrap().cast_signed()), signal).unwrap();
    }
    let code = timeout(LIMIT, child.wait()).await.unwrap().unwrap().code();
    let output = child.wait_with_output().await.unwrap();
    (code, format!("{}{}", stdout(&output), stderr(&output)))
}

#[tokio::test]
async fn sub_until_end_ends_after_what_is_there_and_says_when_a_sequence_is_beyond_it() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["a", "b", "c"]).await;

    let all = group.lines(&["sub", "orders", "--until-end"]).await;
    assert_eq!(all, ["[#1] a", "[#2] b", "[#3] c"]);
    let last = group
        .lines(&["sub", "orders", "--until-end", "--seq", "3"])
        .await;
    assert_eq!(last, ["[#3] c"]);
    let durable = [
        "sub",
        "orders",
        "--until-end",
        "--durable",
        "books",
        "--client-id",
        "me",
    ];
    assert_eq!(group.lines(&durable).await.len(), 3);
    assert_eq!(group.lines(&durable).await, [""; 0], "everything is acked");
    assert_eq!(group.lines(&["sub", "empty", "--until-end"]).await, [""; 0]);

    let output = group
        .run(&["sub", "orders", "--until-end", "--seq", "9"])
        .await;
    assert_eq!(code(&output), Some(0));
    let told = "sequence 9 is beyond the end of orders, whose last message is 3";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
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

#[tokio::test]
async fn ctrl_c_ends_pub_and_sub_whatever_they_wait_for() {
    let Some((group, server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["a"]).await;
    let reading = group.spawn(&["sub", "orders"]);
    group.wait_for_subscriptions(1).await;
    // The server does not answer any more, not even to the farewell.
    server.signal(Signal::SIGSTOP);
    assert_eq!(ended(reading, Some(Signal::SIGINT)).await.0, Some(0));
    for args in [["sub", "orders"], ["pub", "orders"]] {
        let mut command = Server::command();
        command.args(args).args(group.flags()).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let waiting = Command::from(command).kill_on_drop(true).spawn().unwrap();
        // Once it heeds signals it is past its start.
        let pid = waiting.id().unwrap();
        wait_until(LIMIT, async || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))
                .unwrap();
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
            if caught & 2 == 2 { Ok(()) } else { Err(status) }
        })
        .await;
        assert_eq!(
            ended(waiting, Some(Signal::SIGINT)).await.0,
            Some(0),
            "{args:?}"
        );
    }
    server.signal(Signal::SIGCONT);
}

#[tokio::test]
async fn sub_ends_at_once_when_nobody_reads_what_it_prints() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["a"]).await;
    let mut reading = group.spawn(&["sub", "orders", "--all"]);
    let mut lines = BufReader::new(reading.stdout.take().unwrap()).lines();
    let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
    assert_eq!(line.as_deref(), Some("[#1] a"));

    // As `head -1` does. Nothing is published any more.
    drop(lines);
    assert_eq!(ended(reading, None).await, (Some(0), String::new()));
    assert_eq!(group.tables().clients().await, [], "it has taken leave");
}

#[tokio::test]
async fn sub_makes_no_channel_by_mistake_where_the_tables_can_be_asked() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    publish(&group, "orders", &["a"]).await;
    let tables = ["--database-url", &group.database_url];

    let output = group
        .run(&[&["sub", "ordres", "--all"][..], &tables].concat())
        .await;
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("did you mean \"orders\""),
        "{}",
        stderr(&output)
    );
    let count = "SELECT count(*) FROM stanby.channels";
    assert_eq!(group.tables().number(count).await, 1);
    let read = ["sub", "orders", "--since", "1d", "--count", "1"];
    assert_eq!(
        group.lines(&[&read[..], &tables].concat()).await,
        ["[#1] a"]
    );
    let made = ["sub", "new", "--create", "--until-end"];
    assert_eq!(group.lines(&[&made[..], &tables].concat()).await, [""; 0]);
    assert_eq!(group.tables().number(count).await, 2);
}
