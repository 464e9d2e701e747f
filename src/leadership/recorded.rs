//! The row of the term: whether it is as the takeover wrote it, because everybody who reads goes by it, and what is written there
//! when the term ends.

use super::cause::End;
use super::error::Error;
use super::leader::{Apply, RELEASE_LIMIT};
use super::leader_task::Task;
use super::loss::Loss;
use super::session::Session;
use super::statements::{RECORDED, RELEASE};
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

/// Records the end of a term and unlocks. `unlocks` is called between the two.
pub(super) async fn release(
    session: &Session,
    key: i64,
    epoch: Epoch,
    end: &End,
    unlocks: impl Fn(),
) -> Result<(), Error> {
    let client = &session.client;
    let epoch = epoch.0.cast_signed();
    let release = async {
        client
            .execute(RELEASE, &[&epoch, &end.cause, &end.detail])
            .await?;
        unlocks();
        client
            .query_one("SELECT pg_advisory_unlock($1)", &[&key])
            .await
    };
    session
        .call_within(RELEASE_LIMIT, "giving up the lock", release)
        .await
        .map(drop)
}
