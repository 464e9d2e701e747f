//! What batches leave for later is written between two of them, also when no batch comes any more.

use std::time::Duration;

use tokio::time::timeout;

use super::leader::Apply;
use super::leader_task::Task;
use super::loss::Loss;
use crate::clock::Clock;

impl<A: Apply> Task<A> {
    /// `None` where nothing was left.
    pub(super) fn until_catch_up(&self) -> Option<Duration> {
        let due = self.apply.catch_up_due()?;
        Some(due.since(Clock.now().monotonic))
    }

    /// A refusal ends no term: nothing that anybody was told depends on it.
    pub(super) async fn catch_up(&mut self) -> Result<(), Loss> {
        let limit = self.settings.call_limit() * 2;
        let sent = Clock.now().monotonic;
        let (client, epoch) = (&self.session.client, self.term.epoch());
        let caught_up = timeout(limit, self.apply.catch_up(client, epoch)).await;
        match caught_up {
            Err(_) => return Err(Loss::CommitTooLong(limit)),
            Ok(Err(_)) if self.session.client.is_closed() => {
                self.session.closed().await;
                return Err(Loss::ClosedDuringRead(self.session.why_closed()));
            }
            Ok(Err(error)) if A::refusal(&error).is_none() => {
                return Err(Loss::commit(A::kind(&error), error));
            }
            Ok(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                if std::mem::replace(&mut self.is_behind, true) {
                    tracing::debug!(error, "rows of channels are still not written");
                } else {
                    tracing::warn!(
                        error,
                        "rows of channels cannot be written, and are tried again; view current_channels is exact meanwhile: look for \
                         locks, triggers, rules and constraints on table channels (stanby doctor names them)"
                    );
                }
            }
            Ok(Ok(())) => self.is_behind = false,
        }
        self.proved(sent);
        Ok(())
    }
}
