//! What must be true of the tables after every commit, and of everything that leaves the node.

use std::collections::{BTreeMap, BTreeSet};

use stanby::core::batch::{Batch, PositionRow};
use stanby::core::ids::{ChannelId, ClientId, Guid, PositionId, Sequence, Subject};
use stanby::core::request::{AckToken, Subscribe};
use stanby::core::snapshot::Snapshot;
use stanby::core::{Outbound, Reply};

use super::memory_store::MemoryStore;

#[derive(Debug, Default)]
pub(crate) struct Facts {
    messages: BTreeSet<Guid>,
    /// Those that had a row, if only for the length of one batch.
    clients: BTreeSet<ClientId>,
    /// All that were in a row.
    ack_inboxes: BTreeSet<Subject>,
    /// Ack tokens of this term's subscribes, and the last batch that had been taken before them.
    asked: BTreeMap<AckToken, u64>,
    /// The most that the members of a position were ever allowed to have in flight.
    room: BTreeMap<PositionId, u64>,
    last_number: u64,
    /// Somebody has deleted messages by hand.
    holes: bool,
    /// Kinds of what left.
    seen: BTreeSet<&'static str>,
}

impl Facts {
    pub(crate) fn begin_term(&mut self) {
        self.last_number = 0;
        self.asked.clear();
    }

    /// The request is about to be handled; `taken` is the batch that is out, if one is.
    pub(crate) fn subscribes(&mut self, request: &Subscribe, taken: Option<u64>) {
        let taken = taken.unwrap_or(self.last_number);
        self.asked.entry(request.ack_token).or_insert(taken);
    }

    pub(crate) fn messages_removed(&mut self) {
        self.holes = true;
    }

    pub(crate) fn committed(&mut self, batch: &Batch, store: &MemoryStore) {
        assert_eq!(batch.number.0, self.last_number + 1, "batches are counted");
        self.last_number = batch.number.0;
        let guids = batch.messages.iter().map(|(_, message)| &message.guid);
        self.messages.extend(guids.cloned());
        let rows = store.snapshot();
        self.clients.extend(batch.clients.keys().cloned());
        let made = batch.subscriptions.values().flatten();
        self.ack_inboxes
            .extend(made.map(|row| row.ack_inbox.clone()));
        self.measure_room(&rows);
        self.check_positions(&rows);
        Self::check_subscriptions(&rows);
        self.check_channels(&rows, store);
    }

    fn measure_room(&mut self, rows: &Snapshot) {
        let mut room: BTreeMap<PositionId, u64> = BTreeMap::new();
        for row in rows.subscriptions.values() {
            *room.entry(row.position).or_default() += u64::from(row.max_in_flight);
        }
        for (position, room) in room {
            let most = self.room.entry(position).or_default();
            *most = room.max(*most);
        }
    }

    fn check_positions(&self, rows: &Snapshot) {
        for (position, row) in &rows.positions {
            assert!(position.0 <= rows.counters.subscription, "ids are counted");
            let Some(channel) = rows.channels.get(&row.channel) else {
                panic!("position {position} is in a channel that does not exist");
            };
            assert!(!channel.deleting, "a deleted channel has no positions");
            let progress = &row.progress;
            assert!(progress.acked_floor <= progress.last_sent, "{row:?}");
            assert!(progress.last_sent <= channel.last_sequence, "{row:?}");
            let mut above = progress.acked_floor.next();
            for (first, last) in progress.acked_above.iter() {
                assert!(first > above && last >= first, "{row:?}");
                above = last.next();
            }
            assert!(above <= progress.last_sent.next(), "{row:?}");
            let room = self.room.get(position).copied().unwrap_or_default();
            let in_flight = in_flight(row);
            assert!(
                in_flight <= room,
                "{in_flight} messages are in flight where {room} may be: {row:?}"
            );
        }
    }

    fn check_subscriptions(rows: &Snapshot) {
        let mut inboxes = BTreeSet::new();
        for (id, row) in &rows.subscriptions {
            assert!(id.0 <= rows.counters.subscription, "ids are counted");
            assert!(rows.positions.contains_key(&row.position), "{row:?}");
            assert!(
                !row.online || rows.clients.contains_key(&row.client_id),
                "{row:?}"
            );
            assert!(inboxes.insert(&row.ack_inbox), "ack inboxes are unique");
        }
    }

    fn check_channels(&self, rows: &Snapshot, store: &MemoryStore) {
        let mut kept: BTreeMap<ChannelId, Vec<Sequence>> = BTreeMap::new();
        let mut bytes: BTreeMap<ChannelId, u64> = BTreeMap::new();
        for (id, _, message) in store.messages() {
            let row = &rows.channels[&id];
            kept.entry(id).or_default().push(message.sequence);
            *bytes.entry(id).or_default() += message.size(&row.name);
        }
        for (id, row) in &rows.channels {
            assert!(id.0 <= rows.counters.channel, "ids are counted");
            let kept = kept.remove(id).unwrap_or_default();
            let all: Vec<Sequence> = (row.first_sequence.0..=row.last_sequence.0)
                .map(Sequence)
                .collect();
            assert!(
                self.holes || kept == all,
                "channel {id} says {row:?}, and has {kept:?}"
            );
            assert!(
                kept.first()
                    .is_none_or(|&first| first >= row.first_sequence),
                "channel {id} says {row:?}, and has {kept:?}"
            );
            if row.deleting {
                continue;
            }
            assert!(row.message_count <= all.len() as u64, "{row:?}");
            if !self.holes {
                assert_eq!(row.message_count, all.len() as u64, "{row:?}");
                let bytes = bytes.get(id).copied().unwrap_or_default();
                assert_eq!(row.byte_count, bytes, "{row:?}");
            }
        }
    }

    /// Nothing leaves before what justifies it is committed.
    pub(crate) fn sent(&mut self, outbound: &Outbound) {
        let kind = match outbound {
            Outbound::Deliver {
                message,
                redelivery_count,
                ..
            } => {
                assert!(self.messages.contains(&message.guid), "{outbound:?}");
                if *redelivery_count == 0 {
                    "delivery"
                } else {
                    "redelivery"
                }
            }
            Outbound::Reply { reply, .. } => self.answered(reply),
            Outbound::Probe { .. } => "probe",
        };
        self.seen.insert(kind);
    }

    fn answered(&self, reply: &Reply) -> &'static str {
        match reply {
            Reply::Published(guid) if guid.as_str() == u64::MAX.to_string() => "stored earlier",
            Reply::Published(guid) => {
                assert!(self.messages.contains(guid), "{reply:?}");
                "published"
            }
            Reply::Connected { client_id, .. } => {
                assert!(self.clients.contains(client_id), "{reply:?}");
                "connected"
            }
            Reply::Subscribed { ack_inbox } => {
                // It is in no row when its subscription ended, or was resumed, before the batch left.
                let is_committed = || {
                    let (_, token) = ack_inbox.as_str().rsplit_once('.')?;
                    let token = AckToken::from_str_radix(token, 16).ok()?;
                    Some(self.last_number > *self.asked.get(&token)?)
                };
                assert!(
                    self.ack_inboxes.contains(ack_inbox) || is_committed() == Some(true),
                    "{reply:?}"
                );
                "subscribed"
            }
            Reply::ConnectRefused(_) => "connect refused",
            Reply::PublishRefused(..) => "publish refused",
            Reply::SubscribeRefused(_) => "subscribe refused",
            Reply::Left => "left",
            Reply::LeaveRefused(_) => "leave refused",
            Reply::ClientClosed => "client closed",
            Reply::CloseRefused(_) => "close refused",
            Reply::Pong => "pong",
            Reply::PingRefused(_) => "ping refused",
        }
    }

    /// What kinds of messages left the node.
    pub(crate) fn seen(self) -> BTreeSet<&'static str> {
        self.seen
    }
}

fn in_flight(row: &PositionRow) -> u64 {
    let progress = &row.progress;
    let ranges = progress.acked_above.iter();
    let acked: u64 = ranges.map(|(first, last)| last.0 - first.0 + 1).sum();
    progress.last_sent.0 - progress.acked_floor.0 - acked
}
