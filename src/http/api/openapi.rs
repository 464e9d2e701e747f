//! The document that describes the paths (`OpenAPI` 3.1), made of what the router is made of.

use serde_json::{Map, Value, json};

use super::routes::{Kind, Parameter, ROUTES, Route};

pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), json!({ "post": operation(route) })))
        .collect();
    for (path, operation) in looks() {
        paths.insert(path.to_owned(), json!({ "get": operation }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "stanby", "version": env!("CARGO_PKG_VERSION"),
            "description": "What operators change while servers run. Each path is a command: `stanby channel purge`. Methods that are not \
                listed are answered with 405, paths that are not with 404, and every path with 404 where the API is off.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Problem": {
                "type": "object", "description": "RFC 9457",
                "properties": {
                    "type": { "type": "string" }, "title": { "type": "string" },
                    "status": { "type": "integer" }, "detail": { "type": "string" },
                    "hint": { "type": "string", "description": "What to do about it" },
                },
            }},
        },
    })
}

fn operation(route: &Route) -> Value {
    let names = route.path.split(['{', '}']).skip(1).step_by(2);
    let mut properties: Map<String, Value> = route.takes.iter().map(property).collect();
    let dry_run =
        json!({ "type": "boolean", "description": "Only say what it would do, in counts." });
    properties.insert("dry_run".to_owned(), dry_run);
    json!({
        "operationId": route.verb.replace([' ', '-'], "_"),
        "summary": route.summary,
        "parameters": names.map(in_path).collect::<Vec<_>>(),
        "requestBody": { "required": false, "content": { "application/json": { "schema": {
            "type": "object", "properties": properties, "additionalProperties": false,
        }}}},
        "responses": responses_of_verbs(),
    })
}

/// What is only looked at.
fn looks() -> [(&'static str, Value); 4] {
    let look = |id, summary, parameters: Vec<Value>, description, schema, problems: &[u16]| {
        json!({
            "operationId": id, "summary": summary, "parameters": parameters,
            "responses": responses(&[(200, description, schema)], problems),
        })
    };
    let state =
        json!({ "type": "string", "enum": ["waiting", "running", "done", "refused", "withdrawn"] });
    let mut document = look(
        "document",
        "Describes this API, without a token",
        Vec::new(),
        "This document",
        object(json!({})),
        &[404],
    );
    document["security"] = json!([]);
    [
        ("/api/openapi.json", document),
        (
            "/api/v1/requests/{id}",
            look(
                "request",
                "Returns the state of a request that takes long, and its outcome",
                vec![in_path("id")],
                "Its state, and what came of it",
                object(json!({
                    "request": { "type": "integer" }, "state": state, "result": { "type": ["object", "null"] },
                    "error": { "type": ["string", "null"] }, "hint": { "type": ["string", "null"] },
                })),
                &[401, 404, 422, 429, 503],
            ),
        ),
        (
            "/api/v1/dead-letters",
            look(
                "dlq_list",
                "Lists dead letters by channel and sequence, as view dead_letter_status does",
                vec![
                    in_query(
                        "channel",
                        "string",
                        "Only those of this dead-letter channel.",
                    ),
                    in_query(
                        "waiting",
                        "boolean",
                        "Only those that were not redriven yet.",
                    ),
                    in_query("after", "integer", "Only those after this sequence."),
                    in_query(
                        "limit",
                        "integer",
                        "So many at most: 100, and 1,000 where more is asked for.",
                    ),
                ],
                "The dead letters",
                list(&[
                    ("channel", "string"),
                    ("sequence", "integer"),
                    ("origin_channel", "string"),
                    ("origin_sequence", "integer"),
                    ("durable", "string?"),
                    ("queue_group", "string?"),
                    ("deliveries", "integer"),
                    ("reason", "string"),
                    ("size_bytes", "integer"),
                    ("publisher", "string"),
                    ("dead_since", "string"),
                    ("redriven_at", "string?"),
                    ("redriven_by", "integer?"),
                ]),
                &[400, 401, 404, 422, 429, 503],
            ),
        ),
        (
            "/api/v1/policies",
            look(
                "policies",
                "Says which policy holds for each subscription and what it says, as view effective_policies does",
                vec![in_query("channel", "string", "Only those of this channel.")],
                "A subscription each, with the policy that holds for it",
                list(&[
                    ("channel", "string"),
                    ("durable", "string?"),
                    ("queue_group", "string?"),
                    ("clients", "string?"),
                    ("source", "string"),
                    ("max_deliveries", "integer?"),
                    ("backoff_seconds", "array?"),
                    ("poison", "string?"),
                    ("dead_letter", "string?"),
                    ("when_full", "string"),
                    ("keep_until_acked", "boolean"),
                    ("waits_for", "integer?"),
                ]),
                &[400, 401, 404, 422, 429, 503],
            ),
        ),
    ]
}

fn property(parameter: &Parameter) -> (String, Value) {
    let kind = match parameter.kind {
        Kind::Number => "integer",
        Kind::Text | Kind::Time => "string",
        Kind::Flag => "boolean",
    };
    let schema = json!({ "type": kind, "description": parameter.description });
    (parameter.name.to_owned(), schema)
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

fn in_query(name: &str, kind: &str, description: &str) -> Value {
    let schema = json!({ "type": kind });
    json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
}

fn object(properties: Value) -> Value {
    let mut schema = json!({ "type": "object" });
    schema["properties"] = properties;
    schema
}

/// Objects with these members; `?`: or null.
fn list(members: &[(&str, &str)]) -> Value {
    let schema = |kind: &str| match kind.strip_suffix('?') {
        Some(kind) => json!({ "type": [kind, "null"] }),
        None => json!({ "type": kind }),
    };
    let members = members.iter();
    let members: Map<String, Value> = members
        .map(|(name, kind)| ((*name).to_owned(), schema(kind)))
        .collect();
    json!({ "type": "array", "items": object(members.into()) })
}

fn responses_of_verbs() -> Value {
    let done = object(json!({
        "request": { "type": "integer" }, "dry_run": { "type": "boolean" }, "result": { "type": "object" },
    }));
    let running =
        object(json!({ "request": { "type": "integer" }, "state": { "type": "string" } }));
    let mut all = responses(
        &[
            (200, "What was done, or would be", done),
            (202, "It takes long, and goes on", running),
        ],
        &[400, 401, 404, 413, 415, 422, 429, 503],
    );
    all["202"]["headers"] =
        json!({ "Location": { "description": "Where to ask", "schema": { "type": "string" } } });
    all
}

fn responses(done: &[(u16, &str, Value)], problems: &[u16]) -> Value {
    let done = done.iter().map(|(status, what, schema)| {
        let content = json!({ "application/json": { "schema": schema } });
        (
            status.to_string(),
            json!({ "description": what, "content": content }),
        )
    });
    let problems = problems.iter().map(|status| {
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        let content = json!({ "application/problem+json": { "schema": schema } });
        (
            status.to_string(),
            json!({ "description": meaning(*status), "content": content }),
        )
    });
    done.chain(problems).collect::<Map<_, _>>().into()
}

fn meaning(problem: u16) -> &'static str {
    match problem {
        400 => "The request makes no sense",
        401 => "The token is missing or wrong",
        404 => "There is no such request, or the API is off",
        413 => "The body is too large",
        415 => "The body is not said to be JSON",
        422 => "It cannot be done; the hint says what can",
        429 => "Too many wrong tokens came from this address",
        _ => "No server is active, or the tables cannot be reached",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::administration::DeadLetter;

    #[test]
    fn each_path_and_what_it_takes_is_in_the_document() {
        let document = document();
        for route in ROUTES {
            let operation = &document["paths"][route.path]["post"];
            let properties =
                operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
                    .as_object()
                    .expect("it has properties");
            assert_eq!(properties.len(), route.takes.len() + 1, "{}", route.path);
            let named = operation["parameters"].as_array().expect("an array").len();
            assert_eq!(named, route.path.matches('{').count(), "{}", route.path);
        }
    }

    #[test]
    fn what_is_listed_has_the_members_that_the_document_names() {
        let letter = DeadLetter {
            channel: "dead".to_owned(),
            sequence: 1,
            origin_channel: "orders".to_owned(),
            origin_sequence: 7,
            durable: None,
            queue_group: None,
            deliveries: 2,
            reason: String::new(),
            size_bytes: 3,
            publisher: "till".to_owned(),
            dead_since: "2026-11-29T14:00:00Z".to_owned(),
            redriven_at: None,
            redriven_by: None,
        };
        let document = document();
        let schema = &document["paths"]["/api/v1/dead-letters"]["get"]["responses"]["200"]["content"]
            ["application/json"]["schema"];
        let named = schema["items"]["properties"]
            .as_object()
            .expect("it has members");
        let members = serde_json::to_value(&letter).expect("it is JSON");
        let members = members.as_object().expect("it is an object");
        assert!(members.keys().eq(named.keys()), "{members:?}");
    }
}
