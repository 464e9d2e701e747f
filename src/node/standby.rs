//! The standby: waits in Postgres' queue for the lock, while NATS is healthy, and remembers what clients ask
//! meanwhile. It answers nobody.

use super::ears::{Ears, NATS_HEALTH_LIMIT};
use super::shared::{Node, Setback};
use crate::leadership::Candidate;

impl Node {
    /// Returns when the lock is won.
    pub(super) async fn stand_by(&self, ears: &mut Ears) -> Result<Candidate, Setback> {
        self.nats.flush(NATS_HEALTH_LIMIT).await?;
        let candidacy = async {
            let mut candidate = Candidate::open(&self.leadership, &self.tasks).await?;
            self.board.trouble(None);
            tracing::info!("standby: waiting for the lock");
            candidate.wait().await?;
            Ok(candidate)
        };
        ears.during(self, candidacy).await?
    }
}
