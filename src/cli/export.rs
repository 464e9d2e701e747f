//! `stanby export`: writes what the tables hold as the file store of a nats-streaming-server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::failure::Failure;
use super::output;
use crate::config::TablesFlags;
use crate::config::encryption::EncryptionFlags;
use crate::leadership;
use crate::node::export::{Error, Export, Exported};
use crate::store;

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Directory to make, for nats-streaming-server's -dir
    #[arg(long, value_name = "DIRECTORY")]
    to_file_store: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    tables: TablesFlags,

    #[command(flatten)]
    encryption: EncryptionFlags,
}

pub async fn run(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let (from, schema) = args.tables.read()?;
    let export = Export {
        from,
        schema,
        encryption: args.encryption.encryption()?,
        to: args.to_file_store.clone(),
    };
    let exported = Box::pin(export.run()).await;
    let exported = exported.map_err(|error| failure(&error))?;
    if args.json {
        output::json(&exported)?;
    } else {
        output::line(&text(&exported, &export.to.display().to_string()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn failure(error: &Error) -> Failure {
    let text = anyhow!("{error}");
    match error {
        Error::Store(store::Error::Unavailable(_))
        | Error::Leadership(leadership::Error::Unavailable(_)) => Failure::Unreachable(text),
        Error::Store(_) | Error::Leadership(_) | Error::Refused(_) | Error::NoRandom => {
            Failure::Failed(text)
        }
    }
}

fn text(exported: &Exported, to: &str) -> String {
    let notes = exported.notes.iter();
    let notes = notes.map(|note| format!("note     {}\n", output::name_from_outside(note)));
    format!(
        "{}exported channels: {}, messages: {}, clients: {}; the tables are as they were. Start nats-streaming-server with \
         -store file -dir {to} -cid {}",
        notes.collect::<String>(),
        exported.channels,
        exported.messages,
        exported.clients,
        output::name_from_outside(&exported.cluster_id)
    )
}
