//! Everything that clients send to the server, as events of the core. `request_scheduler` says in which order.
//!
//! What waits here is bounded, in messages and in bytes ([`super::Settings::receive_bytes`]); beyond that NATS has
//! to hold it, and nothing is lost unless NATS gives up on this server. The caller decides how many events it takes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::ack_tokens::AckTokens;
use super::connection::{Connection, Inbox};
use super::error::Error;
use super::fair_queue::Sender;
use super::gate::Gate;
use super::outgoing::Class;
use super::probes::ProbeInbox;
use super::request_scheduler::{Kind, RequestScheduler};
use super::wire::{Message, encode as wire};
use crate::core::capacity::Quota;
use crate::core::outbound::Reply;
use crate::core::rejection::Rejection;
use crate::core::time::Instant;
use crate::core::{Event, Request};
use crate::protocol::{Subjects, decode, encode};

/// Time that NATS has to confirm the subscriptions.
const SUBSCRIBE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Bytes of messages after which a turn is over, so that large requests are not all taken in at once.
const TURN_BYTES: usize = 4 << 20;

/// The subscriptions of one term, or of one standby. Ends them when dropped.
#[derive(Debug)]
pub struct Ingress {
    connection: Connection,
    inbox: Inbox,
    subjects: Subjects,
    /// The subscriptions to publishes, in the order of `Subjects::publishes`.
    publishes: Vec<u64>,
    /// By subscription; those that are not in here are for single ack inboxes.
    kinds: Vec<(u64, Kind)>,
    scheduler: RequestScheduler<(Sender, Message)>,
    probes: ProbeInbox,
    ack_tokens: AckTokens,
}

impl Ingress {
    /// When it returns, NATS delivers to these subscriptions.
    pub async fn subscribe(
        connection: &Connection,
        subjects: &Subjects,
        ack_tokens: &AckTokens,
    ) -> Result<Self, Error> {
        connection.link().may_refuse(false);
        let probes = ProbeInbox::new(connection.new_subject());
        let mut ingress = Self {
            connection: connection.clone(),
            inbox: connection.inbox(),
            subjects: subjects.clone(),
            publishes: Vec::new(),
            kinds: Vec::new(),
            scheduler: RequestScheduler::default(),
            probes,
            ack_tokens: ack_tokens.clone(),
        };
        for subject in subjects.publishes() {
            let sid = ingress.inbox.subscribe(&subject)?;
            ingress.publishes.push(sid);
        }
        let probes = ingress.probes.wildcard();
        // The most frequent first: messages are looked up in this order.
        for (kind, subject) in [
            (Kind::Ack, &**subjects.ack_wildcard()),
            (Kind::Probe, &probes),
            (Kind::Ping, subjects.pings()),
            (Kind::Subscribe, subjects.subscribe()),
            (Kind::CloseSubscription, subjects.close_subscription()),
            (Kind::Unsubscribe, subjects.unsubscribe()),
            (Kind::CloseClient, subjects.close_client()),
            (Kind::Connect, subjects.discover()),
        ] {
            let sid = ingress.inbox.subscribe(subject)?;
            ingress.kinds.push((sid, kind));
        }
        ingress.inbox.guard(gate(&ingress));
        // Nothing is so much within the first round trip that it could fill the queue for good: who reads it comes
        // after this.
        connection.flush(SUBSCRIBE_TIMEOUT).await?;
        Ok(ingress)
    }

    /// While it is on, requests of clients are refused of whom more waits than of any that waits for answers, and, where the
    /// NATS server would rather cut this side off than hold them, publishes of whom more than their share waits. For who
    /// answers: others leave what they cannot take to NATS.
    pub fn refuse_floods(&self, on: bool) {
        self.connection.link().may_refuse(on);
    }

    /// A refusal is an answer: none leaves from `until` on, before this is called again.
    pub fn refuses_until(&self, until: Instant) {
        self.connection.link().budget.refuse_until(until);
    }

    /// Hears acks on these inboxes too: they are not under the prefix of this server, because another one gave them
    /// out. NATS knows of them before it sees anything that is sent from here on.
    pub fn listen_for_acks_on<'a>(
        &mut self,
        inboxes: impl Iterator<Item = &'a str>,
    ) -> Result<(), Error> {
        for inbox in inboxes {
            self.inbox.subscribe(inbox)?;
        }
        Ok(())
    }

    /// For the egress of the same term.
    pub fn probes(&self) -> ProbeInbox {
        self.probes.clone()
    }

    /// Waits for events and appends those that are there, up to `quota` (at least one). True where more may be there.
    /// Cancel-safe: what has not been appended comes with the next call. Fails when the connection is gone for good.
    pub async fn recv(
        &mut self,
        into: &mut Vec<Event>,
        quota: impl Into<Quota>,
    ) -> Result<bool, Error> {
        let (before, quota) = (into.len(), quota.into());
        loop {
            let more = self.recv_waiting(into, quota);
            if into.len() > before {
                return Ok(more);
            }
            if more {
                // Nothing but messages that mean nothing so far: others have their turn, too.
                tokio::task::yield_now().await;
            } else {
                self.inbox.ready().await?;
            }
        }
    }

    /// As `recv`, of senders of whom nothing of its kind waited when the request came.
    pub async fn recv_new(&mut self, into: &mut Vec<Event>, quota: Quota) -> Result<(), Error> {
        let before = into.len();
        loop {
            self.sort();
            let has_taken = self.take(into, quota, RequestScheduler::pop_new);
            if into.len() > before {
                return Ok(());
            }
            if !has_taken {
                self.inbox.ready().await?;
            }
            // Those who are not new can keep messages coming without end, and the caller waits for more than this.
            tokio::task::yield_now().await;
        }
    }

    /// Appends up to `quota` events (at least one) that are there already. False when nothing is left.
    pub fn recv_waiting(&mut self, into: &mut Vec<Event>, quota: impl Into<Quota>) -> bool {
        self.sort();
        self.take(into, quota.into(), RequestScheduler::pop);
        !self.scheduler.is_empty()
    }

    /// What was read gets into the scheduler.
    fn sort(&mut self) {
        // Those that are there now: while they are taken more may come, without end.
        for _ in 0..self.inbox.waiting() {
            for message in self.inbox.take().into_iter().flatten() {
                let kind = self.kind(message.sid());
                let sender = match kind {
                    Kind::Ack => Sender::of(message.subject()),
                    Kind::Probe => Sender::default(),
                    Kind::Connect
                    | Kind::Publish
                    | Kind::Subscribe
                    | Kind::Unsubscribe
                    | Kind::CloseSubscription
                    | Kind::CloseClient
                    | Kind::Ping => Sender::of(decode::sender(message.payload())),
                };
                self.scheduler
                    .push(kind, sender, message.weight(), (sender, message));
            }
        }
    }

    /// False where there was nothing to take.
    fn take(
        &mut self,
        into: &mut Vec<Event>,
        quota: Quota,
        pop: impl Fn(&mut RequestScheduler<(Sender, Message)>) -> Option<(Kind, (Sender, Message))>,
    ) -> bool {
        let (mut taken, mut bytes) = (0, 0);
        let (mut gone, mut others) = (Vec::new(), Vec::new());
        while taken < quota.requests.max(1)
            && bytes < quota.bytes.clamp(1, TURN_BYTES)
            && let Some((kind, (sender, message))) = pop(&mut self.scheduler)
        {
            taken += 1;
            bytes += message.weight();
            if kind == Kind::Publish {
                gone.push((sender, message.weight()));
            } else if kind.names_its_sender() {
                others.push(sender);
            }
            into.extend(self.decode(kind, &message));
        }
        if taken > 0 {
            self.inbox.release(&gone);
            self.inbox.release_others(&others);
            self.inbox.give_back(taken, bytes);
        }
        taken > 0
    }

    fn kind(&self, sid: u64) -> Kind {
        // Numbers grow.
        if self.publishes.binary_search(&sid).is_ok() {
            return Kind::Publish;
        }
        let kind = self.kinds.iter().find(|(known, _)| *known == sid);
        // The rest of the subscriptions are ack inboxes.
        kind.map_or(Kind::Ack, |(_, kind)| *kind)
    }

    fn is_first(&self, message: &Message) -> bool {
        let index = self.publishes.binary_search(&message.sid());
        index.is_ok_and(|index| self.subjects.is_first(index, message.subject()))
    }

    /// Requests live on in the core, and one of a hundred bytes would keep all that was read along with it: they are
    /// copied.
    fn decode(&self, kind: Kind, message: &Message) -> Option<Event> {
        match kind {
            Kind::Probe => return self.probes.decode(message),
            Kind::Ack => {
                let (ack_inbox, payload) = message.detached_subject();
                let ack_inbox = self.text(ack_inbox)?;
                if message.is_no_responders() {
                    return Some(Event::NoResponders(ack_inbox));
                }
                return decode::ack(payload, ack_inbox).map(Event::Request);
            }
            Kind::Publish if !self.is_first(message) => return None,
            Kind::Connect
            | Kind::Publish
            | Kind::Subscribe
            | Kind::Unsubscribe
            | Kind::CloseSubscription
            | Kind::CloseClient
            | Kind::Ping => {}
        }
        let (reply, payload) = message.detached();
        let reply = reply.and_then(|reply| self.text(reply));
        // An answer there would be a message in this server's name that a client has had a say in.
        let reply = reply.filter(|reply| !self.subjects.is_of_servers(reply));
        let request = match kind {
            Kind::Connect => decode::connect(payload, reply),
            Kind::Publish => decode::publish(payload, reply),
            Kind::Subscribe => {
                let ack_token = self.ack_tokens.of(message.payload(), message.reply());
                decode::subscribe(payload, reply, ack_token)
            }
            Kind::Unsubscribe => decode::unsubscribe(payload, reply),
            Kind::CloseSubscription => decode::close_subscription(payload, reply),
            Kind::CloseClient => decode::close_client(payload, reply),
            Kind::Ping => decode::ping(payload, reply),
            Kind::Ack | Kind::Probe => None,
        };
        let allowed = self.allowed(request?, message);
        allowed.map(Event::Request)
    }

    /// Refuses what would circumvent the permissions of NATS: a publish to a channel that its subject does not name, and
    /// inboxes on subjects of the servers.
    fn allowed(&self, request: Request, message: &Message) -> Option<Request> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these name something")]
        let (answer, reply) = match request {
            Request::Publish { request, reply }
                if !self
                    .subjects
                    .is_publish_to(message.subject(), request.channel.as_str()) =>
            {
                let refusal = Rejection::InvalidPublish;
                (Reply::PublishRefused(request.guid.into(), refusal), reply)
            }
            Request::Connect { request, reply }
                if self
                    .subjects
                    .is_of_servers(request.heartbeat_inbox.as_str()) =>
            {
                let refusal = Rejection::InvalidConnectRequest;
                (Reply::ConnectRefused(refusal), reply)
            }
            Request::Subscribe { request, reply }
                if self.subjects.is_of_servers(request.inbox.as_str()) =>
            {
                (Reply::SubscribeRefused(Rejection::InvalidSubscribe), reply)
            }
            request => return Some(request),
        };
        self.connection.link().counters.add_forbidden();
        let reply = reply?;
        Some(Request::Answered { answer, reply })
    }

    /// Subjects that are not text are nobody's whom this server could know.
    fn text(&self, subject: Bytes) -> Option<ByteString> {
        let text = ByteString::try_from(subject).ok();
        if text.is_none() {
            self.connection.link().counters.add_unreadable();
        }
        text
    }
}

/// Refuses a request in the moment in which it is read.
fn gate(ingress: &Ingress) -> Gate {
    let (publishes, subjects) = (ingress.publishes.clone(), ingress.subjects.clone());
    let kinds = ingress.kinds.clone();
    let others = kinds.iter().filter(|(_, kind)| kind.names_its_sender());
    let others = others.map(|(sid, _)| *sid).collect();
    let link = Arc::downgrade(&ingress.connection.shared_link());
    let known = publishes.clone();
    let refuse = move |message: &Message| {
        let Some(link) = link.upgrade() else {
            return;
        };
        let kind = match known.binary_search(&message.sid()) {
            Ok(index) if subjects.is_first(index, message.subject()) => Kind::Publish,
            Ok(_) => return,
            Err(_) => match kinds.iter().find(|(sid, _)| *sid == message.sid()) {
                Some((_, kind)) => *kind,
                None => return,
            },
        };
        let refused = link.counters.add_refused();
        if refused.is_power_of_two() {
            tracing::warn!(
                refused,
                "requests are refused: their clients send more than is carried out, and do not wait for answers"
            );
        }
        let (reply, payload) = message.detached();
        let reply = reply.and_then(|reply| ByteString::try_from(reply).ok());
        let Some(reply) = reply.filter(|reply| !subjects.is_of_servers(reply)) else {
            return;
        };
        // Where answers wait, this one would wait without a bound: the client sees a timeout.
        if !link.has_room(Class::Urgent) {
            return;
        }
        let Some(refusal) = refusal(kind, &payload) else {
            return;
        };
        let (mut out, mut buffer) = (BytesMut::new(), BytesMut::new());
        let answer = encode::reply(&refusal, &subjects, &mut buffer);
        wire::publish(reply.as_bytes(), None, &answer, &mut out);
        // What is refused is not stored: nothing has to be committed for it.
        link.send(Class::Urgent, &mut out, 1);
    };
    Gate::new(publishes, others, Box::new(refuse))
}

/// `None`: it gets no answer. A ping's would tell a client that it is not known, and end its connection.
fn refusal(kind: Kind, payload: &Bytes) -> Option<Reply> {
    let why = Rejection::TooMuchWaits;
    match kind {
        Kind::Publish => {
            let guid = decode::guid(payload)?;
            Some(Reply::PublishRefused(guid, why))
        }
        Kind::Connect => Some(Reply::ConnectRefused(why)),
        Kind::Subscribe => Some(Reply::SubscribeRefused(why)),
        Kind::Unsubscribe | Kind::CloseSubscription => Some(Reply::LeaveRefused(why)),
        Kind::CloseClient => Some(Reply::CloseRefused(why)),
        Kind::Ping | Kind::Ack | Kind::Probe => None,
    }
}
