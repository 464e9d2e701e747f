//! A pair with a Postgres and a nats-server of its own, filled before the two start.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use async_nats::{Client, Request};
use nix::sys::signal::Signal;
use stanby::core::request::StartPosition;
use stanby::protocol::client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::ground::{Ground, execute};
use crate::pair::{Group, Server};
use crate::proxy::{Link, Proxy, Target};
use crate::stan::StanClient;
use crate::tables::Tables;
use crate::world::Shape;

const FLAGS: [&str; 2] = ["--lease", "2s"];

/// Subjects of the sinks begin with this and a number.
pub(crate) const SINK: &str = "hostile-sink";

/// What stands in the tables before the servers start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    pub(crate) channels: u64,
    /// Of each channel.
    pub(crate) messages: u64,
    pub(crate) message_bytes: u64,
    /// Offline ones of each channel.
    pub(crate) durables: u64,
}

pub(crate) struct Stage {
    // Servers end before what they stand on.
    active: Mutex<Server>,
    standby: Server,
    http_port: u16,
    to_nats: Proxy,
    pub(crate) nats_url: String,
    pub(crate) cluster_id: String,
    pub(crate) ground: Ground,
}

impl Stage {
    /// `None` where something is not installed.
    pub(crate) async fn start(filling: Option<Filling>, more: &[&str]) -> Option<Self> {
        let ground = Ground::start(Shape::PAIR).await?;
        let to_nats = Proxy::start_narrow(Target::Port(ground.nats_port()));
        let link_url = format!("nats://127.0.0.1:{}", to_nats.port);
        let mut flags = FLAGS.to_vec();
        flags.extend(["--max-channels", "0", "--max-bytes", "0"]);
        flags.extend(more);
        let group = Group::over(ground.database_url(), link_url, &flags);
        if let Some(filling) = filling {
            let first = group.server();
            first.wait_until_active().await;
            first.kill().await;
            fill(&ground.database_url(), filling).await;
        }
        let active = group.server();
        active.wait_until_active().await;
        let standby = group.server();
        group.wait_for_standbys(1).await;
        Some(Self {
            http_port: active.http_port,
            active: Mutex::new(active),
            standby,
            to_nats,
            nats_url: ground.nats_url(),
            cluster_id: group.cluster_id.clone(),
            ground,
        })
    }

    /// The servers' way to NATS, not that of clients.
    pub(crate) fn narrow_link(&self, bytes_per_second: u32) {
        self.to_nats.set(Link::Narrow(bytes_per_second));
    }

    pub(crate) async fn nats(&self) -> Client {
        async_nats::connect(&self.nats_url).await.unwrap()
    }

    pub(crate) async fn client(&self, id: &str) -> StanClient {
        let client = StanClient::connect(self.nats().await, &self.cluster_id, id).await;
        client.unwrap()
    }

    pub(crate) fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Ends the active as systemd would; how long it took to end, and the other one to serve.
    pub(crate) async fn stop_active(&self) -> (Duration, Duration) {
        let mut active = self.active.lock().await;
        let begin = Instant::now();
        active.signal(Signal::SIGTERM);
        active.end().await;
        let ended = begin.elapsed();
        self.standby.wait_until_active().await;
        (ended, begin.elapsed())
    }

    pub(crate) async fn epoch(&self) -> i64 {
        let tables = Tables::new(&self.ground.database_url());
        tables.number("SELECT epoch FROM leadership").await
    }

    /// What each of the two occupied at the most, in MiB.
    pub(crate) async fn memory_mib(&self) -> u64 {
        let active = self.active.lock().await;
        let servers = [&active, &self.standby];
        servers.map(peak_mib).into_iter().max().unwrap()
    }

    /// The end of both logs.
    pub(crate) async fn logs(&self) -> String {
        let end = |server: &Server| {
            let log = server.log();
            let lines: Vec<_> = log.lines().rev().take(15).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        let active = self.active.lock().await;
        format!("{}\n---\n{}", end(&active), end(&self.standby))
    }

    /// From the first message on, delivered to a sink. The ack inbox.
    pub(crate) async fn subscribe(
        &self,
        client: &StanClient,
        channel: &str,
        inbox: &str,
        max_in_flight: i32,
        ack_wait: Duration,
    ) -> Result<String, String> {
        let subscribed = self.subscribe_in(client, channel, inbox, "", max_in_flight, ack_wait);
        subscribed.await
    }

    /// The same in a queue group.
    pub(crate) async fn subscribe_in(
        &self,
        client: &StanClient,
        channel: &str,
        inbox: &str,
        queue_group: &str,
        max_in_flight: i32,
        ack_wait: Duration,
    ) -> Result<String, String> {
        let request = client::subscribe_request(&client::Subscribe {
            client_id: &client.id,
            channel,
            inbox,
            queue_group,
            durable_name: "",
            max_in_flight,
            ack_wait_seconds: i32::try_from(ack_wait.as_secs()).unwrap(),
            start: StartPosition::First,
        });
        let request = Request::new()
            .payload(request)
            .timeout(Some(Duration::from_mins(1)));
        let subject = client.subjects.subscribe.to_string();
        let answer = client.nats.send_request(subject, request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let subscribed = client::subscribe_response(answer.payload);
        let ack_inbox = subscribed.map_err(|refusal| refusal.to_string())?;
        Ok(ack_inbox.to_string())
    }

    /// Takes what is delivered to sinks and forgets it, as fast as NATS sends it.
    pub(crate) async fn sink(&self) -> JoinSet<()> {
        let port = self.ground.nats_port();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let hello = format!("CONNECT {{\"verbose\":false}}\r\nSUB {SINK}.* 1\r\nPING\r\n");
        stream.write_all(hello.as_bytes()).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut reading, mut writing) = stream.split();
            let mut buffer = vec![0; 256 << 10];
            // It does not look for pings, and answers those that there may be.
            let mut pace = interval(Duration::from_secs(10));
            loop {
                tokio::select! {
                    read = reading.read(&mut buffer) => if !matches!(read, Ok(1..)) {
                        return;
                    },
                    _ = pace.tick() => if writing.write_all(b"PONG\r\n").await.is_err() {
                        return;
                    },
                }
            }
        });
        tasks
    }
}

fn peak_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    peak.unwrap_or_default() >> 10
}

/// Channels are called `filled.1` and so on.
async fn fill(database_url: &str, filling: Filling) {
    let Filling {
        channels,
        messages,
        message_bytes,
        durables,
    } = filling;
    // What NATS Streaming counts for a message is a little more than its data.
    let bytes = messages * (message_bytes + 64);
    let statements = format!(
        "SET search_path = stanby;
         INSERT INTO channels (channel_id, name, created_at_ns, deleting, first_sequence, last_sequence,
             last_published_at_ns, message_count, byte_count)
         SELECT n, 'filled.' || n, 0, false, 1, {messages}, {messages}, {messages}, {bytes}
         FROM generate_series(1, {channels}) n;
         INSERT INTO messages (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data)
         SELECT c, n, n, 1, 'filler', c || '-' || n, '', convert_to(repeat('x', {message_bytes}), 'UTF8')
         FROM generate_series(1, {channels}) c, generate_series(1, {messages}) n;
         INSERT INTO positions (position_id, channel_id, durable_name, queue_group, last_sent, acked_floor, acked_above)
         SELECT n * 1000 + d, n, 'durable-' || d, NULL, 0, 0, '{{}}'
         FROM generate_series(1, {channels}) n, generate_series(1, {durables}) d;
         INSERT INTO subscriptions (subscription_id, position_id, client_id, inbox, ack_inbox, max_in_flight, ack_wait_ns,
             online, since_ns)
         SELECT n * 1000 + d, n * 1000 + d, 'nobody', '_INBOX.' || repeat('x', 40), '_INBOX.' || repeat('y', 40), 1, 1,
             false, 0
         FROM generate_series(1, {channels}) n, generate_series(1, {durables}) d;
         UPDATE server_info SET last_channel_id = 1000000, last_subscription_id = 1000000000;
         ANALYZE"
    );
    execute(database_url, &statements).await;
}
