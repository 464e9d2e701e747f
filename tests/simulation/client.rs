//! An application with a NATS Streaming client library: connects until it succeeds, publishes and publishes
//! again when no ack comes, subscribes, acks late or not at all, and now and then crashes or falls silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use stanby::core::ids::{ChannelName, ConnectionId, ProbeId, Sequence, Subject};
use stanby::core::message::Message;
use stanby::core::rejection::Rejection;
use stanby::core::{Event, Reply};

use crate::links::Incoming;
use crate::node::Input;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::{Step, Time, World, nanos};

/// For so long answers are waited for.
pub(crate) const PUBLISH_LIMIT: Duration = Duration::from_secs(3);
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(2);
pub(crate) const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(2);
pub(crate) const PING_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum ToClient {
    Reply {
        to: Subject,
        reply: Reply,
    },
    Deliver {
        inbox: Subject,
        channel: ChannelName,
        message: Arc<Message>,
    },
    Probe {
        node: usize,
        incarnation: u64,
        term: u64,
        probe: ProbeId,
    },
}

#[derive(Debug)]
pub(crate) enum ClientTimer {
    Act,
    Timeout {
        instance: u64,
        reply: String,
    },
    Ack {
        instance: u64,
        slot: usize,
        inbox: String,
        sequence: Sequence,
    },
    Ping {
        instance: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Away,
    Connecting,
    Connected,
}

/// What a reply is awaited for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    Connect,
    Publish {
        channel: usize,
        data: Bytes,
        tries: u32,
    },
    Subscribe {
        slot: usize,
    },
    Leave {
        slot: usize,
    },
    Close,
    Ping,
}

/// A place for one subscription of the application.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) channel: usize,
    pub(crate) durable: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) max_in_flight: u32,
    pub(crate) ack_wait: Duration,
    /// Of a thousand: how many messages the application forgets to ack.
    forgets: u64,
    /// It acks every second message only.
    is_sparse: bool,
    ack_time: (u64, u64),
    pub(crate) state: SlotState,
    /// Acked under the current inbox.
    pub(crate) acked: BTreeSet<Sequence>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    Off,
    Subscribing {
        inbox: String,
    },
    On {
        inbox: String,
        ack_inbox: ByteString,
    },
    Leaving,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) protocol: i32,
    /// Counts its connections.
    pub(crate) instance: u64,
    pub(crate) link: Link,
    pub(crate) slots: Vec<Slot>,
    /// It does not come back.
    pub(crate) retired: bool,
    pub(crate) awaited: BTreeMap<String, Purpose>,
    pub(crate) serial: u64,
    pub(crate) silent_until: Time,
    /// Until then it is gone as soon as it is connected, and comes back at once.
    pub(crate) storms_until: Time,
    publish_pause: (u64, u64),
    /// From NATS.
    pub(crate) incoming: Incoming,
    /// It has more subscriptions than its slots.
    pub(crate) has_crowd: bool,
}

impl Client {
    pub(crate) fn new(id: usize, plan: &Plan, rng: &mut Rng) -> Self {
        // Many have little to do each.
        let is_crowd = plan.clients > 5;
        let slots_max = if is_crowd { 1 } else { 4 };
        let slots = (0..rng.range(0, slots_max))
            .map(|n| slot(n, plan, rng))
            .collect();
        Self {
            name: format!("client-{id}"),
            protocol: rng.pick(&[0, 1, 1]),
            instance: 0,
            link: Link::Away,
            slots,
            awaited: BTreeMap::new(),
            retired: false,
            serial: 0,
            silent_until: 0,
            storms_until: 0,
            incoming: Incoming::default(),
            has_crowd: false,
            publish_pause: if is_crowd {
                (1_000, 6_000)
            } else {
                rng.pick(&[(20, 200), (100, 800), (500, 3_000)])
            },
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link == Link::Connected
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        match self.protocol {
            0 => ConnectionId::default(),
            _ => ConnectionId(format!("{}.{}", self.name, self.instance).into()),
        }
    }
}

fn slot(number: u64, plan: &Plan, rng: &mut Rng) -> Slot {
    let queue = rng
        .chance(500)
        .then(|| format!("queue-{}", rng.range(0, 1)));
    let durable = rng.chance(600).then(|| match queue {
        // Durables of one client have names of their own, groups are shared.
        None => format!("durable-{number}"),
        Some(_) => "durable".to_owned(),
    });
    Slot {
        channel: rng.index(plan.channels),
        durable,
        queue,
        max_in_flight: rng.pick(&[1, 2, 5, 1024]),
        ack_wait: Duration::from_secs(rng.range(1, 3)),
        forgets: rng.pick(&[0, 0, 0, 50, 500, 1000]),
        is_sparse: rng.chance(100),
        ack_time: rng.pick(&[(0, 0), (0, 50), (100, 1_500)]),
        state: SlotState::Off,
        acked: BTreeSet::new(),
    }
}

impl World {
    pub(crate) fn client_begins(&mut self, client: usize) {
        let delay = self.rng.millis(0, 500);
        self.after(
            delay,
            Step::ClientTimer {
                client,
                timer: ClientTimer::Act,
            },
        );
    }

    /// The application dies or loses its connection; a next one takes its name.
    pub(crate) fn client_crashes(&mut self, client: usize) {
        let state = &mut self.clients[client];
        if state.link == Link::Away {
            return;
        }
        state.link = Link::Away;
        state.awaited.clear();
        for slot in &mut state.slots {
            slot.state = SlotState::Off;
        }
        self.nats.disconnect(client);
        self.note(|| format!("client {client}: is gone"));
    }

    /// Acks everything from here on. A client that cannot notice that it was closed connects anew.
    pub(crate) fn client_calms_down(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.silent_until = 0;
        state.storms_until = 0;
        for slot in &mut state.slots {
            slot.forgets = 0;
            slot.is_sparse = false;
            slot.ack_time = (0, 20);
        }
        let retires = self.rng.chance(150);
        // Subscriptions that a failover of Postgres has lost are made again by those who connect again.
        let forgotten = self.checks.failovers.count > 0;
        let state = &mut self.clients[client];
        state.retired = retires;
        if forgotten || state.has_crowd || state.protocol == 0 || retires || self.rng.chance(300) {
            self.client_crashes(client);
        }
    }

    pub(crate) fn client_timer(&mut self, client: usize, timer: ClientTimer) {
        let current = self.clients[client].instance;
        match timer {
            ClientTimer::Act => {
                let (low, high) = self.clients[client].publish_pause;
                let storms = self.time < self.clients[client].storms_until;
                let (low, high) = if self.calm {
                    (20, 300)
                } else if storms {
                    (5, 60)
                } else {
                    (low, high)
                };
                let pause = self.rng.millis(low, high);
                self.after(
                    pause,
                    Step::ClientTimer {
                        client,
                        timer: ClientTimer::Act,
                    },
                );
                self.act(client);
            }
            ClientTimer::Timeout { instance, reply } if instance == current => {
                if let Some(purpose) = self.clients[client].awaited.remove(&reply) {
                    self.nats.unlisten(&reply);
                    self.timed_out(client, purpose);
                }
            }
            ClientTimer::Ack {
                instance,
                slot,
                inbox,
                sequence,
            } if instance == current => {
                self.ack(client, slot, &inbox, sequence);
            }
            ClientTimer::Ping { instance } if instance == current => self.ping(client),
            ClientTimer::Timeout { .. } | ClientTimer::Ack { .. } | ClientTimer::Ping { .. } => {}
        }
    }

    fn act(&mut self, client: usize) {
        match self.clients[client].link {
            Link::Away if self.clients[client].retired => return,
            Link::Away => return self.connect(client),
            Link::Connecting => return,
            Link::Connected => {}
        }
        if self.time < self.clients[client].storms_until {
            return self.client_crashes(client);
        }
        if !self.calm {
            match self.rng.range(0, 400) {
                0 => return self.client_crashes(client),
                1 => {
                    let silence = self.rng.millis(200, 8_000);
                    self.note(|| format!("client {client}: is silent for {silence:?}"));
                    self.clients[client].silent_until = self.time + nanos(silence);
                }
                2 | 3 => return self.close(client),
                4 | 5 => self.rival_connects(client),
                _ => {}
            }
        }
        for slot in 0..self.clients[client].slots.len() {
            match self.clients[client].slots[slot].state {
                SlotState::Off if self.calm || self.rng.chance(300) => self.subscribe(client, slot),
                SlotState::On { .. } if !self.calm && self.rng.chance(15) => {
                    self.leave(client, slot);
                }
                SlotState::Off
                | SlotState::On { .. }
                | SlotState::Subscribing { .. }
                | SlotState::Leaving => {}
            }
        }
        self.is_greedy(client);
        let since_chaos = self.time.saturating_sub(nanos(self.plan.chaos));
        let publishing = since_chaos < 3_000_000_000
            || since_chaos < 20_000_000_000 && self.hardships.chance(100);
        if publishing && self.clients[client].awaited.len() < 50 {
            for _ in 0..self.rng.pick(&[1, 1, 1, 4]) {
                let channel = self.rng.index(self.plan.channels);
                let size = if self.plan.large_messages {
                    self.rng.pick(&[0, 5, 80, 20_000])
                } else {
                    self.rng.pick(&[0, 5, 80, 300])
                };
                self.clients[client].serial += 1;
                let label = format!(
                    "{} says {}.",
                    self.clients[client].name, self.clients[client].serial
                );
                let data = Bytes::from(label.repeat(1 + size / label.len()));
                self.publish(client, channel, data, 0);
            }
        }
    }

    pub(crate) fn client_hears(&mut self, client: usize, instance: u64, message: ToClient) {
        if self.clients[client].instance != instance || self.clients[client].link == Link::Away {
            return;
        }
        match message {
            ToClient::Probe {
                node,
                incarnation,
                term,
                probe,
            } => {
                if self.time >= self.clients[client].silent_until {
                    let input = Input::Received {
                        term,
                        event: Box::new(Event::Pong(probe)),
                    };
                    self.send_pong(client, node, incarnation, input);
                }
            }
            ToClient::Deliver {
                inbox,
                channel,
                message,
            } => {
                self.checks.receives(inbox.as_str(), &channel, &message);
                self.client_gets(client, inbox.as_str(), message.sequence);
            }
            ToClient::Reply { to, reply } => {
                if let Some(purpose) = self.clients[client].awaited.remove(to.as_str()) {
                    self.nats.unlisten(to.as_str());
                    self.answered(client, purpose, reply);
                }
            }
        }
    }

    fn client_gets(&mut self, client: usize, inbox: &str, sequence: Sequence) {
        let slots = &self.clients[client].slots;
        let owner = slots.iter().position(
            |slot| matches!(&slot.state, SlotState::On { inbox: current, .. } if current == inbox),
        );
        let Some(slot) = owner else {
            return;
        };
        let (forgets, (low, high)) = (slots[slot].forgets, slots[slot].ack_time);
        if slots[slot].is_sparse && sequence.0.is_multiple_of(2) {
            return;
        }
        // What was acked before is acked again: that ack must have been lost.
        if !self.clients[client].slots[slot].acked.contains(&sequence) && self.rng.chance(forgets) {
            return;
        }
        let delay = self.rng.millis(low, high);
        let instance = self.clients[client].instance;
        let timer = ClientTimer::Ack {
            instance,
            slot,
            inbox: inbox.to_owned(),
            sequence,
        };
        self.after(delay, Step::ClientTimer { client, timer });
    }

    fn answered(&mut self, client: usize, purpose: Purpose, reply: Reply) {
        match (purpose, reply) {
            (Purpose::Connect, Reply::Connected { .. }) => {
                self.clients[client].link = Link::Connected;
            }
            (Purpose::Connect | Purpose::Close, _) => {
                self.client_crashes(client);
            }
            (Purpose::Publish { data, .. }, Reply::Published(guid)) => {
                self.checks.acked(&guid, &data);
            }
            // Its connection is not registered any more.
            (
                _,
                Reply::PublishRefused(_, Rejection::InvalidPublish)
                | Reply::SubscribeRefused(Rejection::UnknownClient | Rejection::DuplicateDurable)
                | Reply::LeaveRefused(Rejection::UnknownClient)
                | Reply::PingRefused(_),
            ) => self.client_crashes(client),
            (Purpose::Subscribe { slot }, Reply::Subscribed { ack_inbox }) => {
                let state = &mut self.clients[client].slots[slot].state;
                if let SlotState::Subscribing { inbox } = state {
                    let inbox = std::mem::take(inbox);
                    *state = SlotState::On {
                        inbox,
                        ack_inbox: ack_inbox.to_text(),
                    };
                }
            }
            (Purpose::Subscribe { slot } | Purpose::Leave { slot }, _) => {
                self.clients[client].slots[slot].state = SlotState::Off;
            }
            (Purpose::Publish { .. } | Purpose::Ping, _) => {}
        }
    }

    fn timed_out(&mut self, client: usize, purpose: Purpose) {
        let (what, limit) = match &purpose {
            Purpose::Publish { .. } => ("publish", PUBLISH_LIMIT),
            Purpose::Connect => ("connect", CONNECT_LIMIT),
            Purpose::Subscribe { .. } => ("subscribe", SUBSCRIBE_LIMIT),
            Purpose::Leave { .. } => ("leave", SUBSCRIBE_LIMIT),
            Purpose::Close => ("close", SUBSCRIBE_LIMIT),
            Purpose::Ping => ("ping", PING_LIMIT),
        };
        self.a_request_is_not_answered(what, client, self.time - nanos(limit));
        match purpose {
            Purpose::Publish {
                channel,
                data,
                tries,
            } if tries < 3 => {
                self.publish(client, channel, data, tries + 1);
            }
            // What the server made of it is unknown: only a new connection makes that certain.
            Purpose::Connect
            | Purpose::Subscribe { .. }
            | Purpose::Leave { .. }
            | Purpose::Close => {
                self.client_crashes(client);
            }
            Purpose::Ping | Purpose::Publish { .. } => {}
        }
    }
}
