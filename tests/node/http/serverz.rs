//! `/streaming/serverz`, with and without a callback.

use std::time::Duration;

use super::{Pages, active_for, standby};

/// Acceptance: 140.
#[tokio::test]
async fn serverz_has_the_fields_of_nats_streaming_in_their_order() {
    let pages = Pages::start(active_for(Duration::from_mins(1))).await;

    let answer = pages.get("/streaming/serverz").await;

    assert_eq!(answer.code, 200);
    assert!(
        answer.headers.contains("content-type: application/json"),
        "{}",
        answer.headers
    );
    assert!(
        answer.headers.contains("access-control-allow-origin: *"),
        "{}",
        answer.headers
    );
    assert!(
        answer
            .body
            .starts_with("{\n  \"cluster_id\": \"test-cluster\",\n"),
        "{}",
        answer.body
    );
    let names: Vec<&str> = answer
        .body
        .lines()
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert_eq!(
        names,
        [
            "cluster_id",
            "server_id",
            "version",
            "go",
            "state",
            "now",
            "start_time",
            "uptime",
            "clients",
            "subscriptions",
            "channels",
            "total_msgs",
            "total_bytes",
            "in_msgs",
            "in_bytes",
            "out_msgs",
            "out_bytes",
            "open_fds",
            "max_fds",
        ]
    );
    let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(value["uptime"], "1m2s");
    assert_eq!(value["go"], "");
    let numbers = [
        "clients",
        "channels",
        "subscriptions",
        "total_msgs",
        "total_bytes",
    ];
    assert_eq!(
        numbers.map(|name| value[name].as_u64().unwrap()),
        [1, 2, 3, 4, 5]
    );
    let numbers = ["in_msgs", "in_bytes", "out_msgs", "out_bytes"];
    assert_eq!(
        numbers.map(|name| value[name].as_u64().unwrap()),
        [6, 7, 8, 9]
    );
    assert!(value["open_fds"].as_u64().unwrap() > 3);
    assert!(value["max_fds"].as_u64() > value["open_fds"].as_u64());
    for name in ["now", "start_time"] {
        value[name]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
    }
}

/// Acceptance: 140.
#[tokio::test]
async fn a_callback_wraps_the_answer_unless_it_is_script() {
    let pages = Pages::start(standby()).await;

    let answer = pages.get("/streaming/serverz?callback=fn").await;
    assert!(
        answer
            .headers
            .contains("content-type: application/javascript"),
        "{}",
        answer.headers
    );
    assert!(
        answer.body.starts_with("fn({\n") && answer.body.ends_with("})"),
        "{}",
        answer.body
    );

    assert_eq!(
        pages
            .get("/streaming/serverz?callback=alert(1)//")
            .await
            .code,
        400
    );
    assert!(
        pages
            .get("/streaming/serverz?callback=")
            .await
            .body
            .starts_with('{')
    );
}
