//! The pages, while strangers hold connections open and take their time.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use stanby::http::{Certificate, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::http::{Pages, standby};
use crate::https::{Files, get_at};
use crate::pair::{Group, LIMIT};
use crate::support::wait::wait_until;

/// More than there are places.
const STRANGERS: usize = 140;

const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// Send a byte of a header now and then, and never the last one, on as many connections.
struct Strangers {
    _tasks: JoinSet<()>,
}

impl Strangers {
    /// Returns when all are connected and have begun.
    async fn come(address: SocketAddr) -> Self {
        let mut tasks = JoinSet::new();
        for _ in 0..STRANGERS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nX: ")
                .await
                .unwrap();
            tasks.spawn(async move {
                let mut pace = interval(Duration::from_millis(500));
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    pace.tick().await;
                    if stream.write_all(b"x").await.is_err() {
                        // Whoever is sent away comes back.
                        if let Ok(next) = TcpStream::connect(address).await {
                            stream = next;
                        }
                    }
                }
            });
        }
        Self { _tasks: tasks }
    }
}

#[tokio::test]
async fn probes_are_answered_while_strangers_hold_all_connections() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let server = Server::bind(bind.parse().unwrap()).await.unwrap();
        let pages = Pages::of(server, standby());
        let _strangers = Strangers::come(pages.address).await;
        for path in PROBES.repeat(20) {
            let answer = timeout(LIMIT, pages.get(path)).await;
            let answer = answer.unwrap_or_else(|_| panic!("no answer of {path} on {bind}"));
            assert_eq!(answer.code, 200, "{path}");
        }
        let metrics = pages.get("/metrics").await.body;
        let evicted = metrics
            .lines()
            .find_map(|line| line.strip_prefix("stanby_pages_evicted_total "));
        assert_ne!(evicted.unwrap(), "0");
    }
}

#[tokio::test]
async fn probes_over_tls_are_answered_while_strangers_never_finish_their_handshakes() {
    let files = Files::new();
    let roots = files.write();
    let certificate = Certificate {
        certificate_file: files.path("cert.pem").into(),
        key_file: files.path("key.pem").into(),
    };
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let pages = Pages::of(server.with_tls(certificate).await.unwrap(), standby());
    // What they send is no handshake; some send nothing at all.
    let _strangers = Strangers::come(pages.address).await;
    let mut silent = Vec::new();
    for _ in 0..STRANGERS {
        silent.push(TcpStream::connect(pages.address).await.unwrap());
    }

    for path in PROBES.repeat(5) {
        let answer = get_at(pages.address, path, &roots).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_complete_in_time_is_cut_off() {
    let pages = Pages::start(standby()).await;
    let (mut reading, mut writing) = TcpStream::connect(pages.address)
        .await
        .unwrap()
        .into_split();
    writing
        .write_all(b"GET /healthz HTTP/1.1\r\nX: ")
        .await
        .unwrap();
    let trickle = async {
        let mut pace = interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            if writing.write_all(b"x").await.is_err() {
                return std::future::pending::<()>().await;
            }
        }
    };
    let mut answer = Vec::new();
    let ended = async { timeout(LIMIT, reading.read_to_end(&mut answer)).await };
    tokio::select! {
        ended = ended => assert!(ended.is_ok(), "it still waits for the rest of the header"),
        () = trickle => {}
    }

    let metrics = pages.get("/metrics").await.body;
    assert!(
        metrics.contains("\nstanby_pages_slow_total 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn headers_and_paths_of_any_size_are_refused_above_a_bound() {
    let pages = Pages::start(standby()).await;

    let many = "X: x\r\n".repeat(200);
    assert_eq!(pages.ask_with("GET", "/healthz", &many).await.code, 431);
    let long = format!("X: {}\r\n", "x".repeat(20 << 10));
    assert_eq!(pages.ask_with("GET", "/healthz", &long).await.code, 431);
    let path = format!("/healthz?{}", "x".repeat(20 << 10));
    assert!([414, 431].contains(&pages.ask_with("GET", &path, "").await.code));
    // A body that never comes keeps nobody from the answer.
    let body = "Content-Length: 1000000\r\n";
    assert_eq!(pages.ask_with("POST", "/healthz", body).await.code, 200);
}

/// What a server holds for those who do not read is bounded, and so is for how long.
#[tokio::test]
async fn readers_that_do_not_read_cost_a_bounded_memory_and_are_sent_away() {
    const CHANNELS: usize = 10_000;
    const READERS: usize = 60;
    const GROWTH_MAX_KIB: u64 = 320 << 10;
    const LIST: &str = "/streaming/channelsz?subs=1&limit=100000";

    let Some(group) = Group::new(&["--max-channels", "0"]).await else {
        return;
    };
    let first = group.server();
    first.wait_until_active().await;
    first.kill().await;
    group
        .tables()
        .execute(format!(
            "INSERT INTO channels
             SELECT n, 'channel.' || n, 0, false, 1, 0, 0, 0, 0 FROM generate_series(1, {CHANNELS}) n;
             INSERT INTO positions
             SELECT n * 5 + d, n, 'durable-' || d, NULL, 0, 0, '{{}}'
             FROM generate_series(1, {CHANNELS}) n, generate_series(0, 4) d;
             INSERT INTO subscriptions
             SELECT n * 5 + d, n * 5 + d, 'nobody', '_INBOX.' || repeat('x', 60), '_INBOX.' || repeat('y', 60), 1, 1, false, 0
             FROM generate_series(1, {CHANNELS}) n, generate_series(0, 4) d;
             UPDATE server_info SET last_channel_id = 1000000, last_subscription_id = 1000000;"
        ))
        .await;
    let server = group.server();
    server.wait_until_active().await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.http_port));
    let before = peak_kib(server.pid());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {LIST} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        readers.push(stream);
    }

    // Probes are answered all along.
    let slow = wait_until(LIMIT * 4, async || {
        for path in PROBES {
            let (code, body) = server.get(path).await?;
            assert_eq!(code, 200, "{body}");
        }
        let (_, metrics) = ask(address, "/metrics").await?;
        let counted = |name: &str| -> u64 {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|count| count.trim().parse().ok())
                .unwrap_or(0)
        };
        let (slow, refused) = (
            counted("stanby_pages_slow_total "),
            counted("stanby_pages_refused_total "),
        );
        if slow > 0 && slow + refused >= READERS as u64 {
            Ok(slow)
        } else {
            Err(format!("{slow} were cut off, {refused} refused"))
        }
    })
    .await;
    let growth = peak_kib(server.pid()) - before;
    assert!(
        growth < GROWTH_MAX_KIB,
        "{growth} KiB more than {before} KiB, with {slow} readers cut off"
    );
    let whole = wait_until(LIMIT, async || match ask(address, LIST).await? {
        (200, body) => Ok(body),
        (code, body) => Err(format!("{code} {body}")),
    })
    .await;
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["count"], CHANNELS);
    drop(readers);
}

/// Of a page that may take longer than a probe.
async fn ask(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let asking = async {
        let question = crate::pair::Question::ask(address.port(), path).await?;
        question.answer().await
    };
    timeout(LIMIT, asking)
        .await
        .map_err(|_| "no answer".to_owned())?
}

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().split_whitespace().next().unwrap();
    peak.parse().unwrap()
}
