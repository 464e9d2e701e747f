//! Why a term ended: recorded by its active where it can, else inferred by the next one.

use std::fmt;
use std::time::Duration;

use crate::printable;

/// As in the column `takeovers.cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There was no term before.
    FirstStart,
    /// The active was stopped.
    Stopped,
    /// An operator asked for another active.
    SteppedDown,
    /// The active had no NATS for a lease, or NATS took nothing from it.
    NatsLost,
    /// Postgres refused what was to be stored, for a reason that does not pass.
    RefusedWrite,
    /// Something held the active up.
    Stuck,
    /// It had the lock, and did not come to serve.
    TakeoverFailed,
    /// The active lost its session and could tell so.
    SessionLost,
    /// The session ended while the active still announced itself: it was killed or crashed, or its connection broke.
    SessionEnded,
    /// The active no longer announced itself before its session ended: it was frozen, or cut off, or its machine is gone.
    Silent,
    /// A standby ended the session of an active that had been silent for two leases.
    EndedByStandby,
    /// Postgres itself had failed over.
    PostgresFailedOver,
    /// Nothing is known: nobody listened.
    Unknown,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstStart => "first-start",
            Self::Stopped => "stopped",
            Self::SteppedDown => "stepped-down",
            Self::NatsLost => "nats-lost",
            Self::RefusedWrite => "refused-write",
            Self::Stuck => "stuck",
            Self::TakeoverFailed => "takeover-failed",
            Self::SessionLost => "session-lost",
            Self::SessionEnded => "session-ended",
            Self::Silent => "silent",
            Self::EndedByStandby => "ended-by-standby",
            Self::PostgresFailedOver => "postgres-failed-over",
            Self::Unknown => "unknown",
        }
    }
}

/// With the cause in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// A newer server may have written one that this version does not know.
    pub cause: String,
    pub detail: String,
}

impl End {
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause: cause.as_str().to_owned(),
            detail: printable::line(&detail.into()).into_owned(),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause, self.detail)
    }
}

/// What the next active saw of an end that was not recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// From the last sign of the former active, received over NATS, to the lock; `None` when none was received.
    pub silence: Option<Duration>,
    /// How often an active announces itself.
    pub sign_every: Duration,
    pub has_ended_holder: bool,
    pub has_failed_over: bool,
    /// The history does not say that the term served.
    pub never_served: bool,
}

impl Seen {
    pub(super) fn end(self, lease: Duration) -> End {
        if self.has_failed_over {
            let detail =
                "Postgres failed over, and the session of the active went with the former primary";
            return End::new(Cause::PostgresFailedOver, detail);
        }
        if self.has_ended_holder {
            let detail = "it was silent for more than two leases, and a standby ended its session";
            return End::new(Cause::EndedByStandby, detail);
        }
        if self.never_served {
            // The last sign was that of an active before it.
            let detail = "its session ended before it had taken over: it was killed or crashed meanwhile, or its connection broke";
            return End::new(Cause::TakeoverFailed, detail);
        }
        let Some(silence) = self.silence else {
            let detail = "the session of the active ended, and this server had no announcement of that active before";
            return End::new(Cause::Unknown, detail);
        };
        let millis = silence.as_millis();
        // A lease without a renewal, less the time in which one was due anyway; but more than between two signs.
        if silence >= (lease * 3 / 4).max(self.sign_every * 3 / 2) {
            let detail = format!(
                "its last announcement came {millis} ms before its session ended: frozen, cut off, or its machine is gone"
            );
            return End::new(Cause::Silent, detail);
        }
        let detail = format!(
            "its announcements came until {millis} ms before its session ended: killed or crashed, or its connection broke"
        );
        End::new(Cause::SessionEnded, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_is_told_from_a_kill_by_the_silence_before_the_lock_was_free() {
        let lease = Duration::from_secs(2);
        let seen = |millis: u64| Seen {
            silence: Some(Duration::from_millis(millis)),
            sign_every: Duration::from_millis(500),
            ..Seen::default()
        };
        assert_eq!(seen(499).end(lease).cause, "session-ended");
        assert_eq!(seen(1499).end(lease).cause, "session-ended");
        assert_eq!(seen(1500).end(lease).cause, "silent");
        assert!(seen(1750).end(lease).detail.contains("1750 ms"));
        assert_eq!(Seen::default().end(lease).cause, "unknown");
        let ended = Seen {
            has_ended_holder: true,
            ..seen(5000)
        };
        assert_eq!(ended.end(lease).cause, "ended-by-standby");
        let began = Seen {
            never_served: true,
            ..seen(5000)
        };
        assert_eq!(began.end(lease).cause, "takeover-failed");
        let failed_over = Seen {
            has_failed_over: true,
            ..ended
        };
        assert_eq!(failed_over.end(lease).cause, "postgres-failed-over");
    }
}
