//! A Postgres that refuses some of what clients ask for, for good.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stanby::core::batch::Batch;
use stanby::core::capacity::Capacity;
use stanby::core::guarded::Guarded;
use stanby::core::ids::{ChannelName, ClientId, ConnectionId, Epoch, Guid, Subject};
use stanby::core::limits::{ChannelLimits, Heartbeats, Limits, Settings};
use stanby::core::refusal::Refusal;
use stanby::core::rejection::Rejection;
use stanby::core::request::{Connect, Publish, Publisher};
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply, Request};

use crate::memory_store::MemoryStore;

const NOW: Now = Now {
    monotonic: Instant::from_nanos(1),
    wall: Timestamp(1),
};

/// A broker that can take back what is refused, and tables that take nothing of the client `bad`, and of nobody what is called `bad`.
struct World {
    broker: Guarded,
    store: MemoryStore,
    commits: usize,
    /// By the subject of the reply.
    answers: BTreeMap<String, Reply>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let settings = Settings {
            heartbeats: Heartbeats::default(),
            limits,
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
            world
                .broker
                .handle(Request::Connect { request, reply }, NOW);
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
        self.broker.handle(Request::Publish { request, reply }, NOW);
    }

    /// Commits what is taken, refuses the rest, and collects the answers.
    fn settle(&mut self) {
        self.settle_at(NOW);
    }

    fn settle_at(&mut self, now: Now) {
        loop {
            while let Some(outbound) = self.broker.poll_outbound() {
                if let Outbound::Reply { to, reply } = outbound {
                    self.answers.insert(to.to_string(), reply);
                }
            }
            let Some(batch) = self.broker.poll_batch(now) else {
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
                    .refused(refusal, now)
                    .expect("it can be taken back");
            } else {
                self.store.apply(&batch, Epoch(1));
                self.broker.committed(batch.number, now);
            }
        }
    }

    fn answer_loads(&mut self) {
        while let Some(load) = self.broker.poll_load() {
            let result = self.store.load(&load);
            let load = load.id;
            self.broker.handle(Event::Loaded { load, result }, NOW);
        }
    }

    fn names(&self, is_wanted: fn(&Reply) -> bool) -> BTreeSet<&str> {
        let answers = self.answers.iter().filter(|(_, reply)| is_wanted(reply));
        answers.map(|(name, _)| name.as_str()).collect()
    }
}

fn is_refused(batch: &Batch) -> bool {
    let mut messages = batch.messages.iter();
    messages.any(|(_, message)| {
        message.client_id.as_str() == "bad" || message.guid.as_str().starts_with("bad")
    })
}

fn subject(text: &str) -> Subject {
    Subject::parse(text.to_owned().into()).expect("a valid subject")
}

#[test]
fn publishes_that_are_refused_cost_no_other_publisher_its_own() {
    let mut world = World::new(Limits::default());
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

/// A commit that is known releases the broker. What is asked for before that is stored with what follows from the commit, and
/// would be taken for part of it.
#[test]
fn what_is_refused_is_never_taken_for_what_follows_from_a_commit() {
    let mut limits = Limits {
        trim_step: 1,
        ..Limits::default()
    };
    let mut world = World::new(limits.clone());
    for number in 0..10 {
        world.publish("good", &format!("{number}"));
    }
    world.settle();
    for number in 0..20 {
        world.publish("bad", &format!("bad-{number}"));
        world.publish("other", &format!("bad-of-other-{number}"));
        world.settle();
    }
    assert_eq!(world.broker.take_refused().len(), 40);

    // From each commit the next one follows, which drops another message.
    limits.channel.messages = Some(1);
    world.broker.set_limits(&limits, NOW);
    let batch = world
        .broker
        .poll_batch(NOW)
        .expect("it drops the first one");
    world.publish("bad", "bad-last");
    world.publish("other", "bad-of-other-last");
    world.store.apply(&batch, Epoch(1));
    world.broker.committed(batch.number, NOW);
    world.settle();

    let acked = world.names(|reply| matches!(reply, Reply::Published(_)));
    assert_eq!(acked.len(), 10, "{acked:?}");
    let refused = world.broker.take_refused().into_iter();
    let refused: Vec<String> = refused.map(|write| write.what).collect();
    assert_eq!(refused, ["a publish to channel orders"; 2]);
}

#[test]
fn a_client_whose_answer_waits_behind_what_is_tried_again_keeps_its_name() {
    let at = |millis: u64| Now {
        monotonic: Instant::from_nanos(millis * 1_000_000),
        ..NOW
    };
    let mut world = World::new(Limits::default());
    let request = Connect {
        client_id: ClientId::parse("good".into()).expect("a valid client ID"),
        heartbeat_inbox: subject("hb.rival"),
        protocol: 0,
        connection_id: ConnectionId::default(),
        ping_interval: 5,
        ping_max_out: 88,
    };
    let reply = Some(subject("rival"));
    world
        .broker
        .handle(Request::Connect { request, reply }, NOW);
    assert!(world.broker.poll_batch(NOW).is_none(), "nothing to store");
    let Some(Outbound::Probe { probe, .. }) = world.broker.poll_outbound() else {
        panic!("the client that has the name is asked");
    };

    // What is due now goes along with a publish that is refused.
    world.publish("bad", "refused");
    world.broker.handle_timeout(at(100));
    let batch = world.broker.poll_batch(at(100)).expect("it is tried");
    assert!(is_refused(&batch));
    // The client answers in time, and its time has run out when all of that is tried again.
    world.broker.handle(Event::Pong(probe), at(200));
    let refusal = Refusal {
        part: "messages",
        ..Refusal::default()
    };
    world.broker.refused(refusal, at(700)).expect("taken back");
    world.settle_at(at(700));
    assert_eq!(
        world.answers.get("rival"),
        Some(&Reply::ConnectRefused(Rejection::ClientRegistered))
    );
}

#[test]
fn a_publish_whose_refusal_has_not_left_is_judged_by_the_next_term() {
    let mut world = World::new(Limits::default());
    world.publish("bad", "told");
    world.settle();
    world.publish("bad", "untold");
    let batch = world.broker.poll_batch(NOW).expect("it is tried");
    assert!(is_refused(&batch));
    let refusal = Refusal {
        part: "messages",
        ..Refusal::default()
    };
    world.broker.refused(refusal, NOW).expect("taken back");
    assert!(world.broker.poll_batch(NOW).is_none(), "NATS takes nothing");

    // The term ends before NATS takes the refusal.
    let left = world.broker.leave();
    let left = stanby::core::replay::publishes(left.iter());
    let left: Vec<_> = left.map(|publish| publish.guid.as_str()).collect();
    assert_eq!(left, ["untold"]);
}

/// In a term with savepoints, one commit follows from the other here: each drops one message.
#[test]
fn a_ping_is_answered_while_a_limit_drops_many_messages() {
    let one_by_one = Limits {
        trim_step: 1,
        ..Limits::default()
    };
    let mut world = World::new(one_by_one.clone());
    for number in 0..40 {
        world.publish("good", &format!("{number}"));
    }
    world.settle();
    let limits = Limits {
        channel: ChannelLimits {
            messages: Some(1),
            ..ChannelLimits::default()
        },
        ..one_by_one
    };
    world.broker.set_limits(&limits, NOW);
    let ping = Request::Ping {
        connection_id: ConnectionId::default(),
        reply: subject("pong"),
    };

    let (mut trims, mut trims_before_pong) = (0, None);
    loop {
        while let Some(outbound) = world.broker.poll_outbound() {
            if matches!(outbound, Outbound::Reply { to, .. } if to.as_str() == "pong") {
                trims_before_pong = Some(trims);
            }
        }
        world.answer_loads();
        let Some(batch) = world.broker.poll_batch(NOW) else {
            if !world.broker.take_moved() {
                break;
            }
            continue;
        };
        trims += batch.trims.len();
        if trims == 5 {
            assert!(
                matches!(world.broker.capacity(), Capacity::For(_)),
                "requests are taken meanwhile"
            );
            world.broker.handle(ping.clone(), NOW);
        }
        world.store.apply(&batch, Epoch(1));
        world.broker.committed(batch.number, NOW);
    }
    assert_eq!(trims, 39);
    assert!(
        trims_before_pong.is_some_and(|trims| trims < 10),
        "{trims_before_pong:?}"
    );
}

/// In a term with savepoints, where one commit follows from the other: the term may end before the next one.
#[test]
fn answers_leave_with_their_commit_whatever_follows_from_it() {
    let one_by_one = Limits {
        trim_step: 1,
        ..Limits::default()
    };
    let mut world = World::new(one_by_one.clone());
    for number in 0..10 {
        world.publish("good", &format!("{number}"));
    }
    world.settle();
    let limits = Limits {
        channel: ChannelLimits {
            messages: Some(1),
            ..ChannelLimits::default()
        },
        ..one_by_one
    };
    world.broker.set_limits(&limits, NOW);

    let (mut commits, mut answered) = (0, 0);
    loop {
        while world.broker.poll_outbound().is_some() {}
        world.answer_loads();
        let Some(batch) = world.broker.poll_batch(NOW) else {
            if !world.broker.take_moved() {
                break;
            }
            continue;
        };
        commits += 1;
        if commits == 3 {
            world.publish("good", "meanwhile");
        }
        world.store.apply(&batch, Epoch(1));
        world.broker.committed(batch.number, NOW);
        if !batch.messages.is_empty() {
            let outbound = std::iter::from_fn(|| world.broker.poll_outbound());
            answered += outbound
                .filter(|it| matches!(it, Outbound::Reply { .. }))
                .count();
        }
    }
    assert!(commits > 5, "one commit follows from the other: {commits}");
    assert_eq!(answered, 1);
}

/// The batch is small, so that what was handed in goes in several.
#[test]
fn what_does_not_fit_into_one_batch_is_carried_out_while_a_limit_drops_many_messages() {
    let small = Limits {
        trim_step: 1,
        batch_messages: 2,
        ..Limits::default()
    };
    let mut world = World::new(small.clone());
    for number in 0..60 {
        world.publish("good", &format!("{number}"));
        world.settle();
    }
    let limits = Limits {
        channel: ChannelLimits {
            messages: Some(1),
            ..ChannelLimits::default()
        },
        ..small
    };
    world.broker.set_limits(&limits, NOW);

    let (mut trims, mut trims_before_answers) = (0, None);
    loop {
        while let Some(outbound) = world.broker.poll_outbound() {
            if matches!(outbound, Outbound::Reply { to, .. } if to.as_str() == "late-9") {
                trims_before_answers = Some(trims);
            }
        }
        world.answer_loads();
        if world
            .broker
            .next_timeout()
            .is_some_and(|at| at <= NOW.monotonic)
        {
            world.broker.handle_timeout(NOW);
        }
        let Some(batch) = world.broker.poll_batch(NOW) else {
            if !world.broker.take_moved() {
                break;
            }
            continue;
        };
        trims += batch.trims.len();
        if trims == 5 && trims_before_answers.is_none() {
            for number in 0..10 {
                world.publish("good", &format!("late-{number}"));
            }
        }
        world.store.apply(&batch, Epoch(1));
        world.broker.committed(batch.number, NOW);
    }
    assert!(
        trims_before_answers.is_some_and(|trims| trims < 20),
        "{trims_before_answers:?}"
    );
    assert_eq!(trims, 69, "and the limit is enforced");
}
