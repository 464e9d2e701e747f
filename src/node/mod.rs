//! A node's life: the only place where the adapters meet.
//!
//! | file | what |
//! |---|---|
//! | [`run`] | start, roles until told to stop, end |
//! | `ears` | listens to clients while not active, and remembers what it hears |
//! | `standby` | waits for the lock |
//! | `takeover` | from the lock to a restored core |
//! | `active` | the active loop: read this first |
//! | `batches` | what the leader session does with a batch |
//! | `shared` | what the roles share |
//! | `board`, [`status`], [`histogram`] | what the node says about itself |
//! | `nats_settings` | from the configuration to the NATS adapter |
//! | [`reports`] | what it answers about clients and channels |
//! | `watchdog` | ends a process that would act without the lock |
//! | [`clock`], `backoff` | time |

mod active;
mod backoff;
mod batches;
mod board;
pub mod clock;
mod ears;
pub mod histogram;
#[cfg(feature = "known-bad")]
mod mistaken;
mod nats_settings;
pub mod reports;
pub mod run;
mod shared;
mod standby;
pub mod status;
mod takeover;
mod watchdog;

pub(crate) use nats_settings::nats_settings;
pub use run::run;
