//! A node before its start, so that others can watch it from the first moment on.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::run::{new_server_id, run};
use super::status_publisher::StatusPublisher;
use crate::config::Config;
use crate::config::managed_nats::ManagedNats;
use crate::core::limits::Limits;
use crate::monitoring::status::Status;

#[derive(Debug)]
pub struct NewNode {
    pub(super) config: Config,
    pub(super) server_id: String,
    pub(super) status: StatusPublisher,
    pub(super) nats_reloads: Option<NatsReloads>,
}

/// What the nats-server that a server runs is to be configured with from now on. Told at each reload, changed or not: its files
/// may have changed.
pub type NatsReloads = watch::Receiver<Option<ManagedNats>>;

impl NewNode {
    /// Touches nothing outside of the process. Fails only where the system gives no random numbers.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let server_id = new_server_id()?;
        let status =
            StatusPublisher::new(config.cluster_id.clone(), server_id.clone(), &config.limits);
        Ok(Self {
            config,
            server_id,
            status,
            nats_reloads: None,
        })
    }

    /// A nats-server that the node runs follows these.
    #[must_use]
    pub fn with_nats_reloads(self, reloads: NatsReloads) -> Self {
        Self {
            nats_reloads: Some(reloads),
            ..self
        }
    }

    /// What the node says about itself, also after its end.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.watch()
    }

    /// Returns when `shutdown` was cancelled and everything is put away. An error means that the node could not
    /// start: a database or NATS that cannot work as configured, a port in use. One that is not there yet is waited for, and
    /// later trouble of any kind waited out, but for tables that another cluster's server was the first to use.
    ///
    /// What `limits` says of channels takes precedence over the configuration, as soon as it changes.
    pub async fn run(
        self,
        limits: watch::Receiver<Limits>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        Box::pin(run(self, limits, shutdown)).await
    }
}
