//! What `/api/openapi.json` says, and what the server answers: each path by each method.

use serde_json::{Value, json};

use crate::admin::publish;
use crate::admin_api::{TOKEN, ask};
use crate::pair::Group;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// An answer has the shape that the document gives it.
fn fits(answer: &Value, schema: &Value, what: &str) {
    if schema["type"] == "array" {
        for item in answer.as_array().expect(what) {
            fits(item, &schema["items"], what);
        }
        return;
    }
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let members = answer.as_object().expect(what);
    if properties.is_empty() {
        return;
    }
    let named: Vec<&String> = properties.keys().collect();
    assert_eq!(
        members.keys().collect::<Vec<_>>(),
        named,
        "{what}: {answer}"
    );
    for (name, value) in members {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let allowed = &properties[name]["type"];
        let kinds = allowed.as_array();
        let is_allowed = *allowed == kind || kinds.is_some_and(|all| all.contains(&json!(kind)));
        assert!(is_allowed, "{what}: {name} is {value}, and not {allowed}");
    }
}

#[tokio::test]
async fn each_path_answers_each_method_as_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let Some(group) = Group::new(&["--api-token-file", file.to_str().unwrap()]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let port = server.http_port;
    let client = group.client("worker").await;
    publish(&client, "orders", 1).await;
    let _subscription = client.subscribe("orders", "", "d").await.unwrap();
    let limits = "/api/v1/channels/orders/limits";
    let (_, first) = ask("POST", port, limits, Some(TOKEN), "").await;
    let id = first["request"].to_string();
    let (_, document) = ask("GET", port, "/api/openapi.json", None, "").await;
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 19);

    for (path, operations) in paths {
        let at = path
            .replace("{channel}", "none")
            .replace("{client_id}", "none")
            .replace("{id}", &id);
        let at = &*at;
        for method in METHODS {
            let what = format!("{method} {path}");
            let operation = &operations[method.to_lowercase()];
            if operation.is_null() {
                let (status, answer) = ask(method, port, at, Some(TOKEN), "").await;
                assert_eq!(status, 405, "{what}: {answer}");
                continue;
            }
            let mut asked = vec![(Some(TOKEN), at.to_owned(), "", None)];
            if operation["security"].is_null() {
                asked.push((None, at.to_owned(), "", Some(401)));
            }
            if operation["parameters"].to_string().contains("\"query\"") {
                asked.push((Some(TOKEN), format!("{at}?nothing=1"), "", Some(400)));
                asked.push((Some(TOKEN), format!("{at}?channel=none"), "", Some(422)));
            }
            if path.contains("{id}") {
                asked.push((Some(TOKEN), at.replace(&id, "999"), "", Some(404)));
            }
            if method == "POST" {
                asked.push((Some(TOKEN), at.to_owned(), "[1]", Some(400)));
                asked.push((Some(TOKEN), at.to_owned(), "{\"nothing\": 1}", Some(422)));
                asked.push((Some(TOKEN), format!("{at}?a=b"), "", Some(400)));
            }
            for (token, at, body, expected) in asked {
                // A server that is alone would step down, and be away for a while.
                let (status, answer) = ask(method, port, &at, token, body).await;
                let told = format!("{what} ({at} {body}): {answer}");
                assert!(expected.is_none_or(|expected| expected == status), "{told}");
                let response = &operation["responses"][status.to_string()];
                assert!(
                    response.is_object(),
                    "{status} is not in the document: {told}"
                );
                let schema = &response["content"]["application/json"]["schema"];
                fits(&answer, schema, &told);
            }
            let has = |status: &str| operation["responses"][status].is_object();
            assert_eq!(
                has("202"),
                method == "POST",
                "{what}: what is looked at is never under way"
            );
            assert_eq!(has("413") && has("415"), method == "POST", "{what}");
        }
    }

    // With something in the lists.
    for path in ["/api/v1/policies", "/api/v1/dead-letters"] {
        let (status, answer) = ask("GET", port, path, Some(TOKEN), "").await;
        assert_eq!(status, 200, "{answer}");
        let schema =
            &paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        fits(&answer, schema, path);
        let is_there = path.ends_with("policies");
        assert_eq!(answer.as_array().unwrap().is_empty(), !is_there, "{answer}");
    }
}
