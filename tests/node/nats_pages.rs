//! NATS' own pages on the monitoring port, asked for as exporters, sidecars and `nats-top` do.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use crate::http::{Pages, standby};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tokio::time::timeout;

use crate::pair::{LIMIT, Question, Server};
use crate::start_lines::{Line, pid_of_nats_server};
use crate::support::wait::wait_until;

async fn page(server: &Server, path: &str) -> Value {
    let (code, body) = server.get(path).await.unwrap();
    assert_eq!(code, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

#[tokio::test]
async fn the_pages_of_the_nats_server_beside_answer_where_they_did_when_it_was_inside() {
    let Some(line) = Line::new().await else {
        return;
    };
    let server = line.start("-p {nats} -m {http} -cid shop");
    server.wait_until_active().await;
    let _client = line.client("shop", None).await;

    // Exporters ask this first, some with two slashes.
    for path in ["/varz", "//varz"] {
        let varz = page(&server, path).await;
        assert!(!varz["server_id"].as_str().unwrap().is_empty(), "{varz}");
        assert_eq!(varz["port"], line.nats_port, "{path}");
    }
    // nats-top, with its sort and its limit.
    let connz = page(&server, "/connz?limit=1024&sort=subs&subs=1").await;
    let connections = connz["connections"].as_array().unwrap();
    let is_ours = |connection: &&Value| {
        let name = connection["name"].as_str().unwrap_or_default();
        name.starts_with("stanby-shop-")
    };
    let ours = connections.iter().find(is_ours).unwrap();
    assert!(ours["subscriptions_list"].is_array(), "{ours}");
    assert_eq!(connz["limit"], 1024);
    for (path, key) in [
        ("/subsz", "num_subscriptions"),
        ("/routez", "num_routes"),
        ("/gatewayz", "outbound_gateways"),
        ("/leafz", "leafnodes"),
        ("/accountz", "accounts"),
        ("/jsz", "server_id"),
    ] {
        let value = page(&server, path).await;
        assert!(value.get(key).is_some(), "{path}: {value}");
    }
    // A script that is called back, and a page that is no JSON.
    let (code, body) = server.get("/varz?callback=told").await.unwrap();
    assert!(code == 200 && body.starts_with("told("), "{code}: {body}");
    let (code, body) = server.get("/stacksz").await.unwrap();
    assert!(code == 200 && body.contains("goroutine"), "{code}: {body}");

    // Ours go before those of NATS, with two slashes, too.
    let serverz = page(&server, "//streaming/serverz").await;
    assert_eq!(serverz["cluster_id"], "shop");
    let channelsz = page(&server, "//streaming//channelsz?subs=1").await;
    assert_eq!(channelsz["count"], 0);
    assert_eq!(page(&server, "/healthz").await["status"], "ok");

    let missing = server.get("/nowhere").await.unwrap();
    assert_eq!(missing, (404, "404 page not found\n".to_owned()));
}

#[tokio::test]
async fn a_nats_server_that_does_not_answer_for_its_pages_holds_up_none_of_ours() {
    let Some(line) = Line::new().await else {
        return;
    };
    // A lease that outlasts the pause: NATS falls silent with its pages.
    let server = line.start("-p {nats} -m {http} -cid shop --lease 1m");
    server.wait_until_active().await;
    let nats = pid_of_nats_server(&server);
    kill(nats, Signal::SIGSTOP).unwrap();

    let late = async |path: &str| {
        let asked = Question::ask(server.http_port, path).await.unwrap();
        timeout(LIMIT, asked.answer()).await.unwrap().unwrap()
    };
    let asking = futures_util::future::join(late("/varz"), late("/connz"));
    let alive = server.get("/healthz").await.unwrap();
    assert_eq!(alive.0, 200, "{}", alive.1);
    let metrics = server.get("/metrics").await.unwrap();
    assert_eq!(metrics.0, 200);
    let (one, other) = asking.await;
    for (code, body) in [one, other] {
        assert!(
            (code == 504 && body.contains("has not answered for its page")) || code == 503,
            "{code}: {body}"
        );
    }

    kill(nats, Signal::SIGCONT).unwrap();
    wait_until(LIMIT, async || match server.get("/varz").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn without_a_nats_server_of_its_own_a_server_tells_who_it_is_and_where_to_look() {
    let pages = Pages::start(standby()).await;

    let varz = pages.get("/varz").await;
    assert_eq!(varz.code, 200);
    let value: Value = serde_json::from_str(&varz.body).unwrap();
    assert_eq!(value["server_id"], "node-1");
    for path in ["/connz?subs=1", "/routez", "/subsz", "/jsz", "//leafz"] {
        let answer = pages.get(path).await;
        assert_eq!(answer.code, 404, "{path}");
        assert!(
            answer.body.contains("ask its own monitoring port"),
            "{path}: {}",
            answer.body
        );
        assert!(answer.headers.contains("content-type: text/plain"));
    }
    let answer = pages.get("/favicon.ico").await;
    assert_eq!(
        (answer.code, answer.body.as_str()),
        (404, "404 page not found\n")
    );
}
