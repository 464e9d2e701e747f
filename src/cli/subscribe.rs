//! `stanby sub`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{ArgGroup, Args};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::end::End;
use super::failure::Failure;
use super::moment::Moment;
use super::output;
use super::payload::{self, Encoding, Payload};
use super::show::look;
use super::signals::Signals;
use super::stan_client::{StanClient, refused};
use crate::config::duration::GoDuration;
use crate::config::{NatsFlags, TablesFlags};
use crate::core::ids::Sequence;
use crate::core::request::StartPosition;
use crate::nats::{Connection, Inbox};
use crate::protocol::client::{self, Delivery};
use crate::store::Store;

mod end;

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

    /// From messages published since then: 5m, 1d, 14:00, 2026-11-29T14:00:00Z
    #[arg(
        long,
        group = "start",
        value_name = "TIME",
        help_heading = "Where to begin"
    )]
    since: Option<Moment>,

    /// Name under which the server keeps the position
    #[arg(long, value_name = "NAME", default_value = "")]
    durable: String,

    /// Share the channel's messages with the others of this queue group
    #[arg(long, value_name = "GROUP", default_value = "")]
    queue: String,

    /// Leave messages unacked: the server sends them again, to this or another subscriber
    #[arg(long)]
    no_ack: bool,

    /// End after this many messages
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,

    /// End after what is there already; from the first message kept, unless said otherwise
    #[arg(long)]
    until_end: bool,

    /// Subscribe to a channel that does not exist, which makes it. Without a database this is not checked
    #[arg(long)]
    create: bool,

    /// Unacked messages that the server may have in flight
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    max_in_flight: i32,

    /// Time after which an unacked message is sent again, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    ack_wait: GoDuration,

    /// At the end, unsubscribe: the server deletes the durable's position
    #[arg(long)]
    unsubscribe: bool,

    /// Print each message as a line of JSON, which pub --json takes back
    #[arg(long)]
    json: bool,

    /// How payloads stand in JSON
    #[arg(
        long,
        value_enum,
        default_value_t,
        requires = "json",
        value_name = "ENCODING"
    )]
    payload: Encoding,

    /// Client ID; a durable belongs to it [default: a random one]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    #[command(flatten)]
    nats: NatsFlags,

    #[command(flatten)]
    tables: TablesFlags,
}

impl SubscribeArgs {
    fn start(&self) -> StartPosition {
        match (self.seq, self.since) {
            (Some(sequence), _) => StartPosition::Sequence(Sequence(sequence)),
            (None, Some(since)) => StartPosition::TimeDelta(since.ago()),
            (None, None) if self.all || (self.until_end && !self.last && !self.new_only) => {
                StartPosition::First
            }
            (None, None) if self.last => StartPosition::LastReceived,
            (None, None) => StartPosition::NewOnly,
        }
    }

    fn ensure_sensible(&self) -> Result<i32, Failure> {
        let seconds = i32::try_from(self.ack_wait.to_std().as_secs()).unwrap_or(i32::MAX);
        if self.channel.is_empty() {
            return Err(usage("the name of the channel is missing; \"\" names none"));
        }
        if seconds < 1 {
            return Err(usage("--ack-wait must be a second or more"));
        }
        if self.since.is_some_and(Moment::is_to_come) {
            return Err(usage(
                "--since names a time that is still to come; leave it out for what is published from now on",
            ));
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
    let ready = async {
        ensure_exists(args).await?;
        StanClient::connect(&args.nats, args.client_id.as_deref(), REQUEST_TIMEOUT).await
    };
    let mut client = match signals.unless_stopped(ready).await {
        Ok(client) => client?,
        Err(stop) => return Ok(stop.code()),
    };
    let started = Subscription::start(&client, args, ack_wait_seconds);
    let mut subscription = match signals.unless_stopped(started).await {
        Ok(Ok(subscription)) => subscription,
        Ok(Err(failure)) => {
            signals.leave(client.close()).await;
            return Err(failure);
        }
        Err(stop) => {
            signals.leave(client.close()).await;
            return Ok(stop.code());
        }
    };

    let mut keep_alive = client.take_keep_alive();
    let read = tokio::select! {
        result = subscription.read(&client, args) => result.map(|()| None),
        failure = lost(&mut keep_alive) => return Err(failure),
        failure = output::reader_gone() => Err(failure),
        stop = signals.stop() => Ok(Some(stop)),
    };
    let ended = subscription.end(client, args.unsubscribe);
    match read {
        Ok(None) => match signals.unless_stopped(ended).await {
            Ok(ended) => ended.map(|()| ExitCode::SUCCESS),
            Err(stop) => Ok(stop.code()),
        },
        Ok(Some(stop)) => {
            signals.leave(ended).await;
            Ok(stop.code())
        }
        Err(failure) => {
            signals.leave(ended).await;
            Err(failure)
        }
    }
}

/// Does not return while the server knows the client.
async fn lost(keep_alive: &mut JoinSet<Failure>) -> Failure {
    match keep_alive.join_next().await {
        Some(Ok(failure)) => failure,
        Some(Err(_)) | None => Failure::Failed(anyhow!("the connection to the server has ended")),
    }
}

/// A subscription makes its channel, and nothing would ever delete one that was mistyped. Only the tables tell whether
/// there is one.
async fn ensure_exists(args: &SubscribeArgs) -> Result<(), Failure> {
    if args.create || !args.tables.is_given() {
        return Ok(());
    }
    let (url, schema) = args.tables.read()?;
    let store = Store::open(&url, &schema, "stanby/sub", REQUEST_TIMEOUT);
    let found = look::find_channel(&store, &args.channel).await;
    store.close().await;
    found.map(drop).map_err(|failure| match failure {
        Failure::Usage(error) => Failure::Usage(anyhow!(
            "{error:#}; --create subscribes nevertheless, which makes the channel"
        )),
        failure @ (Failure::Failed(_) | Failure::Unreachable(_) | Failure::OutputClosed) => failure,
    })
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
        Self::with(
            client,
            &client::Subscribe {
                client_id: &client.client_id,
                channel: &args.channel,
                inbox: &client.nats.new_subject(),
                queue_group: &args.queue,
                durable_name: &args.durable,
                max_in_flight: args.max_in_flight,
                ack_wait_seconds,
                start: args.start(),
            },
        )
        .await
    }

    /// Subscribes to the last message alone, to see which one it is.
    async fn of_the_last(client: &StanClient, channel: &str) -> Result<Self, Failure> {
        Self::with(
            client,
            &client::Subscribe {
                client_id: &client.client_id,
                channel,
                inbox: &client.nats.new_subject(),
                queue_group: "",
                durable_name: "",
                max_in_flight: 1,
                ack_wait_seconds: 3600,
                start: StartPosition::LastReceived,
            },
        )
        .await
    }

    async fn with(client: &StanClient, request: &client::Subscribe<'_>) -> Result<Self, Failure> {
        let messages = client.subscribe(request.inbox)?;
        let answer = client
            .ask(
                &client.subjects.subscribe,
                client::subscribe_request(request),
            )
            .await?;
        let ack_inbox = client::subscribe_response(answer)
            .map_err(refused)?
            .to_string();
        Ok(Self {
            nats: client.nats.clone(),
            messages,
            channel: request.channel.to_owned(),
            ack_inbox,
        })
    }

    async fn next(&mut self) -> Result<Delivery, Failure> {
        let message = self.messages.next().await;
        let message = message
            .map_err(|_| Failure::Unreachable(anyhow!("the connection to NATS has ended")))?;
        client::delivery(message.detached().1).map_err(refused)
    }

    /// Prints until `--count` or the end is reached. A message is acked once it has been printed.
    async fn read(&mut self, client: &StanClient, args: &SubscribeArgs) -> Result<(), Failure> {
        let asks_for_end = args.until_end || args.seq.is_some();
        let mut end = if asks_for_end {
            End::Asked(Box::new(Self::of_the_last(client, &args.channel).await?))
        } else {
            End::NotAsked
        };
        let mut left = args.count;
        let mut printed = None;
        let mut quiet_since = Instant::now();
        while left != Some(0) {
            let patience = quiet_since + end.patience(args);
            let delivery = tokio::select! {
                biased;
                delivery = self.next() => delivery?,
                last = end.next() => {
                    self.found_end(&mut end, client, last?.sequence, args).await?;
                    if args.until_end && end.is_reached(printed, args.seq) {
                        return Ok(());
                    }
                    continue;
                }
                () = sleep_until(patience), if args.until_end => {
                    end.tell_gap(printed);
                    return Ok(());
                }
            };
            print(&delivery, args).await?;
            if !args.no_ack {
                let ack = client::ack(&delivery.channel, delivery.sequence);
                let sent = self.nats.publish(&self.ack_inbox, None, &ack).await;
                sent.context("NATS does not take the ack")?;
            }
            left = left.map(|count| count - 1);
            printed = printed.max(Some(delivery.sequence));
            quiet_since = Instant::now();
            if args.until_end && end.is_reached(printed, args.seq) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Nobody needs the subscription of the last message any more.
    async fn found_end(
        &self,
        end: &mut End,
        client: &StanClient,
        last: u64,
        args: &SubscribeArgs,
    ) -> Result<(), Failure> {
        if let End::Asked(asked) = std::mem::replace(end, End::At(last)) {
            let request =
                client::leave_request(&client.client_id, &asked.channel, &asked.ack_inbox);
            let answer = client
                .ask(&client.subjects.close_subscription, request)
                .await?;
            client::leave_response(answer).map_err(refused)?;
        }
        if let Some(sequence) = args.seq
            && sequence > last
        {
            let then = if args.until_end {
                "nothing to read"
            } else {
                "waiting for new ones"
            };
            output::note(&format!(
                "sequence {sequence} is beyond the end of {}, whose last message is {last}; {then}",
                output::name_from_outside(&self.channel)
            ));
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
    /// The same in ISO 8601.
    time: String,
    redelivered: bool,
    redelivery_count: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    reply: &'a str,
    #[serde(flatten)]
    payload: Payload,
}

async fn print(delivery: &Delivery, args: &SubscribeArgs) -> Result<(), Failure> {
    let line = if args.json {
        output::json_text(&Line {
            sequence: delivery.sequence,
            channel: &delivery.channel,
            timestamp: delivery.published_at,
            time: payload::iso(delivery.published_at),
            redelivered: delivery.redelivered,
            redelivery_count: delivery.redelivery_count,
            reply: &delivery.reply,
            payload: Payload::new(&delivery.data, args.payload),
        })?
    } else {
        let again = if delivery.redelivered { " again" } else { "" };
        let text = output::data(&delivery.data);
        format!("[#{}{again}] {text}", delivery.sequence)
    };
    output::line_when_taken(line).await
}

fn usage(sentence: &str) -> Failure {
    Failure::Usage(anyhow!("{sentence}"))
}
