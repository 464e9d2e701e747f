//! The command line: one file per subcommand, thin.
//!
//! To add one: a file here, a variant in [`command::Command`] and its line in `run.rs`. Exit codes are in
//! [`failure`], whatever is printed goes through [`output`].

pub mod alerts;
pub mod bench;
pub mod channel;
pub mod client;
pub mod command;
pub mod completions;
pub mod config;
pub mod console_user;
pub mod demo;
pub mod dev;
pub mod dlq;
pub mod doctor;
pub mod durable;
pub mod export;
mod failure;
pub mod health;
pub mod import;
mod import_file;
mod import_screen;
mod log_file;
mod logging;
pub mod message;
mod messages;
pub mod migrate;
pub mod mirror;
mod moment;
pub mod nats_permissions;
mod ndjson;
mod notify;
pub mod output;
mod payload;
mod pid_file;
pub mod publish;
mod reload;
mod request;
mod run;
mod safe_lines;
pub mod serve;
mod show;
pub mod signal;
pub mod signals;
mod stan_client;
pub mod status;
pub mod step_down;
pub mod subscribe;
mod syslog;
pub mod top;
pub mod version;

pub use run::main;
