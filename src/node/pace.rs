//! Loops that may never have to wait, because requests come without end: what runs beside them in the same task has its turn all
//! the same. Whoever handles signals does.

use std::time::Duration;

use crate::clock::Clock;
use crate::core::time::Instant;

/// The others wait no longer than this and a turn.
const AT_ONCE: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Option<Instant>,
}

impl Pace {
    /// To be called once a turn. Waits for nothing.
    pub(super) async fn give_way(&mut self) {
        let now = Clock.now().monotonic;
        let since = *self.since.get_or_insert(now);
        if now.since(since) >= AT_ONCE {
            tokio::task::yield_now().await;
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_beside_a_loop_that_never_waits_has_its_turn() {
        let endless = async {
            let mut pace = Pace::default();
            loop {
                pace.give_way().await;
            }
        };
        let beside = tokio::task::yield_now();
        tokio::select! {
            biased;
            () = endless => {}
            () = beside => {}
        }
    }
}
