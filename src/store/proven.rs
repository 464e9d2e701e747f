//! Reads that prove by themselves whose tables they see: in one message to Postgres where they can.

use std::time::Duration;

use tokio::time::timeout;

use super::error::{Error, Fault};
use super::fence::{Fence, WrongServer};
use super::pool::Store;
use super::pooled_connection::PooledConnection;
use super::source::Source;

/// Connections that one call tries when they lead elsewhere than to the primary: twice as many as the pool may hold.
pub(super) const ATTEMPTS_MAX: u32 = 8;

/// A read and its proof.
pub(super) trait ProvenRead: Sync {
    type Found: Send;

    /// What it is doing, for the error of one that takes too long.
    const WHAT: &'static str;

    /// Whether it begins a transaction. That it is ended is not its business.
    const BEGINS: bool;

    /// The inner error says what it sees instead.
    fn read(
        &self,
        source: &mut Source<'_>,
        fence: Fence,
    ) -> impl Future<Output = Result<Result<Self::Found, WrongServer>, Fault>> + Send;
}

impl Store {
    /// Tries one connection after the other until one leads to the right Postgres.
    pub(super) async fn proven<R: ProvenRead>(
        &self,
        read: R,
        limit: Duration,
    ) -> Result<R::Found, Error> {
        let fence = self.gate.fence();
        for _ in 0..ATTEMPTS_MAX {
            let pooled = self.checkout().await;
            let mut pooled = pooled.inspect_err(|error| self.gate.failed(error))?;
            pooled.in_transaction = R::BEGINS;
            let done = match timeout(limit, read.read(&mut pooled.source(), fence)).await {
                Ok(Ok(Err(wrong_server))) => {
                    self.leave(pooled, &wrong_server).await;
                    continue;
                }
                Ok(Ok(Ok(value))) => Ok(Ok(value)),
                Ok(Err(fault)) => Ok(Err(fault)),
                Err(elapsed) => Err(elapsed),
            };
            return pooled.end(done, R::WHAT);
        }
        Err(self.wrong_server()).inspect_err(|error| self.gate.failed(error))
    }

    /// A connection that leads elsewhere is closed, and where new ones lead is looked up again.
    pub(super) async fn leave(&self, mut pooled: PooledConnection<'_>, wrong_server: &WrongServer) {
        self.gate.note_wrong_server(&self.url, wrong_server);
        pooled.close();
        // Where that fails, so does the next attempt.
        self.find().await.ok();
    }
}
