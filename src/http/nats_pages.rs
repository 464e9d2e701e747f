//! NATS' own pages (`/varz`, `/connz`, …) on the port where nats-streaming-server had them beside its own: passed on from
//! the nats-server that this server runs. Where NATS is somebody else's, `/varz` says who answers, as exporters ask first,
//! and the others say where to look.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer_budget;
use super::format::{Callback, json, not_found, plain, time, uptime};
use super::view::{Source, View};
use crate::monitoring::status::NatsPages;

/// For a whole answer of the nats-server.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest page. `/connz?subs=1` of very many connections is longer: its `limit` makes pages of it.
const BYTES_MAX: usize = 64 << 20;

/// What else nats-server 2.9 has; it may have more.
const OF_NATS: &[&str] = &[
    "accountz",
    "accstatz",
    "connz",
    "gatewayz",
    "ipqueuesz",
    "jsz",
    "leafz",
    "raftz",
    "routez",
    "stacksz",
    "subscriptionsz",
    "subsz",
];

/// The headers that a page of NATS has of its own.
const PASSED_ON: [header::HeaderName; 2] =
    [header::CONTENT_TYPE, header::ACCESS_CONTROL_ALLOW_ORIGIN];

/// The same address without empty segments, where there are some: exporters put a slash between a URL that ends with one
/// and a path that begins with one, and nats-streaming-server sent them on to the plain path.
pub(super) fn plain_path(uri: &Uri) -> Option<Uri> {
    if !uri.path().contains("//") {
        return None;
    }
    let segments = uri.path().split('/').filter(|segment| !segment.is_empty());
    let mut path: String = segments.flat_map(|segment| ["/", segment]).collect();
    if path.is_empty() || uri.path().ends_with('/') {
        path.push('/');
    }
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    path.parse().ok()
}

/// Every path that is not ours may be one of NATS, whose pages grow with its versions.
pub(super) async fn pass_on(State(source): State<Source>, uri: Uri) -> Response {
    let view = source.view();
    let address = match view.status.nats_pages {
        NatsPages::At(address) => address,
        NatsPages::NotYet => {
            return plain(
                StatusCode::BAD_GATEWAY,
                "the nats-server of this server is not running; the log says why",
            );
        }
        NatsPages::Elsewhere => return elsewhere(&view, &uri),
    };
    let Some(turn) = source.shared.answer_budget.nats().await else {
        return source.shared.answer_budget.refuse();
    };
    let answer = match timeout(LIMIT, ask(address, &uri)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => plain(
            StatusCode::BAD_GATEWAY,
            &format!("the nats-server of this server does not answer for its pages: {error}"),
        ),
        Err(_) => plain(
            StatusCode::GATEWAY_TIMEOUT,
            &format!(
                "the nats-server of this server has not answered for its page within {LIMIT:?}"
            ),
        ),
    };
    answer_budget::in_turn(turn, answer)
}

async fn ask(address: SocketAddr, uri: &Uri) -> io::Result<Response> {
    let stream = TcpStream::connect(address).await?;
    let handshake = http1::handshake::<_, Body>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    // Whatever the method was: those pages only read.
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .map_err(io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await;
        let (parts, body) = answer.map_err(io::Error::other)?.into_parts();
        let body = to_bytes(Body::new(body), BYTES_MAX).await;
        let body = body.map_err(io::Error::other)?;
        let mut headers = HeaderMap::new();
        for name in PASSED_ON {
            if let Some(value) = parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        Ok((parts.status, headers, body).into_response())
    };
    let mut answer = std::pin::pin!(answer);
    // The connection moves the bytes of both directions.
    tokio::select! {
        answered = answer.as_mut() => answered,
        ended = connection => {
            ended.map_err(io::Error::other)?;
            answer.await
        }
    }
}

/// What can be said of a NATS server that is not asked.
#[derive(Serialize)]
struct Varz {
    /// Exporters name what they tell after it: that of this server, as where nats-streaming-server used a NATS elsewhere.
    server_id: String,
    server_name: String,
    version: &'static str,
    start: String,
    now: String,
    uptime: String,
}

fn elsewhere(view: &View, uri: &Uri) -> Response {
    let name = uri.path().trim_start_matches('/');
    if name == "varz" {
        let (status, now) = (&view.status, view.now.wall);
        let varz = Varz {
            server_id: status.server_id.clone(),
            server_name: status.server_id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            start: time(status.started_at),
            now: time(now),
            uptime: uptime(now.since(status.started_at)),
        };
        return json(StatusCode::OK, &varz, &Callback::default());
    }
    if OF_NATS.contains(&name) {
        return not_found(&format!(
            "{name} is a page of NATS, and the NATS server is not run by this server: ask its own monitoring port"
        ));
    }
    not_found("404 page not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_segments_of_a_path_are_left_out() {
        let plain = |text: &str| {
            let plain = plain_path(&text.parse().unwrap());
            plain.map(|uri| uri.to_string())
        };
        for (given, expected) in [
            ("//streaming/serverz", "/streaming/serverz"),
            (
                "/streaming//channelsz?subs=1",
                "/streaming/channelsz?subs=1",
            ),
            ("//varz?a=b//c", "/varz?a=b//c"),
            ("//", "/"),
            ("/x//", "/x/"),
        ] {
            assert_eq!(plain(given).as_deref(), Some(expected), "{given}");
        }
        assert_eq!(plain("/varz?to=http://x"), None);
    }
}
