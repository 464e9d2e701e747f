//! `stanby dlq …`: dead letters are listed, and published again where they come from.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::request::{self, Impact, RequestFlags, WhichMessages};
use super::show;

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// List dead letters: where each comes from, how often it was delivered, and why it was refused
    List(show::dead_letters::ListArgs),
    /// Publish dead letters again to their origin: the given ones, or all that were not yet
    Redrive(RedriveArgs),
}

#[derive(Args, Debug)]
pub struct RedriveArgs {
    /// Name of the dead-letter channel
    channel: String,

    #[command(flatten)]
    which: WhichMessages,

    /// Publish them to this channel instead of their origin
    #[arg(long, value_name = "CHANNEL")]
    to_channel: Option<String>,

    #[command(flatten)]
    flags: RequestFlags,
}

pub async fn run(command: &DlqCommand) -> Result<ExitCode, Failure> {
    match command {
        DlqCommand::List(args) => show::dead_letters::list(args).await,
        DlqCommand::Redrive(args) => {
            let which = &args.which;
            let arguments = json!({
                "channel": args.channel, "sequence": which.sequence, "first": which.first,
                "last": which.last, "to_channel": args.to_channel,
            });
            request::run("dlq redrive", arguments, Impact::Reversible, &args.flags).await
        }
    }
}
