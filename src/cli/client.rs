//! `stanby client …`: clients are closed.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::request::{self, Harm, RequestFlags};

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Close a client as missed heartbeats would: its subscriptions end, its durables stay
    Kick(KickArgs),
}

#[derive(Args, Debug)]
pub struct KickArgs {
    /// Client ID
    client_id: String,

    #[command(flatten)]
    flags: RequestFlags,
}

pub async fn run(command: &ClientCommand) -> Result<ExitCode, Failure> {
    match command {
        ClientCommand::Kick(args) => {
            let arguments = json!({ "client_id": args.client_id });
            request::run("client kick", arguments, Harm::Destroys, &args.flags).await
        }
    }
}
