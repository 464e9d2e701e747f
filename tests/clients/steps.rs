//! Each client's script goes through the same steps, the death of the active among them.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::pair;
use crate::script::Script;
use crate::support::tools;

/// For one step: some wait for an ack wait or a ping interval, and the machine may be busy.
const STEP_LIMIT: Duration = Duration::from_secs(40);

/// Every line that a script prints, with the exact texts that a server answers.
const STEPS: [&str; 23] = [
    "connected",
    "a second client with the same ID is refused: stan: clientID already registered",
    "published one message and got its ack",
    "published 19 messages without waiting and got their acks",
    "started with new messages",
    "started with the last message",
    "started at the first message",
    "started at a sequence",
    "started an hour ago",
    "started at a time to come",
    "a message that was not acked came again, marked as redelivered; the others did not",
    "no more messages were in flight than allowed",
    "a second subscription to the durable is refused: stan: duplicate durable registration",
    "a durable that was closed went on after its last message",
    "a durable that was unsubscribed began anew",
    "two members of a queue group shared its messages",
    "a durable queue group without members kept its place",
    "pings were answered",
    "a client that answered no heartbeat was replaced, and is told: client has been replaced or is no longer registered",
    "every publish around the death of the active was acked",
    "a subscription went on through it",
    "what was unacked came again, marked as redelivered",
    "closed",
];

#[tokio::test]
async fn the_node_client_works_and_goes_on_when_the_active_is_killed() {
    let Some(directory) = tools::node() else {
        return;
    };

    let steps = steps_of(Path::new("node"), Some("steps.js"), &directory).await;

    assert_eq!(steps, STEPS);
}

#[tokio::test]
async fn a_client_of_protocol_0_works_and_goes_on_when_the_active_is_killed() {
    let Some(directory) = tools::node() else {
        return;
    };

    let steps = steps_of(Path::new("node"), Some("steps-protocol-0.js"), &directory).await;

    // It sends no pings, so that it cannot be told either.
    let expected: Vec<_> = STEPS
        .iter()
        .filter(|step| !step.contains("pings") && !step.contains("heartbeat"))
        .collect();
    assert_eq!(steps.iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_python_client_works_and_goes_on_when_the_active_is_killed() {
    let Some(interpreter) = tools::python() else {
        return;
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python");

    let steps = steps_of(&interpreter, Some("steps.py"), &directory).await;

    assert_eq!(steps, STEPS);
}

#[tokio::test]
async fn the_c_client_works_and_goes_on_when_the_active_is_killed() {
    let Some(compiler) = tools::c_compiler() else {
        return;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/c/steps.c");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("steps-c");
    let output = tokio::process::Command::new(compiler)
        .args(["-DNATS_HAS_STREAMING", "-Wall", "-Wextra", "-O1", "-o"])
        .args([&program, &source])
        .args(["-lnats", "-lpthread"])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let steps = steps_of(&program, None, directory.path()).await;

    // Nothing of its surface makes it leave a heartbeat without an answer.
    let expected: Vec<_> = STEPS
        .iter()
        .filter(|step| !step.contains("heartbeat"))
        .collect();
    assert_eq!(steps.iter().collect::<Vec<_>>(), expected);
}

/// The steps that a program, or its script, went through while the test did to the servers what it asked for.
async fn steps_of(program: &Path, script: Option<&str>, directory: &Path) -> Vec<String> {
    let cluster_id = script.unwrap_or("steps.c").replace('.', "-");
    let Some((_database, mut pair)) = pair::for_test(&cluster_id, &[]).await else {
        return Vec::new();
    };
    let url = pair.nats_url().to_owned();
    let arguments: Vec<_> = script
        .into_iter()
        .chain([url.as_str(), &cluster_id])
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
