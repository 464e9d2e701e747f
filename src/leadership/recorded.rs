//! Whether the row of the term is as the takeover wrote it: everybody who reads goes by it.

use super::leader::Apply;
use super::leader_task::Task;
use super::loss::Loss;
use super::statements::RECORDED;
use crate::core::ids::Epoch;

impl<A: Apply> Task<A> {
    /// What others read of this term is as it was written. The next term sets it right.
    pub(super) async fn ensure_recorded(&mut self) -> Result<(), Loss> {
        let read = self.session.client.query_typed_opt(RECORDED, &[]);
        let found = match self.session.call("reading the term", read).await {
            Ok(None) => "has no row".to_owned(),
            Ok(Some(row)) => {
                let (epoch, holder): (i64, Option<String>) = (row.get(0), row.get(1));
                let epoch = Epoch(epoch.cast_unsigned());
                if epoch == self.term.epoch() && holder.as_ref() == Some(&self.settings.server_id) {
                    return Ok(());
                }
                let holder =
                    holder.map_or_else(|| "nobody".to_owned(), |it| format!("server {it}"));
                format!("names term {epoch} of {holder}")
            }
            Err(_) if self.session.client.is_closed() => {
                return Err(Loss::ClosedDuringRead(self.session.why_closed()));
            }
            // Somebody may hold the table; that the lock is held is proved without it.
            Err(error) => {
                tracing::debug!(%error, "the term cannot be read back");
                return Ok(());
            }
        };
        let own = self.term.epoch();
        Err(Loss::Overwritten { own, found })
    }
}
