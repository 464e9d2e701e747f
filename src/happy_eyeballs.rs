//! A server behind one of several addresses may hang, so that each is an attempt of its own, beside those before it (RFC 8305).

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::sleep;

/// When an attempt has not ended by then, the next one begins beside it.
const ATTEMPT_DELAY: Duration = Duration::from_millis(150);

/// The first success ends the other attempts.
///
/// # Errors
/// What each attempt came to, in the order in which they failed; nothing where there is none.
pub(crate) async fn first<T, E, F: Future<Output = Result<T, E>>>(
    attempts: Vec<F>,
) -> Result<T, Vec<E>> {
    let mut waiting = attempts.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    running.extend(waiting.next());
    loop {
        tokio::select! {
            done = running.next() => match done {
                Some(Ok(found)) => return Ok(found),
                Some(Err(failure)) => {
                    failures.push(failure);
                    running.extend(waiting.next());
                }
                None => return Err(failures),
            },
            () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => running.extend(waiting.next()),
        }
    }
}
