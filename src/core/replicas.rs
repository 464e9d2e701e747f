//! Whether a replica that Postgres fails over to can lack what the last active has committed: what a standby believes
//! of it, and when it stops believing. What it knows of single channels is in [`super::commit_history`].
//!
//! A wrong belief would hide a loss, and let a sequence stand for two messages; a missing one only passes over some
//! sequences that were free. So it is earned slowly and given up at the first doubt.

use std::fmt;
use std::time::Duration;

use super::time::Instant;

/// A setting reaches the processes of Postgres one by one: what is reported must have been so for a while.
const LOOKS_MIN: u32 = 3;

/// A standby looks every second. What it has not looked at for longer than this may have changed since.
const LOOK_AGE_MAX: Duration = Duration::from_secs(2);

/// What an operator says of the replicas that become the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promoted {
    /// Nothing: they are believed to have everything where every commit waits for every replica.
    #[default]
    Auto,
    /// Only one that commits waited for: whatever decides about failovers knows which.
    Synchronous,
    /// Any.
    Asynchronous,
}

#[derive(Debug, Default)]
pub(super) struct Replicas {
    promoted: Promoted,
    /// In a row, and each time it was reported that every commit waits for every replica.
    looks: u32,
    looked_at: Option<Instant>,
    /// Why the looks were last counted from the beginning; `None`: there is no other reason than that this is new.
    begun_anew: Option<Why>,
}

/// Why it is not believed that a promoted replica has everything, in words for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    looks: u32,
    begun_anew: Option<Why>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NotAllWaitedFor,
    /// Nobody looked for so long.
    Pause(Duration),
    OwnTerm,
    Contradicted,
    /// Said by an operator.
    Asynchronous,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let looks = self.looks;
        if self.begun_anew == Some(Why::Asynchronous) {
            return write!(f, "replicas are asynchronous, by --database-failover");
        }
        write!(
            f,
            "this node has seen {looks} times in a row, and {LOOKS_MIN} are needed, that every commit waits for every \
             replica"
        )?;
        match self.begun_anew {
            None | Some(Why::Asynchronous) => Ok(()),
            Some(Why::NotAllWaitedFor) => write!(f, ", and before that some did not"),
            Some(Why::Pause(pause)) => {
                write!(
                    f,
                    "; before that it had not looked for {} ms",
                    pause.as_millis()
                )
            }
            Some(Why::OwnTerm) => write!(f, " since its own term"),
            Some(Why::Contradicted) => write!(f, "; the tables lack a term that it knows of"),
        }
    }
}

impl Replicas {
    pub(super) fn new(promoted: Promoted) -> Self {
        Self {
            promoted,
            ..Self::default()
        }
    }

    /// `all_waited_for`: every commit waits for every replica; `None` when the Postgres that was asked cannot tell of
    /// the one that the last active wrote on.
    pub(super) fn observe_sync(&mut self, all_waited_for: Option<bool>, now: Instant) {
        match all_waited_for {
            Some(true) => {
                self.doubt_old_look(now);
                self.looks = self.looks.saturating_add(1);
                self.looked_at = Some(now);
            }
            Some(false) => self.doubt(Why::NotAllWaitedFor),
            None => {}
        }
    }

    /// The active serves. When the last look is older than it should be, nobody has looked what it commits with.
    pub(super) fn observed_active(&mut self, now: Instant) {
        self.doubt_old_look(now);
    }

    /// The active does not poll replicas: its own commits say more.
    pub(super) fn committed(&mut self) {
        self.doubt(Why::OwnTerm);
    }

    /// The tables show that something is missing.
    pub(super) fn contradicted(&mut self) {
        self.doubt(Why::Contradicted);
    }

    /// True when every commit of the last active has waited for whichever replica there was.
    pub(super) fn have_everything(&self) -> bool {
        match self.promoted {
            Promoted::Auto => self.looks >= LOOKS_MIN,
            Promoted::Synchronous => self.begun_anew != Some(Why::Contradicted),
            Promoted::Asynchronous => false,
        }
    }

    /// Why they may lack something; `None` when they are believed to have everything.
    pub(super) fn in_doubt(&self) -> Option<Doubt> {
        (!self.have_everything()).then_some(Doubt {
            looks: self.looks,
            begun_anew: match self.promoted {
                Promoted::Auto | Promoted::Synchronous => self.begun_anew,
                Promoted::Asynchronous => Some(Why::Asynchronous),
            },
        })
    }

    fn doubt_old_look(&mut self, now: Instant) {
        let Some(looked_at) = self.looked_at else {
            return;
        };
        let pause = now.since(looked_at);
        if pause > LOOK_AGE_MAX {
            self.doubt(Why::Pause(pause));
        }
    }

    fn doubt(&mut self, why: Why) {
        *self = Self {
            promoted: self.promoted,
            begun_anew: Some(why),
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn replicas() -> Replicas {
        let mut replicas = Replicas::default();
        for second in 1..=3 {
            assert!(!replicas.have_everything());
            replicas.observe_sync(Some(true), at(second));
        }
        assert!(replicas.have_everything());
        replicas
    }

    #[test]
    fn a_setting_is_believed_once_it_has_been_seen_for_a_while() {
        let mut replicas = replicas();

        replicas.observe_sync(Some(false), at(4));
        assert!(!replicas.have_everything());
        replicas.observe_sync(Some(true), at(5));
        assert!(!replicas.have_everything());
    }

    #[test]
    fn an_outage_and_a_new_primary_take_nothing_back() {
        let mut replicas = replicas();

        replicas.observe_sync(None, at(60));

        assert!(replicas.have_everything());
    }

    #[test]
    fn an_active_that_outlives_the_last_look_ends_the_belief() {
        let mut replicas = replicas();
        replicas.observed_active(at(5));
        assert!(replicas.have_everything());

        replicas.observed_active(at(6));

        assert!(!replicas.have_everything());
    }

    #[test]
    fn an_operator_is_believed_until_the_tables_contradict() {
        let mut replicas = Replicas::new(Promoted::Synchronous);
        assert!(replicas.have_everything());
        replicas.observe_sync(Some(false), at(1));
        replicas.committed();
        replicas.observed_active(at(60));
        assert!(replicas.have_everything());

        replicas.contradicted();
        assert!(!replicas.have_everything());

        let mut replicas = Replicas::new(Promoted::Asynchronous);
        for second in 1..9 {
            replicas.observe_sync(Some(true), at(second));
        }
        assert!(!replicas.have_everything());
        let reason = replicas.in_doubt().expect("in doubt").to_string();
        assert!(reason.contains("--database-failover"), "{reason}");
    }

    #[test]
    fn a_doubt_tells_its_reason() {
        let said = |replicas: &Replicas| replicas.in_doubt().map(|doubt| doubt.to_string());
        let mut replicas = replicas();
        assert_eq!(said(&replicas), None);

        replicas.observe_sync(Some(true), at(9));
        let reason = said(&replicas).expect("in doubt");
        assert!(reason.contains("seen 1 times in a row"), "{reason}");
        assert!(
            reason.ends_with("it had not looked for 6000 ms"),
            "{reason}"
        );

        replicas.observe_sync(Some(false), at(10));
        let reason = said(&replicas).expect("in doubt");
        assert!(reason.ends_with("before that some did not"), "{reason}");
    }

    #[test]
    fn looks_with_a_gap_between_them_begin_anew() {
        let mut replicas = replicas();

        replicas.observe_sync(Some(true), at(9));

        assert!(!replicas.have_everything());
    }
}
