//! Who has changed what, and how to take it back.

use axum::response::Response;
use maud::{Markup, html};

use super::list::{List, ListQuery};
use super::parts::badge;
use super::principal::Principal;
use super::query::{QueryParams, link};
use super::undo::undo;
use super::users::Role;
use super::verbs::facts;
use super::words::{duration, or_dash, shown, time};
use crate::store::views::Asked;

const LIST: List = List {
    title: "Audit",
    path: "/audit",
    query: "audit",
    sorts: &["changes", "everything"],
    search: "With this in verb, arguments or asker",
    none: "Nothing like that was asked for.",
    nothing: "Nobody has asked for anything yet.",
};

pub(super) async fn page(user: Principal, QueryParams(query): QueryParams<ListQuery>) -> Response {
    let part = LIST.part(&query);
    let read = user.read(async |store| store.audit(part).await);
    let read = read.await;
    let note = html! {
        p.note {
            "What was asked for in SQL, on the command line, over HTTP and here; the last 10,000 requests are kept. "
            "“changes” leaves out those that only asked what a verb would do."
        }
    };
    let rows = |rows: &[Asked]| table(&user, rows);
    LIST.page(&user, &query, read, rows, &note, &html! {})
}

fn table(user: &Principal, rows: &[Asked]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Requests of operators" {
            table {
                thead {
                    tr {
                        th.n scope="col" { "Request" }
                        th scope="col" { "When" }
                        th scope="col" { "Verb" }
                        th scope="col" { "Who" }
                        th scope="col" { "State" }
                        th scope="col" { "What became of it" }
                    }
                }
                tbody {
                    @for it in rows {
                        tr {
                            th.n scope="row" { a href=(link("/request", &[("id", &it.id.to_string())])) { (it.id) } }
                            td { (time(it.created_at.as_deref())) }
                            td {
                                strong { (shown(&it.verb)) }
                                @if it.dry_run { " " (badge("preview")) }
                                div.mono { (shown(&arguments(it))) }
                            }
                            td {
                                (shown(&it.application))
                                div.note { "as " (shown(&it.role)) " from " (or_dash(it.client_address.as_deref())) }
                            }
                            td { (badge(&it.state)) @if let Some(took) = it.duration_seconds { " " (duration(took)) } }
                            td { (became(user, it)) }
                        }
                    }
                }
            }
        }
    }
}

/// By name, without those that say nothing.
pub(super) fn arguments(it: &Asked) -> String {
    let all = it.arguments.as_object().into_iter().flatten();
    let all = all.map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    });
    all.collect::<Vec<_>>().join(" ")
}

fn became(user: &Principal, it: &Asked) -> Markup {
    let way_back = (it.state == "done" && !it.dry_run)
        .then(|| undo(&it.verb, &it.arguments, it.result.as_ref()))
        .flatten();
    html! {
        @if let Some(error) = &it.error {
            p { (shown(error)) ". " (or_dash(it.hint.as_deref())) }
        }
        @if let Some(result) = &it.result {
            details { summary { "Result" } (facts(result)) }
        }
        @if let Some((text, link)) = way_back {
            p.note {
                "To undo it: "
                @match link.filter(|_| user.may(Role::Operator)) {
                    Some(link) => a href=(link) { (text) },
                    None => (text),
                }
            }
        }
    }
}
