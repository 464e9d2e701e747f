//! Logging in and out.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, body::Bytes};
use maud::{Markup, html};
use tokio::task::spawn_blocking;

use super::form::Form;
use super::layout;
use super::password::Hashed;
use super::principal::{Principal, is_cross_site, key};
use super::query::{QueryParams, link};
use super::session::{Session, no_cookie};
use super::state::Inner;
use super::users::User;
use crate::clock::Clock;
use crate::http::api::Peer;
use crate::http::view::Source;

/// Longer ones are not looked at.
const PASSWORD_BYTES_MAX: usize = 1024;

pub(super) async fn form(
    State(source): State<Source>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    QueryParams(asked): QueryParams<BTreeMap<String, String>>,
) -> Response {
    let Some(console) = source.console.inner() else {
        return layout::off();
    };
    if let Err(answer) = key(console) {
        return answer;
    }
    let next = asked.get("next").map_or("", String::as_str);
    let body = page(console, is_readable(peer, &headers), next, "", None);
    layout::outside(StatusCode::OK, "Log in", &body)
}

fn page(console: &Inner, is_readable: bool, next: &str, name: &str, wrong: Option<&str>) -> Markup {
    html! {
        h1 { "Log in" }
        @if let Some(wrong) = wrong {
            p.bad role="alert" { (wrong) }
        }
        @if next.starts_with("/console/act/") && wrong.is_none() {
            p.warn { "You are not logged in any more, so nothing was done. The form that you sent is there again afterwards." }
        }
        form.card method="post" action=(link("/login", &[])) {
            input type="hidden" name="next" value=(next);
            @if console.users.has_names() {
                label for="name" { "Name" }
                input #name name="name" value=(name) autocomplete="username" required autofocus[name.is_empty()];
                label for="password" { "Password" }
                input #password name="password" type="password" autocomplete="current-password" required autofocus[!name.is_empty()];
            } @else {
                label for="password" { "Token of the API" }
                input #password name="password" type="password" autocomplete="current-password" required autofocus;
                p.note {
                    "The server reads it from the file that " code { "--api-token-file" } " names; " code { "stanby dev" } " prints it."
                }
            }
            button type="submit" { "Log in" }
        }
        @if is_readable {
            p.warn {
                "This page is not encrypted: others on the network can read what you type. Open it over HTTPS ("
                code { "--https-port" } "), or through a tunnel."
            }
        }
    }
}

pub(super) async fn log_in(
    State(source): State<Source>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(console) = source.console.inner() else {
        return layout::off();
    };
    let key = match key(console) {
        Ok(key) => key,
        Err(answer) => return answer,
    };
    let form = Form::of(&body);
    let (given, next) = (form.get("name").trim(), form.get("next"));
    let refused = |code, why: &str| {
        let body = page(console, is_readable(peer, &headers), next, given, Some(why));
        layout::outside(code, "Log in", &body)
    };
    if is_cross_site(&headers) {
        return refused(
            StatusCode::FORBIDDEN,
            "The form stood on another site. Log in here.",
        );
    }
    if let Some(left) = console.failures.banned(peer.address) {
        let seconds = left.as_secs() + 1;
        let why = format!(
            "Too many wrong passwords came from your address. Wait {seconds} seconds, and try again."
        );
        let mut answer = refused(StatusCode::TOO_MANY_REQUESTS, &why);
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
        return answer;
    }
    // Before it is looked at: whoever tries many at once gains nothing.
    console.failures.count(peer.address);
    let Ok(_turn) = console.verifying.acquire().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let name = console.users.only().unwrap_or(given);
    let user = match console.users.find(name).await {
        Ok(user) => user,
        Err(why) => return layout::nobody_can_log_in(&why),
    };
    let Some(user) = verified(user, form.get("password").to_owned()).await else {
        tracing::warn!(from = %peer.address, "a log-in to the console failed");
        let what = match console.users.only() {
            Some(_) => "The token",
            None => "Name or password",
        };
        let why =
            format!("{what} is wrong. Try again; after ten wrong ones you have to wait a minute.");
        return refused(StatusCode::UNAUTHORIZED, &why);
    };
    console.failures.forgive(peer.address);
    let session = Session::new(key, &user, Clock.now().wall);
    let cookie = session.and_then(|session| session.cookie(key, is_secure(peer, &headers)));
    let Some(cookie) = cookie else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    tracing::info!(user = user.name, from = %peer.address, "logged in to the console");
    let next = link(inside(next), &[]);
    ([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response()
}

/// Whether a name is known must not show in how long this takes.
async fn verified(user: Option<User>, password: String) -> Option<User> {
    if password.len() > PASSWORD_BYTES_MAX {
        return None;
    }
    let looked = spawn_blocking(move || match user {
        Some(user) => user.is(&password).then_some(user),
        None => Hashed::new(&password).and(None),
    });
    looked.await.ok().flatten()
}

/// A proxy before this server may be what the browser talks to. Whoever sends the header themselves gets a cookie that their
/// browser does not send back.
fn is_secure(peer: Peer, headers: &HeaderMap) -> bool {
    let proxy = headers.get("x-forwarded-proto");
    peer.is_secure
        || proxy.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Others on the way can read along.
fn is_readable(peer: Peer, headers: &HeaderMap) -> bool {
    !is_secure(peer, headers) && !peer.address.is_loopback()
}

/// Only pages of the console are gone to; what stands behind `/console` of the one that is meant.
fn inside(next: &str) -> &str {
    let is_ours =
        next == "/console" || next.starts_with("/console/") || next.starts_with("/console?");
    let is_clean = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_ours && is_clean && !next.starts_with("/console/login") {
        next.strip_prefix("/console").unwrap_or_default()
    } else {
        ""
    }
}

pub(super) async fn log_out(principal: Principal, headers: HeaderMap, body: Bytes) -> Response {
    let form = Form::of(&body);
    if let Err(answer) = principal.ensure_own_form(&headers, form.get("csrf")) {
        return answer;
    }
    let console = match principal.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    console.ended.add(&principal.session, Clock.now().wall);
    let gone = console.views.key();
    let is_secure = is_secure(principal.peer, &headers);
    let gone = gone.and_then(|key| no_cookie(key, is_secure));
    let gone = gone.unwrap_or(HeaderValue::from_static(""));
    let headers = [(header::SET_COOKIE, gone)];
    (headers, Redirect::to(&link("/login", &[]))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_logging_in_one_is_led_to_pages_of_the_console_and_nowhere_else() {
        for next in ["/console", "/console/channels?filter=a%20b", "/console?x"] {
            assert_eq!(link(inside(next), &[]), next);
        }
        for next in [
            "",
            "//evil.example",
            "https://evil.example/console",
            "/consoleevil",
            "/console/\\evil",
            "/console/a\r\nb",
            "/console/login",
            "/metrics",
        ] {
            assert_eq!(link(inside(next), &[]), "/console", "{next}");
        }
    }
}
