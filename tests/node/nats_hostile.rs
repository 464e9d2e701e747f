//! What a client with the right to publish can do to the server's connection to NATS: nothing.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;

use bytes::Bytes;
use stanby::protocol::client as wire;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

const MEBIBYTE: usize = 1 << 20;

/// A connection to nats-server that says what no library would.
struct Raw(TcpStream);

impl Raw {
    async fn connect(url: &str) -> Self {
        let address = url.strip_prefix("nats://").unwrap();
        let mut raw = Self(TcpStream::connect(address).await.unwrap());
        raw.say(b"CONNECT {\"verbose\":false,\"headers\":true,\"protocol\":1}\r\n")
            .await;
        raw
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn publish(&mut self, subject: &[u8], reply: &[u8], payload: &[u8]) {
        let size = format!(" {}\r\n", payload.len());
        let parts = [
            b"PUB ",
            subject,
            b" ",
            reply,
            size.as_bytes(),
            payload,
            b"\r\n",
        ];
        self.say(&parts.concat()).await;
    }

    async fn publish_with_headers(&mut self, subject: &[u8], headers: &[u8], payload: &[u8]) {
        let sizes = format!(" {} {}\r\n", headers.len(), headers.len() + payload.len());
        let parts = [
            b"HPUB ",
            subject,
            sizes.as_bytes(),
            headers,
            payload,
            b"\r\n",
        ];
        self.say(&parts.concat()).await;
    }

    /// NATS has taken all of it and complains about nothing.
    async fn done(&mut self) {
        self.say(b"PING\r\n").await;
        let mut heard = Vec::new();
        let answered = async {
            // A PING of the server may come right behind it.
            while !heard.windows(6).any(|heard| heard == b"PONG\r\n") {
                assert!(self.0.read_buf(&mut heard).await.unwrap() > 0);
            }
        };
        let answered = timeout(LIMIT, answered).await;
        let heard = String::from_utf8_lossy(&heard);
        assert!(answered.is_ok() && !heard.contains("-ERR"), "{heard}");
    }
}

async fn metric(server: &Server, name: &str) -> u64 {
    let (_, page) = server.get("/metrics").await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("{name} in {page}"));
    value.trim().parse().unwrap()
}

#[tokio::test]
async fn bytes_that_are_no_text_and_subjects_of_64_kilobytes_cost_no_connection() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("nats.conf");
    fs::write(&config, "max_control_line: 262144\n").unwrap();
    let config = ["-c", config.to_str().unwrap()];
    let (Some(database), Some(nats)) =
        (postgres::database().await, nats::own_server(&config).await)
    else {
        return;
    };
    let pair = Pair::of(Group::over(database.url.clone(), nats.url(), &[])).await;
    let group = &pair.group;
    let client = group.client("good").await;
    let mut good = client.publisher("good").await;
    let mut raw = Raw::connect(&group.nats_url).await;
    let cluster_id = &group.cluster_id;
    let request = |guid: &str| {
        wire::publish_request(wire::Publish {
            client_id: "good",
            connection_id: client.connection_id.as_bytes(),
            guid,
            channel: "good",
            data: Bytes::from_static(b"raw"),
        })
    };

    let long = vec![b'x'; 64 << 10];
    let mut sent = 0;
    for odd in [
        &b"\xff\xfe"[..],
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"a\x00b",
        b"\x0b\x85",
        &long,
    ] {
        for on in [
            client.subjects.publish_prefix.to_string(),
            format!("_INBOX.{cluster_id}.1"),
        ] {
            let subject = [on.as_bytes(), b".", odd].concat();
            raw.publish(&subject, b"_INBOX.r", b"noise").await;
            raw.publish(&subject, odd, b"noise").await;
            raw.publish_with_headers(&subject, b"NATS/1.0 \xff\xff\r\n\xfe:\x00\r\n\r\n", b"")
                .await;
            raw.publish_with_headers(&subject, odd, b"noise").await;
        }
        for to in [
            &client.subjects.subscribe,
            &client.subjects.unsubscribe,
            &client.subjects.close_client,
            &client.subjects.pings,
        ] {
            raw.publish(to.as_bytes(), odd, b"noise").await;
        }
        // Well formed but for where it goes, which is another channel than it names, and where its ack is to go: refused.
        let prefix = &client.subjects.publish_prefix.as_bytes()[..];
        let subject = [prefix, b".", odd].concat();
        sent += 1;
        raw.publish(&subject, odd, &request(&format!("raw-{sent}")))
            .await;
        raw.done().await;
        good.send_until_acked(LIMIT).await;
    }

    let tables = group.tables();
    // What was sent after them is stored: they would be, too.
    let rows = tables.messages("good").await;
    assert!(!rows.iter().any(|row| row.guid.starts_with("raw-")));
    assert_eq!((rows.len(), sent), (6, 6));
    for server in [&pair.active, &pair.standby] {
        // Up to 2.9 NATS holds publishers back that are faster than its consumers; later it cuts the consumers off.
        if server.log().contains("version=\"2.9.") {
            assert_eq!(metric(server, "stanby_nats_disconnects_total").await, 0);
        }
        assert!(
            !server.log().contains("lost the connection"),
            "{}",
            server.log()
        );
    }
    wait_until(LIMIT, async || {
        match metric(&pair.active, "stanby_nats_unreadable_total").await {
            0 => Err("nothing was counted".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(client.ping().await, Ok(()));
}

fn peak_kib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.unwrap().split_whitespace().next().unwrap();
    kib.parse().unwrap()
}

/// What waits between NATS and the core is 64 MiB and one read at most; an active has room for 96 MiB more while clients take turns, and a
/// standby remembers 64 MiB beside. The limits are more than twice that: the rest is for the core, the batch under way, and what an
/// allocator keeps.
#[tokio::test]
async fn a_flood_of_requests_of_a_mebibyte_is_not_kept_in_memory() {
    const CONNECTIONS: usize = 3;
    const EACH: usize = 300;
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let group = &pair.group;
    let client = group.client("good").await;
    let mut good = client.publisher("good").await;
    good.send_until_acked(LIMIT).await;

    let mut flood = JoinSet::new();
    for number in 0..CONNECTIONS {
        let mut raw = Raw::connect(&group.nats_url).await;
        let subjects = [
            format!("{}.flood", client.subjects.publish_prefix),
            client.subjects.close_client.to_string(),
            client.subjects.subscribe.to_string(),
        ];
        let subject = subjects[number % subjects.len()].clone();
        let request = wire::close_request(&"x".repeat(MEBIBYTE - 64));
        flood.spawn(async move {
            for _ in 0..EACH {
                raw.publish(subject.as_bytes(), b"_INBOX.nobody", &request)
                    .await;
            }
            raw.done().await;
        });
    }
    while let Some(done) = flood.join_next().await {
        done.unwrap();
    }
    good.send_until_acked(LIMIT).await;

    for (server, peak_max_mib) in [(&pair.active, 352), (&pair.standby, 384)] {
        let peak = peak_kib(server);
        assert!(peak < peak_max_mib * 1024, "{peak} KiB at the highest");
        // Up to 2.9 NATS holds publishers back that are faster than its consumers; later it cuts the consumers off.
        if server.log().contains("version=\"2.9.") {
            assert_eq!(metric(server, "stanby_nats_disconnects_total").await, 0);
        }
    }
    assert_eq!(client.ping().await, Ok(()));
}
