//! What clients send: requests with a subject for the reply, and acks.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use stanby::core::Request;
use stanby::core::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, Guid, QueueName, Sequence, Subject,
};
use stanby::core::request::{Ack, Connect, Leave, Publish, Publisher, StartPosition, Subscribe};

use crate::client::{
    CONNECT_LIMIT, ClientTimer, Link, PING_LIMIT, PUBLISH_LIMIT, Purpose, SUBSCRIBE_LIMIT,
    SlotState,
};
use crate::world::{Step, World};

impl World {
    /// A subject for one reply, awaited for so long.
    pub(crate) fn await_reply(
        &mut self,
        client: usize,
        purpose: Purpose,
        limit: Duration,
    ) -> Subject {
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

    pub(crate) fn connect(&mut self, client: usize) {
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
        let reply = Some(self.await_reply(client, Purpose::Connect, CONNECT_LIMIT));
        let event = Request::Connect { request, reply };
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

    /// Another process wants the client's ID; whatever becomes of it, it is not seen again.
    pub(crate) fn rival_connects(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.serial += 1;
        let (name, rival) = (&state.name, 1_000_000 + state.serial);
        let request = Connect {
            client_id: client_id(name),
            heartbeat_inbox: subject(format!("hb.{name}.{rival}")),
            protocol: 1,
            connection_id: ConnectionId(format!("{name}.{rival}").into()),
            ping_interval: 5,
            ping_max_out: 88,
        };
        let reply = Some(subject(format!("reply.{name}.{rival}.0")));
        self.send_to_nodes(client, &Request::Connect { request, reply });
    }

    pub(crate) fn close(&mut self, client: usize) {
        let reply = Some(self.await_reply(client, Purpose::Close, Duration::from_secs(2)));
        let client_id = self.clients[client].name.clone().into();
        self.send_to_nodes(client, &Request::CloseClient { client_id, reply });
    }

    pub(crate) fn ping(&mut self, client: usize) {
        let state = &self.clients[client];
        if state.protocol == 0 || state.link == Link::Away {
            return;
        }
        let instance = state.instance;
        if state.link == Link::Connected && self.time >= state.silent_until {
            let connection_id = state.connection();
            let reply = self.await_reply(client, Purpose::Ping, PING_LIMIT);
            self.send_to_nodes(
                client,
                &Request::Ping {
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

    pub(crate) fn publish(&mut self, client: usize, channel: usize, data: Bytes, tries: u32) {
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
        let reply = Some(self.await_reply(client, purpose, PUBLISH_LIMIT));
        self.send_to_nodes(client, &Request::Publish { request, reply });
    }

    pub(crate) fn subscribe(&mut self, client: usize, slot: usize) {
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
        self.checks.subscribes(&request);
        let purpose = Purpose::Subscribe { slot };
        let reply = Some(self.await_reply(client, purpose, SUBSCRIBE_LIMIT));
        self.send_to_nodes(client, &Request::Subscribe { request, reply });
    }

    pub(crate) fn leave(&mut self, client: usize, slot: usize) {
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
        let reply = Some(self.await_reply(client, purpose, SUBSCRIBE_LIMIT));
        let event = if self.rng.chance(400) {
            Request::Unsubscribe { request, reply }
        } else {
            Request::CloseSubscription { request, reply }
        };
        self.send_to_nodes(client, &event);
    }

    pub(crate) fn ack(&mut self, client: usize, slot: usize, inbox: &str, sequence: Sequence) {
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
        let ack_inbox = ack_inbox.clone();
        let channel = wanted.channel;
        wanted.acked.insert(sequence);
        if self.acks_in_sql(inbox, sequence) {
            return;
        }
        let ack = Ack {
            ack_inbox,
            channel: channel_name(channel).to_text(),
            sequence,
        };
        self.checks.acks(inbox, sequence);
        self.send_to_nodes(client, &Request::Ack(ack));
    }
}

pub(crate) fn subject(text: String) -> Subject {
    Subject::parse(text.into()).expect("the world's subjects are valid")
}

pub(crate) fn client_id(name: &str) -> ClientId {
    ClientId::parse(name.to_owned().into()).expect("the world's client IDs are valid")
}

pub(crate) fn guid(text: String) -> Guid {
    Guid::parse(text.into()).expect("the world's guids are valid")
}

pub(crate) fn channel_name(channel: usize) -> ChannelName {
    ChannelName::parse(format!("channel-{channel}").into()).expect("the world's names are valid")
}
