//! Who may ask: whoever sends the token. Comparing takes as long whatever is sent, and whoever sends wrong ones has to wait.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use ring::hmac;
use tokio::time::Instant;

use super::problem::{Problem, problem};

/// Shorter ones could be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Wrong tokens from one address within [`WINDOW`]; then none is looked at until it is over.
const FAILURES_MAX: u32 = 10;

const WINDOW: Duration = Duration::from_mins(1);

/// Addresses of which failures are counted at once.
const ADDRESSES_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Guard {
    file: PathBuf,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    /// When the first came, and how many since.
    by_address: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Guard {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file,
            failures: Mutex::default(),
        }
    }

    pub(super) async fn admit(&self, from: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
        if let Some(left) = self.with(|failures| failures.banned(from, Instant::now())) {
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
                self.with(|failures| failures.count(from, Instant::now()));
                "the token is wrong"
            }
            None => "there is no token",
        };
        Err(problem(StatusCode::UNAUTHORIZED, why).hint("Send Authorization: Bearer TOKEN."))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Failures) -> T) -> T {
        // Each change is a single step, so a panic elsewhere leaves nothing half done.
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut failures)
    }
}

impl Failures {
    /// For how long nothing that comes from there is looked at.
    fn banned(&mut self, from: IpAddr, now: Instant) -> Option<Duration> {
        self.by_address
            .retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        let (since, count) = self.by_address.get(&from)?;
        (*count >= FAILURES_MAX).then(|| WINDOW.saturating_sub(now.duration_since(*since)))
    }

    fn count(&mut self, from: IpAddr, now: Instant) {
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&from) {
            let oldest = self.by_address.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.by_address.remove(&oldest);
            }
        }
        let (_, count) = self.by_address.entry(from).or_insert((now, 0));
        *count += 1;
    }
}

/// By what both make of a text: that takes as long wherever they differ.
fn is_same(token: &[u8], given: &[u8]) -> bool {
    const TEXT: &[u8] = b"stanby";
    let mark = |secret| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), TEXT);
    let key = hmac::Key::new(hmac::HMAC_SHA256, token);
    hmac::verify(&key, TEXT, mark(given).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_wrong_tokens_waits_and_others_do_not() {
        let mut failures = Failures::default();
        let now = Instant::now();
        let address = |last| IpAddr::from([192, 0, 2, last]);
        for _ in 0..FAILURES_MAX {
            assert_eq!(failures.banned(address(1), now), None);
            failures.count(address(1), now);
        }
        assert_eq!(failures.banned(address(1), now), Some(WINDOW));
        assert_eq!(failures.banned(address(2), now), None);
        assert_eq!(failures.banned(address(1), now + WINDOW), None);
        assert!(is_same(b"token", b"token"));
        assert!(
            !is_same(b"token", b"tokem")
                && !is_same(b"token", b"")
                && !is_same(b"token", b"token2")
        );
    }
}
