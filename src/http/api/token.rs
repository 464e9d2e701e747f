//! Who may ask: whoever sends the token. Comparing takes as long whatever is sent, and whoever sends wrong ones has to wait.

use std::net::IpAddr;
use std::path::PathBuf;

use axum::http::{HeaderMap, StatusCode, header};
use ring::hmac;

use super::problem::{Problem, problem};
use crate::http::failures::Failures;

/// Shorter ones could be guessed.
pub(in crate::http) const TOKEN_BYTES_MIN: usize = 16;

#[derive(Debug)]
pub(super) struct Guard {
    file: PathBuf,
    failures: Failures,
}

impl Guard {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file,
            failures: Failures::default(),
        }
    }

    pub(super) async fn admit(&self, from: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
        if let Some(left) = self.failures.banned(from) {
            let why = "too many wrong tokens came from this address";
            return Err(problem(StatusCode::TOO_MANY_REQUESTS, why)
                .hint("Wait, and send the right one.")
                .retry_after(left.as_secs() + 1));
        }
        let token = tokio::fs::read_to_string(&self.file).await;
        let token = token.map_err(|error| {
            tracing::error!(file = %self.file.display(), %error, "the token of the API cannot be read");
            problem(StatusCode::SERVICE_UNAVAILABLE, "the token of the API cannot be read")
                .hint("The log of the server says why.")
        })?;
        let token = token.trim();
        if token.len() < TOKEN_BYTES_MIN {
            let why = format!("the token of the API has less than {TOKEN_BYTES_MIN} characters");
            return Err(problem(StatusCode::SERVICE_UNAVAILABLE, why)
                .hint("Write a longer one into the file: openssl rand -hex 32."));
        }
        let given = headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if given.is_some_and(|given| is_same(token.as_bytes(), given.trim_ascii())) {
            return Ok(());
        }
        let why = match given {
            Some(_) => {
                self.failures.count(from);
                "the token is wrong"
            }
            None => "there is no token",
        };
        Err(problem(StatusCode::UNAUTHORIZED, why).hint("Send Authorization: Bearer TOKEN."))
    }
}

/// By what both make of a text: that takes as long wherever they differ.
pub(in crate::http) fn is_same(token: &[u8], given: &[u8]) -> bool {
    const TEXT: &[u8] = b"stanby";
    let mark = |secret| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), TEXT);
    let key = hmac::Key::new(hmac::HMAC_SHA256, token);
    hmac::verify(&key, TEXT, mark(given).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_same_or_not() {
        assert!(is_same(b"token", b"token"));
        assert!(
            !is_same(b"token", b"tokem")
                && !is_same(b"token", b"")
                && !is_same(b"token", b"token2")
        );
    }
}
