//! Each verb of `/api/v1` as a form, with a preview. The forms are made of the table of the API's paths.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;

use super::form::Form;
use super::layout;
use super::once::Once;
use super::principal::Principal;
use super::query::{Named, QueryParams, behind_proxy, link};
use super::undo::{destroys, warning};
use super::users::Role;
use super::words::{grouped, shown};
use crate::administration::{AdminError, Answer, Request};
use crate::core::admin::RequestError;
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

/// The page that it belongs to.
fn here(route: &Route) -> &'static str {
    match route.verb.split(' ').next() {
        Some("channel" | "message") => "/channels",
        Some("durable") => "/durables",
        Some("client") => "/clients",
        Some("dlq") => "/dead-letters",
        Some(_) | None => "",
    }
}

/// A link to the form of a verb, filled in as far as is known. Nothing for who may not change things.
pub(super) fn action(user: &Principal, verb: &str, text: &str, given: &[(&str, &str)]) -> Markup {
    html! {
        @if user.may(Role::Operator) {
            li { a.button.quiet href=(link(&format!("/act/{}", slug(verb)), given)) { (text) } }
        }
    }
}

fn refuse(user: &Principal) -> Option<Response> {
    let why = format!("Your role is {}.", user.role.name());
    let notice = (
        "You may look, but change nothing",
        why.as_str(),
        "Ask an operator, or have the role operator given to you in the file of users.",
    );
    (!user.may(Role::Operator)).then(|| layout::no_page(user, StatusCode::FORBIDDEN, "", notice))
}

fn no_such(user: &Principal) -> Response {
    let notice = (
        "There is no such verb",
        "Nothing was done.",
        "docs/administration.md lists what can be done.",
    );
    layout::no_page(user, StatusCode::NOT_FOUND, "", notice)
}

pub(super) async fn form(
    user: Principal,
    Named(name): Named,
    QueryParams(given): QueryParams<BTreeMap<String, String>>,
) -> Response {
    if let Some(refused) = refuse(&user) {
        return refused;
    }
    let Some(route) = find(&name) else {
        return no_such(&user);
    };
    let value = |name: &str| given.get(name).cloned().unwrap_or_default();
    let body = html! {
        h1 { (capital(route.verb)) }
        (asked(&user, route, &value, None))
    };
    layout::page(&user, route.verb, here(route), &body)
}

/// The form itself, with what was wrong with it before.
fn asked(
    user: &Principal,
    route: &'static Route,
    value: &dyn Fn(&str) -> String,
    wrong: Option<&RequestError>,
) -> Markup {
    html! {
        p { (route.summary) "." }
        @if let Some(RequestError { error, hint }) = wrong {
            p.bad role="alert" { strong { (shown(error)) } ". " (shown(hint)) }
        }
        form.verb method="post" action=(place(route, &[])) {
            input type="hidden" name="csrf" value=(user.csrf);
            input type="hidden" name="step" value="preview";
            @for field in fields(route) {
                @let id = format!("field-{}", field.name);
                @let hint_id = format!("{id}-told");
                @let label = field.name.replace('_', " ");
                @if field.kind == Kind::Flag {
                    div {
                        input type="checkbox" name=(field.name) id=(id) value="true" checked[value(field.name) == "true"]
                            aria-describedby=(hint_id);
                        " " label for=(id) { (label) } " " span.note id=(hint_id) { (field.description) }
                    }
                } @else {
                    label for=(id) { (label) }
                    input type=(if field.kind == Kind::Number { "number" } else { "text" }) name=(field.name) id=(id)
                        value=(value(field.name)) required[field.is_needed] min=[(field.kind == Kind::Number).then_some("0")]
                        aria-describedby=[(!field.description.is_empty()).then_some(&hint_id)] autocomplete="off";
                    @if !field.description.is_empty() { span.note id=(hint_id) { (field.description) } }
                }
            }
            button type="submit" { "See what it would do" }
        }
    }
}

pub(super) async fn act(
    user: Result<Principal, Response>,
    Named(name): Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let why = format!("{}. Nothing was done.", rejection.body_text());
            return layout::plain(
                rejection.status(),
                "The form cannot be read",
                &why,
                "Send less with it.",
            );
        }
    };
    let sent = Form::of(&body);
    let user = match user {
        Ok(user) => user,
        Err(answer) => return kept_for_later(answer, &name, &sent),
    };
    if let Some(refused) = refuse(&user) {
        return refused;
    }
    if let Err(answer) = user.ensure_own_form(&headers, sent.get("csrf")) {
        return answer;
    }
    let Some(route) = find(&name) else {
        return no_such(&user);
    };
    if let Some(field) = sent.with_null() {
        let why = format!("{field} has a null character in it. Nothing was done.");
        let notice = (
            "The form cannot be read",
            why.as_str(),
            "Go back, and take it out.",
        );
        return layout::no_page(&user, StatusCode::BAD_REQUEST, "", notice);
    }
    // Whoever leaves meanwhile does not leave a request behind that is carried out at any time later: it is waited for here.
    let acting = match user.console() {
        Ok(console) => console.acting.clone(),
        Err(answer) => return answer,
    };
    let done = acting.spawn(async move {
        let done = async {
            if sent.get("step") == "do" {
                carry_out_once(&user, route, &sent).await
            } else {
                look_first(&user, route, &sent).await
            }
        };
        behind_proxy(&headers, done).await
    });
    done.await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Who has to log in first finds what they had filled in, and nothing is done before they send it again.
fn kept_for_later(answer: Response, name: &str, sent: &Form) -> Response {
    match find(name) {
        Some(route) if answer.status() == StatusCode::SEE_OTHER => {
            // As the log-in takes it: without what a proxy has put before.
            let filled = filled(route, sent);
            let next = format!("/console/act/{}?{}", slug(route.verb), encoded(&filled));
            Redirect::to(&link("/login", &[("next", &next)])).into_response()
        }
        _ => answer,
    }
}

fn filled<'a>(route: &'static Route, sent: &'a Form) -> Vec<(&'static str, &'a str)> {
    let fields = fields(route).into_iter();
    let fields = fields.map(|field| (field.name, sent.get(field.name)));
    fields.filter(|(name, _)| is_given(name, sent)).collect()
}

/// Beside the name of a queue group an empty one of a durable is one, too: the group has none.
fn is_given(name: &str, sent: &Form) -> bool {
    !sent.get(name).is_empty() || name == "durable" && !sent.get("queue_group").is_empty()
}

fn encoded(given: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(given).finish()
}

fn place(route: &Route, given: &[(&str, &str)]) -> String {
    link(&format!("/act/{}", slug(route.verb)), given)
}

async fn ask(
    user: &Principal,
    route: &'static Route,
    sent: &Form,
    dry_run: bool,
) -> Result<Answer, AdminError> {
    let request = Request {
        verb: route.verb.to_owned(),
        arguments: Value::Object(arguments(route, sent)),
        dry_run,
        asked_by: Some(user.asks()),
    };
    user.source.api.admin().carry_out(&request).await
}

async fn look_first(user: &Principal, route: &'static Route, sent: &Form) -> Response {
    let body = match ask(user, route, sent, true).await {
        Ok(answer) => preview(user, route, sent, &answer),
        Err(error) => not_done(user, route, sent, &error),
    };
    let mut answer = layout::page(user, route.verb, here(route), &body);
    // Who goes back to it sees it, and what is sent from there again is not done again.
    let again = HeaderValue::from_static("private, no-cache");
    answer.headers_mut().insert(header::CACHE_CONTROL, again);
    answer
}

async fn carry_out_once(user: &Principal, route: &'static Route, sent: &Form) -> Response {
    let console = match user.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let mut turn = console.once.turn(sent.get("once")).await;
    let before = turn.as_ref().and_then(|done| **done);
    let carried_out = match before {
        Some(id) => Ok(id),
        None => match ask(user, route, sent, false).await {
            Ok(answer) => Ok(answer.request),
            Err(AdminError::Running(id)) => Ok(id),
            Err(error) => Err(error),
        },
    };
    // Who goes to the first page next sees what they have done.
    *console.now.lock().await = None;
    match carried_out {
        Ok(id) => {
            if let Some(done) = &mut turn {
                **done = Some(id);
            }
            let id = id.to_string();
            Redirect::to(&link("/request", &[("id", &id)])).into_response()
        }
        Err(error) => {
            let body = not_done(user, route, sent, &error);
            layout::page(user, route.verb, here(route), &body)
        }
    }
}

fn not_done(user: &Principal, route: &'static Route, sent: &Form, error: &AdminError) -> Markup {
    let value = |name: &str| sent.get(name).to_owned();
    if let AdminError::Refused(error) = error {
        return html! {
            h1 { (capital(route.verb)) }
            (asked(user, route, &value, Some(error)))
        };
    }
    // Postgres may have gone away before the question was there, or before the answer.
    let is_known = sent.get("step") != "do" || !matches!(error, AdminError::Tables(_));
    html! {
        h1 { @if is_known { "Nothing was done" } @else { "It is not known what became of it" } }
        p.bad role="alert" { (why_not(error)) }
        @if !is_known {
            p { "Look for it in " a href=(link("/audit", &[])) { "the audit" } " before you ask for it again." }
        }
        (asked(user, route, &value, None))
    }
}

fn why_not(error: &AdminError) -> String {
    match error {
        AdminError::NotTaken => {
            "No server took the request in time. It is withdrawn, so nothing happens later. Check on the page Now whether a \
             server is active, and try again."
                .to_owned()
        }
        AdminError::Starting => "The server is starting. Try again in a moment.".to_owned(),
        AdminError::Busy => {
            "Too many requests are under way at this server. Try again when others are done.".to_owned()
        }
        AdminError::Tables(error) => format!("The tables cannot be read: {}. Check the database, and try again.", shown(&error.to_string())),
        AdminError::Refused(RequestError { error, hint }) => format!("{}. {}", shown(error), shown(hint)),
        AdminError::Running(id) => format!("Request {id} is under way."),
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
            Kind::Number | Kind::Text | Kind::Time if !is_given(field.name, sent) => continue,
            Kind::Number | Kind::Time => Value::String(text.trim().to_owned()),
            Kind::Text => Value::String(text.to_owned()),
        };
        arguments.insert(field.name.to_owned(), value);
    }
    arguments
}

fn preview(user: &Principal, route: &'static Route, sent: &Form, answer: &Answer) -> Markup {
    let button = if destroys(route.verb) {
        "danger"
    } else {
        "plain"
    };
    html! {
        h1 { (capital(route.verb)) ": what it would do" }
        (facts(&answer.result))
        @if let Some(warning) = warning(route.verb, &answer.result) { p.warn { (warning) } }
        form.verb method="post" action=(place(route, &[])) {
            input type="hidden" name="csrf" value=(user.csrf);
            input type="hidden" name="step" value="do";
            @if let Some(mark) = Once::mark() { input type="hidden" name="once" value=(mark); }
            @for (name, value) in filled(route, sent) { input type="hidden" name=(name) value=(value); }
            button.(button) type="submit" { "Do it" }
        }
        p.note { "Nothing has been done so far. Between now and then the figures may change." }
        details {
            summary { "Change it first" }
            (asked(user, route, &|name| sent.get(name).to_owned(), None))
        }
    }
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
