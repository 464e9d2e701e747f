//! Promises about what leaves a node: only the holder of the lock speaks, nothing leaves before its commit, no
//! subscription gets more than it has room for, no answering client is closed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use bytestring::ByteString;
use stanby::core::batch::{Batch, HOLDERS_PAGE, SubscriptionRow};
use stanby::core::ids::{BatchNumber, Guid, LoadId, PositionId, ProbeId, Sequence, Subject};
use stanby::core::limits::Heartbeats;
use stanby::core::load::{Load, LoadQuery, Loaded};
use stanby::core::message::Message;
use stanby::core::request::AckToken;
use stanby::core::snapshot::Snapshot;
use stanby::core::sql_acks::Verdict;
use stanby::core::time::{Instant, Now};
use stanby::core::{Event, Outbound, Reply, Request};

use super::ledger::{Checks, Excess};
use super::progress::is_settled;
use crate::admin::kicked;
use crate::greedy::is_of_crowd;
use crate::memory_store::MemoryStore;

/// What a checker knows of one term of one node.
#[derive(Debug, Default)]
pub(crate) struct TermFacts {
    /// Inboxes that may get messages: known from before, or answered in this term.
    open: BTreeSet<String>,
    /// Ack inboxes in the tables when it began.
    found: BTreeSet<String>,
    /// Its last batch, and by ack token the last before each subscribe.
    taken: BatchNumber,
    asked: BTreeMap<AckToken, BatchNumber>,
    /// In flight per position, with the inbox that holds it.
    in_flight: BTreeMap<PositionId, BTreeMap<Sequence, Option<String>>>,
    position_of_ack_inbox: BTreeMap<String, PositionId>,
    /// Received, by ack inbox. Whose it is may be known later only, or better than before: when the subscribe is committed.
    acks: BTreeMap<String, BTreeSet<Sequence>>,
    last_first: BTreeMap<PositionId, Sequence>,
    /// How often operators had moved it when it last got something.
    moves: BTreeMap<PositionId, u64>,
    /// In the tables when it began, of what was sent by then.
    acked_in_sql: BTreeSet<(PositionId, Sequence)>,
    /// The heartbeat inbox under which a client is registered.
    registered: BTreeMap<String, String>,
    closes: BTreeSet<String>,
    connects: BTreeSet<String>,
    /// The same before the batch under way, and the batch before it.
    before: Option<(BTreeMap<String, String>, BatchNumber)>,
    /// By heartbeat inbox, in order.
    probes: BTreeMap<String, Vec<Probe>>,
}

#[derive(Debug)]
struct Probe {
    id: ProbeId,
    sent: Instant,
    answered_after: Option<std::time::Duration>,
}

/// As the tables tell.
fn held_by(
    snapshot: &Snapshot,
    position: PositionId,
    sequence: Sequence,
) -> Option<&SubscriptionRow> {
    let page = snapshot.holders.get(&position)?;
    let page = page.get(&(sequence.0 / HOLDERS_PAGE))?;
    let (_, holder) = page.iter().find(|(held, _)| *held == sequence)?;
    snapshot.subscriptions.get(holder)
}

impl TermFacts {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut facts = Self::default();
        for row in &snapshot.sql_acks {
            let position = snapshot.positions.get(&row.position);
            let channel = position.and_then(|it| snapshot.channels.get(&it.channel));
            if let (Some(position), Some(channel)) = (position, channel)
                && row.verdict == Verdict::Acked
                && row.sequence <= position.progress.last_sent.min(channel.last_sequence)
            {
                facts.acked_in_sql.insert((row.position, row.sequence));
            }
        }
        for row in snapshot.subscriptions.values() {
            facts.open.insert(row.inbox.to_string());
            facts.found.insert(row.ack_inbox.to_string());
            facts
                .position_of_ack_inbox
                .insert(row.ack_inbox.to_string(), row.position);
        }
        for (&id, row) in &snapshot.positions {
            let progress = &row.progress;
            let mut cursor = progress.acked_floor.next();
            let held = facts.in_flight.entry(id).or_default();
            while cursor <= progress.last_sent {
                if !is_settled(progress, cursor) {
                    let holder = held_by(snapshot, id, cursor);
                    held.insert(cursor, holder.map(|row| row.inbox.to_string()));
                }
                cursor = cursor.next();
            }
        }
        for (id, row) in &snapshot.clients {
            facts
                .registered
                .insert(id.to_string(), row.heartbeat_inbox.to_string());
        }
        facts
    }

    /// Ack inboxes that the tables do not show any more, or not yet again.
    pub(crate) fn know(&mut self, checks: &Checks) {
        let positions = &checks.positions;
        for (ack_inbox, inbox) in &positions.inbox_of_ack_inbox {
            if let Some(row) = positions.subscriptions.get(inbox) {
                let known = self.position_of_ack_inbox.entry(ack_inbox.clone());
                known.or_insert(row.position);
            }
        }
    }

    pub(crate) fn received(&mut self, event: &Event, now: Now) {
        match event {
            Event::Request(Request::Connect { request, .. }) => {
                self.connects.insert(request.client_id.to_string());
            }
            Event::Request(Request::CloseClient { client_id, .. }) => {
                self.closes.insert(client_id.to_string());
            }
            Event::Pong(id) => {
                let probes = self.probes.values_mut().flatten();
                for probe in probes.filter(|probe| probe.id == *id) {
                    probe.answered_after = Some(now.monotonic.since(probe.sent));
                }
            }
            Event::Request(Request::Ack(ack)) => {
                let position = self.position_of_ack_inbox.get(&*ack.ack_inbox);
                if let Some(held) = position.and_then(|id| self.in_flight.get_mut(id)) {
                    held.remove(&ack.sequence);
                }
                let acks = self.acks.entry(ack.ack_inbox.to_string());
                acks.or_default().insert(ack.sequence);
            }
            Event::Request(Request::Subscribe { request, .. }) => {
                self.asked.entry(request.ack_token).or_insert(self.taken);
            }
            Event::Request(
                Request::Publish { .. }
                | Request::Unsubscribe { .. }
                | Request::CloseSubscription { .. }
                | Request::Ping { .. }
                | Request::Answered { .. }
                | Request::AlreadyStored { .. },
            )
            | Event::Unreachable(_)
            | Event::NoResponders(_)
            | Event::Reconnected
            | Event::Paused
            | Event::Committed(_)
            | Event::GoneNoted
            | Event::OutboxNoted
            | Event::PoliciesNoted
            | Event::Loaded { .. }
            | Event::LoadFailed(_) => {}
        }
    }

    /// The batch under way is not in the tables and never will be; its number is the next one's.
    pub(crate) fn take_back(&mut self) {
        if let Some((registered, taken)) = self.before.take() {
            self.registered = registered;
            self.taken = taken;
            for asked in self.asked.values_mut() {
                *asked = taken.min(*asked);
            }
        }
    }

    /// A client whose row goes had asked for it, or had not answered.
    pub(crate) fn explain_closed(
        &mut self,
        batch: &Batch,
        heartbeats: &Heartbeats,
        now: Now,
    ) -> Result<(), String> {
        self.before = Some((self.registered.clone(), self.taken));
        self.taken = batch.number;
        for (id, row) in &batch.clients {
            let id = id.as_str();
            let next = row.as_ref().map(|row| row.heartbeat_inbox.to_string());
            let before = self.registered.get(id).cloned();
            match &next {
                Some(inbox) => self.registered.insert(id.to_owned(), inbox.clone()),
                None => self.registered.remove(id),
            };
            let Some(inbox) = before.filter(|before| next.as_ref() != Some(before)) else {
                continue;
            };
            let in_time = heartbeats.timeout.min(heartbeats.duplicate_timeout);
            let none: Vec<Probe> = Vec::new();
            let probes = self.probes.get(&inbox).unwrap_or(&none);
            let missed = |probe: &&Probe| probe.answered_after.is_none_or(|after| after >= in_time);
            let in_a_row = probes.iter().rev().take_while(missed).count();
            let asked = probes.iter().rev().take(2);
            let replaced = self.connects.contains(id) && asked.clone().any(|p| missed(&p));
            let silent = in_a_row > usize::try_from(heartbeats.fail_count).unwrap_or(usize::MAX);
            let kicked = batch.requests.values().any(|it| kicked(it) == Some(id));
            if !self.closes.contains(id) && !replaced && !silent && !kicked {
                return Err(format!(
                    "no client that answers is closed: {inbox} is at {:?}, after {probes:?}",
                    now.monotonic
                ));
            }
        }
        Ok(())
    }
}

impl Checks {
    pub(crate) fn on_speech(
        &mut self,
        outbound: &Outbound,
        holds_lock: bool,
        term: &mut TermFacts,
        store: &MemoryStore,
        now: Now,
    ) {
        self.require(holds_lock, || {
            format!("only the holder of the lock speaks, and here another one says {outbound:?}")
        });
        match outbound {
            Outbound::Reply { to, reply } => self.on_reply(to, reply, term, store),
            Outbound::Deliver {
                inbox,
                message,
                redelivery_count,
                ..
            } => {
                self.on_delivery(inbox.as_str(), message, *redelivery_count, term);
            }
            Outbound::Probe { probe, inbox } => {
                let sent = now.monotonic;
                let probe = Probe {
                    id: *probe,
                    sent,
                    answered_after: None,
                };
                term.probes
                    .entry(inbox.to_string())
                    .or_default()
                    .push(probe);
            }
        }
    }

    /// Of a node whose session has just ended: nothing that it says may be judged by the tables, and clients hear it.
    pub(crate) fn on_last_words(&mut self, outbound: &Outbound) {
        if let Outbound::Reply {
            reply: Reply::PublishRefused(guid, _),
            ..
        } = outbound
        {
            self.on_publish_refused(guid);
        }
    }

    fn on_publish_refused(&mut self, guid: &Bytes) {
        let guid = ByteString::try_from(guid.clone()).ok();
        if let Some(guid) = guid.and_then(Guid::parse) {
            self.refuses(&guid);
        }
    }

    fn on_reply(&mut self, to: &Subject, reply: &Reply, term: &mut TermFacts, store: &MemoryStore) {
        match reply {
            Reply::Connected { client_id, .. } => {
                // reply.<client>.<instance>.<serial>
                let connection: Vec<&str> = to.as_str().split('.').collect();
                let inbox = format!("hb.{client_id}.{}", connection[2]);
                let overtaken = self.last_clients.contains(client_id);
                let known = self.heartbeat_inboxes.contains(&inbox) || overtaken;
                self.require(known, || {
                    format!("a connect is answered after its commit: that of {inbox} is not")
                });
            }
            Reply::Published(guid) => self.on_publish_ack(guid, store),
            Reply::Subscribed { ack_inbox } => self.on_subscribed(ack_inbox.as_str(), term),
            Reply::PublishRefused(guid, _) => self.on_publish_refused(guid),
            Reply::ConnectRefused(_)
            | Reply::SubscribeRefused(_)
            | Reply::Left
            | Reply::LeaveRefused(_)
            | Reply::ClientClosed
            | Reply::CloseRefused(_)
            | Reply::Pong
            | Reply::PingRefused(_) => {}
        }
    }

    /// The same ack inbox may have been in the tables before, for the same request: only this term's commits count.
    fn on_subscribed(&mut self, ack_inbox: &str, term: &mut TermFacts) {
        let positions = &self.positions;
        if term.found.contains(ack_inbox) || positions.committed.contains(ack_inbox) {
            let inbox = positions.inbox_of_ack_inbox.get(ack_inbox);
            term.open.extend(inbox.cloned());
            return;
        }
        // It is in no row when its subscription ended, or was resumed, before the batch left.
        let is_committed = || {
            let (_, token) = ack_inbox.rsplit_once('.')?;
            let token = AckToken::from_str_radix(token, 16).ok()?;
            Some(positions.last_batch > *term.asked.get(&token)?)
        };
        let is_committed = is_committed() == Some(true);
        self.require(is_committed, || {
            format!("a subscribe is answered after its commit: {ack_inbox} is not")
        });
    }

    fn on_publish_ack(&mut self, guid: &Guid, store: &MemoryStore) {
        let Some(&(channel, sequence)) = self.stored.get(guid) else {
            return self.violated(format!(
                "a publish is acked after its commit: {guid} is not stored"
            ));
        };
        let live = self
            .channels
            .get(&channel)
            .is_some_and(|facts| facts.live.contains(&sequence));
        let want = LoadQuery::Exactly {
            sequences: vec![sequence],
            bytes: 1,
        };
        let row = store.load(&Load {
            id: LoadId(0),
            channel,
            query: want,
        });
        self.failovers.spoken.insert((channel, sequence));
        let there = matches!(&row, Loaded::Messages { messages, .. } if !messages.is_empty());
        self.require(!live || there, || {
            format!("an acked message is in the table: {channel}#{sequence} is not")
        });
    }

    fn on_delivery(&mut self, inbox: &str, message: &Message, count: u32, term: &mut TermFacts) {
        self.deliveries += 1;
        self.redeliveries += u64::from(count > 0);
        if is_of_crowd(inbox) {
            // Many subscriptions are at it: which of them this is for nobody can tell.
            return;
        }
        let sequence = message.sequence;
        let Some(row) = self.positions.subscriptions.get(inbox).cloned() else {
            return self.violated(format!(
                "a subscription is committed before it gets messages: {inbox}"
            ));
        };
        let Some(position) = self.positions.positions.get(&row.position) else {
            return self.violated(format!("a message goes to a position that exists: {inbox}"));
        };
        let facts = self.channels.get(&position.channel);
        let committed = facts.and_then(|facts| facts.history.get(&sequence));
        let same = committed.is_some_and(|committed| **committed == *message);
        let settled = is_settled(&position.progress, sequence);
        let queue = position.queue;
        let moves = self.moves.get(&row.position).copied();
        if term.moves.get(&row.position).copied() != moves {
            term.moves.extend(moves.map(|moves| (row.position, moves)));
            term.last_first.remove(&row.position);
            term.in_flight.remove(&row.position);
        }
        let held = term.in_flight.entry(row.position).or_default();
        held.insert(sequence, Some(inbox.to_owned()));
        let exists = |s: &Sequence| facts.is_some_and(|facts| facts.live.contains(s));
        let counted = held
            .iter()
            .filter(|(s, holder)| exists(s) && (!queue || holder.as_deref() == Some(inbox)))
            .filter(|(s, _)| !self.acked_in_sql.contains_key(&(row.position, **s)));
        let in_flight: Vec<Sequence> = counted.map(|(&s, _)| s).collect();
        let channel = position.channel;
        self.failovers.spoken.insert((channel, sequence));
        let open = term.open.contains(inbox);
        let was_acked = term.acked_in_sql.contains(&(row.position, sequence));
        term.position_of_ack_inbox
            .insert(row.ack_inbox.to_string(), row.position);
        let last = term
            .last_first
            .get(&row.position)
            .copied()
            .unwrap_or_default();
        if count == 0 {
            term.last_first.insert(row.position, sequence);
        }
        self.require(same, || {
            format!("only committed messages are delivered: #{sequence} to {inbox}")
        });
        self.require(open, || {
            format!("a subscription's answer precedes its messages: {inbox}")
        });
        self.require(!was_acked, || {
            format!("a term begins with what is acked in SQL: #{sequence} goes to {inbox}")
        });
        self.require(!settled, || {
            format!("what is committed as acked is not delivered again: #{sequence} to {inbox}")
        });
        if count == 0 {
            self.require(last < sequence, || {
                format!("new messages come in order: #{sequence} after #{last} to {inbox}")
            });
            let max = row.max_in_flight as usize;
            if in_flight.len() > max {
                let fact =
                    format!("at most {max} messages are in flight to {inbox}: {in_flight:?} are");
                let epoch = self.epoch;
                self.excesses.push(Excess {
                    epoch,
                    channel,
                    position: row.position,
                    acks: term.acks.clone(),
                    held: in_flight,
                    max,
                    commits: 0,
                    fact,
                });
            }
        }
    }
}
