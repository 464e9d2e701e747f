//! What an application does with the crate `ratsio`, step by step: steps-ratsio URL CLUSTER
//!
//! `?` lines ask the test to do something to the servers. The crate listens to a subscription's inbox only once the
//! server has answered: what is sent at once is lost, and comes again after the ack wait. So where messages may be
//! waiting, the steps look at which of them arrive, and otherwise at their order too.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use ratsio::stan_client::StanSubscribe;
use ratsio::{StanClient, StanMessage, StanOptions, StanSid, StartPosition};
use stanby_rust_client_tests::{LIMIT, WINDOW, arguments, ask, done, texts};

#[tokio::main]
async fn main() {
    let client = connect("steps").await;
    done("connected");
    publish(&client, "orders", 1..=20).await;
    // A subscribe may overtake publishes that were not acked.
    fence(&client).await;
    start_positions(&client).await;
    acks(&client).await;
    durables(&client).await;
    queues(&client).await;
    through_the_death_of_the_active(&client).await;

    let witness = connect("witness").await;
    close(&client, &witness).await;
    // The crate reads no refusals; refused, it could not publish.
    let successor = connect("steps").await;
    fence(&successor).await;
    done("closed");
    // Its tasks never end by themselves.
    std::process::exit(0);
}

async fn connect(client_id: &str) -> Arc<StanClient> {
    let (url, cluster_id) = arguments();
    let options = StanOptions::with_options(url, cluster_id.as_str(), client_id);
    let connecting = StanClient::from_options(options);
    within("connecting", connecting).await.unwrap()
}

async fn within<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, awaited).await {
        Ok(value) => value,
        Err(_) => panic!("waited {LIMIT:?} in vain: {what}"),
    }
}

/// For what has arrived to pass through the crate's own tasks.
const A_MOMENT: Duration = Duration::from_millis(100);

type Messages = Pin<Box<dyn Stream<Item = StanMessage> + Send>>;

/// A subscription and what it received so far.
struct Received {
    id: StanSid,
    stream: Messages,
    messages: Vec<StanMessage>,
    /// Whether this message is to be acked.
    acks: fn(&StanMessage) -> bool,
}

impl Received {
    async fn subscribe(client: &StanClient, wish: StanSubscribe) -> Self {
        let subscribing = client.subscribe_with(wish);
        let (id, stream) = within("subscribing", subscribing).await.unwrap();
        Self {
            id,
            stream: Box::pin(stream),
            messages: Vec::new(),
            acks: |_| true,
        }
    }

    async fn take(&mut self, client: &StanClient, message: StanMessage) {
        if (self.acks)(&message) {
            client.acknowledge(message.clone()).await.unwrap();
        }
        // Where the crate acks, the original does so when it is dropped.
        self.messages.push(message.clone());
    }

    async fn next(&mut self, client: &StanClient) {
        let message = within("a message", self.stream.next()).await.unwrap();
        self.take(client, message).await;
    }

    async fn at_least(&mut self, client: &StanClient, count: usize) {
        while self.messages.len() < count {
            self.next(client).await;
        }
    }

    /// Everything that the servers had sent by now: one connection keeps the order.
    async fn all_by_now(&mut self, client: &StanClient) {
        fence(client).await;
        // The crate's tasks pass messages on, each subscription's by itself.
        while let Ok(message) = tokio::time::timeout(A_MOMENT, self.stream.next()).await {
            self.take(client, message.unwrap()).await;
        }
    }

    /// These texts come, each at least once, and no others.
    async fn until_all_of(&mut self, client: &StanClient, expected: BTreeSet<String>) {
        while self.texts().len() < expected.len() {
            self.next(client).await;
        }
        self.all_by_now(client).await;
        assert_eq!(self.texts(), expected);
    }

    fn sequences(&self) -> Vec<u64> {
        self.messages
            .iter()
            .map(|message| message.sequence)
            .collect()
    }

    fn texts(&self) -> BTreeSet<String> {
        self.messages.iter().map(text).collect()
    }
}

fn text(message: &StanMessage) -> String {
    String::from_utf8(message.payload.clone()).unwrap()
}

/// From the first message on.
fn everything(channel: &str) -> StanSubscribe {
    StanSubscribe {
        subject: channel.to_owned(),
        start_position: StartPosition::First,
        // What it lost by listening late comes again soon.
        ack_wait_in_secs: 1,
        manual_acks: true,
        ..StanSubscribe::default()
    }
}

/// Nobody acks what it publishes: the crate sends no reply subject.
async fn publish(client: &StanClient, channel: &str, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        let text = format!("{channel} {number}");
        client.publish(channel, text.as_bytes()).await.unwrap();
    }
}

async fn fence(client: &StanClient) {
    static FENCES: AtomicU64 = AtomicU64::new(0);

    let channel = format!("fence.{}", FENCES.fetch_add(1, Ordering::Relaxed));
    let wish = StanSubscribe {
        start_position: StartPosition::NewOnly,
        ..everything(&channel)
    };
    let subscribing = client.subscribe_with(wish);
    let (id, stream) = within("subscribing", subscribing).await.unwrap();
    client.publish(&channel, b"fence").await.unwrap();
    let mut stream: Messages = Box::pin(stream);
    within("the fence", stream.next()).await.unwrap();
    client.un_subscribe(&id).await.unwrap();
}

async fn start_positions(client: &StanClient) {
    // A start time is 2 s away at most: nanoseconds in 32 bits.
    let to_come = Some(-2_000_000_000);
    let positions = [
        ("with new messages", StartPosition::NewOnly, 0, None, 21),
        (
            "with the last message",
            StartPosition::LastReceived,
            0,
            None,
            20,
        ),
        ("at the first message", StartPosition::First, 0, None, 1),
        ("at a sequence", StartPosition::SequenceStart, 18, None, 18),
        (
            "at a time to come",
            StartPosition::TimeDeltaStart,
            0,
            to_come,
            21,
        ),
    ];
    let mut started = Vec::new();
    for (name, start_position, start_sequence, start_time_delta, first) in positions {
        let wish = StanSubscribe {
            start_position,
            start_sequence,
            start_time_delta,
            ..everything("orders")
        };
        started.push((name, Received::subscribe(client, wish).await, first));
    }
    publish(client, "orders", 21..=21).await;
    for (name, mut received, first) in started {
        received
            .until_all_of(client, texts("orders", first..=21))
            .await;
        client.un_subscribe(&received.id).await.unwrap();
        done(&format!("started {name}"));
    }
}

async fn acks(client: &StanClient) {
    let mut tasks = Received::subscribe(client, everything("tasks")).await;
    tasks.acks = |message| message.sequence != 2 || message.redelivered;
    publish(client, "tasks", 1..=3).await;
    tasks.at_least(client, 4).await;
    tasks.all_by_now(client).await;
    assert_eq!(tasks.sequences(), [1, 2, 3, 2]);
    let redelivered = tasks.messages.iter().map(|message| message.redelivered);
    assert!(redelivered.eq([false, false, false, true]));
    client.un_subscribe(&tasks.id).await.unwrap();
    done("a message that was not acked came again, marked as redelivered; the others did not");

    let wish = StanSubscribe {
        max_in_flight: 2,
        ack_wait_in_secs: 600,
        ..everything("slowly")
    };
    let mut slowly = Received::subscribe(client, wish).await;
    slowly.acks = |_| false;
    publish(client, "slowly", 1..=6).await;
    slowly.at_least(client, 2).await;
    slowly.all_by_now(client).await;
    assert_eq!(slowly.sequences(), [1, 2]);
    for acked in 0..6 {
        let message = slowly.messages[acked].clone();
        client.acknowledge(message).await.unwrap();
        let expected = (acked + 3).min(6);
        slowly.at_least(client, expected).await;
        slowly.all_by_now(client).await;
        assert_eq!(slowly.messages.len(), expected);
    }
    assert_eq!(slowly.sequences(), [1, 2, 3, 4, 5, 6]);
    client.un_subscribe(&slowly.id).await.unwrap();
    done("no more messages were in flight than allowed");
}

/// Durables outlive only a client here: its subscriptions can be unsubscribed, but not closed.
async fn durables(client: &StanClient) {
    let durable = || StanSubscribe {
        durable_name: Some("books".to_owned()),
        ..everything("bills")
    };
    publish(client, "bills", 1..=3).await;
    fence(client).await;
    let keeper = connect("keeper").await;
    let mut bills = Received::subscribe(&keeper, durable()).await;
    bills.until_all_of(&keeper, texts("bills", 1..=3)).await;
    close(&keeper, client).await;

    publish(client, "bills", 4..=4).await;
    fence(client).await;
    let keeper = connect("keeper").await;
    let mut bills = Received::subscribe(&keeper, durable()).await;
    bills.until_all_of(&keeper, texts("bills", [4])).await;
    done("a durable that was closed went on after its last message");

    // It names the inbox of its messages where the ack inbox belongs, and has no reply subject: a subscription on its
    // heels may overtake it.
    keeper.un_subscribe(&bills.id).await.unwrap();
    fence(&keeper).await;
    let mut bills = Received::subscribe(&keeper, durable()).await;
    bills.until_all_of(&keeper, texts("bills", 1..=4)).await;
    keeper.un_subscribe(&bills.id).await.unwrap();
    close(&keeper, client).await;
    done("a durable that was unsubscribed began anew");
}

/// Closes it, and returns once everything that it sent before has passed NATS: nobody answers its request.
async fn close(client: &StanClient, witness: &StanClient) {
    let echo = format!("closed.{}", client.client_id);
    let (_, mut echoes) = witness.nats_client.subscribe(&echo).await.unwrap();
    fence(witness).await;
    within("closing", client.close()).await.unwrap();
    client.nats_client.publish(&echo, b"").await.unwrap();
    within("the echo", echoes.next()).await.unwrap();
}

async fn queues(client: &StanClient) {
    let member = || StanSubscribe {
        queue_group: Some("workers".to_owned()),
        start_position: StartPosition::NewOnly,
        ..everything("jobs")
    };
    let mut first = Received::subscribe(client, member()).await;
    let mut second = Received::subscribe(client, member()).await;
    publish(client, "jobs", 1..=20).await;
    while first.messages.len() + second.messages.len() < 20 {
        first.all_by_now(client).await;
        second.all_by_now(client).await;
    }
    let mut shared = [first.sequences(), second.sequences()].concat();
    shared.sort_unstable();
    assert!(shared.into_iter().eq(1..=20));
    assert!(!first.messages.is_empty() && !second.messages.is_empty());
    client.un_subscribe(&first.id).await.unwrap();
    client.un_subscribe(&second.id).await.unwrap();
    done("two members of a queue group shared its messages");

    let member = || StanSubscribe {
        queue_group: Some("shippers".to_owned()),
        durable_name: Some("books".to_owned()),
        ..everything("parcels")
    };
    publish(client, "parcels", 1..=2).await;
    fence(client).await;
    let shipper = connect("shipper").await;
    let mut parcels = Received::subscribe(&shipper, member()).await;
    parcels
        .until_all_of(&shipper, texts("parcels", 1..=2))
        .await;
    close(&shipper, client).await;
    publish(client, "parcels", 3..=3).await;
    let mut parcels = Received::subscribe(client, member()).await;
    parcels.until_all_of(client, texts("parcels", [3])).await;
    client.un_subscribe(&parcels.id).await.unwrap();
    done("a durable queue group without members kept its place");
}

async fn through_the_death_of_the_active(client: &StanClient) {
    let wish = StanSubscribe {
        ack_wait_in_secs: 2,
        ..everything("held")
    };
    let mut held = Received::subscribe(client, wish).await;
    held.acks = |message| message.redelivered;
    publish(client, "held", 1..=3).await;
    held.at_least(client, 3).await;
    let wish = StanSubscribe {
        // It acks when the application drops a message.
        manual_acks: false,
        ack_wait_in_secs: 30,
        ..everything("through")
    };
    let mut through = Received::subscribe(client, wish).await;
    through.acks = |_| false;

    let mut asking = None;
    let mut published = 0;
    let mut goal = u64::MAX;
    let mut seen = BTreeSet::new();
    let mut last = 0;
    while seen.len() as u64 != goal {
        while published < goal && published - (seen.len() as u64) < WINDOW as u64 {
            published += 1;
            publish(client, "through", published..=published).await;
        }
        through.messages.clear();
        through.next(client).await;
        let message = &through.messages[0];
        if !message.redelivered && !seen.contains(&text(message)) {
            assert!(message.sequence > last);
            last = message.sequence;
        }
        seen.insert(text(message));
        if seen.len() == 200 {
            asking = Some(tokio::task::spawn_blocking(|| {
                ask("kill the active", "killed")
            }));
        }
        if asking.as_ref().is_some_and(|asking| asking.is_finished()) {
            asking.take().unwrap().await.unwrap();
            goal = published + 300;
        }
    }
    assert_eq!(seen, texts("through", 1..=goal));
    done("a subscription went on through it");

    let again = |held: &Received| -> BTreeSet<u64> {
        let again = held.messages.iter().filter(|message| message.redelivered);
        again.map(|message| message.sequence).collect()
    };
    while again(&held) != BTreeSet::from([1, 2, 3]) {
        held.next(client).await;
    }
    done("what was unacked came again, marked as redelivered");
    client.un_subscribe(&held.id).await.unwrap();
    client.un_subscribe(&through.id).await.unwrap();
}
