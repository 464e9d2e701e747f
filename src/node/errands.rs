//! Reads on the leader session, when no other connection can be had or those lead elsewhere: slower, but to the one
//! Postgres that is certainly the right one.

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_postgres::Client;

use crate::leadership::Errands;
use crate::store::Error;

/// Reads on the leader session what could not be read otherwise. `before` is why.
pub(super) async fn read_on_session<T: Send + 'static>(
    errands: &Errands,
    before: Error,
    read: impl for<'c> FnOnce(&'c Client) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    if !is_of_the_way(&before) {
        return Err(before);
    }
    let (answer, answered) = oneshot::channel();
    errands
        .run(Box::new(move |client| {
            let reading = read(client);
            Box::pin(async move {
                // Whoever asked may have gone.
                answer.send(reading.await).ok();
            })
        }))
        .await;
    // Without an answer the term has ended.
    answered.await.unwrap_or(Err(before))
}

/// Whether another session may fare better.
fn is_of_the_way(error: &Error) -> bool {
    matches!(error, Error::Unavailable(_) | Error::Refused(_))
}
