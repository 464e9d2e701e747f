//! `stanby sub`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{ArgGroup, Args};
use serde::Serialize;

use super::failure::Failure;
use super::output;
use super::signals::Signals;
use super::stan_client::{StanClient, refused};
use crate::config::NatsFlags;
use crate::config::duration::GoDuration;
use crate::core::ids::Sequence;
use crate::core::request::StartPosition;
use crate::nats::{Connection, Inbox};
use crate::protocol::client::{self, Delivery};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
#[command(group = ArgGroup::new("start").multiple(false))]
pub struct SubscribeArgs {
    /// Channel to read
    channel: String,

    /// Only messages published from here on; this is the default
    #[arg(long, group = "start", help_heading = "Where to begin")]
    new_only: bool,

    /// From the first message kept
    #[arg(long, group = "start", help_heading = "Where to begin")]
    all: bool,

    /// From the last message kept
    #[arg(long, group = "start", help_heading = "Where to begin")]
    last: bool,

    /// From this sequence
    #[arg(
        long,
        group = "start",
        value_name = "SEQUENCE",
        help_heading = "Where to begin"
    )]
    seq: Option<u64>,

    /// From messages so old, like 5m
    #[arg(
        long,
        group = "start",
        value_name = "DURATION",
        help_heading = "Where to begin"
    )]
    since: Option<GoDuration>,

    /// Name under which the server remembers the position
    #[arg(long, value_name = "NAME", default_value = "")]
    durable: String,

    /// Share the channel's messages with the others of this queue group
    #[arg(long, value_name = "GROUP", default_value = "")]
    queue: String,

    /// Leave messages unacked: the server sends them again, to this or another subscriber
    #[arg(long)]
    no_ack: bool,

    /// End after so many messages
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,

    /// Unacked messages that the server may have under way
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    max_in_flight: i32,

    /// Time after which an unacked message is sent again, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    ack_wait: GoDuration,

    /// At the end, make the server forget the durable's position
    #[arg(long)]
    unsubscribe: bool,

    /// Print each message as a line of JSON
    #[arg(long)]
    json: bool,

    /// Client ID; made up unless given. A durable belongs to its client ID
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    #[command(flatten)]
    nats: NatsFlags,
}

impl SubscribeArgs {
    fn start(&self) -> StartPosition {
        match (self.seq, self.since) {
            (Some(sequence), _) => StartPosition::Sequence(Sequence(sequence)),
            (None, Some(since)) => {
                let nanos = i64::try_from(since.to_std().as_nanos()).unwrap_or(i64::MAX);
                StartPosition::TimeDelta(nanos)
            }
            (None, None) if self.all => StartPosition::First,
            (None, None) if self.last => StartPosition::LastReceived,
            (None, None) => StartPosition::NewOnly,
        }
    }

    fn ensure_sensible(&self) -> Result<i32, Failure> {
        let seconds = i32::try_from(self.ack_wait.to_std().as_secs()).unwrap_or(i32::MAX);
        if seconds < 1 {
            return Err(usage("--ack-wait must be a second or more"));
        }
        if self.count == Some(0) {
            return Err(usage("--count must be 1 or more"));
        }
        if !self.durable.is_empty() && self.queue.is_empty() && self.client_id.is_none() {
            return Err(usage(
                "--durable needs --client-id beside it: the server keeps the position for this client ID only",
            ));
        }
        Ok(seconds)
    }
}

pub async fn run(args: &SubscribeArgs) -> Result<ExitCode, Failure> {
    let ack_wait_seconds = args.ensure_sensible()?;
    let mut signals = Signals::listen()?;
    let mut client =
        StanClient::connect(&args.nats, args.client_id.as_deref(), REQUEST_TIMEOUT).await?;
    let mut subscription = match Subscription::start(&client, args, ack_wait_seconds).await {
        Ok(subscription) => subscription,
        Err(failure) => {
            client.close().await.ok();
            return Err(failure);
        }
    };

    let read = tokio::select! {
        result = subscription.read(args) => result.map(|()| None),
        failure = client.lost() => return Err(failure),
        stop = signals.stop() => Ok(Some(stop)),
    };
    let ended = subscription.end(client, args.unsubscribe).await;
    match read? {
        Some(stop) => ended.map(|()| stop.code()),
        None => ended.map(|()| ExitCode::SUCCESS),
    }
}

struct Subscription {
    nats: Connection,
    messages: Inbox,
    channel: String,
    ack_inbox: String,
}

impl Subscription {
    async fn start(
        client: &StanClient,
        args: &SubscribeArgs,
        ack_wait_seconds: i32,
    ) -> Result<Self, Failure> {
        let inbox = client.nats.new_subject();
        let messages = client.subscribe(&inbox)?;
        let request = client::subscribe_request(&client::Subscribe {
            client_id: &client.client_id,
            channel: &args.channel,
            inbox: &inbox,
            queue_group: &args.queue,
            durable_name: &args.durable,
            max_in_flight: args.max_in_flight,
            ack_wait_seconds,
            start: args.start(),
        });
        let answer = client.ask(&client.subjects.subscribe, request).await?;
        let ack_inbox = client::subscribe_response(answer)
            .map_err(refused)?
            .to_string();
        Ok(Self {
            nats: client.nats.clone(),
            messages,
            channel: args.channel.clone(),
            ack_inbox,
        })
    }

    /// Prints until `--count` is reached. A message is acked once it has been printed.
    async fn read(&mut self, args: &SubscribeArgs) -> Result<(), Failure> {
        let mut left = args.count;
        while left != Some(0) {
            let message = self.messages.next().await;
            let message = message
                .map_err(|_| Failure::Unreachable(anyhow!("the connection to NATS has ended")))?;
            let delivery = client::delivery(message.detached().1).map_err(refused)?;
            print(&delivery, args.json)?;
            if !args.no_ack {
                let ack = client::ack(&delivery.channel, delivery.sequence);
                let sent = self.nats.publish(&self.ack_inbox, None, &ack).await;
                sent.context("NATS does not take the ack")?;
            }
            left = left.map(|count| count - 1);
        }
        Ok(())
    }

    /// The server has handled all acks before it handles these, because they come over the same connection.
    async fn end(self, client: StanClient, unsubscribe: bool) -> Result<(), Failure> {
        if unsubscribe {
            let request = client::leave_request(&client.client_id, &self.channel, &self.ack_inbox);
            let answer = client.ask(&client.subjects.unsubscribe, request).await?;
            client::leave_response(answer).map_err(refused)?;
        }
        client.close().await
    }
}

#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    channel: &'a str,
    /// Nanoseconds since the Unix epoch.
    timestamp: i64,
    redelivered: bool,
    redelivery_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    /// Instead of `data`, where that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_hex: Option<String>,
}

fn print(delivery: &Delivery, json: bool) -> Result<(), Failure> {
    if !json {
        let again = if delivery.redelivered { " again" } else { "" };
        let text = output::data(&delivery.data);
        return output::line(&format!("[#{}{again}] {text}", delivery.sequence));
    }
    let data = std::str::from_utf8(&delivery.data).ok();
    output::json(&Line {
        sequence: delivery.sequence,
        channel: &delivery.channel,
        timestamp: delivery.published_at,
        redelivered: delivery.redelivered,
        redelivery_count: delivery.redelivery_count,
        data,
        data_hex: data.is_none().then(|| hex(&delivery.data)),
    })
}

fn hex(data: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    data.iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn usage(sentence: &str) -> Failure {
    Failure::Usage(anyhow!("{sentence}"))
}
