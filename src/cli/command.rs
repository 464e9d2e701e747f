//! The subcommands and their flags, as clap sees them.

use clap::{Parser, Subcommand};

use super::alerts::AlertsCommand;
use super::bench::BenchArgs;
use super::channel::ChannelCommand;
use super::client::ClientCommand;
use super::completions::{CompletionsArgs, ManArgs};
use super::config::ConfigCommand;
use super::console_user::ConsoleUserArgs;
use super::demo::DemoArgs;
use super::dev::DevArgs;
use super::dlq::DlqCommand;
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

/// Serve NATS Streaming clients from an active and a standby over Postgres
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
    /// Print the messages of a channel as they arrive
    Sub(SubscribeArgs),
    /// Show which server is active, and how far each durable is
    Status(StatusArgs),
    /// Watch channels and durables live: rates, lags, the active
    Top(TopArgs),
    /// List, show, create, limit, purge and delete channels
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Get, find, republish and delete messages
    #[command(subcommand)]
    Message(MessageCommand),
    /// List, show, seek, pause and remove durables, and ack or skip their messages
    #[command(subcommand)]
    Durable(DurableCommand),
    /// List dead letters, and publish them again where they come from
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// List, show and close clients
    #[command(subcommand)]
    Client(ClientCommand),
    /// Explain why something happened
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Make the active hand over to a standby
    StepDown(StepDownArgs),
    /// Measure servers under load
    Bench(Box<BenchArgs>),
    /// Check everything that a server needs: database, rights, NATS, settings
    #[command(args_override_self = true)]
    Doctor(Box<DoctorArgs>),
    /// Create or upgrade the tables, as a role that may change them
    Migrate(MigrateArgs),
    /// Print the alert rules for Prometheus, and try whether each fires and reaches somebody
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Import the store of a nats-streaming-server, or channels from lines of JSON
    Import(Box<ImportArgs>),
    /// Export the tables as the store of a nats-streaming-server, or channels as lines of JSON
    Export(Box<ExportArgs>),
    /// Copy channels into JetStream streams, live
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Print the permissions for the servers and their clients on NATS
    NatsPermissions(NatsPermissionsArgs),
    /// Check the health of a server on this machine; for container checks
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
    /// Stop a server on this machine, reopen its log, or reload its configuration
    Signal(SignalArgs),
    /// Print a shell script that completes commands and flags
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
    /// Print the version
    Version(VersionArgs),
}
