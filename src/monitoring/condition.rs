//! What is wrong with a server right now. A condition is raised with a sentence that names the object, the cause and the
//! remedy, and cleared when it has passed. It shows in the same words on `/healthz` and `/readyz`, in the log, as the
//! metric `stanby_condition`, in the table `conditions` and in `stanby status`.

use std::collections::BTreeMap;

use crate::core::time::Timestamp;

macro_rules! conditions {
    ($($(#[$doc:meta])* $condition:ident $name:literal, $effect:ident;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Condition {
            $($(#[$doc])* $condition,)*
        }

        impl Condition {
            pub const ALL: &[Self] = &[$(Self::$condition,)*];

            /// As in the metric's label and in the table.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$condition => $name,)*
                }
            }

            pub fn effect(self) -> Effect {
                match self {
                    $(Self::$condition => Effect::$effect,)*
                }
            }
        }
    };
}

/// What a condition means for those who ask whether the server is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It should not serve, or serves nobody.
    NotReady,
    /// It might not be able to take over. An active whose term has shown that it serves stays ready: whoever takes it out of a
    /// balancer, or restarts it, makes a warning an outage.
    NotReadyUnlessServing,
    /// It serves, or could take over; somebody has to look.
    Warns,
}

impl Effect {
    /// Whether it makes a server not ready.
    pub fn blocks(self, serves: bool) -> bool {
        match self {
            Self::NotReady => true,
            Self::NotReadyUnlessServing => !serves,
            Self::Warns => false,
        }
    }
}

conditions! {
    /// A standby receives nothing from the active over NATS, although the lock is held.
    ActiveUnheard "active-unheard", Warns;
    /// Many clients do not answer at once: NATS does not lead to them.
    ClientsUnreachable "clients-unreachable", Warns;
    /// A commit waits for a lock that another session or a prepared transaction holds.
    CommitBlocked "commit-blocked", NotReady;
    /// Another server is active for the same cluster ID on other tables.
    ConflictingActives "conflicting-actives", NotReady;
    /// A dead-letter channel does not take the dead letters of a policy.
    DeadLettersRefused "dead-letters-refused", Warns;
    /// The process has hardly any file descriptors left.
    DescriptorsFew "descriptors-few", Warns;
    /// The former store that the line names is not what was imported, or was never imported and cannot be looked at.
    FormerStoreChanged "former-store-changed", Warns;
    /// The table of takeovers does not take the row of this term.
    HistoryLacks "history-incomplete", Warns;
    /// Postgres refuses everything that clients ask for lately, for reasons that do not pass.
    NothingStored "nothing-stored", NotReady;
    /// Postgres refuses some of what is to be stored, for a reason that does not pass.
    WritesRefused "writes-refused", Warns;
    /// The terms of this server end one after the other, for one reason.
    TermsEnd "terms-end", NotReadyUnlessServing;
    /// The lock is held by a session that is no server's, so no server can become active.
    LockHeldByStranger "lock-held-by-stranger", NotReadyUnlessServing;
    /// The database does not accept this server's login any more; its sessions go on.
    LoginRefused "login-refused", NotReadyUnlessServing;
    /// Clients send more than is carried out, and some of it is refused.
    PublishesRefused "publishes-refused", Warns;
    /// Log lines are dropped, because where they go to does not take them.
    LogBlocked "log-blocked", Warns;
    /// Messages are missing from the tables and nothing says that they are gone; subscriptions wait for them.
    MessagesUnseen "messages-unseen", Warns;
    /// The NATS server does not let this server listen to clients, or answer them.
    NatsForbids "nats-forbids", NotReady;
    /// The NATS server does not take some of what this server sends to clients.
    NatsRejects "nats-rejects", Warns;
    /// The nats-server that this server runs has ended.
    NatsServerDown "nats-server-down", NotReady;
    /// A transaction, slot or replica keeps Postgres from cleaning up, and it costs.
    OldSnapshot "old-snapshot", Warns;
    /// Connections for reading lead elsewhere than to the primary: to a replica, an old primary or a copy.
    ReadsAstray "reads-astray", Warns;
    /// No connection for reading can be had, or what is read for one purpose cannot be read with them.
    ReadsFail "reads-fail", NotReadyUnlessServing;
    /// Another transaction holds a lock without which no server becomes active.
    TakeoverBlocked "takeover-blocked", NotReadyUnlessServing;
    /// The role of the database URL has lost rights that a server needs.
    RightsMissing "rights-missing", NotReadyUnlessServing;
    /// A crash or a failover of Postgres would empty tables, because it keeps no log of them.
    UnloggedTables "unlogged-tables", Warns;
}

/// The conditions that hold, each with its sentence and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions(BTreeMap<Condition, Raised>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    pub reason: String,
    pub since: Timestamp,
}

impl Conditions {
    /// True when the condition did not hold before, or for another reason.
    pub fn raise(&mut self, condition: Condition, reason: String, now: Timestamp) -> bool {
        if let Some(raised) = self.0.get_mut(&condition) {
            let changed = raised.reason != reason;
            raised.reason = reason;
            return changed;
        }
        let raised = Raised { reason, since: now };
        self.0.insert(condition, raised);
        true
    }

    /// What held until now.
    pub fn clear(&mut self, condition: Condition) -> Option<Raised> {
        self.0.remove(&condition)
    }

    pub fn holds(&self, condition: Condition) -> bool {
        self.0.contains_key(&condition)
    }

    /// Why the server is not ready, as far as conditions say so; `serves`: it is the active, and its term has shown that it serves.
    pub fn not_ready_reason(&self, serves: bool) -> Option<&str> {
        let mut raised = self.0.iter();
        let blocks = raised.find(|(condition, _)| condition.effect().blocks(serves));
        blocks.map(|(_, raised)| raised.reason.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Condition, &Raised)> {
        self.0
            .iter()
            .map(|(&condition, raised)| (condition, raised))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_the_time_when_it_began() {
        let mut conditions = Conditions::default();
        let rivals = Condition::ConflictingActives;
        assert!(conditions.raise(rivals, "one".to_owned(), Timestamp(7)));
        assert!(!conditions.raise(rivals, "one".to_owned(), Timestamp(8)));
        assert!(conditions.raise(rivals, "two".to_owned(), Timestamp(9)));

        assert_eq!(conditions.not_ready_reason(true), Some("two"));
        let raised = conditions.clear(rivals).unwrap();
        assert_eq!(
            (raised.reason.as_str(), raised.since),
            ("two", Timestamp(7))
        );
        assert_eq!(conditions, Conditions::default());
    }

    #[test]
    fn what_only_a_takeover_would_suffer_from_leaves_an_active_that_serves_ready() {
        let mut conditions = Conditions::default();
        conditions.raise(Condition::TermsEnd, "again".to_owned(), Timestamp(7));
        assert_eq!(conditions.not_ready_reason(false), Some("again"));
        assert_eq!(conditions.not_ready_reason(true), None);
    }

    #[test]
    fn every_condition_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Condition::ALL
            .iter()
            .map(|condition| condition.name())
            .collect();
        assert_eq!(names.len(), Condition::ALL.len());
    }
}
