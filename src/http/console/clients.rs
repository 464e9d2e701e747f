//! Who is connected, those that do not answer first.

use axum::extract::Query;
use axum::response::Response;
use maud::html;

use super::layout;
use super::parts::{ListQuery, ROWS, badge, client_link, empty, sql};
use super::visitor::Visitor;
use super::words::time;

const SORTS: [&str; 3] = ["missed", "name", "subscriptions"];

pub(super) async fn page(visitor: Visitor, Query(query): Query<ListQuery>) -> Response {
    let console = match visitor.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let part = query.part(&SORTS);
    let read = console
        .looks
        .read(async |store| store.client_page(part).await);
    let clients = match read.await {
        Ok(clients) => clients,
        Err(why) => return layout::unread(&why),
    };
    let found = clients.len();
    let rows = clients.get(..found.min(ROWS)).unwrap_or_default();
    let body = html! {
        h1 { "Clients " (sql("clients", &[])) }
        (query.search("/clients", &SORTS, "With this in the client ID"))
        div #list {
            @if rows.is_empty() {
                (empty("No client is connected that has this in its ID."))
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Clients" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Client ID" }
                                th scope="col" { "Answers" }
                                th.n scope="col" { "Missed heartbeats" }
                                th.n scope="col" { "Subscriptions" }
                                th scope="col" { "Connected" }
                                th scope="col" { "Last heartbeat" }
                            }
                        }
                        tbody {
                            @for it in rows {
                                tr {
                                    th scope="row" { (client_link(&it.client_id)) }
                                    td { (badge(&it.status)) }
                                    td.n { (it.missed_heartbeats) }
                                    td.n { (it.subscriptions) }
                                    td { (time(it.connected_at.as_deref())) }
                                    td { (time(it.last_heartbeat_at.as_deref())) }
                                }
                            }
                        }
                    }
                }
            }
            (query.pager("/clients", found))
        }
    };
    layout::page(&visitor, "Clients", "/clients", &body)
}
