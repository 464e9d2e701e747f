//! Runs a server until it is told to stop.

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Returns when `shutdown` has been requested and everything is put away, or when the start failed.
pub async fn run(_config: Config, _shutdown: CancellationToken) -> anyhow::Result<()> {
    anyhow::bail!("not wired yet")
}
