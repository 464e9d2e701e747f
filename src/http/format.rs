//! How answers look: JSON as NATS Streaming indents it, JSONP, times and the uptime.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::paging::Query;
use crate::core::time::Timestamp;
use crate::printable;

const CALLBACK_BYTES_MAX: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Callback {
    callback: Option<String>,
}

impl Callback {
    pub(super) fn of(query: &Query) -> Self {
        Self {
            callback: query.get("callback").cloned(),
        }
    }
}

pub(super) fn not_found(what: &str) -> Response {
    plain(StatusCode::NOT_FOUND, what)
}

pub(super) fn failed(what: &str) -> Response {
    plain(StatusCode::INTERNAL_SERVER_ERROR, what)
}

/// One line. What it repeats of the query must not be taken for a page.
pub(super) fn plain(code: StatusCode, what: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (code, headers, format!("{}\n", printable::line(what))).into_response()
}

/// Indented with two spaces; wrapped into a call when the query names a callback.
pub(super) fn json(code: StatusCode, value: &impl Serialize, callback: &Callback) -> Response {
    let Ok(mut body) = serde_json::to_string_pretty(value) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // A browser or a terminal may show it as it is.
    if let Cow::Owned(safe) = printable::json(&body) {
        body = safe;
    }
    // It may wait for its reader for a while.
    body.shrink_to_fit();
    let any_origin = (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    match callback.callback.as_deref() {
        None | Some("") => (
            code,
            [any_origin, (header::CONTENT_TYPE, "application/json")],
            body,
        )
            .into_response(),
        Some(name) if is_script_name(name) => {
            let content_type = (header::CONTENT_TYPE, "application/javascript");
            (code, [any_origin, content_type], format!("{name}({body})")).into_response()
        }
        Some(_) => (
            StatusCode::BAD_REQUEST,
            "callback must be the name of a function\n",
        )
            .into_response(),
    }
}

/// Made beside the threads that serve clients and probes.
pub(super) async fn large<T: Serialize>(
    value: impl FnOnce() -> T + Send + 'static,
    callback: Callback,
) -> Response {
    let made = tokio::task::spawn_blocking(move || json(StatusCode::OK, &value(), &callback));
    made.await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The name is echoed into a script: anything else would let a link run code in the name of this host.
fn is_script_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.');
    name.len() <= CALLBACK_BYTES_MAX && name.bytes().all(allowed)
}

/// RFC 3339 in UTC, with nanoseconds.
pub(super) fn time(timestamp: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(timestamp.0))
        .map_or_else(|_| String::new(), |time| time.to_string())
}

/// `1y2d3h4m5s`, without the units before the first that is not zero.
pub(super) fn uptime(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let clock = format!("{}h{}m{}s", hours % 24, minutes % 60, seconds % 60);
    match (days / 365, days % 365) {
        (0, 0) if minutes == 0 => format!("{seconds}s"),
        (0, 0) if hours == 0 => format!("{minutes}m{}s", seconds % 60),
        (0, 0) => clock,
        (0, days) => format!("{days}d{clock}"),
        (years, days) => format!("{years}y{days}d{clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acceptance: 146.
    #[test]
    fn uptime_leaves_out_leading_zero_units() {
        let (minute, hour, day) = (60, 3600, 86400);
        let cases = [
            (0, "0s"),
            (5, "5s"),
            (minute + 2, "1m2s"),
            (hour + 2 * minute + 3, "1h2m3s"),
            (hour, "1h0m0s"),
            (day + 2 * hour + 3 * minute + 4, "1d2h3m4s"),
            (
                365 * day + 2 * day + 3 * hour + 4 * minute + 5,
                "1y2d3h4m5s",
            ),
            (365 * day, "1y0d0h0m0s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn times_are_rfc_3339_with_nanoseconds() {
        assert_eq!(
            time(Timestamp(1_600_000_000_123_456_789)),
            "2020-09-13T12:26:40.123456789Z"
        );
        assert_eq!(time(Timestamp(0)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn only_names_are_called_back() {
        for good in ["fn", "jQuery1_2", "a.b", "$"] {
            assert!(is_script_name(good), "{good}");
        }
        for bad in ["alert(1);x", "a b", "<script>", "é", &"x".repeat(129)] {
            assert!(!is_script_name(bad), "{bad}");
        }
    }
}
