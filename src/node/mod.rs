//! A node's life: the only place where the adapters meet.
//!
//! | file | what |
//! |---|---|
//! | [`run`] | start, roles until told to stop, end |
//! | `ears` | listens to clients while not active, and remembers what it hears |
//! | `standby` | waits for the lock |
//! | `marks` | what a standby looks at in case Postgres fails over |
//! | `takeover` | from the lock to a restored core |
//! | `active` | the active loop: read this first |
//! | `batches` | what the leader session does with a batch |
//! | `shared` | what the roles share |
//! | `board`, [`status`] | what the node says about itself |
//! | `watchdog` | ends a process that would act without the lock |
//! | [`clock`], `backoff` | time |

mod active;
mod backoff;
mod batches;
mod board;
pub mod clock;
mod ears;
mod marks;
#[cfg(feature = "known-bad")]
mod mistaken;
pub mod run;
mod shared;
mod standby;
pub mod status;
mod takeover;
mod watchdog;

pub use run::run;
