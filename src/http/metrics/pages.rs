//! The pages themselves: who is connected to them, and who was sent away.

use prometheus_client::registry::Registry;

use super::kinds::{counter, gauge};
use crate::http::view::Shared;

pub(super) fn register(registry: &mut Registry, shared: &Shared) {
    let visits = shared.admission.visits();
    let connections = "Connections to the pages";
    gauge(
        registry,
        "pages_connections",
        connections,
        visits.connections as u64,
    );
    let evicted = "Connections to the pages that were closed for newer ones";
    let starved =
        "Connections to the pages that came while the process had no file descriptor left";
    let slow =
        "Connections to the pages that were closed because they took too long to ask or to read";
    let refused =
        "Answers of the pages that were refused because too many large ones were under way";
    for (name, help, value) in [
        ("pages_evicted", evicted, visits.evicted),
        ("pages_slow", slow, visits.slow),
        ("pages_starved", starved, visits.starved),
        ("pages_refused", refused, shared.answer_budget.refused()),
    ] {
        counter(registry, name, help, value);
    }
}
