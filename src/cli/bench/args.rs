//! The flags, and what they may be together.

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::publisher::STAMP_BYTES;
use super::report::ReportArgs;
use crate::cli::failure::Failure;
use crate::config::duration::GoDuration;
use crate::config::{DatabaseFlags, NatsFlags};
use crate::core::ids::ChannelName;

/// As many as the clients of NATS Streaming have under way.
const WINDOW: usize = 16_384;
const CLIENTS_MAX: usize = 10_000;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub(super) command: Option<BenchCommand>,

    #[command(flatten)]
    pub(super) load: LoadArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Draw runs that were kept with --json, as one HTML page
    Report(ReportArgs),
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Load")]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub(super) struct LoadArgs {
    /// Clients that publish
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(super) publishers: usize,

    /// Clients that subscribe, in turn to each of the channels
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(super) subscribers: usize,

    /// Bytes of each message; they hold the time at which it was sent, and noise
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub(super) size: usize,

    /// Messages of all publishers together
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub(super) count: u64,

    /// Messages before those, which are not measured
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(super) warm_up: u64,

    /// Wait for the ack of each message before the next is sent
    #[arg(long, conflicts_with = "window")]
    pub(super) sync: bool,

    /// Messages of each publisher that may wait for their acks
    #[arg(long, value_name = "COUNT", default_value_t = WINDOW)]
    pub(super) window: usize,

    /// Channels; each publisher publishes to all of them in turn
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(super) channels: usize,

    /// Names of the channels are this, a dot and a number; new ones unless given
    #[arg(long, value_name = "NAME", conflicts_with = "replay")]
    pub(super) channel_prefix: Option<String>,

    /// Subscribers to a channel share its messages
    #[arg(long, value_name = "NAME")]
    pub(super) queue_group: Option<String>,

    /// Subscriptions are durable; they are forgotten at the end
    #[arg(long)]
    pub(super) durable: bool,

    /// Unacked messages of a subscription
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(super) max_in_flight: i32,

    /// Subscribers begin when everything is published, at the first message
    #[arg(long)]
    pub(super) replay: bool,

    /// Publishers, or subscribers, that share one NATS connection
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(super) clients_per_connection: usize,

    /// Clients that are connected and do nothing
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(super) idle_clients: usize,

    /// How long to wait for each answer, and for any ack or message at all
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub(super) timeout: GoDuration,

    /// Watch the CPU time of this process; Postgres' first process stands for all of them. May be repeated
    #[arg(
        long,
        value_name = "PID",
        conflicts_with = "local",
        help_heading = "Measurement"
    )]
    pub(super) pid: Vec<i32>,

    /// Watch the servers that run on this machine: the cluster ID's, nats-server, and Postgres if the database is given
    #[arg(long, help_heading = "Measurement")]
    pub(super) local: bool,

    /// Also measure what this Postgres and this NATS can do without a server in between; needs the database
    #[arg(long, help_heading = "Measurement")]
    pub(super) ceiling: bool,

    /// Print JSON, for `stanby bench report`
    #[arg(long, help_heading = "Measurement")]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) database: DatabaseFlags,

    #[command(flatten)]
    pub(super) nats: NatsFlags,
}

impl LoadArgs {
    pub(super) fn window(&self) -> usize {
        if self.sync { 1 } else { self.window }
    }

    pub(super) fn has_database(&self) -> bool {
        let url = self.database.database_url.as_ref();
        url.is_some_and(|url| !url.is_empty())
    }

    /// The channels' names.
    pub(super) fn channels(&self, prefix: &str) -> Vec<String> {
        (1..=self.channels)
            .map(|number| format!("{prefix}.{number}"))
            .collect()
    }

    /// Refuses what cannot be, with what to write instead.
    pub(super) fn ensure_sensible(&self) -> Result<(), Failure> {
        let usage = |text: String| Err(Failure::Usage(anyhow!(text)));
        let bounds = [
            ("--publishers", self.publishers, 1, CLIENTS_MAX),
            ("--subscribers", self.subscribers, 0, CLIENTS_MAX),
            ("--idle-clients", self.idle_clients, 0, 100_000),
            ("--size", self.size, STAMP_BYTES, 64 << 20),
            ("--window", self.window, 1, 1 << 20),
            ("--channels", self.channels, 1, 100_000),
            (
                "--clients-per-connection",
                self.clients_per_connection,
                1,
                CLIENTS_MAX,
            ),
        ];
        for (flag, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return usage(format!(
                    "{flag} {value} is not possible; use {min} to {max}"
                ));
            }
        }
        if self.count == 0 {
            return usage("--count 0 leaves nothing to measure; use 1 or more".to_owned());
        }
        let prefix = self.channel_prefix.as_deref().unwrap_or("bench");
        if ChannelName::parse(format!("{prefix}.1").into()).is_none() {
            return usage(format!(
                "--channel-prefix {prefix:?} cannot begin a channel's name; use tokens separated by single dots, \
                 without *, > and /"
            ));
        }
        if self.queue_group.is_some() && self.subscribers == 0 {
            return usage("--queue-group needs --subscribers".to_owned());
        }
        if self.replay && self.subscribers == 0 {
            return usage("--replay needs --subscribers".to_owned());
        }
        if self.replay && self.warm_up > 0 {
            return usage("--replay reads everything: leave out --warm-up".to_owned());
        }
        if self.ceiling && !self.has_database() {
            return usage(
                "--ceiling measures the servers' Postgres: give --database-url, or STANBY_DATABASE_URL in the \
                 environment"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
