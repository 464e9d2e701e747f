//! Whether the process runs out of file descriptors: without one there is no connection to Postgres, NATS or the pages.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::status_publisher::StatusPublisher;
use crate::monitoring::condition::Condition;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// With fewer left, the next takeover or reconnect may lack one.
const FEW: u64 = 8;

/// Until the node stops. Where `/proc` does not tell, nothing is told.
pub(super) async fn watch(status: StatusPublisher, shutdown: CancellationToken) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        match short() {
            Some(why) => status.raise(Condition::DescriptorsFew, why),
            None => status.clear(Condition::DescriptorsFew),
        }
    }
}

fn short() -> Option<String> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let used = match std::fs::read_dir("/proc/self/fd") {
        // One of them is the directory being read.
        Ok(entries) => (entries.count() as u64).saturating_sub(1),
        Err(error) if error.raw_os_error() == Some(nix::libc::EMFILE) => limit,
        Err(_) => return None,
    };
    (used.saturating_add(FEW) > limit).then(|| {
        format!(
            "{used} of {limit} file descriptors are in use, and the next connection to Postgres, NATS or the pages may lack one: \
             raise the limit (LimitNOFILE in the systemd unit, ulimit -n, or ulimits of the container)"
        )
    })
}
