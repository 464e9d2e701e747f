//! The style sheet and the scripts, as they are in the program.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

use super::query::Named;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Name, type and text of each.
const ALL: &[(&str, &str, &[u8])] = &[
    ("console.css", STYLE, include_bytes!("assets/console.css")),
    ("console.js", SCRIPT, include_bytes!("assets/console.js")),
    (
        "htmx.min.js",
        SCRIPT,
        include_bytes!("assets/vendored/htmx.min.js"),
    ),
    (
        "uPlot.iife.min.js",
        SCRIPT,
        include_bytes!("assets/vendored/uPlot.iife.min.js"),
    ),
    (
        "uPlot.min.css",
        STYLE,
        include_bytes!("assets/vendored/uPlot.min.css"),
    ),
    (
        "icon.svg",
        "image/svg+xml",
        include_bytes!("assets/icon.svg"),
    ),
];

/// Nothing in them is secret. A browser keeps them, and asks whether they are still the same: after an upgrade they are not.
pub(super) async fn asset(Named(name): Named, headers: HeaderMap) -> Response {
    let found = ALL.iter().find(|(known, ..)| *known == name);
    let Some((_, kind, text)) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mark = digest(&SHA256, text);
    let mark = mark.as_ref().get(..8).unwrap_or_default();
    let tag = format!("\"{}\"", HEXLOWER.encode(mark));
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let response_headers = [
        (header::CONTENT_TYPE, (*kind).to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, response_headers).into_response();
    }
    (response_headers, *text).into_response()
}
