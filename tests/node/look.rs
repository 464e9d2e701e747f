//! What operators look at from the command line: channels, messages, durables, clients, takeovers.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod terminal;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::wait::wait_until;

async fn run(group: &Group, args: &[&str]) -> String {
    let output = stanby(&[args, &["--database-url", &group.database_url]].concat()).await;
    assert_eq!(code(&output), Some(0), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

async fn json(group: &Group, args: &[&str]) -> Value {
    serde_json::from_str(&run(group, &[args, &["--json"]].concat()).await).unwrap()
}

/// Exit code and what was said.
async fn refused(group: &Group, args: &[&str]) -> (Option<i32>, String) {
    let output = stanby(&[args, &["--database-url", &group.database_url]].concat()).await;
    (code(&output), stderr(&output))
}

/// `orders` with 70 messages, of which a durable of `reader` has 64 in flight.
async fn orders() -> Option<(Group, Server)> {
    let group = Group::new(&[]).await?;
    let server = group.server();
    server.wait_until_active().await;
    let reader = group.client("reader").await;
    drop(reader.subscribe("orders", "", "books").await.unwrap());
    let mut publisher = group.client("till").await.publisher("orders").await;
    for _ in 0..70 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
    wait_until(LIMIT, async || {
        let durables = json(&group, &["durable", "list"]).await;
        if durables[0]["in_flight"] == 64 {
            Ok(())
        } else {
            Err(durables.to_string())
        }
    })
    .await;
    Some((group, server))
}

#[tokio::test]
async fn channels_durables_and_clients_are_listed_and_shown_with_one_meaning_of_lag() {
    let Some((group, server)) = orders().await else {
        return;
    };

    let channels = json(&group, &["channel", "list"]).await;
    assert_eq!(channels[0]["channel"], "orders");
    assert_eq!(
        (&channels[0]["messages"], &channels[0]["lag"]),
        (&70.into(), &70.into())
    );
    let channel = json(&group, &["channel", "show", "orders"]).await;
    assert_eq!(channel["publishers"][0]["publisher"], "till");
    assert_eq!(channel["publishers"][0]["messages"], 70);
    assert_eq!(channel["durables"][0]["durable"], "books");

    let durable = &json(&group, &["durable", "show", "orders", "books"]).await[0];
    assert_eq!(
        (&durable["unsent"], &durable["in_flight"], &durable["lag"]),
        (&6.into(), &64.into(), &70.into())
    );
    assert_eq!(
        durable["why"],
        "waits for acks: 64 of 64 allowed are unacked"
    );
    assert_eq!(durable["oldest_unacked"], 1);
    let first = &durable["in_flight_messages"][0];
    assert_eq!(
        (&first["sequence"], &first["client_id"]),
        (&1.into(), &"reader".into())
    );
    let client = json(&group, &["client", "show", "reader"]).await;
    assert_eq!(client["subscriptions"][0]["channel"], "orders");
    let metrics = server.get("/metrics").await.unwrap().1;
    let lag = metrics
        .lines()
        .find(|line| line.starts_with("stanby_durable_lag{"));
    assert!(lag.is_some_and(|line| line.ends_with(" 70")), "{lag:?}");

    for command in [
        &["channel", "list"][..],
        &["channel", "show", "orders"],
        &["durable", "list"],
        &["durable", "show", "orders", "books"],
        &["client", "list"],
        &["client", "show", "reader"],
        &["message", "find", "orders", "--limit", "3"],
    ] {
        let text = run(&group, command).await;
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
    }
    for (more, told) in [
        (
            ["--from", "71"],
            "nothing found; channel \"orders\" holds 1 to 70",
        ),
        (["--text", "no such text"], "nothing found; channel"),
    ] {
        let find = [
            "message",
            "find",
            "orders",
            "--database-url",
            &group.database_url,
        ];
        let command = [&find[..], &more].concat();
        let output = stanby(&command).await;
        assert_eq!(code(&output), Some(0));
        assert_eq!(stdout(&output), "", "{command:?}");
        assert!(
            stderr(&output).contains(told),
            "{command:?}: {}",
            stderr(&output)
        );
    }
    drop(server);
    assert_eq!(
        json(&group, &["channel", "list"]).await[0]["messages"],
        70,
        "no server is needed"
    );
}

#[tokio::test]
async fn queue_groups_without_a_durable_name_are_listed_and_shown() {
    let Some((group, _server)) = orders().await else {
        return;
    };
    let worker = group.client("worker").await;
    drop(worker.subscribe("orders", "workers", "").await.unwrap());
    let listed = wait_until(LIMIT, async || {
        let all = json(&group, &["durable", "list"]).await;
        let found = all
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["queue_group"] == "workers");
        found.cloned().ok_or_else(|| all.to_string())
    })
    .await;
    assert_eq!(listed["durable"], "");

    let show = ["durable", "show", "orders", "--queue-group", "workers"];
    let shown = json(&group, &show).await;
    assert_eq!(shown[0]["clients"], "worker");
    assert_eq!(shown.as_array().unwrap().len(), 1, "{shown}");
    let text = run(&group, &show).await;
    assert!(text.starts_with("group      workers on orders\n"), "{text}");
    let text = run(&group, &["durable", "list"]).await;
    assert!(
        text.lines().any(|line| line.starts_with("workers ")),
        "{text}"
    );
    let (usage, told) = refused(
        &group,
        &["durable", "show", "orders", "--queue-group", "worker"],
    )
    .await;
    assert_eq!(usage, Some(2));
    assert!(told.contains("did you mean \"workers\""), "{told}");
    let (usage, told) = refused(&group, &["durable", "show", "orders"]).await;
    assert_eq!(usage, Some(2), "{told}");
    // As the commands that change something name it.
    let durable = worker.subscribe("orders", "workers", "d").await.unwrap();
    wait_until(LIMIT, async || {
        let both = json(&group, &show).await;
        match both.as_array().unwrap().len() {
            2 => Ok(()),
            _ => Err(both.to_string()),
        }
    })
    .await;
    let unnamed = [&["durable", "show", "orders", ""], &show[3..]].concat();
    let shown = json(&group, &unnamed).await;
    assert_eq!(shown.as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown[0]["durable"], "");
    drop(durable);
}

#[tokio::test]
async fn names_that_nobody_knows_are_answered_with_the_nearest_ones_and_2() {
    let Some((group, _server)) = orders().await else {
        return;
    };
    for (command, part) in [
        (
            &["channel", "show", "ordres"][..],
            "did you mean \"orders\"",
        ),
        (
            &["durable", "show", "orders", "bookz"],
            "did you mean \"books\"",
        ),
        (
            &["durable", "show", "order", "books"],
            "did you mean \"orders\"",
        ),
        (&["durable", "list", "order"], "did you mean \"orders\""),
        (&["client", "show", "raeder"], "did you mean \"reader\""),
        (&["message", "get", "order", "1"], "did you mean \"orders\""),
        (&["message", "get", "orders", "71"], "it holds 1 to 70"),
        (&["message", "find", "oders"], "did you mean \"orders\""),
        (
            &["message", "find", "orders", "--from", "9", "--to", "8"],
            "--from (9) comes after --to (8)",
        ),
        (
            &[
                "message", "find", "orders", "--since", "1h", "--until", "2h",
            ],
            "--since is not before --until",
        ),
        (
            &["explain", "takeover", "99"],
            "those from 1 to 1 are known",
        ),
        (&["channel", "show", "quite-another"], "there is \"orders\""),
    ] {
        let (code, told) = refused(&group, command).await;
        assert_eq!(code, Some(2), "{command:?}: {told}");
        assert!(told.contains(part), "{command:?}: {told}");
    }
}

#[tokio::test]
async fn messages_are_found_by_everything_that_they_have_and_none_is_consumed() {
    let Some(group) = Group::new(&["--encrypt"]).await else {
        return;
    };
    let key = ["--encryption-key", "a key that nobody guesses"];
    let server = group.server_with(&key);
    server.wait_until_active().await;
    let flags = [
        "--nats-server",
        &group.nats_url,
        "--cluster-id",
        &group.cluster_id,
    ];
    for (client, payload) in [
        ("till-1", r#"{"id": 1, "customer": {"name": "Smith"}}"#),
        ("till-2", r#"{"id": 2, "customer": {"name": "Jones"}}"#),
        ("till-1", "no JSON at all"),
    ] {
        let command = ["pub", "orders", payload, "--client-id", client];
        let output = stanby(&[&command[..], &flags].concat()).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    }
    let find = async |more: &[&str]| {
        let command = [&["message", "find", "orders", "--json"][..], more, &key].concat();
        let lines = run(&group, &command).await;
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["sequence"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };

    assert_eq!(find(&[]).await, [1, 2, 3]);
    assert_eq!(find(&["--from", "2"]).await, [2, 3]);
    assert_eq!(find(&["--from", "2", "--to", "2"]).await, [2]);
    assert_eq!(find(&["--publisher", "till-1"]).await, [1, 3]);
    assert_eq!(find(&["--text", "JSON"]).await, [3]);
    assert_eq!(find(&["--json-path", "customer.name=Jones"]).await, [2]);
    assert_eq!(
        find(&["--json-path", "customer.name", "--json-path", "id=1"]).await,
        [1]
    );
    assert_eq!(find(&["--since", "1h"]).await, [1, 2, 3]);
    assert_eq!(find(&["--since", "0s"]).await, [0; 0]);
    assert_eq!(find(&["--until", "1h"]).await, [0; 0]);
    assert_eq!(find(&["--limit", "2"]).await, [1, 2]);
    let message = json(
        &group,
        &[
            &["message", "get", "orders", "2", "--payload", "json"][..],
            &key,
        ]
        .concat(),
    )
    .await;
    assert_eq!(message["data_json"]["customer"]["name"], "Jones");
    assert_eq!(message["client_id"], "till-2");

    let (code, told) = refused(&group, &["message", "get", "orders", "2"]).await;
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(
        group
            .tables()
            .number("SELECT count(*) FROM stanby.positions")
            .await,
        0
    );
}

#[tokio::test]
async fn a_takeover_is_explained_with_its_cause_and_what_clients_saw() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    pair.active.signal(Signal::SIGKILL);
    let group = &pair.group;
    wait_until(LIMIT, async || {
        let takeovers = group.tables().takeovers().await;
        if takeovers.len() == 2 {
            Ok(())
        } else {
            Err(format!("{takeovers:?}"))
        }
    })
    .await;
    pair.standby.wait_until_active().await;

    let explained = json(group, &["explain", "takeover"]).await;
    assert_eq!(explained["epoch"], 2);
    assert!(
        explained["from"].is_string() && explained["detail"].is_string(),
        "{explained}"
    );
    let text = run(group, &["explain", "takeover", "2"]).await;
    for part in [
        "cause ",
        "timeline",
        "clients ",
        "answered ",
        "lost       nothing",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = run(group, &["explain", "takeover", "1"]).await;
    assert!(text.contains("nobody: it was the first"), "{text}");
}

#[tokio::test]
async fn a_channel_exported_as_lines_comes_back_with_its_sequences_and_times_or_not_at_all() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let flags = [
        "--nats-server",
        &group.nats_url,
        "--cluster-id",
        &group.cluster_id,
    ];
    for payload in ["a", "b", "c"] {
        let output = stanby(&[&["pub", "orders", payload, "-q"][..], &flags].concat()).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    }
    // A hole that a person made.
    group
        .tables()
        .execute("DELETE FROM stanby.messages WHERE sequence = 2")
        .await;
    let before = group.tables().messages("orders").await;
    let lines = run(&group, &["export", "--channel", "orders"]).await;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good", &lines);

    let (code_while_active, told) = refused(&group, &["import", "--ndjson", &good]).await;
    assert_eq!(code_while_active, Some(1), "{told}");
    assert!(
        told.contains("a server is active") && told.contains("--republish"),
        "{told}"
    );
    let republished = [&["import", "--ndjson", &good, "--republish"][..], &flags].concat();
    let output = stanby(&republished).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let sequences = "SELECT string_agg(sequence::text, ' ' ORDER BY sequence) FROM stanby.messages";
    assert_eq!(group.tables().texts(sequences).await, ["1 3 4 5"]);

    server.kill().await;
    wait_until(LIMIT, async || {
        match group
            .tables()
            .number("SELECT count(*) FROM stanby.lock_holders")
            .await
        {
            0 => Ok(()),
            holders => Err(format!("{holders} hold the lock")),
        }
    })
    .await;
    let (not_empty, told) = refused(&group, &["import", "--ndjson", &good]).await;
    assert_eq!(not_empty, Some(1), "{told}");
    assert!(told.contains("channel \"orders\" is not empty"), "{told}");
    group
        .tables()
        .execute("DELETE FROM stanby.messages; DELETE FROM stanby.gone_ranges; DELETE FROM stanby.channels")
        .await;

    let bad = write("bad", &format!("{lines}{{\"channel\": \"orders\"}}\n"));
    let (wrong, told) = refused(&group, &["import", "--ndjson", &bad]).await;
    assert_eq!(wrong, Some(2), "{told}");
    assert!(
        told.contains(&format!("line 3 of {bad}")) && told.contains("nothing was imported"),
        "{told}"
    );
    let count =
        "SELECT (SELECT count(*) FROM stanby.messages) + (SELECT count(*) FROM stanby.channels)";
    assert_eq!(group.tables().number(count).await, 0);

    let text = run(&group, &["import", "--ndjson", &good]).await;
    assert_eq!(text.trim(), "orders: 2 messages, sequences 1 to 3");
    assert_eq!(group.tables().messages("orders").await, before);
    let server = group.server();
    server.wait_until_active().await;
    let read = [&["sub", "orders", "--until-end"][..], &flags].concat();
    assert_eq!(stdout(&stanby(&read).await), "[#1] a\n[#3] c\n");
    let page = server
        .get("/streaming/channelsz?channel=orders")
        .await
        .unwrap()
        .1;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(
        (&page["msgs"], &page["last_seq"]),
        (&2.into(), &3.into()),
        "{page}"
    );
}
