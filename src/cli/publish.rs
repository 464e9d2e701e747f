//! `stanby pub`

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::failure::Failure;
use super::output;
use super::signals::Signals;
use super::stan_client::StanClient;
use crate::config::NatsFlags;
use crate::config::duration::GoDuration;
use crate::core::ids::{ChannelName, Subject};
use crate::nats::{Connection, Inbox};
use crate::protocol::client;

/// Publishes waiting for their acks with `--async`: as many as the clients of NATS Streaming allow.
const WAITING_MAX: usize = 16_384;

#[derive(Args, Debug)]
pub struct PublishArgs {
    /// Channel to publish to
    channel: String,

    /// The message, or - to read it from standard input
    #[arg(default_value = "-")]
    message: String,

    /// Publish it so many times
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    count: u64,

    /// Do not wait for the ack of one message before the next is sent
    #[arg(long = "async")]
    asynchronous: bool,

    /// Do not print a line for each ack
    #[arg(long, short)]
    quiet: bool,

    /// Client ID; made up unless given
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
    let data = message(args).await?;
    let mut client = StanClient::connect(&args.nats, args.client_id.as_deref(), timeout).await?;

    let mut publisher = match Publisher::new(&client, &channel, timeout) {
        Ok(publisher) => publisher,
        Err(failure) => {
            client.close().await.ok();
            return Err(failure);
        }
    };
    let outcome = tokio::select! {
        result = publisher.publish(args, data) => result.map(|()| None),
        failure = client.lost() => Err(failure),
        stop = signals.stop() => Ok(Some(stop)),
    };
    // A client that was lost cannot take leave, and the first failure is the one to report.
    let closed = client.close().await;
    match outcome? {
        Some(stop) => Ok(stop.code()),
        None => closed.map(|()| ExitCode::SUCCESS),
    }
}

async fn message(args: &PublishArgs) -> Result<Bytes, Failure> {
    if args.message != "-" {
        return Ok(args.message.clone().into());
    }
    if io::stdin().is_terminal() {
        output::note("reading the message from standard input; end it with Ctrl-D");
    }
    let mut data = Vec::new();
    // One byte more than NATS can be told to take: enough for it to refuse the message by its size.
    let mut input = tokio::io::stdin().take((64 << 20) + 1);
    input
        .read_to_end(&mut data)
        .await
        .context("standard input cannot be read")?;
    Ok(data.into())
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
        })
    }

    async fn publish(&mut self, args: &PublishArgs, data: Bytes) -> Result<(), Failure> {
        let started = Instant::now();
        let waiting_max = if args.asynchronous { WAITING_MAX } else { 1 };
        for number in 1..=args.count {
            while self.waiting.len() >= waiting_max {
                self.take_ack(args.quiet).await?;
            }
            self.send(number, data.clone()).await?;
        }
        while !self.waiting.is_empty() {
            self.take_ack(args.quiet).await?;
        }
        if args.count > 1 {
            let seconds = started.elapsed().as_secs_f64();
            output::note(&format!("{} messages acked in {seconds:.3} s", args.count));
        }
        Ok(())
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

    async fn take_ack(&mut self, quiet: bool) -> Result<(), Failure> {
        let next = tokio::time::timeout(self.timeout, self.acks.next()).await;
        let ack = next.map_err(|_| self.unacked("no ack came in time"))?;
        let ack = ack.map_err(|_| self.unacked("the connection to NATS has ended"))?;
        if ack.is_no_responders() {
            return Err(self.unacked("no streaming server listens"));
        }
        let ack = client::publish_ack(ack.detached().1).context("an ack cannot be read")?;
        if let Some(refusal) = ack.refusal {
            return Err(Failure::Failed(anyhow!(
                "the server refuses the message: {refusal}"
            )));
        }
        // Not one of ours: an ack that came twice.
        if !self.waiting.remove::<str>(&ack.guid) {
            return Ok(());
        }
        if quiet {
            return Ok(());
        }
        output::line(&format!("acked {} {}", self.channel, ack.guid))
    }

    fn unacked(&self, why: &str) -> Failure {
        let count = self.waiting.len();
        Failure::Unreachable(anyhow!(
            "{why}; {count} sent but not acked: it is unknown whether they were kept"
        ))
    }
}
