//! Somebody who has the console of each server open: its live figures all the time, and its pages at each sample.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::facts::Facts;
use crate::pair::LIMIT;

/// Also logs in to the console where no users are named.
pub(crate) const TOKEN: &str = "the-token-of-the-soak";

/// Each of them reads the tables in another way.
const PAGES: [&str; 12] = [
    "/console",
    "/console/channels",
    "/console/channel?name=orders",
    "/console/messages?channel=orders",
    "/console/messages?channel=payments&text=publisher",
    "/console/durables",
    "/console/durable?channel=orders&durable=stays-orders",
    "/console/clients",
    "/console/client?id=stays-orders-1",
    "/console/takeovers",
    "/console/dead-letters",
    "/console/audit",
];

/// Before a stream that has ended is opened again, as a browser does it.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// Keeps one cookie, which all servers believe.
pub(crate) struct Browser {
    cookie: String,
    facts: Facts,
    /// By port.
    streams: BTreeMap<u16, JoinSet<()>>,
}

impl Browser {
    pub(crate) async fn log_in(port: u16, facts: &Facts) -> Self {
        let body = format!("name=&password={TOKEN}&next=%2Fconsole");
        let head = format!(
            "POST /console/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = timeout(LIMIT, answer(port, &head)).await.unwrap().unwrap();
        assert_eq!(status, 303, "{answer}");
        let cookie = answer
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        Self {
            cookie: cookie.unwrap().split(';').next().unwrap().to_owned(),
            facts: facts.clone(),
            streams: BTreeMap::new(),
        }
    }

    /// Opens the live figures of these servers, and forgets those of servers that have ended.
    pub(crate) fn keep_open(&mut self, ports: &[u16]) {
        self.streams.retain(|port, _| ports.contains(port));
        for &port in ports {
            let (cookie, facts) = (self.cookie.clone(), self.facts.clone());
            self.streams.entry(port).or_insert_with(|| {
                let mut stream = JoinSet::new();
                stream.spawn(stay(port, cookie, facts));
                stream
            });
        }
    }

    /// Loads every page of a server.
    pub(crate) async fn look(&self, port: u16) {
        for page in PAGES {
            let request = self.request(page);
            // Twice, as a reader would: a takeover may come between.
            let mut last = String::new();
            for _ in 0..2 {
                match timeout(LIMIT, answer(port, &request)).await {
                    Ok(Ok((200, text))) if text.ends_with("</html>") => {
                        self.facts.count(|counts| counts.pages += 1);
                        last.clear();
                        break;
                    }
                    Ok(Ok((status, _))) => last = format!("it was answered with {status}"),
                    Ok(Err(error)) => last = error.to_string(),
                    Err(_) => last = format!("no answer within {LIMIT:?}"),
                }
            }
            if !last.is_empty() {
                self.facts.wrong(format!("{page}: {last}"));
            }
        }
    }

    fn request(&self, page: &str) -> String {
        let cookie = &self.cookie;
        format!("GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n")
    }
}

async fn answer(port: u16, request: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.unwrap_or_default(), answer))
}

/// Reads the live figures for as long as the server serves them, and asks for them again.
async fn stay(port: u16, cookie: String, facts: Facts) {
    let request = format!("GET /console/live HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n");
    let mut again = tokio::time::interval(OPEN_AGAIN);
    loop {
        again.tick().await;
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
            && stream.write_all(request.as_bytes()).await.is_ok()
        {
            let mut piece = vec![0; 64 << 10];
            while let Ok(read) = stream.read(&mut piece).await
                && read > 0
            {
                let text = String::from_utf8_lossy(&piece[..read]);
                let events = text.matches("event: ").count();
                facts.count(|counts| counts.live_events += events as u64);
            }
        }
    }
}
