//! Clients that ask for more than others, within what the protocol allows: many subscriptions at one inbox that ack nothing,
//! a GUID for several messages, replies that are larger than any payload.

use std::time::Duration;

use bytes::Bytes;
use stanby::core::Request;
use stanby::core::ids::Guid;
use stanby::core::request::{Publish, Publisher, StartPosition, Subscribe};

use crate::client::{PUBLISH_LIMIT, Purpose};
use crate::requests::{channel_name, client_id, guid, subject};
use crate::world::World;

/// Of inboxes that many subscriptions share.
const CROWD: &str = "crowd.";

pub(crate) fn is_of_crowd(inbox: &str) -> bool {
    inbox.starts_with(CROWD)
}

impl World {
    pub(crate) fn is_greedy(&mut self, client: usize) {
        let greed = self.hardships.greed;
        if self.calm || !self.hardships.chance(greed) {
            return;
        }
        self.checks.greedy += 1;
        match self.hardships.range(0, 2) {
            0 => self.crowds_an_inbox(client),
            1 => self.repeats_a_guid(client),
            _ => self.sends_a_huge_reply(client),
        }
    }

    fn crowds_an_inbox(&mut self, client: usize) {
        let count = self.hardships.range(2, 20);
        let channel = self.hardships.range(0, self.plan.channels as u64 - 1);
        let channel = channel_name(usize::try_from(channel).expect("there are few"));
        let state = &mut self.clients[client];
        state.has_crowd = true;
        let inbox = format!("{CROWD}{}.{}.{channel}", state.name, state.instance);
        let (name, instance) = (state.name.clone(), state.instance);
        self.note(|| format!("client {client}: subscribes {count} times at {inbox}"));
        self.nats.listen(inbox.clone(), client, instance);
        for _ in 0..count {
            self.clients[client].serial += 1;
            let serial = self.clients[client].serial;
            let request = Subscribe {
                client_id: client_id(&name),
                channel: channel.clone(),
                inbox: subject(inbox.clone()),
                queue_group: None,
                durable_name: None,
                max_in_flight: 2,
                ack_wait: Duration::from_secs(2),
                start: StartPosition::NewOnly,
                ack_token: u128::from(self.rng_of_tokens()),
            };
            self.checks.subscribes(&request);
            // It waits for none of the answers.
            let reply = Some(subject(format!("reply.{name}.{instance}.{serial}")));
            self.send_to_nodes(client, &Request::Subscribe { request, reply });
        }
    }

    fn rng_of_tokens(&mut self) -> u64 {
        self.hardships.range(0, u64::MAX - 1)
    }

    /// Another message under the GUID of the last one, of this client or of another.
    fn repeats_a_guid(&mut self, client: usize) {
        let of = self.hardships.range(0, self.clients.len() as u64 - 1);
        let of = &self.clients[usize::try_from(of).expect("there are few")];
        let repeated = guid(format!("{}.{}", of.name, of.serial));
        if !self.checks.was_published(&repeated) {
            return;
        }
        self.clients[client].serial += 1;
        let state = &self.clients[client];
        let data = Bytes::from(format!("{} again {}", state.name, state.serial));
        self.publishes_more(client, repeated, data, "");
    }

    fn sends_a_huge_reply(&mut self, client: usize) {
        self.clients[client].serial += 1;
        let state = &self.clients[client];
        let own = guid(format!("{}.{}", state.name, state.serial));
        let data = Bytes::from(format!("{} asks {}", state.name, state.serial));
        let bytes = usize::try_from(self.hardships.range(1, 30_000)).expect("it fits");
        self.publishes_more(client, own, data, &"r".repeat(bytes));
    }

    fn publishes_more(&mut self, client: usize, guid: Guid, data: Bytes, answers_to: &str) {
        let channel = self.hardships.range(0, self.plan.channels as u64 - 1);
        let channel = usize::try_from(channel).expect("there are few");
        let state = &self.clients[client];
        let publisher = match state.protocol {
            0 => Publisher::Client(state.name.clone().into()),
            _ => Publisher::Connection(state.connection()),
        };
        let name = channel_name(channel);
        if self.checks.was_published(&guid) {
            self.checks.repeats(guid.clone(), &name, data.clone());
        } else {
            self.checks.publishes(guid.clone(), &name, data.clone());
        }
        let request = Publish {
            publisher,
            guid,
            channel: name,
            reply: answers_to.to_owned().into(),
            data: data.clone(),
        };
        let purpose = Purpose::Publish {
            channel,
            data,
            // It does not try again.
            tries: u32::MAX,
        };
        let reply = Some(self.await_reply(client, purpose, PUBLISH_LIMIT));
        self.send_to_nodes(client, &Request::Publish { request, reply });
    }
}
