//! Subscriptions whose client may not know of them: the answer left so late that the client had given the request up, and
//! asked again from a new inbox or did without. The one that it asks for again takes the place of the first; one that NATS
//! finds nobody listening to ends.

use std::time::Duration;

use bytestring::ByteString;

use super::broker::Broker;
use super::deadlines::Timer;
use super::group::Due;
use super::ids::{ClientId, ProbeId};
use super::notice::Notice;
use super::time::Instant;

/// Clients wait longer than this for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of a subscription's last answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// When the request was received; `None`: the client is known to have got the answer, or an earlier term gave it.
    asked_at: Option<Instant>,
    /// `None`: it has not left yet.
    answered_at: Option<Instant>,
    no_responders: Option<NoResponders>,
}

/// Nobody listened to a message that was delivered.
#[derive(Clone, Debug)]
enum NoResponders {
    /// Perhaps because the client was out of reach: it has to answer a later probe than this.
    Since(ProbeId),
    /// The client has answered since, so that it was within reach, and was sent the message again.
    Reachable,
}

impl Answer {
    pub(super) fn to_request_of(asked_at: Instant) -> Self {
        Self {
            asked_at: Some(asked_at),
            ..Self::default()
        }
    }

    pub(super) fn left(&mut self, now: Instant) {
        self.answered_at.get_or_insert(now);
    }

    /// The client has used the subscription.
    pub(super) fn arrived(&mut self) {
        *self = Self::default();
    }

    /// True when the client may have given up before the answer left, or by now.
    pub(super) fn was_late(&self, now: Instant) -> bool {
        let left_at = self.answered_at.unwrap_or(now);
        self.asked_at
            .is_some_and(|asked_at| left_at.since(asked_at) >= PATIENCE)
    }
}

impl Broker {
    /// NATS found nobody who listens where a message was sent that is to be acked here. Routes of a cluster that are cut look
    /// the same, and so does a client that is away for a moment: only a subscription whose client may not know of it ends, and
    /// only when nobody listens a second time although the client has answered meanwhile.
    pub(super) fn handle_no_responders(&mut self, ack_inbox: &ByteString) {
        let Some(&(position, id)) = self.ack_inboxes.get(ack_inbox) else {
            return;
        };
        let (now, last_probe) = (self.now.monotonic, self.clients.last_probe());
        let Some(group) = self.groups.get_mut(&position) else {
            return;
        };
        let channel = group.channel;
        let Some(member) = group.members.get_mut(&id) else {
            return;
        };
        if !member.is_listening() || !member.answer.was_late(now) {
            return;
        }
        let client_id = member.client_id.clone();
        match member.answer.no_responders {
            None => {
                member.answer.no_responders = Some(NoResponders::Since(last_probe));
                self.in_doubt.insert(client_id.clone());
                self.probe_client(&client_id);
            }
            Some(NoResponders::Since(_)) => {}
            Some(NoResponders::Reachable) => {
                if let Some(channel) = self.channels.get(channel) {
                    self.notices
                        .push_back(Notice::SubscriptionWithoutResponders {
                            client: client_id,
                            channel: channel.row.name.clone(),
                        });
                }
                self.close_subscription(position, id);
            }
        }
    }

    fn probe_client(&mut self, id: &ClientId) {
        let client = self.clients.get(id.as_str());
        if client.is_some_and(|client| client.probe.is_none()) {
            self.deadlines
                .set(Timer::Heartbeat(id.clone()), self.now.monotonic);
        }
    }

    /// The client has answered this probe: what nobody listened to is sent once more.
    pub(super) fn redeliver_without_responders(&mut self, id: &ClientId, answered: ProbeId) {
        if !self.in_doubt.contains(id) {
            return;
        }
        let Some(client) = self.clients.get(id.as_str()) else {
            self.in_doubt.remove(id);
            return;
        };
        let now = self.now.monotonic;
        let mut is_too_old = false;
        for (position, subscription) in client.subscriptions.clone() {
            let Some(group) = self.groups.get_mut(&position) else {
                continue;
            };
            let Some(member) = group.members.get_mut(&subscription) else {
                continue;
            };
            match member.answer.no_responders {
                Some(NoResponders::Since(before)) if answered <= before => is_too_old = true,
                Some(NoResponders::Since(_)) => {
                    member.answer.no_responders = Some(NoResponders::Reachable);
                    let in_flight = group.in_flight.iter();
                    let sequences =
                        in_flight.filter(|(_, entry)| entry.holder == Some(subscription));
                    let sequences: Vec<_> = sequences.map(|(&sequence, _)| sequence).collect();
                    for sequence in sequences {
                        group.set_due(sequence, Due::At(now));
                    }
                    self.arm_redelivery(position, now);
                }
                Some(NoResponders::Reachable) | None => {}
            }
        }
        if is_too_old {
            self.probe_client(id);
        } else {
            self.in_doubt.remove(id);
        }
    }
}
