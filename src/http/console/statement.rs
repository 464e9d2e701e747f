//! The query behind figures of a page, to be copied.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::Response;
use maud::html;

use super::layout;
use super::principal::Principal;
use super::query::{Named, QueryParams};
use super::words::shown;
use crate::printable;
use crate::store::views::Statement;

pub(super) async fn page(
    user: Principal,
    Named(name): Named,
    QueryParams(given): QueryParams<BTreeMap<String, String>>,
) -> Response {
    let Some(statement) = Statement::find(&name) else {
        let why = format!("No figure is made by a query {name:?}.");
        let notice = (
            "There is no such query",
            why.as_str(),
            "docs/cookbook.md has queries for thirty questions.",
        );
        return layout::no_page(&user, StatusCode::NOT_FOUND, "", notice);
    };
    let text = statement.text(|name| given.get(name).cloned().unwrap_or_default());
    let body = html! {
        h1 { (statement.question) }
        p { "This query says it, or does it, for a role that may:" }
        pre #sql tabindex="0" { (printable::lines(&text)) }
        button type="button" data-copy="sql" hidden { "Copy" }
        p.note {
            "Run it with " code { "SET search_path = " (shown("stanby")) } ", or the schema that the server was given."
        }
    };
    layout::page(&user, statement.question, "", &body)
}
