//! What `stanby sub` reads, where it begins and when it ends.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use super::{ended, one_server, publish};
use crate::cli::{code, stderr, stdout};
use crate::pair::LIMIT;
use crate::support::wait::wait_until;

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

    let to_come = group.run(&["sub", "orders", "--since", "2999-01-01"]).await;
    assert_eq!(to_come.status.code(), Some(2));
    assert!(
        stderr(&to_come).contains("still to come"),
        "{}",
        stderr(&to_come)
    );

    for (channel, sentence) in [
        ("nope", "stanby: there is no channel \"nope\"; "),
        ("", "stanby: the name of the channel is missing"),
    ] {
        let known = ["--database-url", &group.database_url];
        let refused = group.run(&[&["sub", channel], &known[..]].concat()).await;
        assert_eq!(refused.status.code(), Some(2));
        let told = stderr(&refused);
        assert!(told.starts_with(sentence), "{told}");
        assert!(channel.is_empty() || told.contains("; --create"), "{told}");
    }

    let new_only = group.spawn(&["sub", "orders", "--count", "1"]);
    group.wait_for_subscriptions(1).await;
    publish(&group, "orders", &["d"]).await;
    let output = timeout(LIMIT, new_only.wait_with_output()).await.unwrap();
    assert_eq!(stdout(&output.unwrap()), "[#4] d\n");
    assert_eq!(group.tables().clients().await, [], "all have closed");
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
