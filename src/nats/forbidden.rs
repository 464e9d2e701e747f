//! Subscriptions that the NATS server does not grant, or takes back: its permissions or limits changed. The connection goes on, and
//! nothing is received on it; so they are asked for again and again, until no error comes back.

use std::time::Duration;

use crate::core::time::Instant;

const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// An error comes back sooner than this.
const GRANTED_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Forbidden(Option<State>);

#[derive(Debug)]
struct State {
    /// The first of the errors: there is one for each subscription.
    error: String,
    last: Instant,
    asked: Option<Instant>,
}

impl Forbidden {
    /// Whether this error of a NATS server is about a subscription.
    pub(super) fn is_about(error: &str) -> bool {
        let error = error.to_ascii_lowercase();
        error.contains("permissions violation for subscription")
            || error.contains("maximum subscriptions exceeded")
    }

    pub(super) fn note(&mut self, error: &str, now: Instant) {
        let state = self.0.get_or_insert_with(|| State {
            error: error.to_owned(),
            last: now,
            asked: None,
        });
        state.last = now;
        state.asked = None;
    }

    /// True when all subscriptions are to be asked for again. To be called now and then.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        match &mut self.0 {
            Some(State {
                asked: Some(asked), ..
            }) if now.since(*asked) >= GRANTED_AFTER => {
                self.0 = None;
                false
            }
            Some(state) if state.asked.is_none() && now.since(state.last) >= ASK_AGAIN_AFTER => {
                state.asked = Some(now);
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn error(&self) -> Option<String> {
        self.0.as_ref().map(|state| state.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forbidden_is_asked_for_again_until_no_error_comes_back() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let error = "Permissions Violation for Subscription to \"a\"";
        assert!(Forbidden::is_about(error));
        assert!(!Forbidden::is_about(
            "Permissions Violation for Publish to \"a\""
        ));

        let mut forbidden = Forbidden::default();
        assert!(!forbidden.look(at(0)));
        forbidden.note(error, at(0));
        forbidden.note("another", at(1));
        assert!(!forbidden.look(at(500)), "not at once");
        assert!(forbidden.look(at(1500)));
        forbidden.note(error, at(1510));
        assert!(forbidden.look(at(2600)), "refused again");
        assert!(!forbidden.look(at(4500)));
        assert_eq!(forbidden.error().as_deref(), Some(error));
        assert!(!forbidden.look(at(4700)));
        assert_eq!(forbidden.error(), None, "granted");
    }
}
