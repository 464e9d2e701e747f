//! `stanby import`: takes over what a nats-streaming-server kept in Postgres.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::failure::Failure;
use super::output;
use super::status::table;
use crate::config::encryption::EncryptionFlags;
use crate::config::{self, DatabaseFlags, DatabaseUrl, NatsFlags, Secret};
use crate::former::Keys;
use crate::leadership;
use crate::node::import::{Error, Import, Imported, ImportedChannel};
use crate::protocol::subjects::Prefixes;
use crate::store;
use crate::store::status::ROWS_MAX;

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Postgres that the former server kept everything in: postgres://user:password@host:port/database
    #[arg(
        long,
        env = "STANBY_FROM_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    from: Option<Secret>,

    /// Schema that holds the former tables
    #[arg(
        long,
        env = "STANBY_FROM_SCHEMA",
        value_name = "NAME",
        default_value = "public"
    )]
    from_schema: String,

    /// Key of the former server, where it is not the one to encrypt with from now on; better given in the environment
    #[arg(
        long,
        env = "STANBY_FROM_ENCRYPTION_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    from_encryption_key: Option<Secret>,

    /// The former server did not encrypt, although payloads look so
    #[arg(long)]
    from_not_encrypted: bool,

    /// Write nothing; say what would be imported, and all that keeps it from being
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Clients look for the server under this subject [default: that of NATS Streaming]
    #[arg(
        long,
        env = "STANBY_DISCOVER_PREFIX",
        value_name = "SUBJECT",
        help_heading = "NATS"
    )]
    discover_prefix: Option<String>,

    #[command(flatten)]
    database: DatabaseFlags,

    #[command(flatten)]
    encryption: EncryptionFlags,

    #[command(flatten)]
    nats: NatsFlags,
}

impl ImportArgs {
    fn import(&self) -> Result<Import, config::Error> {
        let from = self.from.as_ref().filter(|url| !url.is_empty());
        let from = from.ok_or_else(|| {
            config::Error::new(
                "the former database is missing; give --from postgres://user:password@host:5432/database, or its URL \
                 in STANBY_FROM_URL",
            )
        })?;
        let from = DatabaseUrl::parse(from.expose())
            .map_err(|error| config::Error::new(format!("--from: {error}")))?;
        let encryption = self.encryption.encryption()?;
        let keys = (self.from_encryption_key.iter())
            .chain(&encryption.key)
            .chain(&encryption.other_keys);
        let prefixes = Prefixes {
            discover: self.discover_prefix.clone(),
            ..Prefixes::default()
        };
        Ok(Import {
            from,
            from_schema: self.from_schema.clone(),
            from_keys: Keys::new(keys),
            not_encrypted: self.from_not_encrypted,
            to: self.database.url()?,
            schema: self.database.schema()?,
            cluster_id: self.nats.cluster_id.clone(),
            subjects: self.nats.subjects(&prefixes)?,
            nats: self.nats.nats()?,
            encryption,
        })
    }
}

pub async fn run(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let import = args.import()?;
    let done = if args.dry_run {
        Box::pin(import.rehearse(output::note)).await
    } else {
        Box::pin(import.run(output::note)).await
    };
    let imported = done.map_err(|error| failure(&error))?;
    if args.json {
        output::json(&imported)?;
    } else {
        output::line(&text(&imported, args.dry_run))?;
    }
    Ok(if imported.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn failure(error: &Error) -> Failure {
    let text = anyhow!("{error}");
    match error {
        Error::Former(store::Error::Unavailable(_))
        | Error::Store(store::Error::Unavailable(_))
        | Error::Leadership(leadership::Error::Unavailable(_))
        | Error::Ended(_) => Failure::Unreachable(text),
        Error::Former(_)
        | Error::Store(_)
        | Error::Leadership(_)
        | Error::Problems(_)
        | Error::NoRandom => Failure::Failed(text),
    }
}

fn text(imported: &Imported, is_dry_run: bool) -> String {
    let mut parts = Vec::new();
    if !imported.channels.is_empty() {
        parts.push(channels(&imported.channels));
    }
    let told = |what: &str, sentences: &[String]| {
        let lines = sentences.iter().map(|sentence| {
            let shown = output::name_from_outside(sentence);
            format!("{what:<9}{shown}")
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let lines = [
        told("note", &imported.notes),
        told("PROBLEM", &imported.problems),
    ];
    parts.extend(lines.into_iter().filter(|lines| !lines.is_empty()));
    let messages: u64 = imported.channels.iter().map(|it| it.messages).sum();
    let counts = format!(
        "channels: {}, messages: {messages}, clients: {}",
        imported.channels.len(),
        imported.clients
    );
    parts.push(match (is_dry_run, imported.problems.len()) {
        (false, _) => {
            format!("imported {counts}; the former tables are as they were")
        }
        (true, 0) => format!("would import {counts}; nothing was written"),
        (true, problems) => {
            format!("cannot import {counts}; problems: {problems}; nothing was written")
        }
    });
    parts.join("\n\n")
}

fn channels(channels: &[ImportedChannel]) -> String {
    let columns = [
        "CHANNEL", "MESSAGES", "FIRST", "LAST", "DURABLES", "OTHERS", "PENDING",
    ];
    // As many as `stanby status` shows; the JSON has all.
    let shown = usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
    let rows = channels.iter().take(shown).map(|channel| {
        [
            output::name_from_outside(&channel.name),
            channel.messages.to_string(),
            channel.first_sequence.to_string(),
            channel.last_sequence.to_string(),
            channel.durables.to_string(),
            channel.others.to_string(),
            channel.pending.to_string(),
        ]
    });
    table(columns, rows, 1..=6)
}
