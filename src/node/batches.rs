//! What the leader session does with a batch: the store's writer commits it, on that very session.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::Client;

use super::shared::RoleError;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::attempts::EndKind;
use crate::core::batch::Batch;
use crate::core::ids::Epoch;
use crate::core::refusal::Refusal;
use crate::core::time::Instant;
use crate::core::upload::UploadWindow;
use crate::leadership::{Apply, Term};
use crate::store::encryption::Sealer;
use crate::store::{self, LeftForLater, Writer};

pub(super) struct Batches {
    writer: Writer,
    upload: Upload,
    /// Bytes of the batch under way, when that is large.
    large: Option<usize>,
}

impl Batches {
    pub(super) async fn prepare(
        client: &Client,
        config: &Config,
        upload: Upload,
    ) -> Result<Self, RoleError> {
        upload.begin_term();
        let writer = Writer::prepare(client, &config.database_url).await?;
        Ok(Self {
            writer,
            upload,
            large: None,
        })
    }
}

impl Batches {
    /// See [`Writer::write_channels_later`].
    pub(super) fn write_channels_later(&mut self, left: LeftForLater) {
        self.writer.write_channels_later(left);
    }

    pub(super) fn seal_with(&mut self, sealer: Option<Sealer>) {
        self.writer.seal_with(sealer);
    }

    /// See [`Writer::verify_before_commit`].
    pub(super) fn verify_before_commit(&mut self) {
        self.writer.verify_before_commit();
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
        self.writer.apply(client, batch, epoch).await
    }

    async fn apply_in_pieces(
        &mut self,
        client: &Client,
        batch: &Batch,
        term: &Term,
    ) -> Result<(), store::Error> {
        let mut window = self.upload.window();
        self.large = window.is_large(batch.bytes).then_some(batch.bytes);
        let answered = |sent| {
            term.extend(sent, Clock.now().monotonic);
        };
        let applied = self
            .writer
            .apply_in_pieces(client, batch, term.epoch(), &mut window, &answered)
            .await;
        self.upload.set(window);
        if applied.is_ok() {
            self.large = None;
        }
        applied
    }

    fn catch_up_due(&self) -> Option<Instant> {
        self.writer.catch_up_due()
    }

    async fn catch_up(&mut self, client: &Client, epoch: Epoch) -> Result<(), store::Error> {
        self.writer.catch_up(client, epoch).await
    }

    fn lesson(&self) -> Option<String> {
        let bytes = self.large?;
        Some(format!(
            " of {} KiB (if the link to Postgres is slow: the next ones are smaller)",
            bytes.div_ceil(1024)
        ))
    }

    fn refusal(error: &store::Error) -> Option<(&Refusal, bool)> {
        match error {
            store::Error::NotStored {
                refusal,
                is_rolled_back,
            } => Some((refusal, *is_rolled_back)),
            store::Error::Unavailable(_)
            | store::Error::Refused(_)
            | store::Error::Pooler(_)
            | store::Error::OtherCluster(_)
            | store::Error::Key(_)
            | store::Error::Corrupt { .. }
            | store::Error::Failed(_) => None,
        }
    }

    fn kind(error: &store::Error) -> EndKind {
        error.kind()
    }
}

/// A term that ends while a large batch is on its way may have lost its lease to it.
impl Drop for Batches {
    fn drop(&mut self) {
        if self.large.is_some() {
            let mut window = self.upload.window();
            window.lost();
            self.upload.set(window);
        }
    }
}

/// What the link to Postgres carries, as the terms of this process have learned it; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Upload(Arc<Mutex<UploadWindow>>);

impl Upload {
    pub(super) fn new(window: UploadWindow) -> Self {
        Self(Arc::new(Mutex::new(window)))
    }

    /// As of now.
    pub(super) fn window(&self) -> UploadWindow {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, window: UploadWindow) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = window;
    }

    fn begin_term(&self) {
        self.set(self.window().of_next_term());
    }
}
