//! `stanby export`: writes what the tables hold as the store of a nats-streaming-server.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::failure::Failure;
use super::ndjson;
use super::output;
use crate::config::encryption::EncryptionFlags;
use crate::config::{self, DatabaseUrl, MySqlUrl, Secret, TablesFlags};
use crate::leadership;
use crate::node::export::{Error, Export, Exported, Target};
use crate::store::{self, FormerTables};

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Directory to make, for nats-streaming-server's -dir
    #[arg(long, value_name = "DIRECTORY", required_unless_present_any = ["to_sql", "channel"])]
    to_file_store: Option<PathBuf>,

    /// Print this channel as lines of JSON, with payloads in base64, while servers run or not; may be repeated.
    /// import --ndjson and pub --json take the lines back
    #[arg(long, value_name = "NAME", conflicts_with_all = ["to_file_store", "to_sql", "json"])]
    channel: Vec<String>,

    /// Database for nats-streaming-server, as postgres://user:password@host:port/database or
    /// mysql://user:password@host:port/database. Its tables are made where they are missing, and have to be empty
    #[arg(
        long,
        env = "STANBY_TO_URL",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with = "to_file_store"
    )]
    to_sql: Option<Secret>,

    /// Schema of these tables, in Postgres [default: public]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["to_file_store", "channel"])]
    to_schema: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    tables: TablesFlags,

    #[command(flatten)]
    encryption: EncryptionFlags,
}

pub async fn run(args: &ExportArgs) -> Result<ExitCode, Failure> {
    if !args.channel.is_empty() {
        return ndjson::export(&args.channel, &args.tables, &args.encryption).await;
    }
    let (from, schema) = args.tables.read()?;
    let export = Export {
        from,
        schema,
        encryption: args.encryption.encryption()?,
        to: target(args)?,
    };
    let exported = Box::pin(export.run()).await;
    let exported = exported.map_err(|error| failure(&error))?;
    if args.json {
        output::json(&exported)?;
    } else {
        output::line(&text(&exported, &export.to))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn failure(error: &Error) -> Failure {
    let text = anyhow!("{error}");
    match error {
        Error::Store(store::Error::Unavailable(_))
        | Error::Leadership(leadership::Error::Unavailable(_)) => Failure::Unreachable(text),
        Error::Store(store::Error::Pooler(_)) => Failure::Usage(text),
        Error::Store(_) | Error::Leadership(_) | Error::Refused(_) | Error::NoRandom => {
            Failure::Failed(text)
        }
    }
}

fn target(args: &ExportArgs) -> Result<Target, config::Error> {
    if let Some(directory) = &args.to_file_store {
        return Ok(Target::Directory(directory.clone()));
    }
    let url = args.to_sql.as_ref().map_or("", Secret::expose);
    let wrong = |error: &dyn Display| config::Error::new(format!("--to-sql: {error}"));
    if MySqlUrl::is_one(url) {
        if args.to_schema.is_some() {
            return Err(config::Error::new(
                "--to-schema is about Postgres, and --to-sql is MySQL, which has none beside its databases; leave it out",
            ));
        }
        let url = MySqlUrl::parse(url).map_err(|error| wrong(&error))?;
        return Ok(Target::Tables(FormerTables::MySql(Box::new(url))));
    }
    let url = DatabaseUrl::parse(url).map_err(|error| wrong(&error))?;
    Ok(Target::Tables(FormerTables::Postgres {
        url: Box::new(url),
        schema: args
            .to_schema
            .clone()
            .unwrap_or_else(|| "public".to_owned()),
    }))
}

fn text(exported: &Exported, to: &Target) -> String {
    let line = match to {
        Target::Directory(directory) => format!("-store file -dir {}", directory.display()),
        Target::Tables(tables) => {
            let driver = match tables {
                FormerTables::Postgres { .. } => "postgres",
                FormerTables::MySql(_) => "mysql",
            };
            format!("-store sql -sql_driver {driver} and -sql_source for {tables},")
        }
    };
    let flags = exported.flags.iter().map(|flag| format!(" {flag}"));
    let flags = flags.collect::<String>();
    let notes = exported.notes.iter();
    let notes = notes.map(|note| format!("note     {}\n", output::name_from_outside(note)));
    format!(
        "{}exported channels: {}, messages: {}, clients: {}; the tables are as they were. Start nats-streaming-server with \
         {line} -cid {}{flags}",
        notes.collect::<String>(),
        exported.channels,
        exported.messages,
        exported.clients,
        output::name_from_outside(&exported.cluster_id)
    )
}
