//! The promises, checked while the world turns: `ledger` at every commit, `speech` at everything that leaves a
//! node, `end` when faults have stopped and everybody has caught up.

mod by_hand;
mod end;
mod failovers;
mod ledger;
mod progress;
pub(crate) mod speech;

pub(crate) use ledger::Checks;
