//! The paths of the console.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Redirect, Response};
use axum::routing::{any, get};

use super::principal::Principal;
use super::query::{behind_proxy, link};
use super::{
    assets, audit, channel, channels, client, clients, dead_letters, doctor, durable, durables,
    layout, live, login, message, messages, now, request, statement, takeovers, verbs,
};
use crate::http::view::Source;

/// The most bytes of a form.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Nothing from elsewhere, nothing inline, and no page of others around ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(in crate::http) fn router() -> Router<Source> {
    Router::new()
        .route("/console", get(now::page))
        .route(
            "/console/",
            any(async || Redirect::permanent(&link("", &[]))),
        )
        .route("/console/login", get(login::form).post(login::log_in))
        .route("/console/logout", axum::routing::post(login::log_out))
        .route("/console/channels", get(channels::page))
        .route("/console/channel", get(channel::page))
        .route("/console/durables", get(durables::page))
        .route("/console/durable", get(durable::page))
        .route("/console/clients", get(clients::page))
        .route("/console/client", get(client::page))
        .route("/console/messages", get(messages::page))
        .route("/console/message", get(message::page))
        .route("/console/act/{verb}", get(verbs::form).post(verbs::act))
        .route("/console/request", get(request::page))
        .route("/console/takeovers", get(takeovers::page))
        .route("/console/dead-letters", get(dead_letters::page))
        .route("/console/doctor", get(doctor::page))
        .route("/console/audit", get(audit::page))
        .route("/console/sql/{name}", get(statement::page))
        .route("/console/assets/{name}", get(assets::asset))
        .route("/console/{*path}", any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(headers))
}

/// What is not gathered before it is sent.
pub(in crate::http) fn streams() -> Router<Source> {
    Router::new()
        .route("/console/live", get(live::stream))
        .layer(from_fn(headers))
}

async fn unknown(user: Principal) -> Response {
    let notice = (
        "There is no such page",
        "",
        "The links above lead to all that there are.",
    );
    layout::no_page(&user, StatusCode::NOT_FOUND, "-", notice)
}

async fn wrong_method(user: Principal) -> Response {
    let notice = (
        "This page is not asked like that",
        "Pages are read with GET, and only forms are sent with POST. Nothing was done.",
        "Go to the page by its links.",
    );
    layout::no_page(&user, StatusCode::METHOD_NOT_ALLOWED, "-", notice)
}

async fn headers(request: axum::extract::Request, next: Next) -> Response {
    let request_headers = request.headers().clone();
    let mut response = behind_proxy(&request_headers, next.run(request)).await;
    let all = response.headers_mut();
    let constant = HeaderValue::from_static;
    all.insert(header::CONTENT_SECURITY_POLICY, constant(POLICY));
    all.insert(header::X_CONTENT_TYPE_OPTIONS, constant("nosniff"));
    all.insert(header::X_FRAME_OPTIONS, constant("DENY"));
    // A form's own origin has to be seen by the server.
    all.insert(header::REFERRER_POLICY, constant("same-origin"));
    all.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        constant("same-origin"),
    );
    all.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        constant("same-origin"),
    );
    all.entry(header::CACHE_CONTROL)
        .or_insert(constant("no-store"));
    response
}
