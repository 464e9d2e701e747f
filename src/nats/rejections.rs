//! What the NATS server does not take of what is sent to clients: its permissions forbid the subject, or the subject is longer than a
//! line may be. For the latter it ends the connection, and does not say what its bound is (`max_control_line`): so that is
//! learned, or one client's inbox would end each connection.

use std::time::Duration;

use crate::core::time::Instant;

/// So long after the last one the condition holds.
const HOLDS_FOR: Duration = Duration::from_mins(1);

/// Then a long subject is tried again: the bound may have been raised.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// Bytes of a subject and its reply subject. Shorter ones are always sent: with less no client could work.
pub(super) const SHORT: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Rejections {
    /// In the words of the NATS server, and when.
    last: Option<(String, Instant)>,
    /// The most bytes of subjects sent since the last one was too long.
    longest: usize,
    /// The NATS server does not take more, as learned at that time.
    most: Option<(usize, Instant)>,
    /// An inbox of our own that something was sent to, to learn whether it may be; and whether it may not.
    tried: Option<(String, bool)>,
}

/// What an error of a NATS server is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Permission,
    /// The connection ends with it.
    Length,
}

impl About {
    pub(super) fn of(error: &str) -> Option<Self> {
        let error = error.to_ascii_lowercase();
        if error.contains("permissions violation for publish") {
            Some(Self::Permission)
        } else if error.contains("maximum control line exceeded") {
            Some(Self::Length)
        } else {
            None
        }
    }
}

impl Rejections {
    /// Something is about to be sent there, and nobody listens.
    pub(super) fn try_subject(&mut self, subject: String) {
        self.tried = Some((subject, false));
    }

    /// False where the NATS server has said that nothing may be sent to what was tried last.
    pub(super) fn takes_what_was_tried(&self) -> bool {
        self.tried
            .as_ref()
            .is_none_or(|&(_, is_rejected)| !is_rejected)
    }

    pub(super) fn note(&mut self, about: About, error: &str, now: Instant) {
        if let Some((subject, is_rejected)) = &mut self.tried
            && error.contains(subject.as_str())
        {
            *is_rejected = true;
            return;
        }
        self.last = Some((error.to_owned(), now));
        if about == About::Length {
            let longest = std::mem::take(&mut self.longest);
            if longest > SHORT {
                self.most = Some((longest - 1, now));
            }
        }
    }

    /// Whether a message may be sent whose subject and reply subject have so many bytes together.
    pub(super) fn allow(&mut self, bytes: usize, now: Instant) -> bool {
        if self.most(now).is_some_and(|most| bytes > most) {
            if let Some((_, at)) = &mut self.last {
                *at = now;
            }
            return false;
        }
        self.longest = self.longest.max(bytes);
        true
    }

    /// The most bytes that subjects may have, where that is known.
    pub(super) fn most(&self, now: Instant) -> Option<usize> {
        let (most, learned_at) = self.most?;
        (now.since(learned_at) < FORGOTTEN_AFTER).then_some(most)
    }

    /// What the NATS server has said, unless it was long ago.
    pub(super) fn error(&self, now: Instant) -> Option<String> {
        let (error, at) = self.last.as_ref()?;
        (now.since(*at) < HOLDS_FOR).then(|| error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn an_inbox_that_was_tried_tells_nothing_of_a_clients() {
        let mut rejections = Rejections::default();
        assert!(rejections.takes_what_was_tried());
        rejections.try_subject("_INBOX.own".to_owned());
        let error = "Permissions Violation for Publish to \"_INBOX.theirs\"";
        rejections.note(About::Permission, error, at(1));
        assert!(rejections.takes_what_was_tried());
        let own = "Permissions Violation for Publish to \"_INBOX.own\"";
        rejections.note(About::Permission, own, at(2));
        assert!(!rejections.takes_what_was_tried());
        assert_eq!(rejections.error(at(3)).as_deref(), Some(error));
        rejections.try_subject("_INBOX.next".to_owned());
        assert!(rejections.takes_what_was_tried());
    }

    #[test]
    fn a_subject_that_was_too_long_is_not_sent_again_and_others_are() {
        let error = "maximum control line exceeded";
        let about = About::of(error).expect("it is about the length");
        let mut rejections = Rejections::default();
        assert!(rejections.allow(300, at(1)) && rejections.allow(900, at(1)));

        rejections.note(about, error, at(2));
        assert!(!rejections.allow(900, at(3)));
        assert!(rejections.allow(899, at(3)));
        rejections.note(about, error, at(4));
        assert!(!rejections.allow(899, at(5)) && rejections.allow(300, at(5)));
        assert_eq!(rejections.error(at(6)).as_deref(), Some(error));

        assert_eq!(rejections.error(at(66)), None, "none was to be sent since");
        assert!(
            rejections.allow(900, at(605)),
            "the bound may be another one"
        );
    }

    #[test]
    fn what_nothing_long_was_sent_before_bounds_nothing() {
        let mut rejections = Rejections::default();
        rejections.allow(100, at(1));
        rejections.note(About::Length, "maximum control line exceeded", at(2));
        assert!(rejections.allow(5000, at(3)));

        rejections.note(About::Permission, "of another client", at(3));
        rejections.note(About::Length, "maximum control line exceeded", at(3));
        assert!(
            !rejections.allow(5000, at(3)),
            "the other error was about another subject"
        );

        let error = "Permissions Violation for Publish to \"a\"";
        assert_eq!(About::of(error), Some(About::Permission));
        assert_eq!(About::of("Stale Connection"), None);
        rejections.note(About::Permission, error, at(4));
        assert!(rejections.allow(4999, at(5)));
        assert_eq!(rejections.error(at(6)).as_deref(), Some(error));
    }
}
