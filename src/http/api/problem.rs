//! What went wrong, as `application/problem+json` (RFC 9457).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::administration::AdminError;

#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    hint: String,
    retry_after: Option<u64>,
}

pub(super) fn problem(status: StatusCode, detail: impl Into<String>) -> Problem {
    Problem {
        status,
        detail: detail.into(),
        hint: String::new(),
        retry_after: None,
    }
}

impl Problem {
    /// What to do about it; a sentence.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Refused(error) => {
                problem(StatusCode::UNPROCESSABLE_ENTITY, error.error).hint(error.hint)
            }
            AdminError::NotTaken => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "no server has taken the request in time; it is withdrawn, and nothing was done",
            )
            .hint("Look at /readyz of the servers, and ask again when one is active.")
            .retry_after(5),
            AdminError::Running(id) => {
                problem(StatusCode::ACCEPTED, format!("request {id} is under way"))
            }
            AdminError::Starting => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "the server is starting").retry_after(5)
            }
            AdminError::Busy => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests are under way at this server",
            )
            .hint("Ask again when others are done.")
            .retry_after(1),
            AdminError::Tables(error) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(5)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self {
            status,
            detail,
            hint,
            retry_after,
        } = self;
        let body = json!({
            "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(),
            "detail": detail, "hint": hint,
        });
        let headers = [
            (header::CONTENT_TYPE, "application/problem+json"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let mut response = (status, headers, body.to_string() + "\n").into_response();
        let more = response.headers_mut();
        if let Some(seconds) = retry_after {
            more.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            more.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
