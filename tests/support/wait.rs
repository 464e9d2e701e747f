//! Waiting for a condition, with a limit.

use std::future::Future;
use std::time::Duration;

/// Polls `condition` until it holds; fails with what it last said.
pub(crate) async fn wait_until<T, F>(limit: Duration, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let mut last = String::from("never asked");
    let asking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            match condition().await {
                Ok(value) => return value,
                Err(reason) => last = reason,
            }
        }
    };
    let Ok(value) = tokio::time::timeout(limit, asking).await else {
        panic!("waited {limit:?} in vain: {last}");
    };
    value
}
