//! Clients come, are checked for being alive, and go.

use std::time::Duration;

use bytestring::ByteString;

use super::batch::{ClientRow, Heartbeat};
use super::broker::Broker;
use super::connect_rate::Admission;
use super::deadlines::Timer;
use super::ids::{ClientId, ConnectionId, ProbeId, Subject};
use super::memory_size;
use super::notice::Notice;
use super::outbound::{Outbound, Reply};
use super::registry::{Client, Duplicate, Probe};
use super::rejection::Rejection;
use super::request::Connect;

/// Fewer silent clients are taken to have ended.
const UNREACHABLE_MIN: usize = 4;

/// So often a probe is sent again after the connection to NATS was lost: one that NATS does not take, such as to a subject that is
/// too long for it, ends each connection.
const RESENT_MAX: u32 = 3;

/// The next heartbeats of clients whose probes are given up so are this far apart, so that the others are not under way with the one
/// that NATS does not take.
const APART: Duration = Duration::from_millis(100);

/// Clients out of reach may miss so many times as many heartbeats before they are closed.
const UNREACHABLE_PATIENCE: u32 = 3;

impl Broker {
    pub(super) fn connect(&mut self, request: Connect, reply: Option<Subject>) {
        let registered = self.clients.get(request.client_id.as_str());
        let is_again = registered.is_some_and(|client| client.is_same_connection(&request));
        if is_again || self.admits_connect() {
            self.connect_admitted(request, reply);
        } else {
            self.answer(reply, Reply::ConnectRefused(Rejection::TooManyConnects));
        }
    }

    fn connect_admitted(&mut self, request: Connect, reply: Option<Subject>) {
        let Some(registered) = self.clients.get(request.client_id.as_str()) else {
            if self.has_room_for_client() {
                return self.register(&request, reply);
            }
            return self.answer(reply, Reply::ConnectRefused(Rejection::TooManyClients));
        };
        if registered.is_same_connection(&request) {
            return self.answer_connected(&request, reply);
        }
        if self.clients.is_being_checked(&request.client_id) {
            return self.answer(reply, Reply::ConnectRefused(Rejection::ClientRegistered));
        }
        let inbox = registered.row.heartbeat_inbox.clone();
        let asked = inbox.clone();
        let probe = self
            .clients
            .start_probe(Probe::Duplicate(request.client_id.clone()));
        let timeout = self.now.monotonic + self.settings.heartbeats.duplicate_timeout;
        self.clients.check_duplicate(Duplicate {
            request,
            reply,
            asked,
            probe,
        });
        self.deadlines.set(Timer::Probe(probe), timeout);
        self.commits.send(Outbound::Probe { probe, inbox });
    }

    fn admits_connect(&mut self) -> bool {
        let per_second = self.settings.limits.connects_per_second;
        let admission = self.connect_rate.admit(per_second, self.now.monotonic);
        if admission == Admission::Admitted {
            return true;
        }
        self.traffic.refused_connects += 1;
        if admission == Admission::RefusedFirst {
            self.notices.push_back(Notice::ConnectsRefused);
        }
        false
    }

    /// Those that are there stay, whatever the limit.
    fn has_room_for_client(&mut self) -> bool {
        let limit = self.settings.limits.clients.unwrap_or(usize::MAX);
        let is_full = self.clients.len() >= limit || !self.has_room_for_names_of_clients();
        if is_full {
            self.traffic.refused_connects += 1;
            if !self.is_full {
                self.notices.push_back(Notice::ClientsRefused);
            }
        }
        self.is_full = is_full;
        !is_full
    }

    fn register(&mut self, request: &Connect, reply: Option<Subject>) {
        let row = ClientRow {
            connection_id: request.connection_id.clone(),
            heartbeat_inbox: request.heartbeat_inbox.clone(),
            protocol: request.protocol,
            ping_interval: request.ping_interval,
            ping_max_out: request.ping_max_out,
            connected_at: self.now.wall,
            heartbeat: Heartbeat {
                last_at: self.now.wall,
                missed: 0,
            },
        };
        let id = request.client_id.clone();
        self.usage.clients_bytes += memory_size::client(&id, Some(&row));
        self.commits.put_client(id.clone(), Some(row.clone()));
        self.clients.insert(id.clone(), Client::new(row));
        let first_heartbeat = self.now.monotonic + self.settings.heartbeats.interval;
        self.deadlines.set(Timer::Heartbeat(id), first_heartbeat);
        self.answer_connected(request, reply);
        self.client_decided(&request.client_id);
    }

    fn answer_connected(&mut self, request: &Connect, reply: Option<Subject>) {
        let answer = Reply::Connected {
            client_id: request.client_id.clone(),
            protocol: request.protocol,
            ping_interval: request.ping_interval,
            ping_max_out: request.ping_max_out,
        };
        self.answer(reply, answer);
    }

    pub(super) fn has_client(&self, id: &str) -> bool {
        self.clients.get(id).is_some()
    }

    pub(super) fn close_client_on_request(&mut self, id: &ByteString, reply: Option<Subject>) {
        let answer = if self.close_client(id) {
            Reply::ClientClosed
        } else {
            Reply::CloseRefused(Rejection::UnknownClient)
        };
        self.answer(reply, answer);
    }

    /// Removes the client and closes its subscriptions; durables stay. False when it is not registered.
    pub(super) fn close_client(&mut self, id: &str) -> bool {
        let Some((id, client)) = self.clients.remove(id) else {
            return false;
        };
        self.deadlines.clear(&Timer::Heartbeat(id.clone()));
        if let Some(probe) = client.probe {
            self.deadlines.clear(&Timer::Probe(probe));
        }
        self.usage.clients_bytes -= memory_size::client(&id, Some(&client.row));
        self.commits.put_client(id, None);
        self.close_all(client.subscriptions);
        true
    }

    /// Answers a client's ping; one that had failed heartbeats is probed again at once.
    pub(super) fn ping(&mut self, connection: &ConnectionId, reply: Subject) {
        let Some(id) = self.clients.by_connection(connection).cloned() else {
            return self.answer(Some(reply), Reply::PingRefused(Rejection::ClientReplaced));
        };
        self.answer(Some(reply), Reply::Pong);
        let client = self.clients.get(id.as_str());
        if client.is_some_and(|client| !client.is_responsive() && client.probe.is_none()) {
            self.deadlines.set(Timer::Heartbeat(id), self.now.monotonic);
        }
    }

    pub(super) fn send_heartbeat(&mut self, id: &ClientId) {
        let Some(client) = self.clients.get(id.as_str()) else {
            return;
        };
        let inbox = client.row.heartbeat_inbox.clone();
        let probe = self.clients.start_probe(Probe::Heartbeat(id.clone()));
        if let Some(client) = self.clients.get_mut(id) {
            client.probe = Some(probe);
        }
        let timeout = self.now.monotonic + self.settings.heartbeats.timeout;
        self.deadlines.set(Timer::Probe(probe), timeout);
        self.commits.send(Outbound::Probe { probe, inbox });
    }

    /// Its time counts from now on. False when nobody is to be asked any more.
    pub(super) fn probe_leaves(&mut self, probe: ProbeId) -> bool {
        let heartbeats = &self.settings.heartbeats;
        let timeout = match self.clients.leaves(probe) {
            Some(Probe::Heartbeat(_)) => heartbeats.timeout,
            Some(Probe::Duplicate(_)) => heartbeats.duplicate_timeout,
            None => return false,
        };
        let at = self.now.monotonic + timeout;
        self.deadlines.set(Timer::Probe(probe), at);
        true
    }

    pub(super) fn probe_answered(&mut self, probe: ProbeId) {
        self.deadlines.clear(&Timer::Probe(probe));
        match self.clients.end_probe(probe) {
            Some(Probe::Heartbeat(id)) => {
                self.heartbeat_answered(&id);
                self.redeliver_without_responders(&id, probe);
                self.shows_life(&id, probe);
            }
            Some(Probe::Duplicate(id)) => self.duplicate_checked(&id, true),
            None => {}
        }
    }

    /// A check whose question was lost can take long, where its time does not run for want of room: a client that
    /// answers a later question is there all the same.
    fn shows_life(&mut self, id: &ClientId, answered: ProbeId) {
        let asked = self.clients.checked_by(id);
        if let Some(asked) = asked.filter(|asked| *asked < answered) {
            self.probe_answered(asked);
        }
    }

    pub(super) fn probe_failed(&mut self, probe: ProbeId) {
        self.deadlines.clear(&Timer::Probe(probe));
        match self.clients.end_probe(probe) {
            Some(Probe::Heartbeat(id)) => self.heartbeat_missed(&id),
            Some(Probe::Duplicate(id)) => self.duplicate_checked(&id, false),
            None => {}
        }
    }

    /// Sends the probes under way once more, with all of their time: the answers may have been lost. Where the connection `was_lost`,
    /// not more than a few times.
    pub(super) fn probe_again(&mut self, was_lost: bool) {
        let mut next = self.now.monotonic + self.settings.heartbeats.interval;
        for probe in self.clients.probes() {
            self.deadlines.clear(&Timer::Probe(probe));
            let resent = self.clients.resent(probe) + u32::from(was_lost);
            let Some(ended) = self.clients.end_probe(probe) else {
                continue;
            };
            let again = match ended {
                Probe::Heartbeat(id) if resent > RESENT_MAX => {
                    self.heartbeat_missed(&id);
                    if self.clients.get(id.as_str()).is_some() {
                        next = next + APART;
                        self.deadlines.set(Timer::Heartbeat(id), next);
                    }
                    None
                }
                // The connection that is registered may be there all the same: the other one is refused, and may ask again.
                Probe::Duplicate(id) if resent > RESENT_MAX => {
                    self.duplicate_checked(&id, true);
                    None
                }
                Probe::Heartbeat(id) => {
                    self.send_heartbeat(&id);
                    self.clients
                        .get(id.as_str())
                        .and_then(|client| client.probe)
                }
                Probe::Duplicate(id) => {
                    self.check_again(&id);
                    self.clients.checked_by(&id)
                }
            };
            if let Some(again) = again {
                self.clients.note_resent(again, resent);
            }
        }
    }

    fn check_again(&mut self, id: &ClientId) {
        if let Some(duplicate) = self.clients.take_duplicate(id) {
            self.connect_admitted(duplicate.request, duplicate.reply);
        }
    }

    fn heartbeat_answered(&mut self, id: &ClientId) {
        let now = self.now;
        self.clients.note_answered(id);
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let recovered = !client.is_responsive();
        client.probe = None;
        client.row.heartbeat = Heartbeat {
            last_at: now.wall,
            missed: 0,
        };
        let positions: Vec<_> = client
            .subscriptions
            .iter()
            .map(|&(position, _)| position)
            .collect();
        self.note_heartbeat(id);
        if recovered {
            for position in positions {
                self.deadlines
                    .set_by(Timer::Redelivery(position), now.monotonic);
                self.deliver(position);
            }
        }
    }

    /// Where many clients fall silent together, the way to them is broken rather than each of them: they have longer.
    fn fail_count(&self) -> u32 {
        let fail_count = self.settings.heartbeats.fail_count;
        if self.unreachable_clients().is_some() {
            let longer = (fail_count.saturating_add(1)).saturating_mul(UNREACHABLE_PATIENCE);
            return longer.saturating_sub(1);
        }
        fail_count
    }

    /// So many clients do not answer that they are taken to be out of reach; `None` when it is few, or a small part.
    pub fn unreachable_clients(&self) -> Option<usize> {
        let silent = self.clients.silent();
        let is_many = silent >= UNREACHABLE_MIN && silent * 2 >= self.clients.len();
        is_many.then_some(silent)
    }

    fn heartbeat_missed(&mut self, id: &ClientId) {
        if self.clients.get(id.as_str()).is_some() {
            self.clients.note_silent(id);
        }
        let fail_count = self.fail_count();
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        client.probe = None;
        client.row.heartbeat.missed += 1;
        if client.row.heartbeat.missed > fail_count {
            self.notices.push_back(Notice::ClientTimedOut(id.clone()));
            self.close_client(id.as_str());
        } else {
            self.note_heartbeat(id);
        }
    }

    /// Arms the next heartbeat and lets the row follow with the next batch.
    fn note_heartbeat(&mut self, id: &ClientId) {
        let next = self.now.monotonic + self.settings.heartbeats.interval;
        self.deadlines.set(Timer::Heartbeat(id.clone()), next);
        if let Some(heartbeat) = self.clients.heartbeat(id) {
            self.commits.put_heartbeat(id.clone(), heartbeat);
        }
    }

    /// The connection that was registered has answered, or not. It may be gone by now, and its place taken by
    /// another one that nobody has asked.
    fn duplicate_checked(&mut self, id: &ClientId, answered: bool) {
        let Some(duplicate) = self.clients.take_duplicate(id) else {
            return;
        };
        let (request, reply) = (duplicate.request, duplicate.reply);
        match self.clients.get(id.as_str()) {
            None => self.register(&request, reply),
            Some(registered) if registered.is_same_connection(&request) => {
                self.answer_connected(&request, reply);
                self.client_decided(id);
            }
            Some(registered) if answered || registered.row.heartbeat_inbox != duplicate.asked => {
                self.answer(reply, Reply::ConnectRefused(Rejection::ClientRegistered));
                self.client_decided(id);
            }
            Some(_) => {
                self.close_client(id.as_str());
                self.notices.push_back(Notice::ClientReplaced(id.clone()));
                self.register(&request, reply);
            }
        }
    }
}
