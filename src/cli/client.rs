//! `stanby client …`: clients are looked at and closed.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::request::{self, Impact, RequestFlags};
use super::show;

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List the clients that are connected
    List(show::clients::ListArgs),
    /// Show a client and what it subscribes to
    Show(show::clients::ShowArgs),
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
        ClientCommand::List(args) => show::clients::list(args).await,
        ClientCommand::Show(args) => show::clients::show(args).await,
        ClientCommand::Kick(args) => {
            let arguments = json!({ "client_id": args.client_id });
            request::run("client kick", arguments, Impact::Destroys, &args.flags).await
        }
    }
}
