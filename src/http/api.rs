//! What operators change, over HTTP: `/api/v1/…`. Each path is a verb of the command line; what is asked for goes through the
//! tables ([`AdminRequests`]), so that any server of the pair answers. There is nothing here until a token is configured.

mod openapi;
mod problem;
pub(super) mod routes;
pub(super) mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::problem::{Problem, problem};
use self::routes::{ROUTES, Route};
use self::token::Guard;
use super::view::Source;
use crate::administration::{AdminError, AdminRequests, DeadLetterFilter, Request};

/// The most bytes of the body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Dead letters of one answer.
const LISTED_MAX: u32 = 1000;

/// What a path names.
type InPath = BTreeMap<String, String>;

/// Cheap to clone; all listeners of a node share it.
#[derive(Clone, Debug, Default)]
pub struct Api {
    admin: AdminRequests,
    /// `None`: it is off.
    guard: Option<Arc<Guard>>,
}

impl Api {
    /// The token is what the file holds; it is read for each request, so that it can be changed while the server runs.
    pub fn new(admin: AdminRequests, token_file: Option<PathBuf>) -> Self {
        Self {
            admin,
            guard: token_file.map(|file| Arc::new(Guard::new(file))),
        }
    }

    /// What is asked for here goes the same way.
    pub(super) fn admin(&self) -> &AdminRequests {
        &self.admin
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// Nobody on the way can read along.
    pub(super) is_secure: bool,
}

pub(super) fn router() -> Router<Source> {
    let mut router = Router::new()
        .route("/api/openapi.json", look(get(document)))
        .route("/api/v1/requests/{id}", look(get(progress)))
        .route("/api/v1/dead-letters", look(get(dead_letters)))
        .route("/api/v1/policies", look(get(policies)))
        .route("/api", any(unknown))
        .route("/api/{*path}", any(unknown));
    for route in ROUTES {
        let answer = move |State(source): State<Source>,
                           Extension(peer): Extension<Peer>,
                           in_path: Result<Path<InPath>, PathRejection>,
                           RawQuery(query): RawQuery,
                           headers: HeaderMap,
                           body: Result<Bytes, BytesRejection>| async move {
            let query = query.as_deref();
            let asked = ask(&source, peer, route, (in_path, query), &headers, body);
            asked.await.unwrap_or_else(Problem::into_response)
        };
        let wrong = async || wrong_method("what changes something takes POST");
        router = router.route(route.path, post(answer).fallback(wrong));
    }
    router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// What is only looked at.
fn look(get: MethodRouter<Source>) -> MethodRouter<Source> {
    get.fallback(async || wrong_method("what is only looked at takes GET"))
}

async fn ask(
    source: &Source,
    peer: Peer,
    route: &Route,
    (in_path, query): (Result<Path<InPath>, PathRejection>, Option<&str>),
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    admit(source, peer, headers).await?;
    // `?dry_run=true` that is not looked at would be carried out.
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(problem(StatusCode::BAD_REQUEST, "the address has a query")
            .hint("Send the arguments in the body, as JSON: {\"dry_run\": true}."));
    }
    let Path(in_path) = in_path.map_err(|rejection| {
        problem(rejection.status(), rejection.body_text())
            .hint("Names in a path are UTF-8, with %20 for a space and %2F for a slash.")
    })?;
    let mut arguments = body_of(headers, body)?;
    let dry_run = match arguments.remove("dry_run") {
        None => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => {
            return Err(
                problem(StatusCode::BAD_REQUEST, "dry_run is neither true nor false")
                    .hint("Leave it out, or give true or false."),
            );
        }
    };
    for (name, text) in in_path {
        if arguments
            .insert(name.clone(), Value::String(text))
            .is_some()
        {
            return Err(problem(
                StatusCode::BAD_REQUEST,
                format!("{name} is given in the path and in the body"),
            )
            .hint("Leave it out of the body."));
        }
    }
    let request = Request {
        verb: route.verb.to_owned(),
        arguments: Value::Object(arguments),
        dry_run,
        asked_by: Some(format!("HTTP from {}", peer.address)),
    };
    match source.api.admin.carry_out(&request).await {
        Ok(answer) => Ok(json(StatusCode::OK, &answer)),
        Err(AdminError::Running(id)) => {
            let location = [(header::LOCATION, format!("/api/v1/requests/{id}"))];
            let under_way = serde_json::json!({ "request": id, "state": "running" });
            Ok((location, json(StatusCode::ACCEPTED, &under_way)).into_response())
        }
        Err(error) => Err(Problem::from(error)),
    }
}

fn body_of(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Map<String, Value>, Problem> {
    let body = body.map_err(|rejection| {
        problem(rejection.status(), rejection.body_text()).hint(format!(
            "Send the arguments by name, in {BODY_BYTES_MAX} bytes at most."
        ))
    })?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|value| {
        let media_type = value.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let why = "the body is not said to be JSON";
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
            .hint("Send Content-Type: application/json."));
    }
    match serde_json::from_slice(&body) {
        Ok(Once(Ok(arguments))) => Ok(arguments),
        Ok(Once(Err(twice))) => Err(problem(
            StatusCode::BAD_REQUEST,
            format!("{twice:?} is in the body twice"),
        )
        .hint("Give each argument once.")),
        Err(error) if error.is_data() => {
            Err(problem(StatusCode::BAD_REQUEST, "the body is no object")
                .hint("Send the arguments by name: {\"before\": 4711}."))
        }
        Err(error) => Err(problem(
            StatusCode::BAD_REQUEST,
            format!("the body is no JSON: {error}"),
        )
        .hint("Send the arguments by name: {\"before\": 4711}.")),
    }
}

/// The members of an object, or the name of one that is there twice: which of the two is meant, nobody knows.
struct Once(Result<Map<String, Value>, String>);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Once, A::Error> {
        let (mut members, mut twice) = (Map::new(), None);
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.insert(name.clone(), value).is_some() {
                twice.get_or_insert(name);
            }
        }
        Ok(Once(twice.map_or(Ok(members), Err)))
    }
}

/// What stands behind the question mark is decoded without a word about bytes that are no text.
fn ensure_text(query: Option<&str>) -> Result<(), Problem> {
    let decoded = percent_decode_str(query.unwrap_or_default()).decode_utf8();
    decoded.map(drop).map_err(|_| {
        problem(StatusCode::BAD_REQUEST, "the query is not UTF-8")
            .hint("Names in a query are UTF-8, with %20 for a space and %26 for an ampersand.")
    })
}

async fn progress(
    State(source): State<Source>,
    Extension(peer): Extension<Peer>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let asked = async {
        admit(&source, peer, &headers).await?;
        let id = id.map_or_else(|rejection| rejection.body_text(), |Path(id)| id);
        let no_such = || {
            problem(StatusCode::NOT_FOUND, format!("there is no request {id:?}"))
                .hint("Its number is in the answer to it, and in view admin_log.")
        };
        let id: i64 = id.parse().map_err(|_| no_such())?;
        let progress = source.api.admin.progress(id).await?;
        progress
            .map(|progress| json(StatusCode::OK, &progress))
            .ok_or_else(no_such)
    };
    asked.await.unwrap_or_else(Problem::into_response)
}

/// Which dead letters are listed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    waiting: bool,
    #[serde(default)]
    after: u64,
    #[serde(default = "listed_by_default")]
    limit: u32,
}

fn listed_by_default() -> u32 {
    100
}

async fn dead_letters(
    State(source): State<Source>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    listed: Result<Query<Listed>, QueryRejection>,
) -> Response {
    let asked = async {
        admit(&source, peer, &headers).await?;
        ensure_text(query.as_deref())?;
        let Query(listed) = listed.map_err(|rejection| {
            problem(StatusCode::BAD_REQUEST, rejection.body_text())
                .hint("It takes channel, waiting (true or false), after (a sequence) and limit.")
        })?;
        let which = DeadLetterFilter {
            channel: &listed.channel,
            waiting: listed.waiting,
            after: listed.after,
            count: listed.limit.min(LISTED_MAX),
        };
        let letters = source.api.admin.dead_letters(which).await?;
        Ok(json(StatusCode::OK, &letters))
    };
    asked.await.unwrap_or_else(Problem::into_response)
}

/// The channel whose policies are listed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfChannel {
    #[serde(default)]
    channel: String,
}

async fn policies(
    State(source): State<Source>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    asked: Result<Query<OfChannel>, QueryRejection>,
) -> Response {
    let asked = async {
        admit(&source, peer, &headers).await?;
        ensure_text(query.as_deref())?;
        let Query(OfChannel { channel }) = asked.map_err(|rejection| {
            problem(StatusCode::BAD_REQUEST, rejection.body_text()).hint("It takes channel.")
        })?;
        let policies = source.api.admin.policies(&channel).await?;
        Ok(json(StatusCode::OK, &policies))
    };
    asked.await.unwrap_or_else(Problem::into_response)
}

async fn document(State(source): State<Source>) -> Response {
    if source.api.guard.is_none() {
        return off().into_response();
    }
    json(StatusCode::OK, &openapi::document())
}

async fn unknown(State(source): State<Source>) -> Response {
    if source.api.guard.is_none() {
        return off().into_response();
    }
    problem(StatusCode::NOT_FOUND, "there is no such path")
        .hint("/api/openapi.json lists them.")
        .into_response()
}

fn wrong_method(why: &str) -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, why)
        .hint("/api/openapi.json lists the paths and their methods.")
        .into_response()
}

async fn admit(source: &Source, peer: Peer, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(guard) = &source.api.guard else {
        return Err(off());
    };
    guard.admit(peer.address, headers).await
}

fn off() -> Problem {
    problem(StatusCode::NOT_FOUND, "the API is off")
        .hint("Start the server with --api-token-file FILE.")
}

/// For scripts and the console, from this origin alone.
fn json(code: StatusCode, value: &impl Serialize) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    match serde_json::to_string(value) {
        Ok(text) => (code, headers, text + "\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
