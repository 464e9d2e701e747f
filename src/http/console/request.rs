//! One request of an operator: what was asked for, by whom, what became of it, and how to take it back. Who has sent a form is
//! led here, so that loading the page again sends nothing again.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::audit::arguments;
use super::layout;
use super::parts::badge;
use super::principal::Principal;
use super::query::{QueryParams, link};
use super::undo::undo;
use super::users::Role;
use super::verbs::{capital, facts};
use super::words::{duration, or_dash, shown, time};
use crate::store::views::Asked;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    id: i64,
}

pub(super) async fn page(
    user: Principal,
    QueryParams(Wanted { id }): QueryParams<Wanted>,
) -> Response {
    let read = user.read(async |store| store.audit_of(id).await);
    let asked = match read.await {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            let why = format!("No request {id} is among the last 10,000.");
            let notice = (
                "There is no such request",
                why.as_str(),
                "Look for it in the audit.",
            );
            return layout::no_page(&user, StatusCode::NOT_FOUND, "/audit", notice);
        }
        Err(answer) => return answer,
    };
    let title = title(&asked);
    layout::page(&user, &title, "/audit", &body(&user, &asked, &title))
}

fn title(it: &Asked) -> String {
    let verb = shown(&it.verb);
    match it.state.as_str() {
        "done" if it.dry_run => format!("{}: what it would have done", capital(&verb)),
        "done" => format!("Done: {verb}"),
        "waiting" => format!("Not taken yet: {verb}"),
        "running" => format!("Under way: {verb}"),
        "refused" => format!("Refused: {verb}"),
        _ => format!("Nothing was done: {verb}"),
    }
}

fn body(user: &Principal, it: &Asked, title: &str) -> Markup {
    let is_open = matches!(it.state.as_str(), "waiting" | "running");
    let here = link("/request", &[("id", &it.id.to_string())]);
    html! {
        // Until there is something to tell.
        div #list hx-get=[is_open.then_some(here)] hx-trigger=[is_open.then_some("every 2s")] hx-select=[is_open.then_some("#list")]
            hx-swap=[is_open.then_some("outerHTML")] {
            h1 { (title) }
            @if it.state == "withdrawn" {
                p.bad { "No server took it in time. It is withdrawn, so nothing happens later." }
            }
            @if is_open { p { "It goes on without you; this page shows when it is done." } }
            @if let Some(error) = &it.error { p.bad { strong { (shown(error)) } ". " (or_dash(it.hint.as_deref())) } }
            @if let Some(result) = &it.result { (facts(result)) }
            @if it.state == "done" && !it.dry_run {
                @if let Some((text, link)) = undo(&it.verb, &it.arguments, it.result.as_ref()) {
                    p {
                        "To undo it: "
                        @match link.filter(|_| user.may(Role::Operator)) { Some(link) => a href=(link) { (text) }, None => (text) }
                    }
                }
            }
            p {
                @if let Some((link, name)) = back(&it.arguments) { a href=(link) { "Back to " (shown(&name)) } " · " }
                a href=(link("/audit", &[])) { "Request " (it.id) " in the audit" }
            }
            h2 { "What was asked for" }
            dl.facts {
                div { dt { "With" } dd.mono { (or_dash(Some(&arguments(it)))) } }
                div { dt { "By" } dd { (shown(&it.application)) } }
                div { dt { "In the database" } dd { "as " (shown(&it.role)) " from " (or_dash(it.client_address.as_deref())) } }
                div { dt { "At" } dd { (time(it.created_at.as_deref())) " UTC" } }
                div { dt { "State" } dd { (badge(&it.state)) @if let Some(took) = it.duration_seconds { " after " (duration(took)) } } }
            }
        }
    }
}

/// To the thing that it was about.
fn back(arguments: &Value) -> Option<(String, String)> {
    let text = |name: &str| arguments.get(name).and_then(Value::as_str);
    let group = text("queue_group").unwrap_or_default();
    if let (Some(channel), Some(durable)) = (text("channel"), text("durable")) {
        let client = text("client_id").unwrap_or_default();
        let given = [
            ("channel", channel),
            ("durable", durable),
            ("queue_group", group),
            ("client_id", client),
        ];
        let name = if durable.is_empty() { group } else { durable };
        return Some((link("/durable", &given), name.to_owned()));
    }
    if let Some(channel) = text("channel") {
        return Some((link("/channel", &[("name", channel)]), channel.to_owned()));
    }
    let client = text("client_id")?;
    Some((link("/client", &[("id", client)]), client.to_owned()))
}
