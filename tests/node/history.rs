//! What the history tells of the end of a term: why, how long clients waited, and what was answered from memory.

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::cli::{code, stanby, stderr, stdout};
use crate::frozen::freeze;
use crate::pair::{LIMIT, Pair};
use crate::support::wait::wait_until;

const FLAGS: [&str; 2] = ["--lease", "2s"];

/// Half a lease: how far back the last sign of an active may be.
const SIGN: Duration = Duration::from_secs(1);

/// Requests that wait for the next active.
const COUNT: u64 = 7;

/// The last takeover, as `stanby status` tells it, once all of it is noted.
async fn last(pair: &Pair) -> Value {
    wait_until(LIMIT, async || {
        let args = [
            "status",
            "--json",
            "--database-url",
            &pair.group.database_url,
        ];
        let output = stanby(&args).await;
        if code(&output) != Some(0) {
            return Err(stderr(&output));
        }
        let told: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let takeover = told["last_takeover"].clone();
        if takeover["epoch"] == 2 && !takeover["silence_ms"].is_null() {
            Ok(takeover)
        } else {
            Err(told.to_string())
        }
    })
    .await
}

fn silence(takeover: &Value) -> Duration {
    Duration::from_millis(takeover["silence_ms"].as_u64().unwrap_or(u64::MAX))
}

/// What the new active's metrics say is what the history says.
async fn assert_metrics_agree(pair: &Pair, takeover: &Value) {
    let (active, _) = pair.roles().await;
    let page = active.get("/metrics").await.map(|(_, page)| page);
    let page = page.unwrap_or_default();
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(-1.0)
    };
    let told = silence(takeover).as_secs_f64();
    let found = value("stanby_takeover_silence_seconds ");
    assert!((found - told).abs() < 0.01, "{found} {told}");
    let memory = takeover["answered_from_memory"].as_f64().unwrap_or(-2.0);
    let found = value("stanby_takeover_answered_from_memory ");
    assert!((found - memory).abs() < 0.5, "{found} {memory}");
}

/// Publishes while nobody serves, and waits for the answers.
async fn served_from_memory(signal: Signal) -> Option<(Pair, Value, Duration)> {
    let pair = Pair::new(&FLAGS).await?;
    let client = pair.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;
    let began = Instant::now();
    // It answers none of them, and a takeover does not come before them.
    freeze(&pair.active).await;
    for _ in 0..COUNT {
        publisher.send().await;
    }
    publisher.flush().await;
    if signal != Signal::SIGSTOP {
        pair.active.signal(signal);
    }
    publisher.take_all_acks().await;
    assert!(publisher.published().errors.is_empty());
    let waited = began.elapsed();
    let takeover = last(&pair).await;
    Some((pair, takeover, waited))
}

#[tokio::test]
async fn a_killed_active_is_told_from_a_frozen_one_and_what_was_answered_from_memory_is_counted() {
    for (signal, cause, least) in [
        (Signal::SIGKILL, "session-ended", Duration::ZERO),
        // Its lease had to run out.
        (Signal::SIGSTOP, "silent", SIGN * 3 / 2),
    ] {
        let Some((pair, takeover, waited)) = served_from_memory(signal).await else {
            return;
        };
        assert_eq!(takeover["cause"], cause, "{takeover}");
        let silence = silence(&takeover);
        assert!(
            silence >= least && silence <= waited + SIGN,
            "{takeover} {waited:?}"
        );
        // What was answered in the moments before may be among them.
        let memory = takeover["answered_from_memory"].as_u64().unwrap_or(0);
        assert!((COUNT..COUNT + 4).contains(&memory), "{takeover}");
        let served = pair.standby.get("/metrics").await;
        assert!(served.is_ok());
        let page = served.map(|(_, page)| page).unwrap_or_default();
        assert!(
            page.contains(&format!("stanby_takeover_answered_from_memory {memory}")),
            "{page}"
        );
        let text = stanby(&["status", "--database-url", &pair.group.database_url]).await;
        let text = stdout(&text);
        let line = text.lines().find(|line| line.starts_with("takeover "));
        let line = line.unwrap_or_default();
        assert!(
            line.contains(cause) && line.contains("answered from memory: "),
            "{text}"
        );
        pair.active.signal(Signal::SIGKILL);
    }
}

#[tokio::test]
async fn a_planned_hand_over_is_told_as_one_and_its_silence_is_short() {
    let Some(pair) = Pair::new(&FLAGS).await else {
        return;
    };
    let began = Instant::now();
    let output = stanby(&["step-down", "--database-url", &pair.group.database_url]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    // Without a single request the figures are there, too.
    let takeover = last(&pair).await;
    assert_eq!(takeover["cause"], "stepped-down", "{takeover}");
    assert!(silence(&takeover) <= began.elapsed(), "{takeover}");
    assert_eq!(takeover["answered_from_memory"], 0, "{takeover}");
    assert_metrics_agree(&pair, &takeover).await;
}

#[tokio::test]
async fn a_commit_that_postgres_refuses_is_told_as_the_cause() {
    let Some(pair) = Pair::new(&FLAGS).await else {
        return;
    };
    let client = pair.group.client("bad").await;
    let refuse = "ALTER TABLE messages ADD CONSTRAINT nobody_bad CHECK (client_id <> 'bad')";
    pair.group.tables().execute(refuse).await;
    let began = Instant::now();
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    assert!(publisher.take_ack(LIMIT).await);
    let good = pair.group.client("good").await;
    let mut others = good.publisher("orders").await;
    others.send().await;
    others.take_all_acks().await;
    let takeover = last(&pair).await;
    assert_eq!(takeover["cause"], "refused-write", "{takeover}");
    let detail = takeover["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("nobody_bad"), "{takeover}");
    assert!(silence(&takeover) <= began.elapsed() + SIGN, "{takeover}");
    assert_metrics_agree(&pair, &takeover).await;
}
