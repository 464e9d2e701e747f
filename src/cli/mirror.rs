//! `stanby mirror`: on to JetStream, one service at a time.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output;
use crate::config::encryption::EncryptionFlags;
use crate::config::{FormerLimits, NatsFlags, TablesFlags};
use crate::node::mirror::names::Rules;
use crate::node::mirror::{Error, Limits, Mirror, Standing};
use crate::store;

#[derive(Debug, Subcommand)]
pub enum MirrorCommand {
    /// Copy channels into JetStream streams until stopped, each message exactly once, even if killed
    Jetstream(Box<JetstreamArgs>),
    /// Show how far each channel is copied, and which clients still use the old side
    Status(Box<StatusArgs>),
}

#[derive(Args, Debug)]
pub struct JetstreamArgs {
    /// End when everything that existed at the start is copied
    #[arg(long)]
    once: bool,

    /// Make a consumer for each durable that begins where the durable stands, and follows it until somebody uses it
    #[arg(long)]
    consumers: bool,

    /// The other way: what somebody else publishes to a stream is published to its channel, each message exactly once, for the
    /// consumers that have not moved yet
    #[arg(long, conflicts_with_all = ["consumers", "stream_max_msgs", "stream_max_bytes", "stream_max_age", "limits_of"])]
    reverse: bool,

    /// Configuration file of the servers: a new stream gets the limits that its channel has there
    #[arg(long, value_name = "FILE")]
    limits_of: Option<PathBuf>,

    /// Most messages of a new stream; the oldest go first [default: unlimited]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(1..))]
    stream_max_msgs: Option<i64>,

    /// Most bytes of a new stream; the oldest messages go first [default: unlimited]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i64).range(1..))]
    stream_max_bytes: Option<i64>,

    /// Age in seconds from which on a new stream drops a message, counted from its copy [default: unlimited]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    stream_max_age: Option<u32>,

    #[command(flatten)]
    shared: Shared,
}

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    shared: Shared,
}

#[derive(Args, Debug)]
struct Shared {
    /// Only this channel; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    channel: Vec<String>,

    /// Subject that the messages of a channel get
    #[arg(long, value_name = "RULE", default_value = "stan.{channel}")]
    subject: String,

    /// Stream of a channel; dots in its name become underscores
    #[arg(long, value_name = "RULE", default_value = "{channel}")]
    stream: String,

    /// Stream of this one channel; may be repeated
    #[arg(long, value_name = "CHANNEL=STREAM")]
    stream_of: Vec<String>,

    #[command(flatten)]
    nats: NatsFlags,

    #[command(flatten)]
    tables: TablesFlags,

    #[command(flatten)]
    encryption: EncryptionFlags,
}

impl Shared {
    fn mirror(&self, limits: Limits) -> Result<Mirror, Failure> {
        let (from, schema) = self.tables.read()?;
        let rules = Rules::new(&self.subject, &self.stream, &self.stream_of);
        Ok(Mirror {
            from,
            schema,
            encryption: self.encryption.encryption()?,
            nats: self.nats.nats()?,
            rules: rules.map_err(|error| Failure::Usage(anyhow!(error)))?,
            channels: self.channel.clone(),
            limits,
            channel_limits: None,
            reverse: false,
            consumers: false,
            once: true,
        })
    }
}

pub async fn run(command: &MirrorCommand) -> Result<ExitCode, Failure> {
    match command {
        MirrorCommand::Jetstream(args) => {
            let limits = Limits {
                messages: args.stream_max_msgs,
                bytes: args.stream_max_bytes,
                age: args
                    .stream_max_age
                    .map(|seconds| std::time::Duration::from_secs(seconds.into())),
            };
            let channel_limits = FormerLimits {
                file: args.limits_of.as_deref(),
                messages: None,
                bytes: None,
                age: None,
            };
            let mirror = Mirror {
                channel_limits: channel_limits.read()?,
                reverse: args.reverse,
                consumers: args.consumers,
                once: args.once,
                ..args.shared.mirror(limits)?
            };
            let tell = |failure: &str| output::note(&format!("mirror: {failure}; trying again"));
            let standings = Box::pin(mirror.run(tell)).await;
            show(&standings.map_err(|error| failure(&error))?)?;
        }
        MirrorCommand::Status(args) => {
            let mirror = args.shared.mirror(Limits::default())?;
            let standings = Box::pin(mirror.status()).await;
            let standings = standings.map_err(|error| failure(&error))?;
            if args.json {
                output::json(&standings)?;
            } else {
                show(&standings)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(standings: &[Standing]) -> Result<(), Failure> {
    for it in standings {
        let who = it.subscribers.iter();
        let who: Vec<String> = who.map(|id| output::name_from_outside(id)).collect();
        let old_side = match who.as_slice() {
            [] => "no client is subscribed on the old side".to_owned(),
            some => format!("subscribed on the old side: {}", some.join(", ")),
        };
        let offline = it.durables.iter().filter(|durable| !durable.online);
        let offline: Vec<String> = offline
            .map(|durable| {
                let name = output::name_from_outside(&durable.name);
                format!("{name} ({} left)", durable.left)
            })
            .collect();
        let offline = (!offline.is_empty()).then(|| {
            let names = offline.join(", ");
            format!("durables without a client on the old side: {names}")
        });
        let how_far = match (&it.refused, it.fed) {
            (Some(why), _) => Some(format!("nothing is copied: {why}")),
            (None, Some(_)) if it.copied == 0 => None,
            (None, _) => Some(format!("message {} of {} is copied", it.copied, it.last)),
        };
        let fed = it.fed.zip(it.to_feed).map(|(fed, left)| {
            format!("message {fed} of the stream is published to the channel, {left} are left")
        });
        let parts = [how_far, fed, Some(old_side), offline];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        output::line(&format!(
            "{} to stream {}: {}",
            output::name_from_outside(&it.channel),
            output::name_from_outside(&it.stream),
            parts.join("; ")
        ))?;
    }
    Ok(())
}

fn failure(error: &Error) -> Failure {
    let text = anyhow!("{error}");
    if matches!(error, Error::Store(store::Error::Pooler(_))) {
        Failure::Usage(text)
    } else if error.may_pass() {
        Failure::Unreachable(text)
    } else {
        Failure::Failed(text)
    }
}
