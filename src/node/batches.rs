//! What the leader session does with a batch: the store's writer commits it, on that very session.

use tokio_postgres::Client;

use super::shared::Setback;
use crate::config::Config;
use crate::core::batch::Batch;
use crate::core::ids::Epoch;
use crate::core::refusal::Refusal;
use crate::leadership::Apply;
use crate::store::encryption::Sealer;
use crate::store::{self, Writer};

pub(super) struct Batches {
    writer: Writer,
    #[cfg(feature = "known-bad")]
    mistaken: super::mistaken::Mistaken,
}

impl Batches {
    pub(super) async fn prepare(client: &Client, config: &Config) -> Result<Self, Setback> {
        Ok(Self {
            writer: Writer::prepare(client, &config.database_url).await?,
            #[cfg(feature = "known-bad")]
            mistaken: super::mistaken::Mistaken::prepare(config).await?,
        })
    }
}

impl Batches {
    pub(super) fn seal_with(&mut self, sealer: Option<Sealer>) {
        self.writer.seal_with(sealer);
    }

    /// See [`Writer::take_care`].
    pub(super) fn take_care(&mut self) {
        self.writer.take_care();
    }
}

impl Apply for Batches {
    type Batch = Batch;
    type Error = store::Error;

    async fn apply(
        &mut self,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
    ) -> Result<(), store::Error> {
        #[cfg(feature = "known-bad")]
        if let Some(done) = self
            .mistaken
            .apply(&self.writer, client, batch, epoch)
            .await
        {
            return done;
        }
        self.writer.apply(client, batch, epoch).await
    }

    fn refusal(error: &store::Error) -> Option<(&Refusal, bool)> {
        match error {
            store::Error::NotStored {
                refusal,
                is_rolled_back,
            } => Some((refusal, *is_rolled_back)),
            store::Error::Unavailable(_)
            | store::Error::Refused(_)
            | store::Error::OtherCluster(_)
            | store::Error::Key(_)
            | store::Error::Corrupt { .. }
            | store::Error::Failed(_) => None,
        }
    }
}
