//! Whether a replica that Postgres fails over to can lack what the last active has committed: what a standby believes
//! of it, and when it stops believing. What it knows of single channels is in [`super::memory`].
//!
//! A wrong belief would hide a loss, and let a sequence stand for two messages; a missing one only passes over some
//! sequences that were free. So it is earned slowly and given up at the first doubt.

use std::time::Duration;

use super::time::Instant;

/// A setting reaches the processes of Postgres one by one: what is told must have been told for a while.
const LOOKS_MIN: u32 = 3;

/// A standby looks every second. What it has not looked at for longer than this may have changed since.
const LOOK_AGE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// In a row, and told each time that every commit waits for every replica.
    looks: u32,
    looked_at: Option<Instant>,
}

impl Replicas {
    /// `all_waited_for`: every commit waits for every replica; `None` when the Postgres that was asked cannot tell of
    /// the one that the last active wrote on.
    pub(super) fn looked(&mut self, all_waited_for: Option<bool>, now: Instant) {
        match all_waited_for {
            Some(true) => {
                self.doubt_old_look(now);
                self.looks = self.looks.saturating_add(1);
                self.looked_at = Some(now);
            }
            Some(false) => self.doubt(),
            None => {}
        }
    }

    /// The active serves. When the last look is older than it should be, nobody has looked what it commits with.
    pub(super) fn heard_active(&mut self, now: Instant) {
        self.doubt_old_look(now);
    }

    /// Something does not fit, or the time has come to begin anew.
    pub(super) fn doubt(&mut self) {
        *self = Self::default();
    }

    /// True when every commit of the last active has waited for whichever replica there was.
    pub(super) fn have_everything(&self) -> bool {
        self.looks >= LOOKS_MIN
    }

    fn doubt_old_look(&mut self, now: Instant) {
        let is_old = |at: Instant| now.since(at) > LOOK_AGE_MAX;
        if self.looked_at.is_none_or(is_old) {
            self.doubt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn believing() -> Replicas {
        let mut replicas = Replicas::default();
        for second in 1..=3 {
            assert!(!replicas.have_everything());
            replicas.looked(Some(true), at(second));
        }
        assert!(replicas.have_everything());
        replicas
    }

    #[test]
    fn a_setting_is_believed_once_it_has_been_seen_for_a_while() {
        let mut replicas = believing();

        replicas.looked(Some(false), at(4));
        assert!(!replicas.have_everything());
        replicas.looked(Some(true), at(5));
        assert!(!replicas.have_everything());
    }

    #[test]
    fn an_outage_and_a_new_primary_take_nothing_back() {
        let mut replicas = believing();

        replicas.looked(None, at(60));

        assert!(replicas.have_everything());
    }

    #[test]
    fn an_active_that_outlives_the_last_look_ends_the_belief() {
        let mut replicas = believing();
        replicas.heard_active(at(5));
        assert!(replicas.have_everything());

        replicas.heard_active(at(6));

        assert!(!replicas.have_everything());
    }

    #[test]
    fn looks_with_a_gap_between_them_begin_anew() {
        let mut replicas = believing();

        replicas.looked(Some(true), at(9));

        assert!(!replicas.have_everything());
    }
}
