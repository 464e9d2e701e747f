//! A new term: the takeover that ships, answered at once from the store.

use std::time::Duration;

use stanby::core::commit_history::CommitHistory;
use stanby::core::guarded::Guarded;
use stanby::core::ids::Epoch;
use stanby::core::shadow::{Shadow, ShadowLimits};
use stanby::core::takeover::{Answer, Granted, Known, Step, Takeover};
use stanby::store::replay::digest;

use super::World;

/// How long standbys remember requests.
const MEMORY: Duration = Duration::from_secs(5);

/// What a standby remembers.
pub(super) fn shadow() -> Shadow {
    Shadow::new(Some(ShadowLimits {
        age: MEMORY,
        needed: MEMORY,
        bytes: usize::MAX,
    }))
}

impl World {
    pub(super) fn broker(&mut self) -> &mut Guarded {
        if self.broker.is_none() {
            // What is received is for the next term.
            self.begin_term(&mut shadow());
        }
        self.broker.as_mut().expect("a term has begun")
    }

    pub(super) fn take_over(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.committing = None;
        self.probes.clear();
        self.held_reads.clear();
        let mut shadow = std::mem::replace(&mut self.shadow, shadow());
        self.begin_term(&mut shadow);
    }

    fn begin_term(&mut self, shadow: &mut Shadow) {
        let mut history = CommitHistory::new(0);
        let (mut takeover, mut step) = Takeover::begin(Granted {
            epoch: self.epoch,
            last_epoch: Epoch(self.epoch.0 - 1),
            failed_over: false,
            with_savepoints: false,
            window: MEMORY,
            digester: digest,
        });
        let recovered = loop {
            let answer = match step {
                Step::Drain => Answer::Drained,
                Step::ReadTables => {
                    self.store.clock = self.elapsed;
                    Answer::Tables(Box::new(self.store.snapshot()))
                }
                Step::FindPublishes(wanted) => Answer::Publishes(self.store.stored(&wanted)),
                Step::FindClosed(inboxes) => {
                    Answer::Closed(self.store.closed_connections(inboxes.iter()))
                }
                Step::AskServers(_) => Answer::ServersAsked,
                Step::Restore(recovered) => break recovered,
            };
            let known = Known {
                shadow,
                history: &mut history,
                last_sign: None,
            };
            step = takeover.answer(answer, known);
        };
        let now = self.now();
        let mut restored = recovered.restore(self.settings.clone(), shadow, now);
        for (received_at, request) in restored.backlog {
            restored
                .broker
                .handle_late(request.into(), received_at, now);
        }
        self.broker = Some(restored.broker);
    }
}
