//! Each client goes through the same steps, the death of the active among them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::pair;
use crate::script::Script;
use crate::support::tools;

/// For one step: some wait for an ack wait or a ping interval, and the machine may be busy.
const STEP_LIMIT: Duration = Duration::from_secs(40);

const DUPLICATE_CLIENT: &str =
    "a second client with the same ID is refused: stan: clientID already registered";
const PUBLISHED: &str = "published one message and got its ack";
const PUBLISHED_MANY: &str = "published 19 messages without waiting and got their acks";
const AN_HOUR_AGO: &str = "started an hour ago";
const TIME_TO_COME: &str = "started at a time to come";
const DUPLICATE_DURABLE: &str =
    "a second subscription to the durable is refused: stan: duplicate durable registration";
const PINGS: &str = "pings were answered";
const REPLACED: &str = "a client that answered no heartbeat was replaced, and is told: client has been replaced or is no longer registered";
const EVERY_PUBLISH_ACKED: &str = "every publish around the death of the active was acked";

/// Every line that a client's program prints, with the exact texts that a server answers.
const STEPS: [&str; 23] = [
    "connected",
    DUPLICATE_CLIENT,
    PUBLISHED,
    PUBLISHED_MANY,
    "started with new messages",
    "started with the last message",
    "started at the first message",
    "started at a sequence",
    AN_HOUR_AGO,
    TIME_TO_COME,
    "a message that was not acked came again, marked as redelivered; the others did not",
    "no more messages were in flight than allowed",
    DUPLICATE_DURABLE,
    "a durable that was closed went on after its last message",
    "a durable that was unsubscribed began anew",
    "two members of a queue group shared its messages",
    "a durable queue group without members kept its place",
    PINGS,
    REPLACED,
    EVERY_PUBLISH_ACKED,
    "a subscription went on through it",
    "what was unacked came again, marked as redelivered",
    "closed",
];

/// A client, and the steps that it cannot take, each with what it lacks.
#[derive(Debug)]
struct Client {
    /// As docs/clients.md names it.
    name: &'static str,
    version: &'static str,
    cannot: &'static [(&'static str, &'static str)],
}

const NODE: Client = Client {
    name: "node-nats-streaming",
    version: "0.3.2",
    cannot: &[],
};

const NODE_PROTOCOL_0: Client = Client {
    name: "node-nats-streaming",
    version: "0.0.52",
    cannot: &[
        (PINGS, "protocol 0 has no pings"),
        (REPLACED, "protocol 0 has no pings whose answer says so"),
    ],
};

const PYTHON: Client = Client {
    name: "asyncio-nats-streaming",
    version: "0.4.0",
    cannot: &[],
};

const PYTHON_PROTOCOL_0: Client = Client {
    name: "asyncio-nats-streaming",
    version: "0.3.0",
    cannot: &[
        (PINGS, "protocol 0 has no pings"),
        (REPLACED, "protocol 0 has no pings whose answer says so"),
    ],
};

const C: Client = Client {
    name: "cnats",
    version: "3.4.1",
    cannot: &[(
        REPLACED,
        "nothing of its surface leaves a heartbeat without an answer",
    )],
};

const STAN: Client = Client {
    name: "stan",
    version: "0.0.16",
    cannot: &[
        (PUBLISHED_MANY, "a publish returns with its ack"),
        (TIME_TO_COME, "a time to come is refused by the client"),
        (PINGS, "it asks for pings and sends none"),
        (REPLACED, "it sends no pings whose answer says so"),
    ],
};

const RATSIO: Client = Client {
    name: "ratsio",
    version: "0.4.1",
    cannot: &[
        (DUPLICATE_CLIENT, "it reads no refusals of connects"),
        (PUBLISHED, "its publishes name no subject for acks"),
        (PUBLISHED_MANY, "its publishes name no subject for acks"),
        (AN_HOUR_AGO, "its start times reach back two seconds"),
        (DUPLICATE_DURABLE, "it reads no refusals of subscriptions"),
        (PINGS, "protocol 0 has no pings"),
        (REPLACED, "protocol 0 has no pings whose answer says so"),
        (
            EVERY_PUBLISH_ACKED,
            "its publishes name no subject for acks",
        ),
    ],
};

const CLIENTS: [&Client; 7] = [
    &NODE,
    &NODE_PROTOCOL_0,
    &PYTHON,
    &PYTHON_PROTOCOL_0,
    &C,
    &STAN,
    &RATSIO,
];

impl Client {
    fn steps(&self) -> Vec<&'static str> {
        let can = |step: &&str| !self.cannot.iter().any(|(cannot, _)| cannot == step);
        STEPS.into_iter().filter(can).collect()
    }
}

#[test]
fn the_documented_clients_are_those_that_are_tested() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let page = std::fs::read_to_string(page).unwrap();
    let documented: Vec<(String, String, usize)> = page.lines().filter_map(row).collect();

    let tested = CLIENTS.map(|client| {
        let steps = client.steps().len();
        assert_eq!(steps + client.cannot.len(), STEPS.len(), "{client:?}");
        (client.name.to_owned(), client.version.to_owned(), steps)
    });
    assert_eq!(documented, tested);
    for (client, (_, lacks)) in CLIENTS
        .iter()
        .flat_map(|c| c.cannot.iter().map(move |l| (c, l)))
    {
        assert!(
            page.contains(lacks),
            "{} {}: {lacks}",
            client.name,
            client.version
        );
    }
}

/// Name, version and count of steps of a line ``| `name` version | … | 12 of 23 | … |``.
fn row(line: &str) -> Option<(String, String, usize)> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let (name, version) = cells.next()?.split_once("` ")?;
    let (steps, _) = cells.find_map(|cell| cell.split_once(" of 23"))?;
    Some((name.to_owned(), version.to_owned(), steps.parse().ok()?))
}

#[tokio::test]
async fn the_node_client_works_and_goes_on_when_the_active_is_killed() {
    let Some(directory) = tools::node() else {
        return;
    };

    let steps = steps_of("node-1", Path::new("node"), Some("steps.js"), &directory).await;

    assert_eq!(steps, NODE.steps());
}

#[tokio::test]
async fn the_node_client_of_protocol_0_works_and_goes_on_when_the_active_is_killed() {
    let Some(directory) = tools::node() else {
        return;
    };

    let script = Some("steps-protocol-0.js");
    let steps = steps_of("node-0", Path::new("node"), script, &directory).await;

    assert_eq!(steps, NODE_PROTOCOL_0.steps());
}

#[tokio::test]
async fn the_python_client_works_and_goes_on_when_the_active_is_killed() {
    let Some(interpreter) = tools::python("clients-python") else {
        return;
    };

    let steps = steps_of(
        "python-1",
        &interpreter,
        Some("steps.py"),
        &folder("python"),
    )
    .await;

    assert_eq!(steps, PYTHON.steps());
}

#[tokio::test]
async fn the_python_client_of_protocol_0_works_and_goes_on_when_the_active_is_killed() {
    let Some(interpreter) = tools::python("clients-python-protocol-0") else {
        return;
    };

    let steps = steps_of(
        "python-0",
        &interpreter,
        Some("steps.py"),
        &folder("python"),
    )
    .await;

    assert_eq!(steps, PYTHON_PROTOCOL_0.steps());
}

#[tokio::test]
async fn the_c_client_works_and_goes_on_when_the_active_is_killed() {
    let Some(compiler) = tools::c_compiler() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("steps-c");
    let output = tokio::process::Command::new(compiler)
        .args(["-DNATS_HAS_STREAMING", "-Wall", "-Wextra", "-O1", "-o"])
        .args([&program, &folder("c").join("steps.c")])
        .args(["-lnats", "-lpthread"])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let steps = steps_of("c", &program, None, directory.path()).await;

    assert_eq!(steps, C.steps());
}

#[tokio::test]
async fn the_rust_client_stan_works_and_goes_on_when_the_active_is_killed() {
    let Some(program) = rust_client("steps-stan").await else {
        return;
    };

    let steps = steps_of("stan", &program, None, &folder("rust")).await;

    assert_eq!(steps, STAN.steps());
}

#[tokio::test]
async fn the_rust_client_ratsio_works_and_goes_on_when_the_active_is_killed() {
    let Some(program) = rust_client("steps-ratsio").await else {
        return;
    };

    let steps = steps_of("ratsio", &program, None, &folder("rust")).await;

    assert_eq!(steps, RATSIO.steps());
}

fn folder(of: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    clients.join(of)
}

/// A program of tests/clients/rust, built from what stands there.
async fn rust_client(name: &str) -> Option<PathBuf> {
    let target = tools::rust_clients()?;
    let output = tokio::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--offline", "--bin", name])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(folder("rust"))
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Some(target.join("debug").join(name))
}

/// The steps that a program, or its script, went through while the test did to the servers what it asked for.
async fn steps_of(
    cluster_id: &str,
    program: &Path,
    script: Option<&str>,
    directory: &Path,
) -> Vec<String> {
    let pair = pair::for_test(cluster_id, &[]).await;
    let (_database, mut pair) = pair.expect("whoever has the clients has Postgres and NATS too");
    let url = pair.nats_url().to_owned();
    let arguments: Vec<_> = script
        .into_iter()
        .chain([url.as_str(), cluster_id])
        .collect();
    let mut script = Script::start(program, &arguments, directory);

    let mut steps = Vec::new();
    while let Some(line) = script.line(STEP_LIMIT).await {
        if line == "? kill the active" {
            pair.end_active(Signal::SIGKILL).await;
            // As whatever runs servers in production does.
            pair.add().await;
            script.tell("killed").await;
        } else {
            steps.push(line);
        }
    }
    script.finish(STEP_LIMIT).await;
    steps
}
