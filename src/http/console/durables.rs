//! All durables and queue groups, those that are furthest behind first.

use axum::response::Response;
use maud::html;

use super::list::{List, ListQuery};
use super::parts::durable_rows;
use super::principal::Principal;
use super::query::QueryParams;

const LIST: List = List {
    title: "Durables",
    path: "/durables",
    query: "durables",
    sorts: &["lag", "name", "channel"],
    search: "With this in one of the names",
    none: "No durable and no queue group has this in one of its names.",
    nothing: "There is no durable and no queue group: nothing waits for a client that is away.",
};

pub(super) async fn page(user: Principal, QueryParams(query): QueryParams<ListQuery>) -> Response {
    let part = LIST.part(&query);
    let read = user.read(async |store| store.durable_page(part).await);
    let read = read.await;
    let note = html! {
        p.note {
            "A queue group without a durable name ends with its last member. Lag: unacked messages, both in flight and not yet sent. Behind: the age of the oldest of them."
        }
    };
    LIST.page(&user, &query, read, durable_rows, &html! {}, &note)
}
