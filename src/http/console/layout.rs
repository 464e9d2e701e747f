//! The frame around each page, and pages that say why there is no other.

use std::sync::PoisonError;

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::principal::Principal;
use super::query::link;
use super::words::shown;
use crate::monitoring::view_reader::Unread;

/// Path and name of each page that is not about one thing.
const PAGES: &[(&str, &str)] = &[
    ("", "Now"),
    ("/channels", "Channels"),
    ("/durables", "Durables"),
    ("/clients", "Clients"),
    ("/takeovers", "Takeovers"),
    ("/dead-letters", "Dead letters"),
    ("/doctor", "Doctor"),
    ("/audit", "Audit"),
];

/// `here` is the path of the page that it belongs to.
pub(super) fn page(principal: &Principal, title: &str, here: &str, body: &Markup) -> Response {
    let view = principal.source.view();
    let others = principal.source.console.inner().map(|console| {
        let others = console
            .others
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        others.clone()
    });
    let others = others.unwrap_or_default();
    let top = html! {
        header.top {
            a.brand href=(link("", &[])) { "stanby" }
            span.cluster title="Cluster ID" { (shown(&view.status.cluster_id)) }
            span #role.role.(view.role_name()) title="What this server is" { (view.role_name()) }
            nav aria-label="Pages" {
                @for (path, name) in PAGES {
                    a href=(link(path, &[])) aria-current=[(*path == here).then_some("page")] { (name) }
                }
            }
            form.who method="post" action=(link("/logout", &[])) {
                input type="hidden" name="csrf" value=(principal.csrf);
                span { (principal.name) " (" (principal.role.name()) ")" }
                button.quiet type="submit" { "Log out" }
            }
        }
        div #lost.lost role="alert" hidden {
            strong { "This server does not answer." }
            " What you see is old. "
            @if others.is_empty() {
                "Open the console of the other server of the pair."
            } @else {
                "Go on at "
                @for (index, (host, link)) in others.iter().enumerate() {
                    @if index > 0 { " or " }
                    a href=(link) { (shown(host)) " (" (shown(link)) ")" }
                }
                "."
            }
        }
    };
    Html(document(title, &top, body).into_string()).into_response()
}

/// For who is not logged in.
pub(super) fn outside(code: StatusCode, title: &str, body: &Markup) -> Response {
    let top = html! {
        header.top { a.brand href=(link("", &[])) { "stanby" } }
    };
    (code, Html(document(title, &top, body).into_string())).into_response()
}

fn document(title: &str, top: &Markup, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=r#"{"includeIndicatorStyles":false,"allowEval":false,"selfRequestsOnly":true,"historyCacheSize":0}"#;
                title { (shown(title)) " – stanby" }
                @let asset = |name| link(&format!("/assets/{name}"), &[]);
                link rel="icon" href=(asset("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(asset("uPlot.min.css"));
                link rel="stylesheet" href=(asset("console.css"));
                script src=(asset("htmx.min.js")) defer {}
                script src=(asset("uPlot.iife.min.js")) defer {}
                script src=(asset("console.js")) defer data-live-at=(link("/live", &[])) {}
            }
            body {
                a.skip href="#main" { "Skip to the page" }
                (top)
                main #main tabindex="-1" { (body) }
                footer.note { "Times are UTC." }
            }
        }
    }
}

/// What is wrong, why, and what to do.
pub(super) fn plain(code: StatusCode, what: &str, why: &str, remedy: &str) -> Response {
    let body = html! {
        h1 { (what) }
        p { (shown(why)) }
        p { (remedy) }
        p { a href=(link("", &[])) { "Now" } }
    };
    outside(code, what, &body)
}

/// The same for who is logged in, with the way to all pages; `here` is the one to go on at.
pub(super) fn no_page(
    principal: &Principal,
    code: StatusCode,
    here: &str,
    (what, why, remedy): (&str, &str, &str),
) -> Response {
    let list = PAGES.iter().find(|(path, _)| *path == here);
    let body = html! {
        h1 { (what) }
        p { (shown(why)) }
        p { (remedy) }
        @if let Some((path, name)) = list { p { a href=(link(path, &[])) { (name) } } }
    };
    let mut answer = page(principal, what, here, &body);
    *answer.status_mut() = code;
    answer
}

pub(super) fn off() -> Response {
    let body = html! {
        h1 { "The console is off" }
        p { "No one may log in yet. Start the server with one of these:" }
        ul {
            li {
                code { "--console-users FILE" } " (" code { "STANBY_CONSOLE_USERS" } "): who may log in, with a line each that "
                code { "stanby console-user NAME --role operator" } " prints."
            }
            li {
                code { "--api-token-file FILE" } " (" code { "STANBY_API_TOKEN_FILE" } "): everybody who has the token of the API."
            }
        }
    };
    outside(StatusCode::NOT_FOUND, "The console is off", &body)
}

pub(super) fn nobody_can_log_in(why: &str) -> Response {
    plain(
        StatusCode::SERVICE_UNAVAILABLE,
        "Nobody can log in",
        why,
        "Fix the file; it is read again for each request.",
    )
}

pub(super) fn unread(why: &Unread) -> Response {
    let (what, remedy) = match why {
        Unread::Starting => (
            "The server is starting",
            "Load the page again in a moment. /readyz says what it waits for.",
        ),
        Unread::Busy => (
            "Too many pages are being loaded",
            "Load the page again in a moment, or use the console of the other server.",
        ),
        Unread::Tables(_) => (
            "The tables cannot be read",
            "Check the database. /readyz says how this server is without it.",
        ),
    };
    plain(
        StatusCode::SERVICE_UNAVAILABLE,
        what,
        &why.to_string(),
        remedy,
    )
}
