//! `stanby channel …`: channels are looked at, made, limited, emptied and deleted.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::moment::Moment;
use super::request::{self, Impact, RequestFlags};
use super::show;

#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// List channels, what they hold, and how far their subscriptions are behind
    List(show::channels::ListArgs),
    /// Show a channel: what it holds, its rates, who publishes to it, and its durables
    Show(show::channels::ShowArgs),
    /// Create a channel, with limits of its own if any are given
    Create(CreateArgs),
    /// Set limits of a channel, or show which apply and where each comes from
    Limits(LimitsArgs),
    /// Drop the oldest messages of a channel
    Purge(PurgeArgs),
    /// Delete a channel with its messages
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Name of the channel
    channel: String,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    flags: RequestFlags,
}

#[derive(Args, Debug)]
pub struct LimitsArgs {
    /// Name of the channel
    channel: String,

    #[command(flatten)]
    limits: Limits,

    /// Return to the configured limits, except for those given
    #[arg(long)]
    reset: bool,

    #[command(flatten)]
    flags: RequestFlags,
}

/// 0 is unlimited.
#[derive(Args, Debug)]
struct Limits {
    /// Subscriptions at most, offline durables included; 0: unlimited
    #[arg(long, value_name = "N")]
    max_subscriptions: Option<u64>,

    /// Messages at most; 0: unlimited
    #[arg(long, value_name = "N")]
    max_msgs: Option<u64>,

    /// Bytes of messages at most; 0: unlimited
    #[arg(long, value_name = "N")]
    max_bytes: Option<u64>,

    /// Age of messages at most: 24h, 7 days; 0: unlimited
    #[arg(long, value_name = "TIME")]
    max_age: Option<String>,

    /// Time without subscriptions and publishes after which it is deleted; 0: unlimited
    #[arg(long, value_name = "TIME")]
    max_inactivity: Option<String>,
}

#[derive(Args, Debug)]
pub struct PurgeArgs {
    /// Name of the channel
    channel: String,

    #[command(flatten)]
    which: Purged,

    #[command(flatten)]
    flags: RequestFlags,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Purged {
    /// Drop messages before this sequence
    #[arg(long, value_name = "SEQUENCE")]
    before: Option<u64>,

    /// Drop messages published before this time: 2026-11-29T14:00:00Z (without a zone it is local), 14:00, or how long ago: 1h30m,
    /// 7 days
    #[arg(long, value_name = "TIME")]
    before_time: Option<Moment>,

    /// Drop all but the last N messages
    #[arg(long, value_name = "N")]
    keep: Option<u64>,

    /// Drop all messages
    #[arg(long)]
    all: bool,
}

#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Name of the channel
    channel: String,

    /// Delete it even if it has subscriptions: they end, durables included
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    flags: RequestFlags,
}

pub async fn run(command: &ChannelCommand) -> Result<ExitCode, Failure> {
    match command {
        ChannelCommand::List(args) => show::channels::list(args).await,
        ChannelCommand::Show(args) => show::channels::show(args).await,
        ChannelCommand::Create(args) => {
            let arguments = args.limits.arguments(&args.channel, false);
            request::run("channel create", arguments, Impact::Reversible, &args.flags).await
        }
        ChannelCommand::Limits(args) => {
            let arguments = args.limits.arguments(&args.channel, args.reset);
            // A lower limit drops messages at once.
            let impact = if args.limits.is_empty() && !args.reset {
                Impact::Reversible
            } else {
                Impact::Destroys
            };
            request::run("channel limits", arguments, impact, &args.flags).await
        }
        ChannelCommand::Purge(args) => {
            let Purged {
                before,
                before_time,
                keep,
                all,
            } = &args.which;
            let arguments = json!({
                "channel": args.channel, "before": before, "before_time": before_time, "keep": keep,
                "all": all.then_some(true),
            });
            request::run("channel purge", arguments, Impact::Destroys, &args.flags).await
        }
        ChannelCommand::Delete(args) => {
            let arguments = json!({ "channel": args.channel, "force": args.force });
            request::run("channel delete", arguments, Impact::Destroys, &args.flags).await
        }
    }
}

impl Limits {
    fn is_empty(&self) -> bool {
        self.max_subscriptions.is_none()
            && self.max_msgs.is_none()
            && self.max_bytes.is_none()
            && self.max_age.is_none()
            && self.max_inactivity.is_none()
    }

    fn arguments(&self, channel: &str, reset: bool) -> serde_json::Value {
        json!({
            "channel": channel, "max_subscriptions": self.max_subscriptions, "max_msgs": self.max_msgs,
            "max_bytes": self.max_bytes, "max_age": self.max_age, "max_inactivity": self.max_inactivity,
            "reset": reset.then_some(true),
        })
    }
}
