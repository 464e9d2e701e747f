//! Visitors of the pages who take their time.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::stage::Stage;

const TRICKLING: u64 = 140;
const READING: u64 = 60;

const LIST: &[u8] = b"GET /streaming/channelsz?subs=1&limit=100000 HTTP/1.1\r\nHost: x\r\n\r\n";

pub(crate) async fn visitors(stage: &Arc<Stage>, scale: u64) -> JoinSet<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, stage.http_port()));
    let mut tasks = JoinSet::new();
    for _ in 0..TRICKLING {
        let stream = TcpStream::connect(address).await.unwrap();
        tasks.spawn(trickle(stream, address));
    }
    for _ in 0..READING / scale.min(4) {
        tasks.spawn(ask_and_read_nothing(address));
    }
    tasks
}

async fn trickle(mut stream: TcpStream, address: SocketAddr) {
    let mut pace = interval(Duration::from_secs(1));
    let mut begun = false;
    loop {
        let bytes: &[u8] = if begun {
            b"x"
        } else {
            b"GET / HTTP/1.1\r\nX: "
        };
        begun = true;
        if stream.write_all(bytes).await.is_err() {
            let Ok(next) = TcpStream::connect(address).await else {
                return;
            };
            (stream, begun) = (next, false);
        }
        pace.tick().await;
    }
}

async fn ask_and_read_nothing(address: SocketAddr) {
    let mut pace = interval(Duration::from_secs(1));
    while let Ok(mut stream) = TcpStream::connect(address).await {
        stream.write_all(LIST).await.ok();
        // Until it is sent away.
        while stream.write_all(b" ").await.is_ok() {
            pace.tick().await;
        }
    }
}
