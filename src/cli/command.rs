//! The subcommands and their flags, as clap sees them.

use clap::{Parser, Subcommand};

use super::bench::BenchArgs;
use super::config::ConfigCommand;
use super::dev::DevArgs;
use super::publish::PublishArgs;
use super::signal::SignalArgs;
use super::status::StatusArgs;
use super::step_down::StepDownArgs;
use super::subscribe::SubscribeArgs;
use super::version::VersionArgs;
use crate::config::ServeFlags;

/// Serves NATS Streaming clients from an active/standby pair over Postgres
#[derive(Debug, Parser)]
#[command(
    name = "stanby",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(
    after_help = "A first argument that begins with a dash means serve, with the flags of nats-streaming-server."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const SPELLINGS: &str = "The flags of nats-streaming-server are understood too, with one dash or two: -cid, -ns, \
    -ft_group, -sql_source, -m, -hbi, -mc, -SD and so on.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server: active when it gets the lock, else standby
    #[command(args_override_self = true, after_help = SPELLINGS)]
    Serve(Box<ServeFlags>),
    /// Publish a message and wait for its ack
    Pub(PublishArgs),
    /// Print a channel's messages as they come
    Sub(SubscribeArgs),
    /// Say who is active and how far everybody is
    Status(StatusArgs),
    /// Make the active hand over to a standby
    StepDown(StepDownArgs),
    /// Measure servers under load
    Bench(Box<BenchArgs>),
    /// Run Postgres, nats-server, an active and a standby on this machine
    Dev(DevArgs),
    /// Check, show or convert a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Stop a server on this machine, or have it open its log or read its configuration anew
    Signal(SignalArgs),
    /// Say which version this is
    Version(VersionArgs),
}
