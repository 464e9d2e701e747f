//! Who listens on the port that a nats-server of our own is to have.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// For the first line of a NATS server that listens already.
const GREETING_LIMIT: Duration = Duration::from_millis(500);

/// A NATS server that ends closes what it has just accepted; one that stays waits for the client's part.
const STAYS: Duration = Duration::from_millis(100);

/// For the nats-server of a process that was killed a moment ago: it ends by itself.
const ENDING_LIMIT: Duration = Duration::from_secs(3);

const POLL: Duration = Duration::from_millis(20);

/// False when nothing listens there; an error when something else does.
pub(super) async fn is_nats_server(port: u16) -> anyhow::Result<bool> {
    if port == 0 {
        return Ok(false);
    }
    let until = Instant::now() + ENDING_LIMIT;
    loop {
        let connect = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let Ok(Ok(mut stream)) = timeout(GREETING_LIMIT, connect).await else {
            return Ok(false);
        };
        let mut greeting = [0; 5];
        match timeout(GREETING_LIMIT, stream.read_exact(&mut greeting)).await {
            Ok(Ok(_)) if &greeting == b"INFO " => {
                // One with all the connections that it takes closes further ones, too.
                if stays(&mut stream).await || Instant::now() >= until {
                    return Ok(true);
                }
            }
            Ok(Err(_)) if Instant::now() < until => {}
            Ok(_) | Err(_) => bail!(
                "port {port} is taken by something that is no NATS server: free it, choose another port for the nats-server \
                 (-p, or port in the file), or name a NATS server that runs with --nats-server"
            ),
        }
        sleep(POLL).await;
    }
}

async fn stays(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 4096];
    let read = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    timeout(STAYS, read).await.is_err()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_nats_server_that_ends_is_waited_for() {
        for greeting in ["", "INFO {}\r\n"] {
            let (listener, port) = listener().await;
            let (said, ()) = tokio::join!(is_nats_server(port), async move {
                for _ in 0..3 {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    stream.write_all(greeting.as_bytes()).await.unwrap();
                }
                drop(listener);
            });
            assert!(!said.unwrap(), "{greeting:?}");
        }
    }

    #[tokio::test]
    async fn a_nats_server_that_stays_is_told_from_anything_else() {
        for (greeting, is_one) in [("INFO {}\r\n", true), ("220 mail\r\n", false)] {
            let (listener, port) = listener().await;
            let (said, _) = tokio::join!(is_nats_server(port), async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting.as_bytes()).await.unwrap();
                stream.read(&mut [0]).await
            });
            assert_eq!(said.is_ok_and(|it| it), is_one, "{greeting}");
        }
    }
}
