//! Promises that hold once faults have stopped: everybody is served, everything has arrived, and a fresh
//! server would know the same.

use std::collections::BTreeSet;

use stanby::core::ids::{ChannelId, Sequence};
use stanby::core::snapshot::Snapshot;
use stanby::core::{Broker, Event};

use crate::admin::kicked;
use crate::client::SlotState;
use crate::node::Node;
use crate::world::World;

impl World {
    pub(crate) fn check_end(&mut self) {
        let active: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node].broker().is_some() && self.trusted(node))
            .collect();
        let &[active] = active.as_slice() else {
            return self.violated(format!("one server is active in the end: {active:?} are"));
        };
        self.checks.check_failovers();
        self.check_clients();
        self.check_rows();
        self.check_sql();
        self.check_operators();
        self.check_positions_at_end();
        self.check_recovery(active);
    }

    fn check_clients(&mut self) {
        let store = self.database.store.snapshot();
        let mut facts = Vec::new();
        let answers = self.database.store.requests();
        let answers = answers.filter_map(|(_, answer)| answer.as_ref());
        let kicked: BTreeSet<&str> = answers.filter_map(kicked).collect();
        for client in &self.clients {
            // Clients of the old protocol do not ping: they do not notice before they publish.
            if client.protocol == 0 && kicked.contains(client.name.as_str()) {
                continue;
            }
            if client.retired {
                let registered = store.clients.contains_key(client.name.as_str());
                // A connect that waits behind an end that is refused may be answered half a minute after its client has gone.
                let mut poisoned = self.hardships.poisoned_clients.iter();
                let is_late = poisoned.any(|id| id.as_str() == client.name);
                if registered && !is_late {
                    facts.push(format!(
                        "a client that is gone is closed in the end: {} is not",
                        client.name
                    ));
                }
                continue;
            }
            if !client.is_connected() {
                facts.push(format!(
                    "every client is connected in the end: {} is not",
                    client.name
                ));
            }
            for slot in &client.slots {
                let served = match &slot.state {
                    SlotState::On { inbox, .. } => store
                        .subscriptions
                        .values()
                        .any(|row| row.online && row.inbox.as_str() == inbox),
                    SlotState::Off | SlotState::Subscribing { .. } | SlotState::Leaving => false,
                };
                if !served {
                    facts.push(format!(
                        "every subscription is served in the end: {slot:?} of {} is not",
                        client.name
                    ));
                }
            }
        }
        if let Some(fact) = facts.into_iter().next() {
            self.violated(fact);
        }
    }

    /// What was committed and not dropped is there, and nothing else.
    fn check_rows(&mut self) {
        let stored: Vec<(ChannelId, Sequence)> = self
            .database
            .store
            .messages()
            .map(|(channel, _, m)| (channel, m.sequence))
            .collect();
        let live: Vec<(ChannelId, Sequence)> = self
            .checks
            .channels
            .iter()
            .flat_map(|(&channel, facts)| facts.live.iter().map(move |&s| (channel, s)))
            .collect();
        let lost = live
            .iter()
            .find(|row| stored.binary_search(row).is_err())
            .copied();
        let extra = stored
            .iter()
            .find(|row| live.binary_search(row).is_err())
            .copied();
        self.checks.require(lost.is_none(), || {
            format!("no stored message is lost: {lost:?} is")
        });
        self.checks.require(extra.is_none(), || {
            format!("what was dropped is gone: {extra:?} is not")
        });
        let mut epochs = self
            .database
            .store
            .messages()
            .map(|(channel, epoch, _)| (channel, epoch));
        let ordered = epochs.by_ref().collect::<Vec<_>>().is_sorted();
        let ordered = ordered || self.checks.failovers.count > 0;
        self.checks.require(ordered, || {
            "epochs never decrease along a channel".to_owned()
        });
    }

    /// Somebody who is served has not got all there is.
    pub(crate) fn is_behind(&self) -> bool {
        let store = self.database.store.snapshot();
        let online = store.subscriptions.values().filter(|row| row.online);
        let positions = &self.checks.positions.positions;
        let mut served = online.filter_map(|row| positions.get(&row.position));
        served.any(|position| {
            let channel = self.checks.channels.get(&position.channel);
            let wanted = channel.map(|channel| channel.live.range(position.start.next()..));
            let mut wanted = wanted.into_iter().flatten();
            wanted.any(|sequence| !position.handled.received.contains(sequence))
        })
    }

    /// Everybody has got, and acked, what there is.
    fn check_positions_at_end(&mut self) {
        let store = self.database.store.snapshot();
        let slots = self.clients.iter().flat_map(|client| &client.slots);
        let inboxes: BTreeSet<String> = slots
            .filter_map(|slot| match &slot.state {
                SlotState::On { inbox, .. } => Some(inbox.clone()),
                SlotState::Off | SlotState::Subscribing { .. } | SlotState::Leaving => None,
            })
            .collect();
        // A leave that NATS lost leaves a subscription to nobody, as it does with NATS Streaming. So does one that comes
        // to a node after it took over, with the subscribe before it in its memory. A subscribe that Postgres refused to
        // store is carried out by the next active when Postgres takes it by then.
        let lossless = self.nats.is_perfect()
            && self.checks.failovers.count == 0
            && self.database.refused == 0;
        for row in store.subscriptions.values().filter(|row| row.online) {
            if !inboxes.contains(row.inbox.as_str()) {
                let inbox = row.inbox.clone();
                let fact = || format!("nobody is served who is not there: {inbox} is");
                self.checks.require(!lossless, fact);
                continue;
            }
            let Some(position) = self.checks.positions.positions.get(&row.position) else {
                return self.violated(format!("a subscription has a position: {row:?}"));
            };
            let Some(channel) = self.checks.channels.get(&position.channel) else {
                continue;
            };
            let wanted = channel.live.range(position.start.next()..);
            let missing = wanted
                .clone()
                .copied()
                .find(|s| !position.handled.received.contains(s));
            let progress = store.positions.get(&row.position).map(|row| &row.progress);
            let unacked = wanted.copied().find(|&s| {
                progress.is_none_or(|progress| !super::progress::is_settled(progress, s))
            });
            let (id, inbox) = (position.channel, row.inbox.clone());
            let excused = self.checks.failovers.excused;
            self.checks.require(missing.is_none() || excused, || {
                format!("everything arrives in the end: {id}#{missing:?} has not, at {inbox}")
            });
            self.checks.require(unacked.is_none(), || {
                format!("everything is acked in the end: {id}#{unacked:?} is not, by {inbox}")
            });
        }
    }

    /// A fresh server on a copy of the tables finds nothing to repair and counts the same.
    fn check_recovery(&mut self, active: usize) {
        let mut store = self.database.store.clone();
        let before = store.snapshot();
        let now = self.now(active);
        let mut fresh = Broker::restore(store.snapshot(), self.plan.settings.clone(), now);
        let counts = self
            .nodes
            .get(active)
            .and_then(Node::broker)
            .map(Broker::counts);
        let (old, new) = (counts.unwrap_or_default(), fresh.counts());
        let same = (
            old.clients,
            old.channels,
            old.subscriptions,
            old.messages,
            old.bytes,
        ) == (
            new.clients,
            new.channels,
            new.subscriptions,
            new.messages,
            new.bytes,
        );
        self.checks.require(same, || {
            format!("recovery finds what is there: {new:?}, not {old:?}")
        });
        loop {
            if let Some(load) = fresh.poll_load() {
                let result = store.load(&load);
                fresh.handle(
                    Event::Loaded {
                        load: load.id,
                        result,
                    },
                    now,
                );
            } else if let Some(batch) = fresh.poll_batch() {
                store.apply(&batch, self.database.epoch);
                fresh.handle(Event::Committed(batch.number), now);
            } else if let Some(outbound) = fresh.poll_outbound() {
                self.violated(format!(
                    "recovery has nothing to say after a calm: {outbound:?}"
                ));
            } else {
                break;
            }
        }
        let after = store.snapshot();
        // An offline position may skip what is gone earlier or later.
        let online = |id| {
            let mut rows = before.subscriptions.values();
            rows.any(|row| row.online && row.position == id)
        };
        let kept = |snapshot: &Snapshot| -> Vec<_> {
            let positions = snapshot.positions.clone().into_iter();
            positions.filter(|&(id, _)| online(id)).collect()
        };
        let same = after.clients == before.clients
            && kept(&after) == kept(&before)
            && after.subscriptions == before.subscriptions
            && after.channels.keys().eq(before.channels.keys());
        self.checks
            .require(same, || "recovery changes nothing after a calm".to_owned());
    }
}
