//! What a handler sees: the status and the time, both taken at the moment of the request.

use tokio::sync::watch;

use super::admission::Admission;
use super::answer_budget::AnswerBudget;
use super::api::Api;
use super::console::Console;
use crate::clock::Clock;
use crate::core::ids::Epoch;
use crate::core::time::Now;
use crate::monitoring::reports::Reports;
use crate::monitoring::status::{Role, Status};

/// Such a node serves nobody and does not wait for the lock either, which it may well hold still.
const SILENT: &str = "this server was the active, and Postgres has not answered it for a lease";

/// What all listeners of a node have together.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    pub(super) admission: Admission,
    pub(super) answer_budget: AnswerBudget,
}

#[derive(Clone, Debug)]
pub(super) struct Source {
    status: watch::Receiver<Status>,
    pub(super) reports: Reports,
    clock: Clock,
    pub(super) shared: Shared,
    pub(super) api: Api,
    pub(super) console: Console,
}

impl Source {
    pub(super) fn new(
        status: watch::Receiver<Status>,
        reports: Reports,
        clock: Clock,
        shared: Shared,
        (api, console): (Api, Console),
    ) -> Self {
        Self {
            status,
            reports,
            clock,
            shared,
            api,
            console,
        }
    }

    /// With the counters of this moment, which the active has to be asked for.
    pub(super) async fn fresh_view(&self) -> View {
        self.reports.refresh().await;
        self.view()
    }

    pub(super) fn view(&self) -> View {
        let mut status = self.status.borrow().clone();
        // After the status: a pause between the two can only make the node look less active than it was.
        let now = self.clock.now();
        let role = status.role_at(now.monotonic);
        if status.role == Role::Active && role == Role::Standby {
            status
                .unable_reason
                .get_or_insert_with(|| SILENT.to_owned());
        }
        if let Some(reason) = status.liveness.stalled(now.monotonic) {
            status.unable_reason = Some(reason);
        }
        View { role, status, now }
    }
}

pub(super) struct View {
    pub(super) role: Role,
    pub(super) status: Status,
    pub(super) now: Now,
}

impl View {
    pub(super) fn is_active(&self) -> bool {
        self.role == Role::Active
    }

    /// The epoch of the term that still holds.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.status.epoch.filter(|_| self.is_active())
    }

    /// In the words of NATS Streaming.
    pub(super) fn state(&self) -> &'static str {
        match self.role {
            Role::Active => "FT_ACTIVE",
            Role::Standby => "FT_STANDBY",
        }
    }

    pub(super) fn role_name(&self) -> &'static str {
        match self.role {
            Role::Active => "active",
            Role::Standby => "standby",
        }
    }
}
