//! The registered clients, by ID and by connection ID, and the probes that wait for their answers.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{ClientRow, Heartbeat};
use super::ids::{ClientId, ConnectionId, PositionId, ProbeId, Subject, SubscriptionId};
use super::request::{Connect, Publisher};

#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) row: ClientRow,
    /// The heartbeat that is under way.
    pub(super) probe: Option<ProbeId>,
    pub(super) subscriptions: BTreeSet<(PositionId, SubscriptionId)>,
}

impl Client {
    pub(super) fn new(row: ClientRow) -> Self {
        Self {
            row,
            probe: None,
            subscriptions: BTreeSet::new(),
        }
    }

    /// Answered its last heartbeat, or has not had one yet.
    pub(super) fn is_responsive(&self) -> bool {
        self.row.heartbeat.missed == 0
    }

    /// True when the request comes from the very connection that is registered: its answer got lost. Inboxes
    /// are drawn at random for each connection, so they tell clients without connection IDs apart.
    pub(super) fn is_same_connection(&self, request: &Connect) -> bool {
        self.row.connection_id == request.connection_id
            && self.row.heartbeat_inbox == request.heartbeat_inbox
    }
}

/// Why a client was probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Heartbeat(ClientId),
    /// Another connection asks for the client's ID.
    Duplicate(ClientId),
}

/// A connect that waits until the registered client has answered or not.
#[derive(Clone, Debug)]
pub(super) struct Duplicate {
    pub(super) request: Connect,
    pub(super) reply: Option<Subject>,
    /// Heartbeat inbox of the connection that was asked.
    pub(super) asked: Subject,
    /// What it was asked by.
    pub(super) probe: ProbeId,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    clients: BTreeMap<ClientId, Client>,
    by_connection: BTreeMap<ConnectionId, ClientId>,
    /// At most one per client ID.
    duplicates: BTreeMap<ClientId, Duplicate>,
    probes: BTreeMap<ProbeId, Probe>,
    /// Those of the probes that still wait to be sent.
    unsent: BTreeSet<ProbeId>,
    /// Those that were sent again after the connection was lost, and how often.
    resent: BTreeMap<ProbeId, u32>,
    next_probe: u64,
    /// Those that did not answer their last heartbeat.
    silent: BTreeSet<ClientId>,
}

impl Registry {
    /// `first_probe` must be above every number of an earlier term: it distinguishes late answers.
    pub(super) fn new(first_probe: u64) -> Self {
        Self {
            next_probe: first_probe,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn note_silent(&mut self, id: &ClientId) {
        if !self.silent.contains(id) {
            self.silent.insert(id.clone());
        }
    }

    pub(super) fn note_answered(&mut self, id: &ClientId) {
        self.silent.remove(id);
    }

    /// How many did not answer their last heartbeat.
    pub(super) fn silent(&self) -> usize {
        self.silent.len()
    }

    pub(super) fn all(&self) -> &BTreeMap<ClientId, Client> {
        &self.clients
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ClientId, &Client)> {
        self.clients.iter()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Client> {
        self.clients.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id)
    }

    /// Registered, and answered its last heartbeat.
    pub(super) fn is_responsive(&self, id: &ClientId) -> bool {
        self.clients.get(id).is_some_and(Client::is_responsive)
    }

    pub(super) fn by_connection(&self, connection: &ConnectionId) -> Option<&ClientId> {
        self.by_connection.get(connection)
    }

    /// The registered client that a publish names.
    pub(super) fn publisher(&self, publisher: &Publisher) -> Option<&ClientId> {
        match publisher {
            Publisher::Connection(connection) => self.by_connection.get(connection),
            Publisher::Client(id) => self.clients.get_key_value(&**id).map(|(id, _)| id),
        }
    }

    pub(super) fn insert(&mut self, id: ClientId, client: Client) {
        if !client.row.connection_id.is_empty() {
            self.by_connection
                .insert(client.row.connection_id.clone(), id.clone());
        }
        self.clients.insert(id, client);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<(ClientId, Client)> {
        self.silent.remove(id);
        let (id, client) = self.clients.remove_entry(id)?;
        // Another client may have claimed the same connection ID since.
        if self.by_connection.get(&client.row.connection_id) == Some(&id) {
            self.by_connection.remove(&client.row.connection_id);
        }
        if let Some(probe) = client.probe {
            self.end_probe(probe);
        }
        Some((id, client))
    }

    pub(super) fn heartbeat(&self, id: &ClientId) -> Option<Heartbeat> {
        Some(self.clients.get(id)?.row.heartbeat)
    }

    pub(super) fn is_being_checked(&self, id: &ClientId) -> bool {
        self.duplicates.contains_key(id)
    }

    /// The probe that decides whether another connection gets the client's ID.
    pub(super) fn checked_by(&self, id: &ClientId) -> Option<ProbeId> {
        Some(self.duplicates.get(id)?.probe)
    }

    pub(super) fn check_duplicate(&mut self, duplicate: Duplicate) {
        self.duplicates
            .insert(duplicate.request.client_id.clone(), duplicate);
    }

    pub(super) fn take_duplicate(&mut self, id: &ClientId) -> Option<Duplicate> {
        self.duplicates.remove(id)
    }

    /// Connects that wait for a probe of their client ID.
    pub(super) fn checked(&self) -> impl Iterator<Item = &Connect> {
        self.duplicates.values().map(|duplicate| &duplicate.request)
    }

    /// Second connects that no probe will ever decide.
    pub(super) fn unchecked_duplicates(&self) -> impl Iterator<Item = &ClientId> {
        let is_probed = |id: &ClientId| {
            let mut probes = self.probes.values();
            probes.any(|probe| matches!(probe, Probe::Duplicate(asked) if asked == id))
        };
        self.duplicates.keys().filter(move |id| !is_probed(id))
    }

    pub(super) fn start_probe(&mut self, probe: Probe) -> ProbeId {
        self.next_probe += 1;
        let id = ProbeId(self.next_probe);
        self.probes.insert(id, probe);
        self.unsent.insert(id);
        id
    }

    /// The number given out last.
    pub(super) fn last_probe(&self) -> ProbeId {
        ProbeId(self.next_probe)
    }

    /// False while a probe under way waits to be sent.
    pub(super) fn has_left(&self, id: ProbeId) -> bool {
        !self.unsent.contains(&id)
    }

    /// The probe is sent; `None` when it has ended already.
    pub(super) fn leaves(&mut self, id: ProbeId) -> Option<&Probe> {
        self.unsent.remove(&id);
        self.probes.get(&id)
    }

    /// The probes under way.
    pub(super) fn probes(&self) -> Vec<ProbeId> {
        self.probes.keys().copied().collect()
    }

    /// How often the connection was lost while the probe, and those that it was sent in place of, were under way.
    pub(super) fn resent(&self, id: ProbeId) -> u32 {
        self.resent.get(&id).copied().unwrap_or_default()
    }

    pub(super) fn note_resent(&mut self, id: ProbeId, times: u32) {
        if times > 0 {
            self.resent.insert(id, times);
        }
    }

    /// Ends a probe; `None` when it has ended already.
    pub(super) fn end_probe(&mut self, id: ProbeId) -> Option<Probe> {
        self.unsent.remove(&id);
        self.resent.remove(&id);
        self.probes.remove(&id)
    }
}
