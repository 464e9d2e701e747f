//! What operators change: each verb of `/api/v1` as a form, with a look at what it would do before it is done. The forms are
//! made of the same table as the paths of the API, and what they ask for goes the same way.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::form::Form;
use super::layout;
use super::query::link;
use super::undo::undo;
use super::users::Role;
use super::visitor::Visitor;
use super::words::{grouped, shown};
use crate::administration::{Answer, Request, Trouble};
use crate::core::admin::Complaint;
use crate::http::api::routes::{Kind, ROUTES, Route};

/// One of a form.
struct Field {
    name: &'static str,
    kind: Kind,
    description: &'static str,
    is_needed: bool,
}

/// `channel purge` as `channel-purge`, for addresses.
pub(super) fn slug(verb: &str) -> String {
    verb.replace(' ', "-")
}

fn find(slug_asked: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| slug(route.verb) == slug_asked)
}

/// What the path names comes first, and has to be there.
fn fields(route: &'static Route) -> Vec<Field> {
    let named = route.path.split(['{', '}']).skip(1).step_by(2);
    let named = named.map(|name| Field {
        name,
        kind: Kind::Text,
        description: "",
        is_needed: true,
    });
    let more = route.takes.iter().map(|it| Field {
        name: it.name,
        kind: it.kind,
        description: it.description,
        is_needed: false,
    });
    named.chain(more).collect()
}

/// What cannot be taken back.
fn destroys(verb: &str) -> bool {
    ["purge", "delete", "remove", "skip", "ack", "kick"]
        .iter()
        .any(|word| verb.ends_with(word))
}

/// A link to the form of a verb, filled in as far as is known. Nothing for who may not change things.
pub(super) fn action(visitor: &Visitor, verb: &str, text: &str, given: &[(&str, &str)]) -> Markup {
    html! {
        @if visitor.may(Role::Operator) {
            li { a.button.quiet href=(link(&format!("/act/{}", slug(verb)), given)) { (text) } }
        }
    }
}

fn refuse(visitor: &Visitor) -> Option<Response> {
    (!visitor.may(Role::Operator)).then(|| {
        layout::plain(
            StatusCode::FORBIDDEN,
            "You may look, but change nothing",
            &format!("Your role is {}.", visitor.role.name()),
            "Ask an operator, or have the role operator given to you in the file of users.",
        )
    })
}

fn no_such() -> Response {
    layout::plain(
        StatusCode::NOT_FOUND,
        "There is no such verb",
        "Nothing was done.",
        "docs/administration.md lists what can be done.",
    )
}

pub(super) async fn form(
    visitor: Visitor,
    Path(name): Path<String>,
    Query(given): Query<BTreeMap<String, String>>,
) -> Response {
    if let Some(refused) = refuse(&visitor) {
        return refused;
    }
    let Some(route) = find(&name) else {
        return no_such();
    };
    let value = |name: &str| given.get(name).cloned().unwrap_or_default();
    let body = html! {
        h1 { (capital(route.verb)) }
        (asked(&visitor, route, &value, None))
    };
    layout::page(&visitor, route.verb, "", &body)
}

/// The form itself, with what was wrong with it before.
fn asked(
    visitor: &Visitor,
    route: &'static Route,
    value: &dyn Fn(&str) -> String,
    wrong: Option<&Complaint>,
) -> Markup {
    html! {
        p { (route.summary) "." }
        @if let Some(Complaint { error, hint }) = wrong {
            p.bad role="alert" { strong { (shown(error)) } ". " (shown(hint)) }
        }
        form.verb method="post" action=(format!("/console/act/{}", slug(route.verb))) {
            input type="hidden" name="csrf" value=(visitor.csrf);
            input type="hidden" name="step" value="preview";
            @for field in fields(route) {
                @let id = format!("field-{}", field.name);
                @let told = format!("{id}-told");
                @let label = field.name.replace('_', " ");
                @if field.kind == Kind::Flag {
                    div {
                        input type="checkbox" name=(field.name) id=(id) value="true" checked[value(field.name) == "true"]
                            aria-describedby=(told);
                        " " label for=(id) { (label) } " " span.note id=(told) { (field.description) }
                    }
                } @else {
                    label for=(id) { (label) }
                    input type=(if field.kind == Kind::Number { "number" } else { "text" }) name=(field.name) id=(id)
                        value=(value(field.name)) required[field.is_needed] min=[(field.kind == Kind::Number).then_some("0")]
                        aria-describedby=[(!field.description.is_empty()).then_some(&told)] autocomplete="off";
                    @if !field.description.is_empty() { span.note id=(told) { (field.description) } }
                }
            }
            button type="submit" { "See what it would do" }
        }
    }
}

pub(super) async fn act(
    visitor: Visitor,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refused) = refuse(&visitor) {
        return refused;
    }
    let sent = Form::of(&body);
    if let Err(answer) = visitor.ensure_own_form(&headers, sent.get("csrf")) {
        return answer;
    }
    let Some(route) = find(&name) else {
        return no_such();
    };
    let is_preview = sent.get("step") != "do";
    let value = |name: &str| sent.get(name).to_owned();
    let request = Request {
        verb: route.verb.to_owned(),
        arguments: Value::Object(arguments(route, &sent)),
        dry_run: is_preview,
        asked_by: Some(visitor.asks()),
    };
    let carried_out = visitor.source.api.desk().carry_out(&request).await;
    // Who goes to the first page next sees what they have done.
    if let Some(console) = visitor.source.console.inner() {
        *console.now.lock().await = None;
    }
    let body = match carried_out {
        Ok(answer) if is_preview => preview(&visitor, route, &sent, &answer),
        Ok(answer) => done(route, &request.arguments, &answer),
        Err(Trouble::Refused(complaint)) => html! {
            h1 { (capital(route.verb)) }
            (asked(&visitor, route, &value, Some(&complaint)))
        },
        Err(Trouble::Running(id)) => html! {
            h1 { "It is under way" }
            p { "Request " (id) " takes long, and goes on without you." }
            p { a href="/console/audit" { "The audit" } " shows when it is done." }
        },
        Err(trouble) => html! {
            h1 { "Nothing was done" }
            p.bad role="alert" { (why_not(&trouble)) }
            (asked(&visitor, route, &value, None))
        },
    };
    layout::page(&visitor, route.verb, "", &body)
}

fn why_not(trouble: &Trouble) -> String {
    match trouble {
        Trouble::NotTaken => {
            "No server took the request in time. It is withdrawn, so nothing happens later. Check on the page Now whether a \
             server is active, and try again."
                .to_owned()
        }
        Trouble::Starting => "The server is starting. Try again in a moment.".to_owned(),
        Trouble::Busy => {
            "Too many requests are under way at this server. Try again when others are done.".to_owned()
        }
        Trouble::Tables(error) => format!("The tables cannot be read: {}. Check the database, and try again.", shown(&error.to_string())),
        Trouble::Refused(Complaint { error, hint }) => format!("{}. {}", shown(error), shown(hint)),
        Trouble::Running(id) => format!("Request {id} is under way."),
    }
}

/// As texts, which the verb reads as it reads them from the command line.
fn arguments(route: &'static Route, sent: &Form) -> Map<String, Value> {
    let mut arguments = Map::new();
    for field in fields(route) {
        let text = sent.get(field.name);
        let value = match field.kind {
            Kind::Flag if text == "true" => Value::Bool(true),
            Kind::Flag => continue,
            Kind::Number | Kind::Text | Kind::Time if text.is_empty() => continue,
            Kind::Number | Kind::Time => Value::String(text.trim().to_owned()),
            Kind::Text => Value::String(text.to_owned()),
        };
        arguments.insert(field.name.to_owned(), value);
    }
    arguments
}

fn preview(visitor: &Visitor, route: &'static Route, sent: &Form, answer: &Answer) -> Markup {
    let button = if destroys(route.verb) {
        "danger"
    } else {
        "plain"
    };
    html! {
        h1 { (capital(route.verb)) ": what it would do" }
        (facts(&answer.result))
        @if destroys(route.verb) { p.warn { "This cannot be taken back." } }
        form.verb method="post" action=(format!("/console/act/{}", slug(route.verb))) {
            input type="hidden" name="csrf" value=(visitor.csrf);
            input type="hidden" name="step" value="do";
            @for field in fields(route) {
                @if !sent.get(field.name).is_empty() {
                    input type="hidden" name=(field.name) value=(sent.get(field.name));
                }
            }
            button.(button) type="submit" { "Do it" }
        }
        p.note { "Nothing has been done so far. Between now and then the figures may change." }
        details {
            summary { "Change it first" }
            (asked(visitor, route, &|name| sent.get(name).to_owned(), None))
        }
    }
}

fn done(route: &Route, arguments: &Value, answer: &Answer) -> Markup {
    let back = back(arguments);
    html! {
        h1 { "Done: " (route.verb) }
        (facts(&answer.result))
        @if let Some((text, link)) = undo(route.verb, arguments, Some(&answer.result)) {
            p { "To undo it: " @match link { Some(link) => a href=(link) { (text) }, None => (text) } }
        }
        p {
            @if let Some((link, name)) = back { a href=(link) { "Back to " (shown(&name)) } " · " }
            a href="/console/audit" { "Request " (answer.request) " in the audit" }
        }
    }
}

/// To the thing that it was about.
fn back(arguments: &Value) -> Option<(String, String)> {
    let text = |name: &str| arguments.get(name).and_then(Value::as_str);
    if let (Some(channel), Some(durable)) = (text("channel"), text("durable")) {
        let group = text("queue_group").unwrap_or_default();
        let client = text("client_id").unwrap_or_default();
        let given = [
            ("channel", channel),
            ("durable", durable),
            ("queue_group", group),
            ("client_id", client),
        ];
        return Some((link("/durable", &given), durable.to_owned()));
    }
    if let Some(channel) = text("channel") {
        return Some((link("/channel", &[("name", channel)]), channel.to_owned()));
    }
    let client = text("client_id")?;
    Some((link("/client", &[("id", client)]), client.to_owned()))
}

/// The answer of a verb, by the names of its facts.
pub(super) fn facts(result: &Value) -> Markup {
    let all = result.as_object();
    html! {
        dl.facts {
            @for (name, value) in all.into_iter().flatten() {
                div {
                    dt { (shown(&capital(&name.replace('_', " ")))) }
                    dd { (fact(value)) }
                }
            }
        }
    }
}

fn fact(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "–".to_owned(),
        Value::String(text) => shown(text).into_owned(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        Value::Array(_) | Value::Object(_) => shown(&value.to_string()).into_owned(),
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    first + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_a_form_with_what_its_path_names_and_what_it_takes() {
        for route in ROUTES {
            let found = find(&slug(route.verb)).map(|found| found.verb);
            assert_eq!(found, Some(route.verb));
            let fields = fields(route);
            let needed = fields.iter().filter(|field| field.is_needed).count();
            assert_eq!(needed, route.path.matches('{').count(), "{}", route.path);
            assert_eq!(fields.len(), needed + route.takes.len());
        }
    }

    #[test]
    fn what_is_left_empty_is_not_asked_for() {
        let route = find("channel-purge").unwrap();
        let sent = "csrf=x&channel=a+b&before=+7&keep=&all=&before_time=2+h";
        let sent = Form::of(&Bytes::from_static(sent.as_bytes()));
        assert_eq!(
            Value::Object(arguments(route, &sent)),
            serde_json::json!({ "channel": "a b", "before": "7", "before_time": "2 h" })
        );
    }
}
