//! What operators change over HTTP.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fmt::Write as _;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::admin::{publish, sequences};
use crate::pair::{Group, LIMIT, Pair};
use crate::support::wait::wait_until;

pub(crate) const TOKEN: &str = "a-token-that-nobody-guesses";

/// Status and body.
pub(crate) async fn post(port: u16, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
    ask("POST", port, path, token, body).await
}

pub(crate) async fn ask(
    method: &str,
    port: u16,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> (u16, Value) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    if let Some(token) = token {
        write!(head, "Authorization: Bearer {token}\r\n").unwrap();
    }
    if !body.is_empty() {
        head += "Content-Type: application/json\r\n";
    }
    write!(head, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let lower = head.to_ascii_lowercase();
    assert!(!lower.contains("access-control"), "{head}");
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_problem = lower.contains("application/problem+json");
    assert_eq!(is_problem, status >= 400, "{answer}");
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn the_api_does_what_the_commands_do_for_who_has_the_token_at_any_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let Some(pair) = Pair::new(&["--api-token-file", file.to_str().unwrap()]).await else {
        return;
    };
    let group = &pair.group;
    let client = group.client("worker").await;
    publish(&client, "orders", 5).await;
    let subscription = client.subscribe("orders", "", "d").await.unwrap();
    let (active, standby) = (pair.active.http_port, pair.standby.http_port);
    let told = Some(TOKEN);
    let purge = "/api/v1/channels/orders/purge";
    let (status, answer) = post(standby, purge, told, "{\"before\": 3, \"dry_run\": true}").await;
    assert_eq!(
        (status, &answer["result"]["messages"]),
        (200, &json!(2)),
        "{answer}"
    );
    let (status, answer) = post(standby, purge, told, "{\"before\": 3}").await;
    assert_eq!(
        (status, &answer["result"]["messages"]),
        (200, &json!(2)),
        "{answer}"
    );
    assert_eq!(sequences(group, "orders").await, [3, 4, 5]);
    let before = subscription.received().len();
    let (status, answer) = post(
        active,
        "/api/v1/channels/orders/durables/seek",
        told,
        "{\"durable\": \"d\", \"to\": \"first\"}",
    )
    .await;
    assert_eq!(
        (status, &answer["result"]["messages"]),
        (200, &json!(3)),
        "{answer}"
    );
    wait_until(LIMIT, async || {
        let more = subscription.received().len() - before;
        if more >= 3 {
            Ok(())
        } else {
            Err(format!("{more} of 3"))
        }
    })
    .await;
    let (status, _) = post(active, "/api/v1/clients/worker/kick", told, "").await;
    assert_eq!(status, 200);
    assert!(client.ping().await.is_err());
    let asked = "SELECT application FROM stanby.admin_log WHERE verb = 'client kick'";
    assert_eq!(group.tables().texts(asked).await, ["HTTP from 127.0.0.1"]);

    for (path, body, status, detail, hint) in [
        (
            purge,
            "{\"before\": 99}",
            422,
            "99 is not in",
            "It holds 3 to 5.",
        ),
        (
            purge,
            "{\"befor\": 1, \"all\": true}",
            422,
            "befor",
            "before",
        ),
        (purge, "[1]", 400, "no object", "by name"),
        (purge, "{", 400, "no JSON", "by name"),
        (
            purge,
            "{\"channel\": \"x\"}",
            400,
            "path and in the body",
            "Leave it out",
        ),
        (
            "/api/v1/clients/workr/kick",
            "",
            422,
            "no client",
            "no client at all",
        ),
        ("/api/v1/nothing", "", 404, "no such path", "openapi"),
    ] {
        let (found, answer) = post(active, path, told, body).await;
        assert_eq!(found, status, "{path} {body}: {answer}");
        for (text, wanted) in [("detail", detail), ("hint", hint)] {
            let text = answer[text].as_str().unwrap();
            assert!(text.contains(wanted), "{path} {body}: {answer}");
        }
    }
    for (query, status) in [
        ("", 200),
        ("?channel=orders&waiting=true&after=4&limit=7", 200),
        ("?channel=dead", 422),
        ("?chanel=dead", 400),
    ] {
        let path = format!("/api/v1/dead-letters{query}");
        let (found, answer) = ask("GET", active, &path, told, "").await;
        assert_eq!(found, status, "{path}: {answer}");
        assert!(status != 200 || answer == json!([]), "{answer}");
    }

    let (status, _) = post(active, purge, None, "{\"all\": true}").await;
    assert_eq!(status, 401);
    for _ in 0..10 {
        let (status, _) = post(active, purge, Some("guess"), "{\"all\": true}").await;
        assert_eq!(status, 401);
    }
    let (status, _) = post(active, purge, Some("guess"), "{\"all\": true}").await;
    assert_eq!(status, 429);
    assert_eq!(sequences(group, "orders").await, [3, 4, 5]);

    let (status, answer) = post(standby, "/api/v1/step-down", told, "").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(pair.standby.wait_until_active().await, 2);
}

#[tokio::test]
async fn without_a_token_there_is_no_api() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let (status, answer) = post(
        server.http_port,
        "/api/v1/channels/orders/purge",
        Some(TOKEN),
        "{\"all\": true}",
    )
    .await;
    assert_eq!(status, 404);
    assert!(
        answer["hint"]
            .as_str()
            .unwrap()
            .contains("--api-token-file")
    );
}

/// In nothing that is stored there is one; Postgres would refuse the whole statement, as if it were out of order.
#[tokio::test]
async fn names_that_nothing_can_have_are_refused_with_a_hint_wherever_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let Some(pair) = Pair::new(&["--api-token-file", file.to_str().unwrap()]).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    publish(&client, "orders", 1).await;
    let port = pair.active.http_port;
    let cases = [
        ("POST", "channels/%00/create", "{}", 422, "null character"),
        (
            "POST",
            "channels/orders/durables/seek",
            "{\"durable\": \"\\u0000\"}",
            422,
            "null character",
        ),
        (
            "POST",
            "channels/orders/purge",
            "{\"\\u0000\": 1}",
            422,
            "null character",
        ),
        ("GET", "policies?channel=%00", "", 422, "null character"),
        ("GET", "dead-letters?channel=%00", "", 422, "null character"),
        ("POST", "channels/%ff/create", "{}", 400, "UTF-8"),
        ("GET", "policies?channel=%FF", "", 400, "UTF-8"),
        ("GET", "dead-letters?channel=%FF", "", 400, "UTF-8"),
        (
            "GET",
            "policies?channel=nope",
            "",
            422,
            "no channel \"nope\"",
        ),
        (
            "GET",
            "dead-letters?channel=nope",
            "",
            422,
            "no channel \"nope\"",
        ),
        (
            "POST",
            "channels/orders/purge",
            "{\"before\": 1, \"before\": 2}",
            400,
            "\"before\" is in the body twice",
        ),
        ("POST", "channels/orders/purge", "[1]", 400, "no object"),
        ("POST", "channels/orders/purge", "{\"a\"", 400, "no JSON"),
        (
            "POST",
            "channels/orders/purge?dry_run=true",
            "{\"before\": 1}",
            400,
            "has a query",
        ),
        (
            "POST",
            "channels/orders/purge",
            "{\"before\": 1, \"dry_run\": null}",
            400,
            "neither true nor false",
        ),
        ("GET", "requests/%ff", "", 404, "no request"),
        (
            "POST",
            "channels/orders/purge",
            "{\"before\": 9223372036854775808}",
            422,
            "no such number",
        ),
        (
            "POST",
            "channels/orders/durables/seek",
            "{\"to\": \"first\"}",
            422,
            "neither a durable nor a queue group",
        ),
    ];
    for (method, path, body, status, why) in cases {
        let path = format!("/api/v1/{path}");
        let (answered, answer) = ask(method, port, &path, Some(TOKEN), body).await;
        assert_eq!(answered, status, "{path} {body}: {answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{path} {body}: {answer}");
        assert_ne!(answer["hint"], "", "{path} {body}: {answer}");
    }
    let large = format!("{{\"all\": \"{}\"}}", "x".repeat(100_000));
    let (status, answer) = ask(
        "POST",
        port,
        "/api/v1/channels/orders/purge",
        Some(TOKEN),
        &large,
    )
    .await;
    assert_eq!(status, 413, "{answer}");
    assert_ne!(answer["hint"], "", "{answer}");
}
