//! `stanby demo`: a small shop, to be looked at. Orders come in; some durables keep up, one is slow, one cannot digest a
//! message, one has nobody; and now and then the servers change places. `stanby dev --demo` runs it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::output;
use super::signals::Signals;
use super::stan_client::{StanClient, refused};
use crate::administration::{self, Request};
use crate::config::duration::GoDuration;
use crate::config::{NatsFlags, TablesFlags};
use crate::core::request::StartPosition;
use crate::nats::Inbox;
use crate::protocol::client;
use crate::store::Store;

const ORDERS: &str = "shop.orders";
const STOCK: &str = "shop.stock";

/// What nobody can digest: the order of this number.
const POISON: u64 = 13;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// After something went wrong: the servers may not be there yet.
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How often the active hands over to the standby; 0 for never
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    takeover_every: GoDuration,

    #[command(flatten)]
    nats: NatsFlags,

    #[command(flatten)]
    tables: TablesFlags,
}

/// A durable of the shop.
#[derive(Clone, Copy, Debug)]
struct Reader {
    client_id: &'static str,
    channel: &'static str,
    durable: &'static str,
    queue_group: &'static str,
    max_in_flight: i32,
    /// Before each ack.
    takes: Duration,
    is_choosy: bool,
}

const fn reader(client_id: &'static str, channel: &'static str, durable: &'static str) -> Reader {
    Reader {
        client_id,
        channel,
        durable,
        queue_group: "",
        max_in_flight: 100,
        takes: Duration::ZERO,
        is_choosy: false,
    }
}

const READERS: [Reader; 6] = [
    reader("billing-1", ORDERS, "billing"),
    Reader {
        queue_group: "packers",
        takes: Duration::from_millis(150),
        ..reader("packer-1", ORDERS, "packing")
    },
    Reader {
        queue_group: "packers",
        takes: Duration::from_millis(150),
        ..reader("packer-2", ORDERS, "packing")
    },
    // It falls behind.
    Reader {
        max_in_flight: 10,
        takes: Duration::from_secs(1),
        ..reader("reports-1", ORDERS, "reports")
    },
    // It holds the poison, and gets nothing behind it.
    Reader {
        max_in_flight: 1,
        is_choosy: true,
        ..reader("mail-1", ORDERS, "mail")
    },
    reader("warehouse-1", STOCK, "warehouse"),
];

pub async fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let mut shop = JoinSet::new();
    for reader in READERS {
        shop.spawn(again_and_again(args.clone(), async move |args| {
            read(&args, reader).await
        }));
    }
    shop.spawn(again_and_again(args.clone(), async |args| {
        sell(&args).await
    }));
    shop.spawn(again_and_again(args.clone(), async |args| {
        supply(&args).await
    }));
    shop.spawn(again_and_again(args.clone(), async |args| {
        take_turns(&args).await
    }));
    newsletter(args).await.ok();
    let stop = signals.stop().await;
    shop.shutdown().await;
    Ok(stop.code())
}

async fn again_and_again(args: DemoArgs, part: impl AsyncFn(DemoArgs) -> Result<(), Failure>) {
    loop {
        if let Err(failure) = part(args.clone()).await {
            output::note(&failure.message().unwrap_or_default());
        }
        sleep(PAUSE).await;
    }
}

/// Five orders a second.
async fn sell(args: &DemoArgs) -> Result<(), Failure> {
    let client = StanClient::connect(&args.nats, Some("webshop-1"), REQUEST_TIMEOUT).await?;
    let mut number = 0;
    publish(&client, ORDERS, Duration::from_millis(200), || {
        number += 1;
        order(number)
    })
    .await
}

fn order(number: u64) -> Value {
    let customer = ["Ada", "Grace", "Linus", "Barbara", "Edsger"];
    let customer = customer.get(usize::try_from(number % 5).unwrap_or(0));
    let mut order = json!({
        "id": number,
        "customer": { "name": customer },
        "lines": [{ "article": format!("A-{:03}", number * 7 % 100), "amount": number % 4 + 1 }],
        "total": number * 37 % 9000 + 100,
    });
    if number == POISON
        && let Some(fields) = order.as_object_mut()
    {
        fields.insert("total".to_owned(), json!("NaN"));
        fields.insert("poison".to_owned(), json!(true));
    }
    order
}

async fn supply(args: &DemoArgs) -> Result<(), Failure> {
    let client = StanClient::connect(&args.nats, Some("supplier-1"), REQUEST_TIMEOUT).await?;
    let mut number: u64 = 0;
    publish(&client, STOCK, Duration::from_secs(1), || {
        number += 1;
        json!({ "article": format!("A-{:03}", number * 13 % 100), "in_stock": number * 11 % 50 })
    })
    .await
}

/// Until something goes wrong.
async fn publish(
    client: &StanClient,
    channel: &str,
    every: Duration,
    mut next: impl FnMut() -> Value,
) -> Result<(), Failure> {
    let subject = format!("{}.{channel}", client.subjects.publish_prefix);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let guid = client.unique();
        let request = client::publish_request(client::Publish {
            client_id: &client.client_id,
            connection_id: client.connection_id.as_bytes(),
            guid: &guid,
            channel,
            data: next().to_string().into(),
        });
        let answer = client.ask(&subject, request).await?;
        let ack = client::publish_ack(answer).map_err(refused)?;
        if let Some(refusal) = ack.refusal {
            return Err(Failure::Failed(anyhow!("a message is refused: {refusal}")));
        }
    }
}

async fn subscribe(client: &StanClient, reader: Reader) -> Result<(Inbox, String), Failure> {
    let inbox = client.nats.new_subject();
    let messages = client.subscribe(&inbox)?;
    let request = client::subscribe_request(&client::Subscribe {
        client_id: &client.client_id,
        channel: reader.channel,
        inbox: &inbox,
        queue_group: reader.queue_group,
        durable_name: reader.durable,
        max_in_flight: reader.max_in_flight,
        ack_wait_seconds: 30,
        start: StartPosition::First,
    });
    let answer = client.ask(&client.subjects.subscribe, request).await?;
    let ack_inbox = client::subscribe_response(answer).map_err(refused)?;
    Ok((messages, ack_inbox.to_string()))
}

/// Until something goes wrong.
async fn read(args: &DemoArgs, reader: Reader) -> Result<(), Failure> {
    let id = Some(reader.client_id);
    let client = StanClient::connect(&args.nats, id, REQUEST_TIMEOUT).await?;
    let (mut messages, ack_inbox) = subscribe(&client, reader).await?;
    loop {
        let gone = |_| Failure::Unreachable(anyhow!("the connection to NATS has ended"));
        let message = messages.next().await.map_err(gone)?;
        let delivery = client::delivery(message.detached().1).map_err(refused)?;
        let value: Value = serde_json::from_slice(&delivery.data).unwrap_or_default();
        if reader.is_choosy && value.get("poison").is_some() {
            continue;
        }
        sleep(reader.takes).await;
        let ack = client::ack(&delivery.channel, delivery.sequence);
        let sent = client.nats.publish(&ack_inbox, None, &ack).await;
        sent.map_err(|error| Failure::Unreachable(error.into()))?;
    }
}

/// It subscribed once, and nobody has started it since.
async fn newsletter(args: &DemoArgs) -> Result<(), Failure> {
    let id = Some("newsletter-1");
    let client = StanClient::connect(&args.nats, id, REQUEST_TIMEOUT).await?;
    subscribe(&client, reader("newsletter-1", ORDERS, "newsletter")).await?;
    client.close().await
}

async fn take_turns(args: &DemoArgs) -> Result<(), Failure> {
    let every = args.takeover_every.to_std();
    if every.is_zero() {
        std::future::pending::<()>().await;
    }
    sleep(every).await;
    let (url, schema) = args.tables.read()?;
    let store = Store::open(&url, &schema, "stanby/demo", STATEMENT_TIMEOUT);
    let request = Request {
        verb: "step-down".to_owned(),
        arguments: json!({}),
        dry_run: false,
        asked_by: Some("demo".to_owned()),
    };
    let asked =
        administration::carry_out(&store, &request, REQUEST_TIMEOUT, &CancellationToken::new())
            .await;
    store.close().await;
    asked
        .map(drop)
        .map_err(|error| Failure::Failed(anyhow!("the active did not hand over: {error:?}")))
}
