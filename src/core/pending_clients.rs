//! Requests where several groups of servers share a cluster ID. Those for other groups' channels are none of this
//! group's business: nobody answers, because the other group does.
//!
//! Every group is asked to connect a client, and the client takes the first answer. Its next request may therefore be
//! here before this group has registered it: while the request is overtaken by the connect's own way here, or while an
//! earlier client of that ID is still being asked whether it lives. Such requests wait, for a second at most; what comes
//! from a client that nobody registered within that time is refused at once from then on, until it connects.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::broker::Broker;
use super::deadlines::Timer;
use super::ids::{ClientId, ConnectionId, NAME_BYTES_MAX};
use super::memory_size;
use super::outbound::Reply;
use super::rejection::Rejection;
use super::request::{Publisher, Request};

/// How long a request waits for its client's registration.
const PATIENCE: Duration = Duration::from_secs(1);

/// Requests and bytes that wait at once. What comes beyond is refused as if it had waited.
const REQUESTS_MAX: usize = 4096;
const BYTES_MAX: usize = 8 << 20;

/// Clients whose requests do not wait again. The oldest make room.
const UNKNOWN_MAX: usize = 256;

/// By what a request names its client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    Client(ByteString),
    Connection(ConnectionId),
}

impl Named {
    /// Copied, because the text may be a slice of a large request. `None` for what no client can be called.
    fn client(id: &str) -> Option<Self> {
        let fits = !id.is_empty() && id.len() <= NAME_BYTES_MAX;
        fits.then(|| Self::Client(id.to_owned().into()))
    }

    /// As [`Self::client`].
    fn connection(id: &ConnectionId) -> Option<Self> {
        let fits = id.0.len() <= NAME_BYTES_MAX;
        fits.then(|| Self::Connection(ConnectionId(Bytes::copy_from_slice(&id.0))))
    }
}

/// Requests that wait for their client.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingClients {
    waiting: BTreeMap<Named, Vec<Request>>,
    requests: usize,
    bytes: usize,
    unknown: VecDeque<Named>,
}

impl PendingClients {
    fn has_room(&self) -> bool {
        self.requests < REQUESTS_MAX && self.bytes < BYTES_MAX
    }

    fn push(&mut self, name: Named, request: Request) {
        self.requests += 1;
        self.bytes += memory_size::request(&request);
        self.waiting.entry(name).or_default().push(request);
    }

    fn take(&mut self, name: &Named) -> Vec<Request> {
        let requests = self.waiting.remove(name).unwrap_or_default();
        self.requests -= requests.len();
        self.bytes -= requests.iter().map(memory_size::request).sum::<usize>();
        requests
    }

    fn is_unknown(&self, name: &Named) -> bool {
        self.unknown.contains(name)
    }

    fn add_unknown(&mut self, name: Named) {
        if !self.is_unknown(&name) {
            self.unknown.push_back(name);
        }
        if self.unknown.len() > UNKNOWN_MAX {
            self.unknown.pop_front();
        }
    }

    /// Those that wait, each once.
    pub(super) fn names(&self) -> impl Iterator<Item = &Named> {
        self.waiting.keys()
    }
}

impl Broker {
    /// The request, if it is to be carried out now. To be called only where there are other groups.
    pub(super) fn admit(&mut self, request: Request) -> Option<Request> {
        if !self.is_ours(&request) {
            return None;
        }
        let Some(name) = self.missing_client(&request) else {
            return Some(request);
        };
        if self.pending_clients.is_unknown(&name) || !self.pending_clients.has_room() {
            self.carry_out_anyway(request);
            return None;
        }
        let patience = self.now.monotonic + PATIENCE;
        self.deadlines
            .set_by(Timer::Unregistered(name.clone()), patience);
        self.pending_clients.push(name, request);
        None
    }

    /// False for requests that name a channel of another group.
    fn is_ours(&self, request: &Request) -> bool {
        let (partition, channel) = (self.settings.partition.as_ref(), request.channel());
        let named = partition.zip(channel);
        named.is_none_or(|(partition, channel)| partition.contains(channel))
    }

    /// The client that has to be registered before the request makes sense. One whose ID is being checked may be the one
    /// before: a subscription would end with it, and a close would be meant for the other.
    fn missing_client(&self, request: &Request) -> Option<Named> {
        match request {
            Request::Publish { request, .. } => {
                let publisher = &request.publisher;
                if self.clients.publisher(publisher).is_some() {
                    return None;
                }
                match publisher {
                    Publisher::Connection(id) => Named::connection(id),
                    Publisher::Client(id) => Named::client(id),
                }
            }
            Request::Subscribe { request, .. } => {
                let id = &request.client_id;
                let known = self.clients.get(id.as_str()).is_some();
                let waits = !known || self.clients.is_being_checked(id);
                waits.then(|| Named::client(id.as_str())).flatten()
            }
            Request::CloseClient { client_id, .. } => {
                let mut checked = self.clients.checked();
                let waits = checked.any(|request| request.client_id.as_str() == &**client_id);
                waits.then(|| Named::client(client_id)).flatten()
            }
            Request::Connect { .. }
            | Request::Unsubscribe { .. }
            | Request::CloseSubscription { .. }
            | Request::Ping { .. }
            | Request::Ack(_)
            | Request::Answered { .. }
            | Request::AlreadyStored { .. } => None,
        }
    }

    /// It is decided who has the client ID: what waited for that is carried out, publishes first, because what was sent
    /// before a close counts.
    pub(super) fn client_decided(&mut self, id: &ClientId) {
        if self.settings.partition.is_none() {
            return;
        }
        let registered = self.clients.get(id.as_str());
        let connection = registered.map(|client| client.row.connection_id.clone());
        let connection = connection.map(Named::Connection);
        for name in connection.into_iter().chain([Named::Client(id.to_text())]) {
            self.pending_clients
                .unknown
                .retain(|unknown| *unknown != name);
            self.deadlines.clear(&Timer::Unregistered(name.clone()));
            for request in self.pending_clients.take(&name) {
                self.carry_out(request);
            }
        }
    }

    /// Nobody has registered the client within the patience.
    pub(super) fn stop_waiting_for(&mut self, name: Named) {
        if self.is_about_to_register(&name) {
            let again = self.now.monotonic + PATIENCE;
            return self.deadlines.set(Timer::Unregistered(name), again);
        }
        for request in self.pending_clients.take(&name) {
            self.carry_out_anyway(request);
        }
        self.pending_clients.add_unknown(name);
    }

    fn is_about_to_register(&self, name: &Named) -> bool {
        let mut asked = self.clients.checked();
        asked.any(|request| match name {
            Named::Client(id) => request.client_id.as_str() == &**id,
            Named::Connection(id) => request.connection_id == *id,
        })
    }

    /// Carries out what waited long enough, and refuses it in the words of NATS Streaming where its client is missing.
    fn carry_out_anyway(&mut self, request: Request) {
        let is_known = |id: &ClientId| self.clients.get(id.as_str()).is_some();
        if let Request::Subscribe { request, reply } = &request
            && !is_known(&request.client_id)
        {
            let refusal = Reply::SubscribeRefused(Rejection::InvalidSubscribe);
            return self.answer(reply.clone(), refusal);
        }
        self.carry_out(request);
    }
}
