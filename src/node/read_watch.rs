//! Tells when reading goes wrong: connections that lead elsewhere than to the primary, none at all, or reads for one
//! purpose that fail each time.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::status_publisher::StatusPublisher;
use crate::monitoring::condition::Condition;
use crate::store::{Reads, Store};

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks between two tries whether reading goes again.
const TRY_EVERY: u32 = 8;

/// Reads that fail for longer than a hiccup lasts.
const PATIENCE: Duration = Duration::from_secs(3);

/// Until the node stops.
pub(super) async fn watch(store: Store, status: StatusPublisher, shutdown: CancellationToken) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0_u32;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        turn = turn.wrapping_add(1);
        if turn.is_multiple_of(TRY_EVERY) {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = store.try_reading() => {}
            }
        }
        let reads = store.reads();
        report(&status, &reads);
        status.reads(reads.wrong_server_total, reads.failed_total);
    }
}

fn report(status: &StatusPublisher, reads: &Reads) {
    match &reads.wrong_server {
        Some(sentence) => status.raise(Condition::ReadsAstray, sentence.as_str()),
        None => status.clear(Condition::ReadsAstray),
    }
    let patience = |lasting: &Duration| *lasting >= PATIENCE;
    match (&reads.failing, &reads.failing_for) {
        (Some((lasting, why)), _) if patience(lasting) => status.raise(
            Condition::ReadsFail,
            format!(
                "the tables cannot be read with connections of their own, and an active reads in small pieces on the one \
                 that it commits on: {why}"
            ),
        ),
        (_, Some((what, lasting, why))) if patience(lasting) => status.raise(
            Condition::ReadsFail,
            format!("{what} fails each time, and other reads go: {why}"),
        ),
        (None, None) => status.clear(Condition::ReadsFail),
        _ => {}
    }
}
