//! All channels.

use axum::extract::Query;
use axum::response::Response;
use maud::html;

use super::layout;
use super::parts::{ListQuery, ROWS, channel_rows, empty, sql};
use super::verbs::action;
use super::visitor::Visitor;

const SORTS: [&str; 5] = ["name", "lag", "messages", "bytes", "published"];

pub(super) async fn page(visitor: Visitor, Query(query): Query<ListQuery>) -> Response {
    let console = match visitor.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let part = query.part(&SORTS);
    let read = console
        .looks
        .read(async |store| store.channel_page(part).await);
    let channels = match read.await {
        Ok(channels) => channels,
        Err(why) => return layout::unread(&why),
    };
    let found = channels.len();
    let rows = channels.get(..found.min(ROWS)).unwrap_or_default();
    let body = html! {
        h1 { "Channels " (sql("channels", &[])) }
        (query.search("/channels", &SORTS, "With this in the name"))
        ul.verbs { (action(&visitor, "channel create", "Create a channel…", &[])) }
        div #list {
            @if rows.is_empty() {
                (empty("No channel has this in its name."))
            } @else {
                (channel_rows(rows))
            }
            (query.pager("/channels", found))
        }
    };
    layout::page(&visitor, "Channels", "/channels", &body)
}
