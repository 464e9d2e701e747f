//! `stanby import`: takes over what a nats-streaming-server kept in Postgres, in `MySQL` or in files.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::failure::Failure;
use super::import_file;
use super::import_screen::Screen;
use super::ndjson;
use super::output;
use super::show::{Column, Grid, width};
use crate::config::duration::GoDuration;
use crate::config::encryption::EncryptionFlags;
use crate::config::size::Size;
use crate::config::{self, DatabaseFlags, DatabaseUrl, FormerLimits, MySqlUrl, NatsFlags, Secret};
use crate::former::Keys;
use crate::former::files::checksum;
use crate::leadership;
use crate::node::import::{Error, Import, Imported, ImportedChannel, Monitor, Source};
use crate::protocol::subjects::Prefixes;
use crate::store::files::NodePlace;
use crate::store::status::ROWS_MAX;
use crate::store::{self, FormerTables};

const LIMITS: &str = "Limits of the former server (0 is unlimited)";

#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own on the command line"
)]
pub struct ImportArgs {
    /// Where the former server kept everything: the directory of a file store, raft:DIRECTORY,DIRECTORY,DIRECTORY with those
    /// of the nodes of a Raft cluster (each with store and log in it, or as STORE:LOG), or the URL of its database, as
    /// postgres://user:password@host:port/database or mysql://user:password@host:port/database
    #[arg(
        long,
        env = "STANBY_FROM_URL",
        hide_env_values = true,
        value_name = "DIRECTORY|raft:NODES|URL"
    )]
    from: Option<Secret>,

    /// Lines of JSON as export --channel prints them; - is standard input. Sequences and times are restored, into channels
    /// that hold nothing, while no server runs: all of the file, or nothing
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    ndjson: Option<PathBuf>,

    /// Publish the messages of --ndjson again, as a client: with new sequences and times, while servers run
    #[arg(long, requires = "ndjson")]
    republish: bool,

    /// NATS of a former server that runs, like `nats://host:4222`, for a store of whatever kind: everything is read as its
    /// clients could, and followed until it has gone. Needs --monitor. Logins and TLS are those of the flags for NATS, unless
    /// the URL names a login
    #[arg(
        long,
        env = "STANBY_FROM_STAN",
        hide_env_values = true,
        value_name = "URLS",
        conflicts_with_all = ["from", "from_config"]
    )]
    from_stan: Option<Secret>,

    /// Monitoring pages of the former server of --from-stan, like `http://host:8222`
    #[arg(long, env = "STANBY_FROM_MONITOR", value_name = "URL")]
    monitor: Option<String>,

    /// Configuration file of the former server: where its store is, cluster ID, NATS, encryption and checksums are as it
    /// says, unless flags say otherwise. Its limits hold for the messages of a file store: those that it had dropped and not
    /// yet removed do not come back
    #[arg(long, env = "STANBY_FROM_CONFIG", value_name = "FILE")]
    from_config: Option<PathBuf>,

    /// Messages per channel of a file store, as the former server had it [default: all that is in the files]
    #[arg(long, value_name = "COUNT", help_heading = LIMITS)]
    max_msgs: Option<i64>,

    /// Bytes per channel of a file store, like 100MB, as the former server had it
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    max_bytes: Option<Size>,

    /// Age of messages of a file store, like 24h, as the former server had it
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    max_age: Option<GoDuration>,

    /// Polynomial of the checksums of a file store, where the former server had `-file_crc_poly`
    #[arg(long, value_name = "NUMBER", default_value_t = checksum::IEEE)]
    from_crc_poly: u32,

    /// Leave out damaged parts of the files and report them; without this flag, damage stops the import
    #[arg(long)]
    skip_damaged: bool,

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

    /// Copy while the former server still runs on its file store or SQL store, and follow it; when it has gone, only what is
    /// new is left to be read
    #[arg(long, conflicts_with = "dry_run")]
    ahead: bool,

    /// Write nothing; say what would be imported, and all that keeps it from being
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Prefix of the subject of connects [default: that of NATS Streaming]
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
    fn source(&self) -> Result<Source, config::Error> {
        if let Some(servers) = self.from_stan.as_ref().filter(|it| !it.is_empty()) {
            if self.ahead {
                return Err(config::Error::new(
                    "--from-stan always reads ahead; leave --ahead out",
                ));
            }
            return self.running(servers);
        }
        if self.monitor.is_some() {
            return Err(config::Error::new(
                "--monitor is about a former server that runs; give its NATS beside it: --from-stan nats://host:4222",
            ));
        }
        let from = self.from.as_ref().filter(|from| !from.is_empty());
        let from = from.ok_or_else(|| {
            config::Error::new(
                "the former store is missing; give --from DIRECTORY (of a file store), --from \
                 postgres://user:password@host:5432/database or --from mysql://user:password@host:3306/database, or one of them \
                 in STANBY_FROM_URL",
            )
        })?;
        let from = from.expose();
        let of_files = [
            self.max_msgs.is_some(),
            self.max_bytes.is_some(),
            self.max_age.is_some(),
            self.skip_damaged,
            self.from_crc_poly != checksum::IEEE,
        ];
        let limits = FormerLimits {
            file: self.from_config.as_deref(),
            messages: self.max_msgs,
            bytes: self.max_bytes,
            age: self.max_age,
        };
        if let Some(nodes) = from.strip_prefix("raft:") {
            if self.ahead {
                return Err(config::Error::new(
                    "--ahead reads a file store or a SQL store; the log of a Raft node is locked while it runs. \
                     --from-stan reads a cluster while it runs",
                ));
            }
            if nodes.split(',').any(str::is_empty) {
                return Err(config::Error::new(
                    "--from raft: has an empty name before or after a comma; write it like \
                     raft:DIRECTORY,DIRECTORY,DIRECTORY",
                ));
            }
            return Ok(Source::Raft {
                nodes: nodes.split(',').map(node).collect(),
                polynomial: self.from_crc_poly,
                limits: limits.read()?.map(Box::new),
            });
        }
        // The longer one first.
        let path = from.strip_prefix("file://").or(from.strip_prefix("file:"));
        let Some(directory) = path.or_else(|| (!from.contains("://")).then_some(from)) else {
            if of_files.contains(&true) {
                return Err(config::Error::new(
                    "--from is a database, and --max-msgs, --max-bytes, --max-age, --from-crc-poly and \
                     --skip-damaged are about file stores; remove them",
                ));
            }
            if MySqlUrl::is_one(from) {
                let url = MySqlUrl::parse(from).map_err(|error| wrong(&error))?;
                return Ok(Source::Tables(FormerTables::MySql(Box::new(url))));
            }
            return Ok(Source::Tables(FormerTables::Postgres {
                url: Box::new(DatabaseUrl::parse(from).map_err(|error| wrong(&error))?),
                schema: self.from_schema.clone(),
            }));
        };
        Ok(Source::Files {
            directory: directory.into(),
            polynomial: self.from_crc_poly,
            limits: limits.read()?.map(Box::new),
        })
    }

    fn running(&self, servers: &Secret) -> Result<Source, config::Error> {
        let monitor = self.monitor.as_ref().ok_or_else(|| {
            config::Error::new(
                "--from-stan needs the monitoring pages of the former server beside it: --monitor http://host:8222 (its flag -m); \
                 without them the channels and durables are not known",
            )
        })?;
        let monitor = Monitor::parse(monitor)
            .map_err(|why| config::Error::new(format!("--monitor: {why}")))?;
        let nats = NatsFlags {
            nats_server: Some(servers.clone()),
            ..self.nats.clone()
        };
        Ok(Source::Running {
            nats: Box::new(nats.nats()?),
            monitor,
        })
    }

    fn import(&self) -> Result<Import, config::Error> {
        let encryption = self.encryption.encryption()?;
        let keys = (self.from_encryption_key.iter())
            .chain(&encryption.key)
            .chain(&encryption.other_keys);
        let prefixes = Prefixes {
            discover: self.discover_prefix.clone(),
            ..Prefixes::default()
        };
        Ok(Import {
            from: self.source()?,
            skip_damaged: self.skip_damaged,
            ahead: self.ahead,
            must_ask_nats: false,
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

fn wrong(error: &dyn Display) -> config::Error {
    config::Error::new(format!("--from: {error}"))
}

/// The directory of a node, or its two as STORE:LOG.
fn node(text: &str) -> NodePlace {
    match text.split_once(':') {
        Some((store, log)) => NodePlace {
            store: store.into(),
            log: Some(log.into()),
        },
        None => NodePlace {
            store: text.into(),
            log: None,
        },
    }
}

/// `given` is the command line after `import`.
pub async fn run(given: &[OsString]) -> Result<ExitCode, Failure> {
    let args = import_file::completed(given)?;
    if let Some(file) = &args.ndjson {
        let printed = ndjson::Printed {
            dry_run: args.dry_run,
            json: args.json,
        };
        if args.republish {
            return ndjson::republish(file, &args.nats, printed).await;
        }
        let (url, schema) = (args.database.url()?, args.database.schema()?);
        return ndjson::import(file, &url, &schema, printed).await;
    }
    let import = args.import()?;
    let screen = Screen::new();
    let done = if args.dry_run {
        Box::pin(import.rehearse(|progress| screen.report(progress))).await
    } else {
        Box::pin(import.run(|progress| screen.report(progress))).await
    };
    screen.end();
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
        | Error::Nats(_)
        | Error::Ended(_) => Failure::Unreachable(text),
        Error::Former(store::Error::Pooler(_)) | Error::Store(store::Error::Pooler(_)) => {
            Failure::Usage(text)
        }
        Error::Former(_)
        | Error::OfRaft(_)
        | Error::Store(_)
        | Error::Leadership(_)
        | Error::Problems(_)
        | Error::Busy(_)
        | Error::Reading(_)
        | Error::NoRandom => Failure::Failed(text),
    }
}

fn text(imported: &Imported, is_dry_run: bool) -> String {
    let mut parts = Vec::new();
    if !imported.channels.is_empty() {
        parts.push(channels(&imported.channels));
    }
    let progress = |what: &str, sentences: &[String]| {
        let lines = sentences.iter().map(|sentence| {
            let shown = output::name_from_outside(sentence);
            format!("{what:<9}{shown}")
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let lines = [
        progress("note", &imported.notes),
        progress("PROBLEM", &imported.problems),
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
            format!("imported {counts}; the former store is as it was")
        }
        (true, 0) => {
            let seconds = imported.estimated_seconds.unwrap_or_default();
            format!("would import {counts}, in about {seconds}s; nothing was written")
        }
        (true, problems) => {
            format!("cannot import {counts}; problems: {problems}; nothing was written")
        }
    });
    parts.join("\n\n")
}

fn channels(channels: &[ImportedChannel]) -> String {
    let columns = [
        Column::text("CHANNEL"),
        Column::number("MESSAGES"),
        Column::number("FIRST"),
        Column::number("LAST"),
        Column::number("DURABLES"),
        Column::number("OTHERS"),
        Column::number("PENDING"),
    ];
    // As many as `stanby status` shows; the JSON has all.
    let listed = usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
    let rows = channels.iter().take(listed).map(|channel| {
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
    let more = if channels.len() > listed {
        format!("\n(only the first {ROWS_MAX} are shown)")
    } else {
        String::new()
    };
    format!("{}{more}", Grid::new(columns, rows).text(width()))
}
