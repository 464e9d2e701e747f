//! `stanby message …`: single messages are looked at, published again, and deleted.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::request::{self, Impact, RequestFlags, WhichMessages};
use super::show;

#[derive(Debug, Subcommand)]
pub enum MessageCommand {
    /// Print a message by its sequence; nothing is consumed
    Get(show::messages::GetArgs),
    /// Find messages by sequence, time, publisher, text or JSON; nothing is consumed
    Find(show::messages::FindArgs),
    /// Publish messages again: as the newest ones of their channel, or to another channel
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

    /// Publish to this channel instead of their own
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
        MessageCommand::Get(args) => show::messages::get(args).await,
        MessageCommand::Find(args) => show::messages::find(args).await,
        MessageCommand::Republish(args) => {
            let which = &args.which;
            let arguments = json!({
                "channel": args.channel, "sequence": which.sequence, "first": which.first,
                "last": which.last, "to_channel": args.to_channel,
            });
            request::run(
                "message republish",
                arguments,
                Impact::Reversible,
                &args.flags,
            )
            .await
        }
        MessageCommand::Delete(args) => {
            let which = &args.which;
            let arguments = json!({
                "channel": args.channel, "sequence": which.sequence, "first": which.first,
                "last": which.last,
            });
            request::run("message delete", arguments, Impact::Destroys, &args.flags).await
        }
    }
}
