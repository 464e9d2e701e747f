//! A node's life: the only place where the adapters meet.
//!
//! | file | what |
//! |---|---|
//! | [`run`] | start, roles until told to stop, end |
//! | `ears` | listens to clients while not active, and remembers what it hears |
//! | `standby` | waits for the lock |
//! | `takeover` | from the lock to a restored core |
//! | `active` | the active loop: read this first |
//! | `shared` | what the roles share |
//! | `board`, [`status`], [`histogram`] | what the node says about itself |
//! | [`reports`] | what it answers about clients and channels |
//! | `watchdog` | ends a process that would act without the lock |
//! | [`clock`], `backoff` | time |

mod active;
mod backoff;
mod board;
pub mod clock;
mod ears;
pub mod histogram;
pub mod reports;
pub mod run;
mod shared;
mod standby;
pub mod status;
mod takeover;
mod watchdog;

pub use run::run;
