//! `stanby message get` and `find`: they read the tables and consume nothing.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::look::{LookFlags, find_channel};
use super::pages::Pages;
use super::shown;
use crate::cli::failure::Failure;
use crate::cli::moment::Moment;
use crate::cli::output;
use crate::cli::payload::{self, Encoding, Payload};
use crate::cli::signals::{Signals, Stop};
use crate::cli::status::read_failure;
use crate::config::TablesFlags;
use crate::config::encryption::EncryptionFlags;
use crate::core::message::Message;
use crate::monitoring::find::{JsonPath, Wanted};
use crate::store::{Keyring, Store};

/// Where messages are, and how they are printed.
#[derive(Args, Debug)]
struct ReadFlags {
    /// How payloads stand in JSON
    #[arg(
        long,
        value_enum,
        default_value_t,
        requires = "json",
        value_name = "ENCODING"
    )]
    payload: Encoding,

    #[command(flatten)]
    look: LookFlags,

    #[command(flatten)]
    encryption: EncryptionFlags,
}

#[derive(Args, Debug)]
pub struct GetArgs {
    /// Name of the channel
    channel: String,

    /// Sequence of the message
    #[arg(value_name = "SEQUENCE")]
    sequence: u64,

    #[command(flatten)]
    read: ReadFlags,
}

#[derive(Args, Debug)]
pub struct FindArgs {
    /// Name of the channel
    channel: String,

    /// From this sequence on
    #[arg(
        long,
        value_name = "SEQUENCE",
        default_value_t = 1,
        hide_default_value = true
    )]
    from: u64,

    /// Up to this sequence
    #[arg(long, value_name = "SEQUENCE")]
    to: Option<u64>,

    /// Published since: 5m, 1d, 14:00, 2026-11-29T14:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,

    /// Published before
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,

    /// Published by this client
    #[arg(long, value_name = "ID")]
    publisher: Option<String>,

    /// With this text in the payload
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,

    /// With JSON in which this is so: customer.name=Smith, lines.0.amount=12, or customer.name alone where it has to be there
    #[arg(long, value_name = "PATH[=VALUE]")]
    json_path: Vec<JsonPath>,

    /// Messages that are shown
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    read: ReadFlags,
}

/// A message as JSON: what `pub --json` and `import --ndjson` take back.
#[derive(Serialize)]
pub(in crate::cli) struct Line<'a> {
    channel: &'a str,
    sequence: u64,
    /// Nanoseconds since 1970.
    timestamp: i64,
    time: String,
    client_id: &'a str,
    guid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reply: &'a str,
    #[serde(flatten)]
    payload: Payload,
}

impl<'a> Line<'a> {
    pub(in crate::cli) fn new(channel: &'a str, message: &'a Message, encoding: Encoding) -> Self {
        Self {
            channel,
            sequence: message.sequence.0,
            timestamp: message.published_at.0,
            time: payload::iso(message.published_at.0),
            client_id: message.client_id.as_str(),
            guid: message.guid.as_str(),
            reply: &message.reply,
            payload: Payload::new(&message.data, encoding),
        }
    }
}

pub(in crate::cli) async fn get(args: &GetArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let work = async {
        let store = open(&args.read.look.tables, &args.read.encryption).await?;
        let found = get_from(&store, args).await;
        store.close().await;
        found
    };
    stopped(signals.unless_stopped(work).await)
}

async fn get_from(store: &Store, args: &GetArgs) -> Result<(), Failure> {
    let channel = find_channel(store, &args.channel).await?;
    let (first, last) = (channel.first_sequence, channel.last_sequence);
    if channel.messages == 0 {
        return Err(Failure::Usage(anyhow!(
            "channel {:?} holds no message",
            shown(&args.channel)
        )));
    }
    if !(first..=last).contains(&args.sequence) {
        let gone = if args.sequence == 0 {
            "the first message of a channel has sequence 1"
        } else if args.sequence < first {
            "it was dropped"
        } else {
            "it has not been published"
        };
        return Err(Failure::Usage(anyhow!(
            "channel {:?} has no message {}: {gone}; it holds {first} to {last}",
            shown(&args.channel),
            args.sequence
        )));
    }
    let mut pages = Pages::new(store, channel.id(), args.sequence, args.sequence);
    let page = pages.next().await?.unwrap_or_default();
    if let Some(unreadable) = page.1.first() {
        return Err(Failure::Failed(anyhow!(
            "message {} cannot be read: {}",
            args.sequence,
            unreadable.why
        )));
    }
    let Some(message) = page.0.first() else {
        return Err(Failure::Failed(anyhow!(
            "message {} is gone: it was deleted",
            args.sequence
        )));
    };
    if args.read.look.json {
        return output::json(&Line::new(&args.channel, message, args.read.payload));
    }
    let mut lines = vec![
        format!("channel    {}", shown(&args.channel)),
        format!("sequence   {}", message.sequence.0),
        format!(
            "published  {} by {}",
            payload::iso(message.published_at.0),
            shown(message.client_id.as_str())
        ),
        format!("guid       {}", shown(message.guid.as_str())),
    ];
    if !message.reply.is_empty() {
        lines.push(format!("reply      {}", shown(&message.reply)));
    }
    lines.push(format!("bytes      {}", message.data.len()));
    lines.push(String::new());
    lines.push(output::data(&message.data));
    output::line(&lines.join("\n"))
}

pub(in crate::cli) async fn find(args: &FindArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let work = async {
        let store = open(&args.read.look.tables, &args.read.encryption).await?;
        let found = find_in(&store, args).await;
        store.close().await;
        found
    };
    let done = tokio::select! {
        done = signals.unless_stopped(work) => done,
        gone = output::reader_gone() => return Err(gone),
    };
    stopped(done)
}

fn stopped(done: Result<Result<(), Failure>, Stop>) -> Result<ExitCode, Failure> {
    match done {
        Ok(done) => done.map(|()| ExitCode::SUCCESS),
        Err(stop) => Ok(stop.code()),
    }
}

async fn find_in(store: &Store, args: &FindArgs) -> Result<(), Failure> {
    args.ensure_in_order()?;
    let channel = find_channel(store, &args.channel).await?;
    let last = args.to.unwrap_or(u64::MAX).min(channel.last_sequence);
    let mut pages = Pages::new(
        store,
        channel.id(),
        args.from.max(channel.first_sequence),
        last,
    );
    if let Some(since) = args.since {
        pages.skip_to(since.nanoseconds()).await?;
    }
    let until = args.until.map(Moment::nanoseconds);
    let wanted = args.wanted();
    let mut found = 0;
    'pages: while let Some((messages, unreadable)) = pages.next().await? {
        for it in unreadable {
            output::note(&format!(
                "message {} cannot be read: {}",
                it.sequence.0, it.why
            ));
        }
        for message in messages {
            if until.is_some_and(|until| message.published_at.0 >= until) {
                break 'pages;
            }
            if !wanted.matches(&message) {
                continue;
            }
            if found == args.limit {
                output::note(&format!(
                    "there are more; --limit shows more than {}, --from {} goes on",
                    args.limit, message.sequence.0
                ));
                return Ok(());
            }
            found += 1;
            output::line_when_taken(args.line(&message)?).await?;
        }
    }
    if found == 0 {
        let (first, last) = (channel.first_sequence, channel.last_sequence);
        output::note(&if channel.messages == 0 {
            format!(
                "nothing found: channel {:?} holds no message",
                shown(&args.channel)
            )
        } else {
            format!(
                "nothing found; channel {:?} holds {first} to {last}",
                shown(&args.channel)
            )
        });
    }
    Ok(())
}

impl FindArgs {
    /// A range the wrong way round holds nothing, whatever the channel holds.
    fn ensure_in_order(&self) -> Result<(), Failure> {
        if self.to.is_some_and(|to| to < self.from) {
            return Err(Failure::Usage(anyhow!(
                "--from ({}) comes after --to ({})",
                self.from,
                self.to.unwrap_or_default()
            )));
        }
        let times = self.since.zip(self.until);
        if times.is_some_and(|(since, until)| since.nanoseconds() >= until.nanoseconds()) {
            return Err(Failure::Usage(anyhow!("--since is not before --until")));
        }
        Ok(())
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            publisher: self.publisher.clone(),
            text: self.text.clone(),
            json: self.json_path.clone(),
        }
    }

    fn line(&self, message: &Message) -> Result<String, Failure> {
        if self.read.look.json {
            return output::json_text(&Line::new(&self.channel, message, self.read.payload));
        }
        Ok(format!(
            "[#{}] {} {} {}",
            message.sequence.0,
            payload::iso(message.published_at.0),
            shown(message.client_id.as_str()),
            output::data(&message.data)
        ))
    }
}

/// With the keys that there are.
pub(in crate::cli) async fn open(
    tables: &TablesFlags,
    encryption: &EncryptionFlags,
) -> Result<Store, Failure> {
    let encryption = encryption.encryption()?;
    let store = super::look::open(tables)?;
    if encryption.key.is_none() && encryption.other_keys.is_empty() {
        return Ok(store);
    }
    let info = store.server_info().await.map_err(read_failure)?;
    let cluster_id = info.map_or_else(String::new, |info| info.cluster_id);
    let store = store.with_keys(Keyring::new(&encryption, &cluster_id));
    store.open_keys().await.map_err(read_failure)?;
    Ok(store)
}
