//! A name may lead to several addresses, and a server behind one of them may hang: each address is an attempt of its own, beside
//! those before it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::sleep;

/// When an address has not answered by then, the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(150);

/// The first success ends the other attempts. Otherwise the addresses that were tried, each with its failure.
pub(super) async fn first<T, E, F: Future<Output = Result<T, E>>>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<(SocketAddr, E)>> {
    let start = |address: SocketAddr| {
        let attempt = attempt(address);
        async move { attempt.await.map_err(|failure| (address, failure)) }
    };
    let mut waiting = addresses.iter().copied();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    running.extend(waiting.next().map(start));
    loop {
        tokio::select! {
            done = running.next() => match done {
                Some(Ok(found)) => return Ok(found),
                Some(Err(failure)) => {
                    failures.push(failure);
                    running.extend(waiting.next().map(start));
                }
                None => return Err(failures),
            },
            () = sleep(HEAD_START), if waiting.len() > 0 => running.extend(waiting.next().map(start)),
        }
    }
}
