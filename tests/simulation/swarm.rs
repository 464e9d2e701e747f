//! Which kinds of faults a seed has, and how often each: worlds that have everything hide what a few kinds alone bring about.

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill,
    Freeze,
    CutFromDatabase,
    LoseMessages,
    JumpClock,
    DeleteMessages,
    RestartDatabase,
    RefuseWrites,
    CutLink,
    SlowLink,
    FailOver,
    CrashClient,
    /// Connections for reading lead to an older copy.
    LeadReadsAstray,
    /// A policy hides rows from the servers' role.
    HideRows,
    /// What goes to the database takes time by its bytes.
    NarrowLink,
    /// One of two NATS servers does nothing.
    FreezeNats,
    /// The two NATS servers do not hear each other.
    CutRoutes,
    /// Clients connect and are gone, again and again.
    ReconnectStorm,
}

impl Kind {
    const ALL: [Self; 18] = [
        Self::Kill,
        Self::Freeze,
        Self::CutFromDatabase,
        Self::LoseMessages,
        Self::JumpClock,
        Self::DeleteMessages,
        Self::RestartDatabase,
        Self::RefuseWrites,
        Self::CutLink,
        Self::SlowLink,
        Self::FailOver,
        Self::CrashClient,
        Self::LeadReadsAstray,
        Self::HideRows,
        Self::NarrowLink,
        Self::FreezeNats,
        Self::CutRoutes,
        Self::ReconnectStorm,
    ];
}

/// How often each kind is drawn, of all together.
#[derive(Clone, Debug)]
pub(crate) struct Swarm(Vec<(Kind, u64)>);

impl Swarm {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let share = rng.pick(&[200, 600, 1000, 1000]);
        let mut kinds = Vec::new();
        for kind in Kind::ALL {
            let mut weight = rng.pick(&[1, 2, 2, 6]);
            if kind == Kind::FailOver {
                // Not every world has a replica.
                weight *= 3;
            }
            if rng.chance(share) {
                kinds.push((kind, weight));
            }
        }
        if kinds.is_empty() {
            kinds.push((Kind::Kill, 1));
        }
        Self(kinds)
    }

    /// One kind alone.
    pub(crate) fn of(kind: Kind) -> Self {
        Self(vec![(kind, 1)])
    }

    pub(crate) fn draw(&self, rng: &mut Rng) -> Kind {
        let total: u64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.range(1, total);
        for &(kind, weight) in &self.0 {
            if at <= weight {
                return kind;
            }
            at -= weight;
        }
        unreachable!("the weights add up to {total}")
    }
}
