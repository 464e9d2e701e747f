//! An application with a NATS Streaming client library: connects until it succeeds, publishes and publishes
//! again when no ack comes, subscribes, acks late or not at all, and now and then crashes or falls silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use stanby::core::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, Guid, ProbeId, QueueName, Sequence, Subject,
};
use stanby::core::message::Message;
use stanby::core::rejection::Rejection;
use stanby::core::request::{Ack, Connect, Leave, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::{Event, Reply};

use crate::node::Input;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::{Step, Time, World, nanos};

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
        redelivery_count: u32,
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
enum Link {
    Away,
    Connecting,
    Connected,
}

/// What a reply is awaited for.
#[derive(Clone, Debug)]
enum Purpose {
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
    max_in_flight: u32,
    ack_wait: Duration,
    /// Of a thousand: how many messages the application forgets to ack.
    forgets: u64,
    ack_time: (u64, u64),
    pub(crate) state: SlotState,
    /// Acked under the current inbox.
    acked: BTreeSet<Sequence>,
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
    protocol: i32,
    /// Counts its connections.
    instance: u64,
    link: Link,
    pub(crate) slots: Vec<Slot>,
    awaited: BTreeMap<String, Purpose>,
    serial: u64,
    silent_until: Time,
    publish_pause: (u64, u64),
}

impl Client {
    pub(crate) fn new(id: usize, plan: &Plan, rng: &mut Rng) -> Self {
        let slots = (0..rng.range(0, 4)).map(|n| slot(n, plan, rng)).collect();
        Self {
            name: format!("client-{id}"),
            protocol: rng.pick(&[0, 1, 1]),
            instance: 0,
            link: Link::Away,
            slots,
            awaited: BTreeMap::new(),
            serial: 0,
            silent_until: 0,
            publish_pause: rng.pick(&[(20, 200), (100, 800), (500, 3_000)]),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link == Link::Connected
    }

    fn connection(&self) -> ConnectionId {
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
        forgets: rng.pick(&[0, 0, 50, 500]),
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
        for slot in &mut state.slots {
            slot.forgets = 0;
            slot.ack_time = (0, 20);
        }
        if state.protocol == 0 || self.rng.chance(300) {
            self.client_crashes(client);
        }
    }

    pub(crate) fn client_timer(&mut self, client: usize, timer: ClientTimer) {
        let current = self.clients[client].instance;
        match timer {
            ClientTimer::Act => {
                let (low, high) = self.clients[client].publish_pause;
                let (low, high) = if self.calm { (20, 300) } else { (low, high) };
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
            Link::Away => return self.connect(client),
            Link::Connecting => return,
            Link::Connected => {}
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
        let publishing = self.time < nanos(self.plan.chaos) + 3_000_000_000;
        if publishing && self.clients[client].awaited.len() < 50 {
            for _ in 0..self.rng.pick(&[1, 1, 1, 4]) {
                let channel = self.rng.index(self.plan.channels);
                let size = self.rng.pick(&[0, 5, 80, 300]);
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

    /// A subject for one reply, awaited for so long.
    fn await_reply(&mut self, client: usize, purpose: Purpose, limit: Duration) -> Subject {
        let state = &mut self.clients[client];
        state.serial += 1;
        let instance = state.instance;
        let reply = format!("reply.{}.{instance}.{}", state.name, state.serial);
        state.awaited.insert(reply.clone(), purpose);
        self.nats.listen(reply.clone(), client, instance);
        let timer = ClientTimer::Timeout {
            instance,
            reply: reply.clone(),
        };
        self.after(limit, Step::ClientTimer { client, timer });
        subject(reply)
    }

    fn connect(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.link = Link::Connecting;
        state.instance += 1;
        let instance = state.instance;
        let heartbeats = format!("hb.{}.{instance}", state.name);
        let request = Connect {
            client_id: client_id(&state.name),
            heartbeat_inbox: subject(heartbeats.clone()),
            protocol: state.protocol,
            connection_id: state.connection(),
            ping_interval: 5,
            ping_max_out: 88,
        };
        self.nats.listen(heartbeats, client, instance);
        let reply = Some(self.await_reply(client, Purpose::Connect, Duration::from_secs(2)));
        let event = Event::Connect { request, reply };
        self.send_to_nodes(client, &event);
        if self.rng.chance(100) {
            self.send_to_nodes(client, &event);
        }
        let timer = ClientTimer::Ping { instance };
        self.after(
            Duration::from_millis(700),
            Step::ClientTimer { client, timer },
        );
    }

    fn close(&mut self, client: usize) {
        let reply = Some(self.await_reply(client, Purpose::Close, Duration::from_secs(2)));
        let client_id = self.clients[client].name.clone().into();
        self.send_to_nodes(client, &Event::CloseClient { client_id, reply });
    }

    fn ping(&mut self, client: usize) {
        let state = &self.clients[client];
        if state.protocol == 0 || state.link == Link::Away {
            return;
        }
        let instance = state.instance;
        if state.link == Link::Connected && self.time >= state.silent_until {
            let connection_id = state.connection();
            let reply = self.await_reply(client, Purpose::Ping, Duration::from_secs(1));
            self.send_to_nodes(
                client,
                &Event::Ping {
                    connection_id,
                    reply,
                },
            );
        }
        let timer = ClientTimer::Ping { instance };
        self.after(
            Duration::from_millis(700),
            Step::ClientTimer { client, timer },
        );
    }

    fn publish(&mut self, client: usize, channel: usize, data: Bytes, tries: u32) {
        self.clients[client].serial += 1;
        let state = &self.clients[client];
        let guid = guid(format!("{}.{}", state.name, state.serial));
        let publisher = match state.protocol {
            0 => Publisher::Client(state.name.clone().into()),
            _ => Publisher::Connection(state.connection()),
        };
        let name = channel_name(channel);
        let request = Publish {
            publisher,
            guid: guid.clone(),
            channel: name.clone(),
            reply: ByteString::new(),
            data: data.clone(),
        };
        self.checks.publishes(guid, &name, data.clone());
        let purpose = Purpose::Publish {
            channel,
            data,
            tries,
        };
        let reply = Some(self.await_reply(client, purpose, Duration::from_secs(3)));
        self.send_to_nodes(client, &Event::Publish { request, reply });
    }

    fn subscribe(&mut self, client: usize, slot: usize) {
        let start = match self.rng.range(0, 6) {
            0 => StartPosition::NewOnly,
            1 => StartPosition::LastReceived,
            2 | 3 => StartPosition::First,
            4 => StartPosition::Sequence(Sequence(self.rng.range(0, 60))),
            _ => StartPosition::TimeDelta(self.rng.range(0, 6_000_000_000).cast_signed()),
        };
        let ack_token = u128::from(self.rng.next());
        self.clients[client].serial += 1;
        let state = &mut self.clients[client];
        let inbox = format!("inbox.{}.{}.{}", state.name, state.instance, state.serial);
        let wanted = &mut state.slots[slot];
        wanted.acked.clear();
        let request = Subscribe {
            client_id: client_id(&state.name),
            channel: channel_name(wanted.channel),
            inbox: subject(inbox.clone()),
            queue_group: wanted
                .queue
                .clone()
                .and_then(|name| QueueName::parse(name.into())),
            durable_name: wanted
                .durable
                .clone()
                .and_then(|name| DurableName::parse(name.into())),
            max_in_flight: wanted.max_in_flight,
            ack_wait: wanted.ack_wait,
            start,
            ack_token,
        };
        wanted.state = SlotState::Subscribing {
            inbox: inbox.clone(),
        };
        self.nats.listen(inbox.clone(), client, state.instance);
        self.checks.subscribes(inbox, start);
        let purpose = Purpose::Subscribe { slot };
        let reply = Some(self.await_reply(client, purpose, Duration::from_secs(2)));
        self.send_to_nodes(client, &Event::Subscribe { request, reply });
    }

    fn leave(&mut self, client: usize, slot: usize) {
        let state = &mut self.clients[client];
        let SlotState::On { inbox, ack_inbox } = state.slots[slot].state.clone() else {
            return;
        };
        state.slots[slot].state = SlotState::Leaving;
        let by_inbox = self.rng.chance(200);
        let request = Leave {
            client_id: self.clients[client].name.clone().into(),
            channel: channel_name(self.clients[client].slots[slot].channel),
            inbox: if by_inbox {
                inbox.clone().into()
            } else {
                ack_inbox
            },
        };
        self.nats.unlisten(&inbox);
        let purpose = Purpose::Leave { slot };
        let reply = Some(self.await_reply(client, purpose, Duration::from_secs(2)));
        let event = if self.rng.chance(400) {
            Event::Unsubscribe { request, reply }
        } else {
            Event::CloseSubscription { request, reply }
        };
        self.send_to_nodes(client, &event);
    }

    fn ack(&mut self, client: usize, slot: usize, inbox: &str, sequence: Sequence) {
        let wanted = &mut self.clients[client].slots[slot];
        let SlotState::On {
            inbox: current,
            ack_inbox,
        } = &wanted.state
        else {
            return;
        };
        if current != inbox {
            return;
        }
        let ack = Ack {
            ack_inbox: ack_inbox.clone(),
            channel: channel_name(wanted.channel).to_text(),
            sequence,
        };
        wanted.acked.insert(sequence);
        self.checks.acks(inbox, sequence);
        self.send_to_nodes(client, &Event::Ack(ack));
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
                    let input = Input::Heard {
                        term,
                        event: Event::Pong(probe),
                    };
                    self.send_pong(client, node, incarnation, input);
                }
            }
            ToClient::Deliver {
                inbox,
                channel: _,
                message,
                redelivery_count: _,
            } => {
                self.checks.receives(inbox.as_str(), &message);
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
            (Purpose::Publish { .. }, Reply::Published(guid)) => self.checks.acked(&guid),
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
            Purpose::Publish { .. } | Purpose::Ping => {}
        }
    }
}

fn subject(text: String) -> Subject {
    Subject::parse(text.into()).expect("the world's subjects are valid")
}

fn client_id(name: &str) -> ClientId {
    ClientId::parse(name.to_owned().into()).expect("the world's client IDs are valid")
}

fn guid(text: String) -> Guid {
    Guid::parse(text.into()).expect("the world's guids are valid")
}

pub(crate) fn channel_name(channel: usize) -> ChannelName {
    ChannelName::parse(format!("channel-{channel}").into()).expect("the world's names are valid")
}
