//! The pages over a real listener, asked by a client of a few lines.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod metrics;
mod serverz;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stanby::clock::Clock;
use stanby::core::counts::{Counts, Traffic};
use stanby::core::ids::Epoch;
use stanby::core::limits::Limits;
use stanby::core::time::Timestamp;
use stanby::http::Server;
use stanby::monitoring::condition::Conditions;
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
        conflicting_actives: 0,
        unable_reason: None,
        conditions: Conditions::default(),
        writes_refused: 18,
        log_dropped: 17,
        reads_astray: 18,
        reads_failed: 19,
        oldest_snapshot_seconds: 20,
        liveness: stanby::monitoring::liveness::Liveness::default(),
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
            traffic: Traffic {
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
        },
        commits: 10,
        nats: stanby::nats::counters::Counts {
            overflows: 11,
            pauses: 12,
            disconnects: 13,
            unsent: 14,
            dropped_answers: 21,
            rejected: 0,
            unreadable: 15,
            forbidden: 17,
            refused: 20,
        },
        shadow_crowded_out: 0,
        conflicting_actives: 16,
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
        .send_modify(|status| status.unable_reason = Some("Postgres does not answer".to_owned()));

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

    pages
        .status
        .send_modify(|status| status.unable_reason = None);
    assert_eq!(pages.get("/readyz").await.code, 200);
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
