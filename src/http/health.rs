//! For probes and load balancers: alive, ready, active.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::format::{Callback, json, time};
use super::view::{Source, View};
use crate::monitoring::condition::{Condition, Raised};

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    kind: &'static str,
    reason: &'a str,
    since: String,
}

/// The process runs and makes progress. What a restart could not mend does not count against it.
pub(super) async fn alive(State(source): State<Source>) -> Response {
    let view = source.view();
    if view.status.liveness.is_lost(view.now.monotonic) {
        let reason = view.status.unable_reason.as_deref();
        return answer(StatusCode::SERVICE_UNAVAILABLE, &view, "stuck", reason);
    }
    answer(StatusCode::OK, &view, "ok", None)
}

/// An active serves or a standby can take over.
pub(super) async fn ready(State(source): State<Source>) -> Response {
    let view = source.view();
    match view.status.not_ready_reason() {
        None => answer(StatusCode::OK, &view, "ready", None),
        Some(reason) => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &view,
            "unavailable",
            Some(reason),
        ),
    }
}

/// Unlike `isFTActive`, says no with a code that every load balancer takes for a no.
pub(super) async fn active(State(source): State<Source>) -> Response {
    let view = source.view();
    if view.is_active() {
        answer(StatusCode::OK, &view, "active", None)
    } else {
        let reason = view.status.not_ready_reason();
        answer(StatusCode::SERVICE_UNAVAILABLE, &view, "not active", reason)
    }
}

pub(super) async fn is_ft_active(State(source): State<Source>) -> StatusCode {
    if source.view().is_active() {
        StatusCode::OK
    } else {
        StatusCode::NO_CONTENT
    }
}

fn answer(code: StatusCode, view: &View, status: &'static str, reason: Option<&str>) -> Response {
    let epoch = view.epoch().map(|epoch| epoch.0);
    json(
        code,
        &Health {
            status,
            role: view.role_name(),
            epoch,
            reason,
            conditions: view.status.conditions.iter().map(shown).collect(),
        },
        &Callback::default(),
    )
}

fn shown((condition, raised): (Condition, &Raised)) -> Shown<'_> {
    Shown {
        kind: condition.name(),
        reason: &raised.reason,
        since: time(raised.since),
    }
}
