//! A Postgres that refuses some of what clients ask for, for good.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stanby::core::batch::Batch;
use stanby::core::guarded::Guarded;
use stanby::core::ids::{ChannelName, ClientId, ConnectionId, Epoch, Guid, Subject};
use stanby::core::limits::{Heartbeats, Limits, Settings};
use stanby::core::refusal::Refusal;
use stanby::core::request::{Connect, Publish, Publisher};
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply};

use crate::memory_store::MemoryStore;

const NOW: Now = Now {
    monotonic: Instant::from_nanos(1),
    wall: Timestamp(1),
};

/// A broker that can take back what is refused, and tables that take nothing of the client `bad`.
struct World {
    broker: Guarded,
    store: MemoryStore,
    commits: usize,
    /// By the subject of the reply.
    answers: BTreeMap<String, Reply>,
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            heartbeats: Heartbeats::default(),
            limits: Limits::default(),
            ack_prefix: "ack".into(),
            partition: None,
            replace_durables: false,
        };
        let store = MemoryStore::default();
        let broker = Broker::restore(store.snapshot(), settings, NOW);
        let mut world = Self {
            broker: Guarded::with_savepoints(broker),
            store,
            commits: 0,
            answers: BTreeMap::new(),
        };
        for client in ["bad", "good", "other"] {
            let request = Connect {
                client_id: ClientId::parse(client.into()).expect("a valid client ID"),
                heartbeat_inbox: subject(&format!("hb.{client}")),
                protocol: 0,
                connection_id: ConnectionId::default(),
                ping_interval: 5,
                ping_max_out: 88,
            };
            let reply = Some(subject(&format!("connect.{client}")));
            world.broker.handle(Event::Connect { request, reply }, NOW);
        }
        world.settle();
        world
    }

    /// The name of the publish is its GUID and where its answer goes.
    fn publish(&mut self, client: &'static str, name: &str) {
        let request = Publish {
            publisher: Publisher::Client(client.into()),
            guid: Guid::parse(name.to_owned().into()).expect("a valid GUID"),
            channel: ChannelName::parse("orders".into()).expect("a valid name"),
            reply: "".into(),
            data: Bytes::new(),
        };
        let reply = Some(subject(name));
        self.broker.handle(Event::Publish { request, reply }, NOW);
    }

    /// Commits what is taken, refuses the rest, and collects the answers.
    fn settle(&mut self) {
        loop {
            while let Some(outbound) = self.broker.poll_outbound() {
                if let Outbound::Reply { to, reply } = outbound {
                    self.answers.insert(to.to_string(), reply);
                }
            }
            let Some(batch) = self.broker.poll_batch(NOW) else {
                if !self.broker.take_moved() {
                    return;
                }
                continue;
            };
            self.commits += 1;
            if is_refused(&batch) {
                let refusal = Refusal {
                    part: "messages",
                    rule: "nobody_bad".to_owned(),
                    ..Refusal::default()
                };
                self.broker
                    .refused(refusal, NOW)
                    .expect("it can be taken back");
            } else {
                self.store.apply(&batch, Epoch(1));
                self.broker.committed(batch.number, NOW);
            }
        }
    }

    fn names(&self, is_wanted: fn(&Reply) -> bool) -> BTreeSet<&str> {
        let answers = self.answers.iter().filter(|(_, reply)| is_wanted(reply));
        answers.map(|(name, _)| name.as_str()).collect()
    }
}

fn is_refused(batch: &Batch) -> bool {
    let mut messages = batch.messages.iter();
    messages.any(|(_, message)| message.client_id.as_str() == "bad")
}

fn subject(text: &str) -> Subject {
    Subject::parse(text.to_owned().into()).expect("a valid subject")
}

#[test]
fn publishes_that_are_refused_cost_no_other_publisher_its_own() {
    let mut world = World::new();
    // So many that they are not tried one by one any more.
    for number in 0..40 {
        world.publish("bad", &format!("bad-first-{number}"));
    }
    world.settle();

    for round in 0..20 {
        for number in 0..20 {
            for client in ["good", "bad", "other"] {
                world.publish(client, &format!("{client}-{round}-{number}"));
            }
        }
        world.settle();
    }

    let acked = world.names(|reply| matches!(reply, Reply::Published(_)));
    let refused = world.names(|reply| matches!(reply, Reply::PublishRefused(..)));
    assert!(
        refused.iter().all(|name| name.starts_with("bad")),
        "{refused:?}"
    );
    assert_eq!((acked.len(), refused.len()), (800, 440));
    assert!(world.commits < 400, "{} commits", world.commits);
}
