//! What the leader session does beside its commits, for those who have no other session to read with.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_postgres::Client;

/// Something short to be read on the leader session, between two commits. It bounds its statements itself, and ends the
/// transaction that it begins.
pub type SessionRead = Box<dyn for<'c> FnOnce(&'c Client) -> BoxFuture<'c, ()> + Send>;

/// Hands reads to the leader session, which takes them one at a time.
#[derive(Clone, Debug)]
pub struct SessionReads(mpsc::Sender<SessionRead>);

impl SessionReads {
    pub(super) fn new(sender: mpsc::Sender<SessionRead>) -> Self {
        Self(sender)
    }

    /// Waits until the session has taken it. A read that is dropped instead was not done: the term has ended.
    pub async fn run(&self, read: SessionRead) {
        // The receiver sees that the sender is gone.
        drop(self.0.send(read).await);
    }
}
