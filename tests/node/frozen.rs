//! An active that is frozen for longer than its lease, and wakes up beside another active.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use crate::pair::{Group, LIMIT, Pair, Question, Server};
use crate::support::wait::wait_until;
use crate::tables::Row;
use crate::takeover::{CHANNEL, Work, assert_stored_once};
use crate::watch::Watch;

/// Heartbeats so close together that a process finds many of them late when it wakes up.
const FLAGS: [&str; 8] = [
    "--lease",
    "1s",
    "--hb-interval",
    "150ms",
    "--hb-timeout",
    "1s",
    "--hb-fail-count",
    "2",
];

/// Acceptance: 138.
#[tokio::test]
async fn a_frozen_active_that_resumes_changes_nothing() {
    let Some(pair) = Pair::new(&FLAGS).await else {
        return;
    };
    let (frozen, other, group) = (&pair.active, &pair.standby, &pair.group);
    let watch = Watch::over(&[frozen, other]);
    let leaver = group.client("leaver").await;
    let work = Work::start(group).await;
    work.progress(100).await;

    freeze(frozen).await;
    // The frozen one will find this close among what it has not read; by then the client is back.
    leaver.close_unheard().await;
    take_over(other).await;
    let _back = group.client("leaver").await;
    work.progress(100).await;
    let clients = group.tables().clients().await;
    let stored = rows_of_first_term(group).await;

    resume(frozen).await;
    group.wait_for_standbys(1).await;
    work.progress(100).await;

    assert_eq!(rows_of_first_term(group).await, stored);
    assert_eq!(group.tables().clients().await, clients);
    assert_eq!(other.wait_until_active().await, 2);

    // It is as good a standby as any other.
    pair.standby.kill().await;
    assert_eq!(pair.active.wait_until_active().await, 3);
    work.progress(100).await;
    work.finish(&pair.group).await;
    assert_eq!(watch.seen().contradictions, "");
}

#[tokio::test]
async fn a_frozen_active_that_resumes_before_anything_is_sent_changes_nothing() {
    let Some(pair) = Pair::new(&FLAGS).await else {
        return;
    };
    let (frozen, other, group) = (&pair.active, &pair.standby, &pair.group);
    let watch = Watch::over(&[frozen, other]);
    let client = group.client("patient").await;
    let received = client.subscribe(CHANNEL, "", "books").await.unwrap();
    let mut publisher = client.publisher(CHANNEL).await;
    for _ in 0..20 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;

    freeze(frozen).await;
    take_over(other).await;
    let clients = group.tables().clients().await;
    let stored = rows_of_first_term(group).await;
    resume(frozen).await;
    let heartbeats = client.heartbeats();
    for _ in 0..20 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
    group.wait_for_standbys(1).await;

    assert_eq!(stored.len(), 20);
    assert_eq!(rows_of_first_term(group).await, stored);
    let rows = group.tables().messages(CHANNEL).await;
    assert_eq!(rows.len(), 40);
    assert!(rows[20..].iter().all(|row| row.epoch == 2), "{rows:?}");
    wait_until(LIMIT, async || {
        let (got, beats) = (received.sequences().len(), client.heartbeats() - heartbeats);
        match (got, beats) {
            (40, 5..) => Ok(()),
            other => Err(format!("messages and heartbeats since: {other:?}")),
        }
    })
    .await;
    assert_eq!(client.ping().await, Ok(()));
    assert_eq!(group.tables().clients().await, clients);
    assert_eq!(watch.seen().contradictions, "");
}

/// It holds the lock before it has read what the last active has long stored.
#[tokio::test]
async fn a_standby_that_is_slow_to_read_stores_nothing_twice() {
    let Some(pair) = Pair::new(&["--lease", "10s"]).await else {
        return;
    };
    let (slow, group) = (&pair.standby, &pair.group);
    let client = group.client("quick").await;
    let mut publisher = client.publisher(CHANNEL).await;

    freeze(slow).await;
    for _ in 0..5000 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
    // What was under way when the active ended is not stored, and nobody but the standby can know of it.
    pair.active.signal(Signal::SIGSTOP);
    for _ in 0..20 {
        publisher.send().await;
    }
    client.nats.flush().await.unwrap();
    pair.active.kill().await;
    group.wait_for_standbys(0).await;
    slow.signal(Signal::SIGCONT);

    assert_eq!(slow.wait_until_active().await, 2);
    publisher.take_all_acks().await;
    let rows = group.tables().messages(CHANNEL).await;
    assert_stored_once(publisher.published(), &rows);
    assert!(rows[5000..].iter().all(|row| row.epoch == 2));
}

/// Returns when no thread of it runs any more.
pub(crate) async fn freeze(server: &Server) {
    server.signal(Signal::SIGSTOP);
    let status = format!("/proc/{}/status", server.pid());
    wait_until(LIMIT, async || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        if text.contains("State:\tT") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
}

async fn take_over(standby: &Server) {
    let frozen_at = Instant::now();
    assert_eq!(standby.wait_until_active().await, 2);
    // A figure for whoever runs this test with --nocapture; a machine may be busy.
    eprintln!("took over {:?} after the freeze", frozen_at.elapsed());
}

/// Whether it is asked while it is frozen or from its first moment on, it never says that it is active.
async fn resume(frozen: &Server) {
    let mut questions = Vec::new();
    for _ in 0..20 {
        let asked = Question::ask(frozen.http_port, "/streaming/isFTActive").await;
        questions.push(asked.unwrap());
    }
    frozen.signal(Signal::SIGCONT);
    for question in questions {
        let answer = timeout(LIMIT, question.answer()).await.unwrap();
        assert_eq!(answer, Ok((204, String::new())));
    }
    for _ in 0..50 {
        let (code, body) = wait_until(LIMIT, async || frozen.get("/healthz/active").await).await;
        assert_eq!(code, 503, "{body}");
    }
}

async fn rows_of_first_term(group: &Group) -> Vec<Row> {
    let mut rows = group.tables().messages(CHANNEL).await;
    rows.retain(|row| row.epoch == 1);
    rows
}
