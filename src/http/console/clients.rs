//! Who is connected, those that do not answer first.

use axum::response::Response;
use maud::{Markup, html};

use super::list::{List, ListQuery};
use super::parts::{badge, client_link, table};
use super::principal::Principal;
use super::query::QueryParams;
use super::words::time;
use crate::store::views::Client;

const LIST: List = List {
    title: "Clients",
    path: "/clients",
    query: "clients",
    sorts: &["missed", "name", "subscriptions"],
    search: "With this in the client ID",
    none: "No client is connected that has this in its ID.",
    nothing: "No client is connected.",
};

pub(super) async fn page(user: Principal, QueryParams(query): QueryParams<ListQuery>) -> Response {
    let part = LIST.part(&query);
    let read = user.read(async |store| store.client_page(part).await);
    let read = read.await;
    LIST.page(&user, &query, read, rows, &html! {}, &html! {})
}

fn rows(clients: &[Client]) -> Markup {
    const COLUMNS: [&str; 6] = [
        "Client ID",
        "Answers",
        "#Missed heartbeats",
        "#Subscriptions",
        "Connected",
        "Last heartbeat",
    ];
    let rows = html! {
        @for it in clients {
            tr {
                th scope="row" { (client_link(&it.client_id)) }
                td { (badge(&it.status)) }
                td.n { (it.missed_heartbeats) }
                td.n { (it.subscriptions) }
                td { (time(it.connected_at.as_deref())) }
                td { (time(it.last_heartbeat_at.as_deref())) }
            }
        }
    };
    table(LIST.title, &COLUMNS, &rows)
}
