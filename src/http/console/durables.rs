//! All durables, those that are furthest behind first.

use axum::extract::Query;
use axum::response::Response;
use maud::html;

use super::layout;
use super::parts::{ListQuery, ROWS, durable_rows, empty, sql};
use super::visitor::Visitor;

const SORTS: [&str; 3] = ["lag", "name", "channel"];

pub(super) async fn page(visitor: Visitor, Query(query): Query<ListQuery>) -> Response {
    let console = match visitor.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let part = query.part(&SORTS);
    let read = console
        .looks
        .read(async |store| store.durable_page(part).await);
    let durables = match read.await {
        Ok(durables) => durables,
        Err(why) => return layout::unread(&why),
    };
    let found = durables.len();
    let rows = durables.get(..found.min(ROWS)).unwrap_or_default();
    let body = html! {
        h1 { "Durables " (sql("durables", &[])) }
        (query.search("/durables", &SORTS, "With this in one of the names"))
        div #list {
            @if rows.is_empty() {
                (empty("No durable has this in one of its names."))
            } @else {
                (durable_rows(rows))
            }
            (query.pager("/durables", found))
        }
        p.note {
            "Lag: messages that are not acked, in flight or yet to be sent. Behind: the age of the oldest of them."
        }
    };
    layout::page(&visitor, "Durables", "/durables", &body)
}
