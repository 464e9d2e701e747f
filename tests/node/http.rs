//! The pages over a real listener, asked by a client of a few lines.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stanby::clock::Clock;
use stanby::core::broker::Counts;
use stanby::core::ids::Epoch;
use stanby::core::limits::Limits;
use stanby::core::time::Timestamp;
use stanby::http::Server;
use stanby::monitoring::condition::{Condition, Conditions};
use stanby::monitoring::histogram::{BATCH_MESSAGES, COMMIT_SECONDS, Histogram};
use stanby::monitoring::reports::Reports;
use stanby::monitoring::status::{NatsPages, Role, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) struct Pages {
    pub(crate) address: SocketAddr,
    pub(crate) status: watch::Sender<Status>,
    shutdown: CancellationToken,
    task: JoinSet<()>,
}

pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

pub(crate) fn standby() -> Status {
    Status {
        role: Role::Standby,
        cluster_id: "test-cluster".to_owned(),
        server_id: "node-1".to_owned(),
        started_at: Timestamp(Clock.now().wall.0 - 62_000_000_000),
        epoch: None,
        active_since: None,
        has_served: false,
        trusted_until: None,
        counts: Counts::default(),
        commits: 0,
        commit_seconds: Histogram::new(&COMMIT_SECONDS),
        batch_messages: Histogram::new(&BATCH_MESSAGES),
        takeovers: 0,
        takeover_time: Duration::ZERO,
        takeover_silence: Some(Duration::from_millis(1250)),
        takeover_from_memory: 19,
        limits: Arc::new(Limits::default()),
        nats: stanby::nats::counters::Counts::default(),
        late_renewals: 0,
        failovers: stanby::monitoring::status::Failovers::default(),
        nats_pages: NatsPages::Elsewhere,
        nats_server_starts: 0,
        nats_server_ends: 0,
        shadow_bytes: 0,
        shadow_crowded_out: 0,
        rivals: 0,
        trouble: None,
        conditions: Conditions::default(),
        writes_refused: 18,
        log_dropped: 17,
        reads_astray: 18,
        reads_failed: 19,
        oldest_snapshot_seconds: 20,
        pulse: stanby::monitoring::pulse::Pulse::default(),
    }
}

pub(crate) fn active_for(trust: Duration) -> Status {
    let now = Clock.now();
    Status {
        role: Role::Active,
        epoch: Some(Epoch(7)),
        active_since: Some(now.wall),
        has_served: true,
        trusted_until: Some(now.monotonic + trust),
        counts: Counts {
            clients: 1,
            channels: 2,
            subscriptions: 3,
            messages: 4,
            bytes: 5,
            in_messages: 6,
            in_bytes: 7,
            out_messages: 8,
            out_bytes: 9,
            redelivered_messages: 10,
            acked_messages: 11,
            dropped_unacked: 12,
            skipped_messages: 0,
            unreadable_messages: 12,
            refused_connects: 16,
            sql_published: 18,
            sql_refused: 19,
            sql_acked: 20,
            sql_nacked: 21,
            poison_messages: 22,
            dead_letters: 23,
        },
        commits: 10,
        nats: stanby::nats::counters::Counts {
            overflows: 11,
            pauses: 12,
            disconnects: 13,
            unsent: 14,
            oversized: 0,
            unreadable: 15,
            forbidden: 17,
            refused: 20,
        },
        shadow_crowded_out: 0,
        rivals: 16,
        ..standby()
    }
}

impl Pages {
    pub(crate) async fn start(status: Status) -> Self {
        Self::of(
            Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap(),
            status,
        )
    }

    pub(crate) fn of(server: Server, status: Status) -> Self {
        let address = server.local_addr();
        let (status, receiver) = watch::channel(status);
        let shutdown = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(server.run(receiver, Reports::default(), Clock, shutdown.clone()));
        Self {
            address,
            status,
            shutdown,
            task,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.ask_with(method, path, "").await
    }

    /// `headers` end with `\r\n` each.
    pub(crate) async fn ask_with(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (headers, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            code: headers.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.to_lowercase(),
            body: body.to_owned(),
        }
    }
}

/// Acceptance: 143.
#[tokio::test]
async fn an_active_says_so_everywhere() {
    let pages = Pages::start(active_for(Duration::from_mins(1))).await;

    let answer = pages.get("/streaming/isFTActive").await;
    assert_eq!((answer.code, answer.body.as_str()), (200, ""));
    assert_eq!(pages.get("/healthz/active").await.code, 200);
    let ready = pages.get("/readyz").await;
    assert_eq!(ready.code, 200);
    assert_eq!(
        ready.body,
        "{\n  \"status\": \"ready\",\n  \"role\": \"active\",\n  \"epoch\": 7\n}"
    );
    assert!(
        pages
            .get("/streaming/serverz")
            .await
            .body
            .contains("\"state\": \"FT_ACTIVE\"")
    );
    let metrics = pages.get("/metrics").await.body;
    assert!(
        metrics.contains("\nstanby_active 1\n") && metrics.contains("\nstanby_epoch 7\n"),
        "{metrics}"
    );
}

/// Acceptance: 143.
#[tokio::test]
async fn a_standby_is_ready_and_not_active() {
    let pages = Pages::start(standby()).await;

    let answer = pages.get("/streaming/isFTActive").await;
    assert_eq!((answer.code, answer.body.as_str()), (204, ""));
    assert!(
        !answer.headers.contains("content-type"),
        "{}",
        answer.headers
    );
    assert_eq!(pages.get("/healthz/active").await.code, 503);
    assert_eq!(pages.get("/healthz").await.code, 200);
    let ready = pages.get("/readyz").await;
    assert_eq!(ready.code, 200);
    assert_eq!(
        ready.body,
        "{\n  \"status\": \"ready\",\n  \"role\": \"standby\"\n}"
    );
    assert!(
        pages
            .get("/streaming/serverz")
            .await
            .body
            .contains("\"state\": \"FT_STANDBY\"")
    );
}

#[tokio::test]
async fn an_active_whose_trust_has_passed_is_not_active() {
    let pages = Pages::start(active_for(Duration::ZERO)).await;

    assert_eq!(pages.get("/streaming/isFTActive").await.code, 204);
    assert_eq!(pages.get("/healthz/active").await.code, 503);
    let ready = pages.get("/readyz").await;
    assert_eq!(ready.code, 503, "it cannot take over: {}", ready.body);
    assert!(
        ready.body.contains("\"role\": \"standby\"")
            && ready.body.contains("has not answered it for a lease"),
        "{}",
        ready.body
    );
    assert!(
        pages
            .get("/streaming/serverz")
            .await
            .body
            .contains("\"state\": \"FT_STANDBY\"")
    );
    let metrics = pages.get("/metrics").await.body;
    assert!(
        metrics.contains("\nstanby_active 0\n") && metrics.contains("\nstanby_epoch 0\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\nstanby_ready 0\n"), "{metrics}");
    assert!(
        metrics.contains("\nnss_server_active{server_id=\"node-1\"} 0\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn trouble_makes_a_node_unready_but_not_dead() {
    let pages = Pages::start(standby()).await;
    pages
        .status
        .send_modify(|status| status.trouble = Some("Postgres does not answer".to_owned()));

    let ready = pages.get("/readyz").await;
    assert_eq!(ready.code, 503);
    assert!(
        ready
            .body
            .contains("\"reason\": \"Postgres does not answer\""),
        "{}",
        ready.body
    );
    assert_eq!(pages.get("/healthz").await.code, 200);

    pages.status.send_modify(|status| status.trouble = None);
    assert_eq!(pages.get("/readyz").await.code, 200);
}

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

#[tokio::test]
async fn any_method_is_answered_and_unknown_paths_are_not_found() {
    let pages = Pages::start(standby()).await;

    assert_eq!(pages.ask("POST", "/streaming/isFTActive").await.code, 204);
    assert_eq!(pages.ask("HEAD", "/readyz").await.code, 200);
    assert!(pages.get("/").await.body.contains("href=\"/readyz\""));
    assert!(
        pages
            .get("/streaming")
            .await
            .body
            .contains("href=\"/streaming/serverz\"")
    );
    assert_eq!(pages.get("/streaming/nothing").await.code, 404);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let pages = Pages::start(standby()).await;

    let error = Server::bind(pages.address).await.unwrap_err();

    assert_eq!(
        error.to_string(),
        format!(
            "the monitoring pages cannot listen on {}: another process has this port; choose another --http-port \
             or --https-port",
            pages.address
        )
    );
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_client_that_only_waits() {
    let mut pages = Pages::start(standby()).await;
    let _idle = TcpStream::connect(pages.address).await.unwrap();
    assert_eq!(pages.get("/healthz").await.code, 200);

    pages.shutdown.cancel();

    let ended = tokio::time::timeout(Duration::from_secs(5), pages.task.join_next()).await;
    assert!(matches!(ended, Ok(Some(Ok(())))), "{ended:?}");
    assert!(TcpStream::connect(pages.address).await.is_err());
}
