//! Who looks at a page. Whoever is not logged in is shown how to.
#![expect(
    clippy::result_large_err,
    reason = "a page in place of the one that was asked for, as axum has it"
)]

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use ring::hmac;

use super::layout;
use super::query::link;
use super::session::Session;
use super::state::Inner;
use super::users::Role;
use crate::clock::Clock;
use crate::core::time::Timestamp;
use crate::http::api::Peer;
use crate::http::view::Source;
use crate::monitoring::view_reader::Unread;
use crate::store::views::{Error, Store};

/// Somebody who is logged in.
#[derive(Debug)]
pub(super) struct Principal {
    pub(super) name: String,
    pub(super) role: Role,
    /// For each form that acts.
    pub(super) csrf: String,
    pub(super) peer: Peer,
    pub(super) session: Session,
    pub(super) source: Source,
}

impl Principal {
    pub(super) fn may(&self, role: Role) -> bool {
        self.role >= role
    }

    /// As the audit names it.
    pub(super) fn asks(&self) -> String {
        format!("console: {} from {}", self.name, self.peer.address)
    }

    pub(super) fn console(&self) -> Result<&Inner, Response> {
        self.source.console.inner().ok_or_else(layout::off)
    }

    /// What a page shows, read from the tables; where that cannot be, the page that says why and what to do.
    pub(super) async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&Store) -> Result<T, Error>,
    ) -> Result<T, Response> {
        let read = self.console()?.views.read(read).await;
        read.map_err(|why| layout::unread(&why))
    }

    /// Where a form that was sent is none of ours, the answer to it.
    pub(super) fn ensure_own_form(&self, headers: &HeaderMap, given: &str) -> Result<(), Response> {
        let key = self.console()?.views.key();
        let is_ours = key.is_some_and(|key| self.session.is_csrf(key, given));
        if is_ours && !is_cross_site(headers) {
            return Ok(());
        }
        Err(layout::plain(
            StatusCode::FORBIDDEN,
            "This form is too old",
            "It does not belong to what you are logged in to, and nothing was done.",
            "Go back, load the page again, and send the form again.",
        ))
    }
}

/// Browsers say where a form stands that they send.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// The key of the sessions; where there is none yet, what to answer.
pub(super) fn key(console: &Inner) -> Result<&hmac::Key, Response> {
    console
        .views
        .key()
        .ok_or_else(|| layout::unread(&Unread::Starting))
}

impl FromRequestParts<Source> for Principal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, source: &Source) -> Result<Self, Response> {
        let console = source.console.inner().ok_or_else(layout::off)?;
        let key = key(console)?;
        let peer = parts.extensions.get::<Peer>().copied();
        let peer = peer.ok_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
        let known = known(console, key, &parts.headers, Clock.now().wall).await?;
        let Some((session, role)) = known else {
            return Err(to_log_in(parts));
        };
        Ok(Self {
            name: session.name.clone(),
            role,
            csrf: session.csrf(key),
            peer,
            session,
            source: source.clone(),
        })
    }
}

/// Afterwards one is where one wanted to be.
fn to_log_in(parts: &Parts) -> Response {
    let here = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let login = link("/login", &[("next", here)]);
    // A script that loads a part of a page would put the form there, or nothing: the whole page goes.
    if parts.headers.contains_key("hx-request") {
        let whole = link("/login", &[("next", page_of(&parts.headers))]);
        return (StatusCode::UNAUTHORIZED, [("hx-redirect", whole)]).into_response();
    }
    Redirect::to(&login).into_response()
}

/// The page that a script runs in; empty: it does not say.
fn page_of(headers: &HeaderMap) -> &str {
    let whole = headers.get("hx-current-url");
    let whole = whole
        .and_then(|whole| whole.to_str().ok())
        .unwrap_or_default();
    whole
        .find("/console")
        .and_then(|at| whole.get(at..))
        .unwrap_or_default()
}

async fn known(
    console: &Inner,
    key: &hmac::Key,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Option<(Session, Role)>, Response> {
    let Some(session) = Session::of(key, headers) else {
        return Ok(None);
    };
    let user = console.users.find(&session.name).await;
    let user = user.map_err(|why| layout::nobody_can_log_in(&why))?;
    Ok(user
        .filter(|user| session.holds(key, user, &console.ended, now))
        .map(|user| (session, user.role)))
}
