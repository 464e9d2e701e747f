//! `stanby message …`: single messages are published again, and deleted.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::request::{self, Harm, RequestFlags, WhichMessages};

#[derive(Debug, Subcommand)]
pub enum MessageCommand {
    /// Publish messages again: as the newest ones of their channel, or on another channel
    Republish(RepublishArgs),
    /// Delete messages
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub struct RepublishArgs {
    /// Name of the channel
    channel: String,

    #[command(flatten)]
    which: WhichMessages,

    /// Publish them there, in place of their own channel
    #[arg(long, value_name = "CHANNEL")]
    to_channel: Option<String>,

    #[command(flatten)]
    flags: RequestFlags,
}

#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Name of the channel
    channel: String,

    #[command(flatten)]
    which: WhichMessages,

    #[command(flatten)]
    flags: RequestFlags,
}

pub async fn run(command: &MessageCommand) -> Result<ExitCode, Failure> {
    match command {
        MessageCommand::Republish(args) => {
            let which = &args.which;
            let arguments = json!({
                "channel": args.channel, "sequence": which.sequence, "first": which.first,
                "last": which.last, "to_channel": args.to_channel,
            });
            request::run("message republish", arguments, Harm::Little, &args.flags).await
        }
        MessageCommand::Delete(args) => {
            let which = &args.which;
            let arguments = json!({
                "channel": args.channel, "sequence": which.sequence, "first": which.first,
                "last": which.last,
            });
            request::run("message delete", arguments, Harm::Destroys, &args.flags).await
        }
    }
}
