//! What an application does with the crate `stan`, step by step: steps-stan URL CLUSTER
//!
//! `?` lines ask the test to do something to the servers. The crate's calls block; whatever goes on beside another
//! thing has a thread.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stan::{Client, Message, Subscription, SubscriptionConfig, SubscriptionStart};
use stanby_rust_client_tests::{LIMIT, WINDOW, arguments, ask, done, texts};

/// For a look at what else happened.
const A_MOMENT: Duration = Duration::from_millis(100);

fn main() {
    let (url, cluster_id) = arguments();
    let connect = |client_id: &str| {
        let connection = nats::connect(&url)?;
        stan::connect(connection, &cluster_id, client_id)
    };
    let client = connect("steps").unwrap();
    done("connected");

    let error = connect("steps").unwrap_err();
    done(&format!(
        "a second client with the same ID is refused: {error}"
    ));

    client.publish("orders", "orders 1").unwrap();
    done("published one message and got its ack");
    publish(&client, "orders", 2..=20);

    start_positions(&client);
    acks(&client);
    durables(&client, connect);
    queues(&client, connect);
    through_the_death_of_the_active(&client);

    // Its last handle says goodbye, and whoever has the ID next need not wait for a probe.
    drop(client);
    connect("steps").unwrap();
    done("closed");
}

/// A subscription and what it received so far.
struct Received {
    subscription: Subscription,
    messages: Vec<Message>,
    acks: fn(&Message) -> bool,
}

impl Received {
    fn subscribe(client: &Client, channel: &str, config: SubscriptionConfig) -> io::Result<Self> {
        Ok(Self {
            subscription: client.subscribe(channel, config)?,
            messages: Vec::new(),
            acks: |_| true,
        })
    }

    fn take(&mut self, message: Message) {
        if (self.acks)(&message) {
            message.ack().unwrap();
        }
        self.messages.push(message);
    }

    fn at_least(&mut self, count: usize) {
        while self.messages.len() < count {
            let message = self.subscription.next_timeout(LIMIT).unwrap();
            self.take(message);
        }
    }

    /// Everything that the servers had sent by now: one connection keeps the order.
    fn all_by_now(&mut self, client: &Client) {
        fence(client);
        while let Some(message) = self.subscription.try_next() {
            self.take(message);
        }
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

fn text(message: &Message) -> String {
    String::from_utf8(message.data.clone()).unwrap()
}

fn everything() -> SubscriptionConfig<'static> {
    from(SubscriptionStart::AllAvailable)
}

fn from(start: SubscriptionStart) -> SubscriptionConfig<'static> {
    SubscriptionConfig {
        start,
        ..SubscriptionConfig::default()
    }
}

fn publish(client: &Client, channel: &str, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        client
            .publish(channel, format!("{channel} {number}"))
            .unwrap();
    }
}

fn fence(client: &Client) {
    static FENCES: AtomicU64 = AtomicU64::new(0);

    let channel = format!("fence.{}", FENCES.fetch_add(1, Ordering::Relaxed));
    let fence = client
        .subscribe(&channel, from(SubscriptionStart::NewOnly))
        .unwrap();
    client.publish(&channel, "fence").unwrap();
    fence.next_timeout(LIMIT).unwrap().ack().unwrap();
}

fn start_positions(client: &Client) {
    let hour = Duration::from_secs(3600);
    let positions = [
        ("with new messages", SubscriptionStart::NewOnly, 21),
        ("with the last message", SubscriptionStart::LastReceived, 20),
        ("at the first message", SubscriptionStart::AllAvailable, 1),
        ("at a sequence", SubscriptionStart::FromSequence(18), 18),
        ("an hour ago", SubscriptionStart::FromPast(hour), 1),
    ];
    let started = positions.map(|(name, start, first)| {
        let received = Received::subscribe(client, "orders", from(start)).unwrap();
        (name, received, first)
    });
    client.publish("orders", "orders 21").unwrap();
    for (name, mut received, first) in started {
        let expected: Vec<u64> = (first..=21).collect();
        received.at_least(expected.len());
        received.all_by_now(client);
        assert_eq!(received.sequences(), expected, "{name}");
        assert_eq!(received.texts(), texts("orders", expected));
        done(&format!("started {name}"));
    }
}

fn acks(client: &Client) {
    publish(client, "tasks", 1..=3);
    let config = SubscriptionConfig {
        ack_wait_in_secs: 1,
        ..everything()
    };
    let mut tasks = Received::subscribe(client, "tasks", config).unwrap();
    tasks.acks = |message| message.sequence != 2 || message.redelivered;
    tasks.at_least(4);
    tasks.all_by_now(client);
    assert_eq!(tasks.sequences(), [1, 2, 3, 2]);
    let counts = tasks
        .messages
        .iter()
        .map(|message| (message.redelivered, message.redelivery_count));
    assert!(counts.eq([(false, 0), (false, 0), (false, 0), (true, 1)]));
    drop(tasks);
    done("a message that was not acked came again, marked as redelivered; the others did not");

    publish(client, "slowly", 1..=6);
    let config = SubscriptionConfig {
        max_in_flight: 2,
        ack_wait_in_secs: 600,
        ..everything()
    };
    let mut slowly = Received::subscribe(client, "slowly", config).unwrap();
    slowly.acks = |_| false;
    slowly.at_least(2);
    slowly.all_by_now(client);
    assert_eq!(slowly.sequences(), [1, 2]);
    for acked in 0..6 {
        slowly.messages[acked].ack().unwrap();
        slowly.at_least((acked + 3).min(6));
        slowly.all_by_now(client);
        assert_eq!(slowly.messages.len(), (acked + 3).min(6));
    }
    assert_eq!(slowly.sequences(), [1, 2, 3, 4, 5, 6]);
    drop(slowly);
    done("no more messages were in flight than allowed");
}

/// Durables outlive only a client here: its subscriptions can be unsubscribed, but not closed.
fn durables(client: &Client, connect: impl Fn(&str) -> io::Result<Client>) {
    let durable = || SubscriptionConfig {
        durable_name: Some("books"),
        ..everything()
    };
    publish(client, "bills", 1..=3);
    let keeper = connect("keeper").unwrap();
    let mut bills = Received::subscribe(&keeper, "bills", durable()).unwrap();
    bills.at_least(3);
    let Err(error) = Received::subscribe(&keeper, "bills", durable()) else {
        panic!("it is accepted");
    };
    done(&format!(
        "a second subscription to the durable is refused: {error}"
    ));
    bills.all_by_now(&keeper);
    drop((bills, keeper));

    publish(client, "bills", 4..=4);
    let keeper = connect("keeper").unwrap();
    let mut bills = Received::subscribe(&keeper, "bills", durable()).unwrap();
    bills.at_least(1);
    bills.all_by_now(&keeper);
    assert_eq!(bills.sequences(), [4]);
    done("a durable that was closed went on after its last message");

    // Nobody answers this one, as it has no reply subject, and a subscription on its heels may overtake it.
    bills.subscription.unsubscribe().unwrap();
    fence(&keeper);
    let mut bills = Received::subscribe(&keeper, "bills", durable()).unwrap();
    bills.at_least(4);
    bills.all_by_now(&keeper);
    assert_eq!(bills.sequences(), [1, 2, 3, 4]);
    bills.subscription.unsubscribe().unwrap();
    done("a durable that was unsubscribed began anew");
}

fn queues(client: &Client, connect: impl Fn(&str) -> io::Result<Client>) {
    let member = || SubscriptionConfig {
        queue_group: Some("workers"),
        ..from(SubscriptionStart::NewOnly)
    };
    let mut first = Received::subscribe(client, "jobs", member()).unwrap();
    let mut second = Received::subscribe(client, "jobs", member()).unwrap();
    publish(client, "jobs", 1..=20);
    first.all_by_now(client);
    second.all_by_now(client);
    let mut shared = [first.sequences(), second.sequences()].concat();
    shared.sort_unstable();
    assert!(shared.into_iter().eq(1..=20));
    assert!(!first.messages.is_empty() && !second.messages.is_empty());
    drop((first, second));
    done("two members of a queue group shared its messages");

    let member = || SubscriptionConfig {
        queue_group: Some("shippers"),
        durable_name: Some("books"),
        ..everything()
    };
    publish(client, "parcels", 1..=2);
    let shipper = connect("shipper").unwrap();
    let mut parcels = Received::subscribe(&shipper, "parcels", member()).unwrap();
    parcels.at_least(2);
    parcels.all_by_now(&shipper);
    drop((parcels, shipper));
    publish(client, "parcels", 3..=3);
    let mut parcels = Received::subscribe(client, "parcels", member()).unwrap();
    parcels.at_least(1);
    parcels.all_by_now(client);
    assert_eq!(parcels.sequences(), [3]);
    parcels.subscription.unsubscribe().unwrap();
    done("a durable queue group without members kept its place");
}

fn through_the_death_of_the_active(client: &Client) {
    publish(client, "held", 1..=3);
    let config = SubscriptionConfig {
        ack_wait_in_secs: 2,
        ..everything()
    };
    let mut held = Received::subscribe(client, "held", config).unwrap();
    held.acks = |message| message.redelivered;
    held.at_least(3);
    let config = SubscriptionConfig {
        ack_wait_in_secs: 30,
        ..everything()
    };
    let mut through = Received::subscribe(client, "through", config).unwrap();

    let numbers = AtomicU64::new(0);
    let killed = AtomicBool::new(false);
    let acked = Mutex::new(BTreeSet::new());
    std::thread::scope(|threads| {
        for _ in 0..WINDOW {
            threads.spawn(|| {
                let mut more = 15;
                while more > 0 {
                    if killed.load(Ordering::Relaxed) {
                        more -= 1;
                    }
                    let text = format!("through {}", numbers.fetch_add(1, Ordering::Relaxed));
                    // It waits for a second. Whoever needs the ack publishes again after that.
                    while let Err(error) = client.publish("through", &text) {
                        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                    }
                    acked.lock().unwrap().insert(text);
                }
            });
        }
        through.at_least(200);
        threads.spawn(|| {
            ask("kill the active", "killed");
            killed.store(true, Ordering::Relaxed);
        });
        // It goes on receiving, and acks.
        while !killed.load(Ordering::Relaxed) {
            if let Ok(message) = through.subscription.next_timeout(A_MOMENT) {
                through.take(message);
            }
        }
    });
    let acked = acked.into_inner().unwrap();
    assert_eq!(acked.len() as u64, numbers.into_inner());
    done("every publish around the death of the active was acked");

    through.all_by_now(client);
    while !acked.is_subset(&through.texts()) {
        through.at_least(through.messages.len() + 1);
        through.all_by_now(client);
    }
    // What was sent and not noted before the end comes as if for the first time.
    let mut seen = BTreeSet::new();
    let ahead = through
        .messages
        .iter()
        .filter(|message| seen.insert(message.sequence) && !message.redelivered);
    assert!(ahead.map(|message| message.sequence).is_sorted());
    done("a subscription went on through it");

    let again = |held: &Received| -> BTreeSet<u64> {
        let again = held.messages.iter().filter(|message| message.redelivered);
        again.map(|message| message.sequence).collect()
    };
    while !again(&held).is_superset(&BTreeSet::from([1, 2, 3])) {
        held.at_least(held.messages.len() + 1);
    }
    done("what was unacked came again, marked as redelivered");
}
