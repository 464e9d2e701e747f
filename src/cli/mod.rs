//! The command line: one file per subcommand, thin.
//!
//! To add one: a file here, a variant in [`command::Command`] and its line in `run.rs`. Exit codes are in
//! [`failure`], whatever is printed goes through [`output`].

pub mod command;
pub mod dev;
pub mod failure;
mod logging;
pub mod output;
pub mod publish;
mod run;
pub mod serve;
pub mod signals;
mod stan_client;
pub mod status;
pub mod step_down;
pub mod subscribe;
pub mod version;

pub use run::main;
