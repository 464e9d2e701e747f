//! The subcommands and their flags, as clap sees them.

use clap::{Parser, Subcommand};

use super::bench::BenchArgs;
use super::channel::ChannelCommand;
use super::client::ClientCommand;
use super::completions::{CompletionsArgs, ManArgs};
use super::config::ConfigCommand;
use super::console_user::ConsoleUserArgs;
use super::demo::DemoArgs;
use super::dev::DevArgs;
use super::doctor::DoctorArgs;
use super::durable::DurableCommand;
use super::export::ExportArgs;
use super::health::HealthArgs;
use super::import::ImportArgs;
use super::message::MessageCommand;
use super::migrate::MigrateArgs;
use super::mirror::MirrorCommand;
use super::nats_permissions::NatsPermissionsArgs;
use super::publish::PublishArgs;
use super::show::takeover::ExplainCommand;
use super::signal::SignalArgs;
use super::status::StatusArgs;
use super::step_down::StepDownArgs;
use super::subscribe::SubscribeArgs;
use super::top::TopArgs;
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
    /// Watch channels and durables live: rates, lags, who is active
    Top(TopArgs),
    /// List, show, make, limit, empty and delete channels
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Get and find messages, publish them again, and delete them
    #[command(subcommand)]
    Message(MessageCommand),
    /// List and show durables, set them to another place, pause and remove them, settle their messages
    #[command(subcommand)]
    Durable(DurableCommand),
    /// List, show and close clients
    #[command(subcommand)]
    Client(ClientCommand),
    /// Say why something happened
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Make the active hand over to a standby
    StepDown(StepDownArgs),
    /// Measure servers under load
    Bench(Box<BenchArgs>),
    /// Find out what keeps a server from working: database, rights, NATS, settings
    #[command(args_override_self = true)]
    Doctor(Box<DoctorArgs>),
    /// Bring the tables to this version, as a role that may
    Migrate(MigrateArgs),
    /// Take over what a nats-streaming-server kept in files or in Postgres, or channels from lines of JSON
    Import(Box<ImportArgs>),
    /// Go back: write what the tables hold as the store of a nats-streaming-server; or print channels as lines of JSON
    Export(Box<ExportArgs>),
    /// Go on to JetStream: copy channels into streams, live
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Print the permissions that a NATS server should give the servers and their clients
    NatsPermissions(NatsPermissionsArgs),
    /// Ask a server on this machine how it is; for container checks
    Health(HealthArgs),
    /// Play a small shop on servers that run, to have something to look at
    #[command(hide = true)]
    Demo(Box<DemoArgs>),
    /// Run Postgres, nats-server, an active and a standby on this machine
    Dev(DevArgs),
    /// Check, show or convert a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a line for the file of those who may log in to the console; the password comes from standard input
    ConsoleUser(ConsoleUserArgs),
    /// Stop a server on this machine, or have it open its log or read its configuration anew
    Signal(SignalArgs),
    /// Print a script for the shell that completes commands and flags
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
    /// Say which version this is
    Version(VersionArgs),
}
