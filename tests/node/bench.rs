//! `stanby bench` against a server that answers: its figures fit together, and wrong flags are refused.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Server};
use crate::support::nats;
use crate::support::wait::wait_until;

async fn one_server() -> Option<(Group, Server)> {
    let group = Group::new(&[]).await?;
    let server = group.server();
    server.wait_until_active().await;
    Some((group, server))
}

fn flags<'a>(group: &'a Group, more: &[&'a str]) -> Vec<&'a str> {
    let server = [
        "bench",
        "--nats-server",
        &group.nats_url,
        "--cluster-id",
        &group.cluster_id,
    ];
    [&server[..], more].concat()
}

async fn outcome(group: &Group, more: &[&str]) -> Value {
    let output = stanby(&[&flags(group, more)[..], &["--json"]].concat()).await;
    assert_eq!(code(&output), Some(0), "{more:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Percentiles rise, and the histogram holds each message once.
fn assert_latency(flow: &Value) {
    let latency = &flow["latency"];
    let figures = ["p50", "p90", "p99", "p999", "max"].map(|name| latency[name].as_f64().unwrap());
    assert!(figures[0] > 0.0 && figures.is_sorted(), "{latency}");
    let buckets = latency["histogram"].as_array().unwrap();
    let counts = buckets.iter().map(|bucket| bucket[1].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), flow["messages"].as_u64().unwrap());
    let bounds: Vec<f64> = buckets
        .iter()
        .map(|bucket| bucket[0].as_f64().unwrap())
        .collect();
    assert!(bounds.is_sorted(), "{bounds:?}");
    let timeline = flow["timeline"].as_array().unwrap();
    let counts = timeline.iter().map(|count| count.as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), flow["messages"].as_u64().unwrap());
}

#[tokio::test]
async fn a_bench_counts_each_message_and_finds_all_of_them_in_the_table() {
    let Some((group, server)) = one_server().await else {
        return;
    };
    let pid = server.pid().to_string();
    let more = [
        "--publishers=3",
        "--subscribers=2",
        "--clients-per-connection=2",
        "--count=1001",
        "--warm-up=100",
        "--window=50",
        "--size=200",
        "--durable",
        "--idle-clients=2",
        "--ceiling",
        "--pid",
        &pid,
        "--database-url",
        &group.database_url,
    ];

    let outcome = outcome(&group, &more).await;

    assert_eq!(outcome["publish"]["messages"], 1001);
    assert_eq!(outcome["deliver"]["messages"], 2002);
    assert_eq!(outcome["redelivered"], 0);
    assert_eq!(outcome["interrupted"], false);
    assert_latency(&outcome["publish"]);
    assert_latency(&outcome["deliver"]);
    let database = &outcome["database"];
    for count in ["acked", "stored", "distinct", "sequences"] {
        assert_eq!(database[count], 1101, "{count}: {database}");
    }
    assert!(database["commits"].as_u64().unwrap() > 0);
    // At least the data itself.
    assert!(
        database["wal_bytes"].as_u64().unwrap() > 1001 * 200,
        "{database}"
    );
    let processes = outcome["processes"].as_array().unwrap();
    let names: Vec<_> = processes
        .iter()
        .map(|usage| usage["name"].as_str())
        .collect();
    assert_eq!(names, [Some("stanby"), Some("stanby bench")]);
    assert!(
        processes
            .iter()
            .all(|usage| usage["cpu_seconds"].as_f64().unwrap() > 0.0)
    );
    let ceiling = &outcome["ceiling"];
    let of = |name: &str| ceiling[name].as_f64().unwrap();
    let lower = of("inserts_per_second").min(of("echoes_per_second"));
    assert!((of("per_second") - lower).abs() < f64::EPSILON, "{ceiling}");
    assert_eq!(group.tables().clients().await, [], "all have closed");
    let left = "SELECT count(*) FROM stanby.positions";
    assert_eq!(
        group.tables().number(left).await,
        0,
        "durables are forgotten"
    );
    let scratch = "SELECT count(*) FROM pg_class WHERE relname LIKE 'bench_scratch%'";
    assert_eq!(group.tables().number(scratch).await, 0);
}

#[tokio::test]
async fn a_bench_replays_what_it_stored_and_shares_it_in_a_group() {
    let Some((group, _server)) = one_server().await else {
        return;
    };

    let replay = outcome(
        &group,
        &["--count=500", "--subscribers=2", "--channels=2", "--replay"],
    );
    let replay = replay.await;
    assert_eq!(replay["publish"]["messages"], 500);
    assert_eq!(replay["deliver"]["messages"], 500, "each has half of them");
    assert_eq!(replay["deliver"]["latency"], Value::Null);

    let shared = [
        "--count=500",
        "--subscribers=3",
        "--queue-group=q",
        "--sync",
        "--channels=2",
    ];
    let shared = outcome(&group, &shared).await;
    assert_eq!(shared["deliver"]["messages"], 500);
    assert_eq!(shared["settings"]["window"], 1);
    assert_latency(&shared["deliver"]);
}

#[tokio::test]
async fn a_bench_that_is_interrupted_prints_what_it_has() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let more = ["--count=100000000", "--window=10", "--json"];
    let mut command = Command::from(Server::command());
    command.args(flags(&group, &more)).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn().unwrap();
    let tables = group.tables();
    wait_until(LIMIT, async || {
        match tables.number("SELECT count(*) FROM stanby.messages").await {
            0 => Err("nothing is stored".to_owned()),
            _ => Ok(()),
        }
    })
    .await;

    kill(
        Pid::from_raw(child.id().unwrap().cast_signed()),
        Signal::SIGINT,
    )
    .unwrap();
    let output = timeout(LIMIT, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();

    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["interrupted"], true);
    let acked = outcome["publish"]["messages"].as_i64().unwrap();
    assert!(acked > 0);
    let stored = tables.number("SELECT count(*) FROM stanby.messages").await;
    assert_eq!(acked, stored, "what was under way was waited for");
}

#[tokio::test]
async fn a_report_draws_every_run_and_nothing_from_elsewhere() {
    let Some((group, _server)) = one_server().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let runs = [
        ("plain", outcome(&group, &["--count=300"]).await),
        (
            "<both>",
            outcome(&group, &["--count=300", "--subscribers=1"]).await,
        ),
    ];
    let files: Vec<String> = runs
        .iter()
        .map(|(name, outcome)| {
            let file = directory.path().join(name).with_extension("json");
            std::fs::write(&file, outcome.to_string()).unwrap();
            file.to_str().unwrap().to_owned()
        })
        .collect();

    let report = stanby(&["bench", "report", &files[0], &files[1]]).await;

    assert_eq!(code(&report), Some(0), "{}", stderr(&report));
    let page = stdout(&report);
    assert!(page.starts_with("<!doctype html>"), "{page}");
    assert!(page.contains("plain, published") && page.contains("&lt;both&gt;, delivered"));
    assert!(page.matches("<polyline").count() >= 6, "{page}");
    assert!(
        !page.contains("<both>") && !page.contains("<script"),
        "{page}"
    );
    assert!(
        !page.contains("http:") && !page.contains("https:"),
        "{page}"
    );
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");

    let other = directory.path().join("other.json");
    std::fs::write(&other, "{}\n").unwrap();
    let refused = stanby(&["bench", "report", other.to_str().unwrap()]).await;
    assert_eq!(code(&refused), Some(1));
    assert!(stderr(&refused).contains("is not what stanby bench --json prints"));
}

#[tokio::test]
async fn a_bench_says_what_is_wrong_with_its_flags() {
    let cases: [(&[&str], &str); 7] = [
        (
            &["--publishers=0"],
            "--publishers 0 is not possible; use 1 to 10000",
        ),
        (&["--size=4"], "--size 4 is not possible; use 8 to "),
        (&["--sync", "--window=5"], "cannot be used with"),
        (&["--queue-group=q"], "--queue-group needs --subscribers"),
        (&["--replay"], "--replay needs --subscribers"),
        (&["--ceiling"], "give --database-url"),
        (&["--channel-prefix=a..b"], "cannot begin a channel's name"),
    ];
    for (more, text) in cases {
        let output = stanby(&[&["bench"], more].concat()).await;
        assert_eq!(code(&output), Some(2), "{more:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(text),
            "{more:?}: {}",
            stderr(&output)
        );
    }
}

#[tokio::test]
async fn a_bench_without_servers_exits_with_3() {
    let Some(url) = nats::url().await else { return };

    let away = stanby(&["bench", "--nats-server", "nats://127.0.0.1:1"]).await;
    assert_eq!(code(&away), Some(3), "{}", stderr(&away));
    assert!(stderr(&away).contains("127.0.0.1:1"), "{}", stderr(&away));

    let nobody = ["bench", "--cluster-id=nobody-here", "--nats-server", &url];
    let nobody = stanby(&nobody).await;
    assert_eq!(code(&nobody), Some(3), "{}", stderr(&nobody));
    let text = "no streaming server answers for cluster ID \"nobody-here\"";
    assert!(stderr(&nobody).contains(text), "{}", stderr(&nobody));
}

#[tokio::test]
async fn a_bench_says_what_the_server_refuses() {
    let Some(group) = Group::new(&["--max-channels=1"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;

    let output = stanby(&flags(&group, &["--channels=2", "--count=10"])).await;

    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("the server refuses a message: "),
        "{}",
        stderr(&output)
    );
}
