//! `/metrics` in both formats, and conditions in the words of the other pages.

use std::time::Duration;

use stanby::core::time::Timestamp;
use stanby::monitoring::condition::Condition;

use super::{Pages, active_for, standby};

#[tokio::test]
async fn a_condition_shows_in_the_same_words_on_readyz_healthz_and_as_a_metric() {
    let pages = Pages::start(standby()).await;
    let metric = "stanby_condition{kind=\"conflicting-actives\"}";
    let metrics = pages.get("/metrics").await.body;
    assert!(metrics.contains(&format!("\n{metric} 0\n")), "{metrics}");

    pages.status.send_modify(|status| {
        let reason = "two servers are active: stop one".to_owned();
        let began = Timestamp(1_600_000_000_000_000_000);
        status
            .conditions
            .raise(Condition::ConflictingActives, reason, began);
    });

    let (ready, alive) = (pages.get("/readyz").await, pages.get("/healthz").await);
    assert_eq!((ready.code, alive.code), (503, 200));
    for body in [&ready.body, &alive.body] {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let shown = serde_json::json!([{
            "kind": "conflicting-actives",
            "reason": "two servers are active: stop one",
            "since": "2020-09-13T12:26:40Z",
        }]);
        assert_eq!(body["conditions"], shown);
    }
    let ready: serde_json::Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!(ready["reason"], "two servers are active: stop one");
    let metrics = pages.get("/metrics").await.body;
    assert!(metrics.contains(&format!("\n{metric} 1\n")), "{metrics}");
    assert!(metrics.contains("\nstanby_ready 0\n"), "{metrics}");
}

#[tokio::test]
async fn metrics_are_complete_and_end_as_open_metrics_must() {
    let pages = Pages::start(active_for(Duration::from_mins(1))).await;

    // What Prometheus sends, shortened.
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5\r\n";
    let answer = pages.ask_with("GET", "/metrics", accept).await;

    assert!(
        answer.headers.contains("application/openmetrics-text"),
        "{}",
        answer.headers
    );
    let samples = [
        "stanby_clients 1",
        "stanby_channels 2",
        "stanby_subscriptions 3",
        "stanby_messages 4",
        "stanby_bytes 5",
        "stanby_in_messages_total 6",
        "stanby_in_bytes_total 7",
        "stanby_out_messages_total 8",
        "stanby_out_bytes_total 9",
        "stanby_commits_total 10",
        "stanby_nats_overflows_total 11",
        "stanby_redelivered_messages_total 10",
        "stanby_acked_messages_total 11",
        "stanby_dropped_unacked_messages_total 12",
        "stanby_nats_pauses_total 12",
        "stanby_nats_disconnects_total 13",
        "stanby_nats_unsent_total 14",
        "stanby_nats_dropped_answers_total 21",
        "stanby_nats_unreadable_total 15",
        "stanby_nats_forbidden_total 17",
        "stanby_rivals 16",
        "stanby_log_dropped_total 17",
        "stanby_writes_refused_total 18",
        "stanby_reads_astray_total 18",
        "stanby_reads_failed_total 19",
        "stanby_oldest_snapshot_seconds 20",
        "stanby_unreadable_messages_total 12",
        "stanby_refused_connects_total 16",
        "nss_server_msgs_total{server_id=\"node-1\"} 4",
        "# EOF",
    ];
    for sample in samples {
        assert!(
            answer.body.lines().any(|line| line == sample),
            "{sample} in {}",
            answer.body
        );
    }
    assert!(
        answer.body.contains("stanby_node_info{version=\""),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn who_does_not_ask_for_open_metrics_gets_the_older_format_of_prometheus() {
    let pages = Pages::start(active_for(Duration::from_mins(1))).await;

    let answer = pages.get("/metrics").await;

    let content_type = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(answer.headers.contains(content_type), "{}", answer.headers);
    for line in [
        "# TYPE stanby_commits_total counter",
        "stanby_commits_total 10",
        "# TYPE stanby_node_info gauge",
        "# TYPE stanby_commit_seconds histogram",
        "# TYPE nss_server_msgs_total gauge",
    ] {
        let found = answer.body.lines().any(|found| found == line);
        assert!(found, "{line} in {}", answer.body);
    }
    assert!(!answer.body.contains("# EOF"), "{}", answer.body);
}
