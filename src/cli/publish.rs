//! `stanby pub`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use bytestring::ByteString;
use clap::Args;
use tokio::time::Instant;

use super::failure::Failure;
use super::messages::{Messages, Origin};
use super::output;
use super::signals::{Signals, Stop};
use super::stan_client::StanClient;
use crate::config::NatsFlags;
use crate::config::duration::GoDuration;
use crate::core::ids::{ChannelName, Subject};
use crate::nats::{Connection, Inbox};
use crate::protocol::client;

/// Publishes waiting for their acks with `--async`: as many as the clients of NATS Streaming allow.
const WAITING_MAX: usize = 16_384;

#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct PublishArgs {
    /// Channel to publish to
    channel: String,

    /// The message, or - to read it from standard input
    #[arg(default_value = "-")]
    message: String,

    /// Read the message from this file; - is standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "message")]
    file: Option<PathBuf>,

    /// Publish each line of the file, or of standard input, as a message
    #[arg(long, conflicts_with = "count")]
    lines: bool,

    /// Publish the payload of each line of JSON, as sub --json, message and export print them: `data` is text, `data_json` a
    /// value as it stands, `data_base64` any bytes
    #[arg(long, conflicts_with_all = ["count", "lines"])]
    json: bool,

    /// Pass over lines of JSON that name another channel
    #[arg(skip)]
    only_its_own: bool,

    /// Publish it this many times
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    count: u64,

    /// Do not wait for the ack of one message before the next is sent
    #[arg(long = "async")]
    asynchronous: bool,

    /// Do not print a line for each ack
    #[arg(long, short)]
    quiet: bool,

    /// Client ID [default: a random one]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// How long to wait for each answer
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: GoDuration,

    #[command(flatten)]
    nats: NatsFlags,
}

pub async fn run(args: &PublishArgs) -> Result<ExitCode, Failure> {
    let channel = ChannelName::parse(args.channel.as_str().into()).ok_or_else(|| {
        Failure::Usage(anyhow!(
            "{:?} is no channel name; use tokens separated by single dots, without *, > and /",
            args.channel
        ))
    })?;
    let timeout = args.timeout.to_std();
    let mut signals = Signals::listen()?;
    // What is read may be a terminal, and who is connected to may not answer for long.
    let ready = async {
        let messages = messages(args).await?;
        let client = StanClient::connect(&args.nats, args.client_id.as_deref(), timeout).await?;
        Ok::<_, Failure>((messages, client))
    };
    let (messages, mut client) = match signals.unless_stopped(ready).await {
        Ok(ready) => ready?,
        Err(stop) => return Ok(stop.code()),
    };

    let mut publisher = match Publisher::new(&client, &channel, timeout) {
        Ok(publisher) => publisher,
        Err(failure) => {
            client.close().await.ok();
            return Err(failure);
        }
    };
    let outcome = tokio::select! {
        result = publisher.publish(args, messages) => result.map(|()| None),
        failure = client.lost() => Err(failure),
        failure = output::reader_gone(), if !args.quiet => Err(failure),
        stop = signals.stop() => Ok(Some(stop)),
    };
    if matches!(&outcome, Ok(None)) {
        return match signals.unless_stopped(client.close()).await {
            Ok(closed) => closed.map(|()| ExitCode::SUCCESS),
            Err(stop) => Ok(stop.code()),
        };
    }
    // A client that was lost cannot take leave, and the first failure is the one to report.
    signals.leave(client.close()).await;
    Ok(outcome?.map_or(ExitCode::SUCCESS, Stop::code))
}

/// Publishes the lines of a file that are of this channel, to it.
pub(super) async fn republish(
    file: &Path,
    channel: &str,
    nats: &NatsFlags,
) -> Result<ExitCode, Failure> {
    let args = PublishArgs {
        channel: channel.to_owned(),
        message: "-".to_owned(),
        file: Some(file.to_owned()),
        lines: false,
        json: true,
        only_its_own: true,
        count: 1,
        asynchronous: true,
        quiet: true,
        client_id: None,
        timeout: Duration::from_secs(30).into(),
        nats: nats.clone(),
    };
    run(&args).await
}

async fn messages(args: &PublishArgs) -> Result<Messages, Failure> {
    let origin = match &args.file {
        Some(path) => Origin::of_file(path),
        None if args.message == "-" => Origin::StandardInput,
        None if args.lines => {
            return Err(Failure::Usage(anyhow!(
                "--lines publishes the lines of a file or of standard input; leave out the message"
            )));
        }
        None if args.json => {
            return Err(Failure::Usage(anyhow!(
                "--json publishes lines of a file or of standard input; leave out the message"
            )));
        }
        None => {
            let data = args.message.clone().into();
            let left = args.count;
            return Ok(Messages::Same { data, left });
        }
    };
    if args.json {
        let only = args.only_its_own.then(|| args.channel.clone());
        Messages::json(&origin, only).await
    } else if args.lines {
        Messages::lines(&origin).await
    } else {
        Messages::read(&origin, args.count).await
    }
}

/// Says which line it was.
fn at(messages: &Messages, failure: Failure) -> Failure {
    match (messages.place(), failure) {
        (Some(place), Failure::Failed(error)) => Failure::Failed(error.context(place)),
        (_, failure) => failure,
    }
}

struct Publisher {
    nats: Connection,
    client_id: String,
    connection_id: String,
    channel: ChannelName,
    subject: Subject,
    inbox: String,
    acks: Inbox,
    guid_prefix: String,
    timeout: Duration,
    waiting: BTreeSet<String>,
    acked: u64,
    /// There are several messages.
    numbered: bool,
}

impl Publisher {
    fn new(client: &StanClient, channel: &ChannelName, timeout: Duration) -> Result<Self, Failure> {
        let subject = format!("{}.{channel}", client.subjects.publish_prefix);
        let subject = Subject::parse(subject.into()).ok_or_else(|| {
            Failure::Usage(anyhow!(
                "channel {channel:?} cannot be part of a NATS subject; leave out spaces"
            ))
        })?;
        let inbox = client.nats.new_subject();
        let acks = client.subscribe(&inbox)?;
        Ok(Self {
            nats: client.nats.clone(),
            client_id: client.client_id.clone(),
            connection_id: client.connection_id.clone(),
            channel: channel.clone(),
            subject,
            inbox,
            acks,
            guid_prefix: client.unique(),
            timeout,
            waiting: BTreeSet::new(),
            acked: 0,
            numbered: false,
        })
    }

    async fn publish(&mut self, args: &PublishArgs, mut messages: Messages) -> Result<(), Failure> {
        let started = Instant::now();
        self.numbered = args.count > 1 || args.lines || args.json;
        let waiting_max = if args.asynchronous { WAITING_MAX } else { 1 };
        let mut sent = 0;
        let published = loop {
            // Acks are taken while a line is still to come.
            let result = tokio::select! {
                biased;
                message = messages.next(), if self.waiting.len() < waiting_max => match message {
                    Ok(Some(data)) => {
                        sent += 1;
                        let done = self.send(sent, data).await;
                        done.map(|()| None).map_err(|failure| at(&messages, failure))
                    }
                    Ok(None) => break Ok(()),
                    Err(failure) => Err(failure),
                },
                acked = self.take_ack(), if !self.waiting.is_empty() => acked,
            };
            if let Err(failure) = self.report(result, args.quiet).await {
                break Err(failure);
            }
        };
        let mut published = published;
        while published.is_ok() && !self.waiting.is_empty() {
            let acked = self.take_ack().await;
            published = self.report(acked, args.quiet).await;
        }
        if self.numbered {
            let seconds = started.elapsed().as_secs_f64();
            output::note(&format!("{} messages acked in {seconds:.3} s", self.acked));
        }
        published
    }

    async fn send(&mut self, number: u64, data: Bytes) -> Result<(), Failure> {
        let guid = format!("{}-{number}", self.guid_prefix);
        let request = client::publish_request(client::Publish {
            client_id: &self.client_id,
            connection_id: self.connection_id.as_bytes(),
            guid: &guid,
            channel: self.channel.as_str(),
            data,
        });
        let reply = Some(self.inbox.as_str());
        let sent = self
            .nats
            .publish(self.subject.as_str(), reply, &request)
            .await;
        sent.context("NATS does not take the message")?;
        self.waiting.insert(guid);
        Ok(())
    }

    async fn report(
        &self,
        acked: Result<Option<ByteString>, Failure>,
        quiet: bool,
    ) -> Result<(), Failure> {
        match acked? {
            Some(guid) if !quiet => {
                output::line_when_taken(format!("acked {} {guid}", self.channel)).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The GUID of what was acked. Cancel-safe.
    async fn take_ack(&mut self) -> Result<Option<ByteString>, Failure> {
        let next = tokio::time::timeout(self.timeout, self.acks.next()).await;
        let ack = next.map_err(|_| self.unacked("no ack came in time"))?;
        let ack = ack.map_err(|_| self.unacked("the connection to NATS has ended"))?;
        if ack.is_no_responders() {
            return Err(self.unacked("no streaming server listens"));
        }
        let ack = client::publish_ack(ack.detached().1).context("an ack cannot be read")?;
        if let Some(refusal) = ack.refusal {
            let number = ack.guid.strip_prefix(self.guid_prefix.as_str());
            let number = number.and_then(|rest| rest.strip_prefix('-'));
            return Err(Failure::Failed(match number {
                Some(number) if self.numbered => {
                    anyhow!("the server refuses message {number}: {refusal}")
                }
                Some(_) | None => anyhow!("the server refuses the message: {refusal}"),
            }));
        }
        // Not one of ours: an ack that came twice.
        if !self.waiting.remove::<str>(&ack.guid) {
            return Ok(None);
        }
        self.acked += 1;
        Ok(Some(ack.guid))
    }

    fn unacked(&self, why: &str) -> Failure {
        let count = self.waiting.len();
        Failure::Unreachable(anyhow!(
            "{why}; {count} sent but not acked: it is unknown whether they were kept"
        ))
    }
}
