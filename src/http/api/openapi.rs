//! The document that describes the paths (`OpenAPI` 3.1), made of what the router is made of.

use serde_json::{Map, Value, json};

use super::routes::{Kind, Parameter, ROUTES, Route};

pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), json!({ "post": operation(route) })))
        .collect();
    paths.insert(
        "/api/v1/requests/{id}".to_owned(),
        json!({ "get": {
            "operationId": "request", "summary": "What became of a request that takes long",
            "parameters": [in_path("id")],
            "responses": responses("What became of it so far"),
        }}),
    );
    let mut listed = responses("The dead letters");
    listed["200"]["content"]["application/json"]["schema"] =
        json!({ "type": "array", "items": { "type": "object" } });
    paths.insert(
        "/api/v1/dead-letters".to_owned(),
        json!({ "get": {
            "operationId": "dlq_list", "summary": "Lists dead letters by channel and sequence, as view dead_letter_status does",
            "parameters": [
                in_query("channel", "string", "Only those of this dead-letter channel."),
                in_query("waiting", "boolean", "Only those that were not redriven yet."),
                in_query("after", "integer", "Only those after this sequence."),
                in_query("limit", "integer", "So many at most: 100, and 1,000 where more is asked for."),
            ],
            "responses": listed.clone(),
        }}),
    );
    paths.insert(
        "/api/v1/policies".to_owned(),
        json!({ "get": {
            "operationId": "policies",
            "summary": "Says which policy holds for each subscription and what it says, as view effective_policies does",
            "parameters": [in_query("channel", "string", "Only those of this channel.")],
            "responses": listed,
        }}),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "stanby", "version": env!("CARGO_PKG_VERSION"),
            "description": "What operators change while servers run. Each path is a command: `stanby channel purge`.",
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
        "responses": responses("What was done, or would be"),
    })
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

fn responses(done: &str) -> Value {
    let problem = |what: &str| {
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        json!({ "description": what, "content": { "application/problem+json": { "schema": schema } } })
    };
    json!({
        "200": { "description": done, "content": { "application/json": { "schema": {
            "type": "object",
            "properties": {
                "request": { "type": "integer" }, "dry_run": { "type": "boolean" },
                "result": { "type": "object" },
            },
        }}}},
        "202": { "description": "It takes long; Location says where to ask" },
        "400": problem("The request makes no sense"),
        "401": problem("The token is missing or wrong"),
        "422": problem("It cannot be done; the hint says what can"),
        "429": problem("Too many wrong tokens came from this address"),
        "503": problem("No server is active, or the tables cannot be reached"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
