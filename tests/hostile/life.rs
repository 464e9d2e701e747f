//! A broker's life among hostile clients, a slow and failing store, clocks that jump and terms that end at any
//! moment; with what must hold after every step of it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use stanby::core::batch::Batch;
use stanby::core::ids::{ChannelName, Epoch, Guid, LoadId, ProbeId, Sequence};
use stanby::core::limits::Settings;
use stanby::core::load::{Load, Loaded};
use stanby::core::rejection::Rejection;
use stanby::core::request::{Ack, Publish};
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Notice, Outbound, Reply, Request};

use super::facts::Facts;
use super::input::Input;
use super::memory_store::MemoryStore;
use super::pools;

/// Steps at one moment after which a broker that still is not done never will be.
const SETTLE_MAX: usize = 20_000;

/// What is remembered of each kind, to come back to.
const MEMORY: usize = 16;

pub(crate) struct Life<'a> {
    input: Input<'a>,
    settings: Settings,
    broker: Broker,
    store: MemoryStore,
    facts: Facts,
    now: Now,
    epoch: Epoch,
    committing: Option<Batch>,
    loads: Vec<Load>,
    probes: Vec<ProbeId>,
    ack_inboxes: Vec<(ByteString, ChannelName)>,
    delivered: Vec<(ByteString, ChannelName, Sequence)>,
    guids: u64,
    /// Somebody has removed clients' or subscriptions' rows.
    rows_removed: bool,
}

/// What there was to a life.
#[derive(Debug)]
pub(crate) struct Played {
    /// Steps: requests, answers, failures and jumps of time.
    pub(crate) inputs: u64,
    /// Kinds of what left the node.
    pub(crate) seen: BTreeSet<&'static str>,
}

/// Plays the life that the bytes tell.
///
/// # Panics
/// When the broker does, or when it breaks a fact.
pub(crate) fn play(bytes: &[u8]) -> Played {
    let mut input = Input::new(bytes);
    let settings = pools::settings(&mut input);
    let now = Now {
        monotonic: Instant::from_nanos(1_000_000_000),
        wall: Timestamp(1_700_000_000_000_000_000),
    };
    let store = MemoryStore::default();
    let mut life = Life {
        broker: Broker::restore(store.snapshot(), settings.clone(), now),
        input,
        settings,
        store,
        facts: Facts::default(),
        now,
        epoch: Epoch(1),
        committing: None,
        loads: Vec::new(),
        probes: Vec::new(),
        ack_inboxes: Vec::new(),
        delivered: Vec::new(),
        guids: 0,
        rows_removed: false,
    };
    let mut inputs = 0;
    while !life.input.is_empty() {
        life.step();
        inputs += 1;
        life.look();
    }
    life.settle();
    life.end_of_term();
    Played {
        inputs,
        seen: life.facts.seen(),
    }
}

impl Life<'_> {
    fn step(&mut self) {
        let input = &mut self.input;
        match input.below(40) {
            0..3 => {
                let request = pools::connect(input);
                let reply = pools::reply(input);
                self.handle(Request::Connect { request, reply });
            }
            3..9 => self.publish(),
            9..13 => {
                let request = pools::subscribe(input);
                let channel = request.channel.clone();
                let reply = input
                    .chance(240)
                    .then(|| pools::subject(&format!("sub.{channel}")));
                self.handle(Request::Subscribe { request, reply });
            }
            13 => {
                let request = pools::leave(input, &self.ack_inboxes);
                let reply = pools::reply(input);
                self.handle(Request::Unsubscribe { request, reply });
            }
            14 => {
                let request = pools::leave(input, &self.ack_inboxes);
                let reply = pools::reply(input);
                self.handle(Request::CloseSubscription { request, reply });
            }
            15 => {
                let client_id = pools::client_text(input);
                let reply = pools::reply(input);
                self.handle(Request::CloseClient { client_id, reply });
            }
            16 => {
                let connection_id = pools::connection(input);
                let reply = pools::subject("ping");
                self.handle(Request::Ping {
                    connection_id,
                    reply,
                });
            }
            17..21 => self.ack(),
            21..23 => {
                let probe = self.probe();
                self.handle(Event::Pong(probe));
            }
            23 => {
                let probe = self.probe();
                self.handle(Event::Unreachable(probe));
            }
            24 => self.handle_oddity(),
            25..31 => self.commit(),
            31..34 => self.answer_load(),
            34 => self.fail_load(),
            35..38 => self.pass(),
            38 => self.broker.flush(),
            _ => self.end_term_perhaps(),
        }
    }

    fn handle(&mut self, event: impl Into<Event>) {
        let event = event.into();
        if let Event::Request(Request::Subscribe { request, .. }) = &event {
            let taken = self.committing.as_ref().map(|batch| batch.number.0);
            self.facts.subscribes(request, taken);
        }
        self.broker.handle(event, self.now);
    }

    fn publish_request(&mut self, number: u64) -> Publish {
        let input = &mut self.input;
        let length = input.pick(&[0, 1, 3, 20, 70, 400]);
        Publish {
            publisher: pools::publisher(input),
            guid: guid(number),
            channel: pools::channel(input),
            reply: input.pick(&["", "re"]).into(),
            data: Bytes::from(vec![b'd'; length]),
        }
    }

    fn publish(&mut self) {
        self.guids += 1;
        let request = self.publish_request(self.guids);
        let reply = pools::reply(&mut self.input);
        self.handle(Request::Publish { request, reply });
    }

    fn ack(&mut self) {
        let input = &mut self.input;
        let known = !self.delivered.is_empty() && input.chance(200);
        let (ack_inbox, channel, sequence) = if known {
            self.delivered[input.below(self.delivered.len())].clone()
        } else if self.ack_inboxes.is_empty() {
            ("ack.1.0".into(), pools::channel(input), Sequence(1))
        } else {
            let (inbox, channel) = self.ack_inboxes[input.below(self.ack_inboxes.len())].clone();
            let sequence = Sequence(input.extreme().min(i64::MAX.unsigned_abs()));
            (inbox, channel, sequence)
        };
        self.handle(Request::Ack(Ack {
            ack_inbox,
            channel: channel.to_text(),
            sequence,
        }));
    }

    fn probe(&mut self) -> ProbeId {
        let known = !self.probes.is_empty() && self.input.chance(230);
        if known {
            let index = self.input.below(self.probes.len());
            self.probes[index]
        } else {
            ProbeId(self.input.extreme())
        }
    }

    fn handle_oddity(&mut self) {
        let reply = pools::subject("odd");
        let event = match self.input.below(5) {
            0 => Event::Reconnected,
            1 => Event::Request(Request::Answered {
                answer: Reply::SubscribeRefused(Rejection::InvalidSubscribe),
                reply,
            }),
            2 => {
                let request = self.publish_request(u64::MAX);
                Event::Request(Request::AlreadyStored { request, reply })
            }
            3 => Event::LoadFailed(LoadId(self.input.extreme().max(1 << 40))),
            _ => Event::Loaded {
                load: LoadId(self.input.extreme().max(1 << 40)),
                result: Loaded::FirstSince {
                    first: Some(Sequence(1)),
                    hole: None,
                },
            },
        };
        self.handle(event);
    }

    fn commit(&mut self) {
        self.take_batch();
        if let Some(batch) = self.committing.take() {
            self.store.apply(&batch, self.epoch);
            self.facts.committed(&batch, &self.store);
            self.handle(Event::Committed(batch.number));
        }
    }

    fn take_batch(&mut self) {
        if self.committing.is_none() {
            self.committing = self.broker.poll_batch();
        } else {
            assert!(self.broker.poll_batch().is_none(), "one batch at a time");
        }
    }

    fn answer_load(&mut self) {
        if let Some(load) = self.some_load() {
            let result = self.store.load(&load);
            self.handle(Event::Loaded {
                load: load.id,
                result,
            });
        }
    }

    fn fail_load(&mut self) {
        if let Some(load) = self.some_load() {
            self.handle(Event::LoadFailed(load.id));
        }
    }

    /// In any order.
    fn some_load(&mut self) -> Option<Load> {
        if self.loads.is_empty() {
            return None;
        }
        let index = self.input.below(self.loads.len());
        Some(self.loads.swap_remove(index))
    }

    fn pass(&mut self) {
        let millis = [0, 1, 16, 500, 1000, 31_000, 3_600_000, 40_000_000_000];
        let passed = Duration::from_millis(self.input.pick(&millis));
        self.now.monotonic = self.now.monotonic + passed;
        let forward = i64::try_from(passed.as_nanos()).expect("about a year");
        // The wall clock is set by people.
        let wall = match self.input.below(16) {
            0 => self.now.wall.0.saturating_sub(3_600_000_000_000),
            1 => i64::MIN,
            2 => 0,
            _ => self.now.wall.0.saturating_add(forward),
        };
        self.now.wall = Timestamp(wall);
        if self.input.chance(220) {
            self.time_out();
        }
    }

    fn time_out(&mut self) {
        self.broker.handle_timeout(self.now);
        let next = self.broker.next_timeout();
        assert!(
            next.is_none_or(|at| at > self.now.monotonic),
            "what is due is done"
        );
    }

    fn end_term_perhaps(&mut self) {
        if self.input.chance(128) {
            return self.take_batch();
        }
        if let Some(batch) = self.committing.take()
            && self.input.chance(128)
        {
            // Its reply got lost.
            self.store.apply(&batch, self.epoch);
            self.facts.committed(&batch, &self.store);
        }
        if self.input.chance(40) {
            self.damage();
        }
        if self.input.chance(60) {
            self.settings = pools::settings(&mut self.input);
        }
        self.begin_term();
    }

    /// What an operator does with a few statements while no server runs.
    fn damage(&mut self) {
        let rows = self.store.snapshot();
        let mut batch = Batch::default();
        match self.input.below(4) {
            0 => {
                let client = pools::client(&mut self.input);
                batch.clients.insert(client, None);
                self.rows_removed = true;
            }
            1 => {
                let subscription = rows.subscriptions.keys().next();
                batch
                    .subscriptions
                    .extend(subscription.map(|&id| (id, None)));
                self.rows_removed = true;
            }
            _ => {
                for (&id, row) in &rows.channels {
                    let span = row.last_sequence.0 + 1 - row.first_sequence.0;
                    let offset = self.input.below(usize::try_from(span.max(1)).unwrap_or(1));
                    let sequence = Sequence(row.first_sequence.0 + offset as u64);
                    self.store.delete_message(id, sequence);
                }
                self.facts.messages_removed();
            }
        }
        self.store.apply(&batch, self.epoch);
    }

    fn begin_term(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.loads.clear();
        self.committing = None;
        self.facts.begin_term();
        self.broker = Broker::restore(self.store.snapshot(), self.settings.clone(), self.now);
    }

    /// Takes what comes out, and looks whether it may.
    fn look(&mut self) {
        while let Some(load) = self.broker.poll_load() {
            self.loads.push(load);
        }
        assert!(
            self.loads.len() <= self.settings.limits.loads,
            "reads under way are bounded"
        );
        while let Some(notice) = self.broker.poll_notice() {
            let dropped = matches!(notice, Notice::RowDropped { .. });
            assert!(!dropped || self.rows_removed, "{notice:?}");
        }
        while let Some(outbound) = self.broker.poll_outbound() {
            self.facts.sent(&outbound);
            self.remember(outbound);
        }
        if self.input.chance(100) {
            self.take_batch();
        }
        let contradictions = self.broker.contradictions();
        assert!(contradictions.is_empty(), "{contradictions:#?}");
    }

    fn remember(&mut self, outbound: Outbound) {
        match outbound {
            Outbound::Probe { probe, .. } => keep(&mut self.probes, probe),
            Outbound::Deliver {
                channel, message, ..
            } => {
                for (inbox, of) in &self.ack_inboxes {
                    if *of == channel {
                        let entry = (inbox.clone(), channel.clone(), message.sequence);
                        keep(&mut self.delivered, entry);
                    }
                }
            }
            Outbound::Reply {
                to,
                reply: Reply::Subscribed { ack_inbox },
            } => {
                let channel = to.as_str().strip_prefix("sub.");
                let channel = channel.and_then(|name| ChannelName::parse(name.into()));
                if let Some(channel) = channel {
                    keep(&mut self.ack_inboxes, (ack_inbox.to_text(), channel));
                }
            }
            Outbound::Reply { .. } => {}
        }
    }

    /// Nothing new happens and everything is answered: the broker comes to rest.
    fn settle(&mut self) {
        self.broker.flush();
        for _ in 0..SETTLE_MAX {
            if self
                .broker
                .next_timeout()
                .is_some_and(|at| at <= self.now.monotonic)
            {
                self.time_out();
            }
            self.look();
            if !self.loads.is_empty() {
                self.answer_load();
            } else if self.committing.is_some() {
                self.commit();
            } else {
                self.broker.flush();
                self.take_batch();
                if self.committing.is_none() && self.broker.is_drained() {
                    return;
                }
            }
        }
        panic!("the broker never comes to rest");
    }

    /// A broker made from the tables is the one that wrote them.
    fn end_of_term(&mut self) {
        let before = self.broker.counts();
        let rows_before = self.store.snapshot();
        self.rows_removed = false;
        self.begin_term();
        let after = self.broker.counts();

        let sizes = |c: &stanby::core::counts::Counts| {
            (c.clients, c.channels, c.subscriptions, c.messages, c.bytes)
        };
        // What a term begins with by itself (an age that has passed meanwhile) has changed no row yet.
        assert_eq!(self.store.snapshot(), rows_before);
        assert_eq!(sizes(&before), sizes(&after), "{rows_before:#?}");
        self.look();
        self.settle();
    }
}

fn guid(number: u64) -> Guid {
    Guid::parse(number.to_string().into()).expect("digits")
}

fn keep<T>(memory: &mut Vec<T>, value: T) {
    if memory.len() == MEMORY {
        memory.remove(0);
    }
    memory.push(value);
}
