//! What a turn of the active loop may do, what to wait for between two of them, and why there is none any more.

use crate::core::capacity::Quota;
use crate::core::refusal::Refusal;
use crate::core::time::Instant;

/// Why the active gives up its term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was received of the leader session, not even its end.
    Unproved,
    /// NATS was out of reach for a lease, or took nothing for as long: another node may still reach it.
    NatsLost,
    /// The NATS server fell silent, and a standby listens at another one: it has received what this server has not.
    NatsSilent,
    /// Postgres refuses what is to be stored, and it cannot be taken back in this term.
    Refused(Box<Refusal>),
    /// It was asked to end, and nothing is left to do, or time is up.
    Drained,
}

/// What a turn may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Serve,
    /// Nothing that waits may be acted on before it is known that nobody else is active: look again then, or when the
    /// term ends or is asked to.
    KeepSilent(Instant),
}

/// Which requests are taken next, and how much of them at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    Nothing,
    /// The batch is full but for what it keeps for clients that have little under way: requests of those of whom nothing
    /// waited when the request came.
    New(Quota),
    All(Quota),
}

impl Intake {
    pub fn is_open(self) -> bool {
        self != Self::Nothing
    }
}

/// What to wait for between two turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// No longer than until then; `timeout` is to be called if nothing else came.
    pub until: Instant,
    /// There is more to do: what has come has its turn first, and nothing is waited for.
    pub goes_on: bool,
    /// Which requests may be handed to `take_requests`.
    pub intake: Intake,
    /// `take_backlog` is to be called before that.
    pub has_backlog: bool,
}
