//! Reads on the leader session, when no other connection can be had or those lead elsewhere: slower, but to the one
//! Postgres that is certainly the right one.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_postgres::Client;

use crate::core::Event;
use crate::core::load::{Load, LoadQuery};
use crate::leadership::SessionReads;
use crate::store::{Error, Store};

/// The answer to a read that the broker asked for; on the leader session its statements take so long at most.
pub(super) async fn read_page(
    store: Store,
    session_reads: SessionReads,
    load: Load,
    limit: Duration,
) -> Event {
    let id = load.id;
    let loaded = match store.load(&load).await {
        Ok(result) => Ok(result),
        // It can wait, and commits and renewals would have to wait for it.
        Err(error)
            if matches!(
                load.query,
                LoadQuery::Outbox { .. } | LoadQuery::Requests { .. }
            ) =>
        {
            Err(error)
        }
        Err(error) => {
            read_on_session(&session_reads, error, move |client| {
                Box::pin(async move { store.load_on(client, &load, limit).await })
            })
            .await
        }
    };
    match loaded {
        Ok(result) => Event::Loaded { load: id, result },
        Err(error) => {
            // `read_watch` reports it when it lasts.
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "messages cannot be read; trying again");
            Event::LoadFailed(id)
        }
    }
}

/// Reads on the leader session what could not be read otherwise. `before` is why.
pub(super) async fn read_on_session<T: Send + 'static>(
    session_reads: &SessionReads,
    before: Error,
    read: impl for<'c> FnOnce(&'c Client) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    if !is_of_the_way(&before) {
        return Err(before);
    }
    let (answer, answered) = oneshot::channel();
    session_reads
        .run(Box::new(move |client| {
            let reading = read(client);
            Box::pin(async move {
                // The receiver may have gone.
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
