//! Batches as the core could make them, from a seed: consistent with each other, and nasty within the rules.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stanby::core::batch::{
    Batch, ChannelRow, ClientRow, Counters, Heartbeat, PositionRow, Progress, SubscriptionRow, Trim,
};
use stanby::core::ids::{
    BatchNumber, ChannelId, ChannelName, ClientId, ConnectionId, DurableName, Guid, LoadId,
    NAME_BYTES_MAX, PositionId, QueueName, SUBJECT_BYTES_MAX, Sequence, Subject, SubscriptionId,
};
use stanby::core::load::{Load, LoadQuery};
use stanby::core::message::Message;
use stanby::core::policy::Count;
use stanby::core::ranges::Ranges;
use stanby::core::snapshot::Snapshot;
use stanby::core::time::Timestamp;

/// A `SplitMix64` generator.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub(crate) fn chance(&mut self, of_ten: u64) -> bool {
        self.below(10) < of_ten
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len().max(1) as u64);
        from.get(usize::try_from(index).unwrap()).cloned()
    }

    fn time(&mut self) -> Timestamp {
        Timestamp(1_700_000_000_000_000_000 + self.below(1 << 40).cast_signed())
    }

    fn int4(&mut self) -> i32 {
        [i32::MIN, -1, 0, 1, 5, i32::MAX][usize::try_from(self.below(6)).unwrap()]
    }

    /// Text that breaks naive quoting, or that is as long as it may be.
    fn text(&mut self, longest: usize) -> String {
        let tricky = [
            "a",
            "B-1",
            "it's",
            "\"q\"",
            "back\\slash",
            "{x,y}",
            "NULL",
            "é漢😀",
            "$1",
            "a b",
        ];
        match self.below(12) {
            10 => "x".repeat(longest),
            11 => format!("{}é", "y".repeat(longest - 2)),
            index => tricky[usize::try_from(index).unwrap()].to_owned(),
        }
    }

    fn client_id(&mut self) -> ClientId {
        let text = match self.below(8) {
            0 => "c".repeat(NAME_BYTES_MAX),
            number => format!("client_{number}"),
        };
        ClientId::parse(text.into()).unwrap()
    }

    fn subject(&mut self) -> Subject {
        let text = match self.below(6) {
            0 => "s".repeat(SUBJECT_BYTES_MAX),
            number => format!("_INBOX.é'\"{{}}.{number}"),
        };
        Subject::parse(text.into()).unwrap()
    }

    fn bytes(&mut self) -> Bytes {
        let length = [0, 1, 3, 50, 200, 9000][usize::try_from(self.below(6)).unwrap()];
        (0..length).map(|_| self.roll().to_le_bytes()[0]).collect()
    }

    fn heartbeat(&mut self) -> Heartbeat {
        let missed = [0, 1, u32::MAX][usize::try_from(self.below(3)).unwrap()];
        Heartbeat {
            last_at: self.time(),
            missed,
        }
    }
}

/// The next batch after `rows`. `number` and the counters make ids that were never used.
pub(crate) fn batch(dice: &mut Dice, rows: &Snapshot, number: u64) -> Batch {
    let mut batch = Batch {
        number: BatchNumber(number),
        ..Batch::default()
    };
    let mut counters = rows.counters;
    let channels: Vec<ChannelId> = rows.channels.keys().copied().collect();
    let positions: Vec<PositionId> = rows.positions.keys().copied().collect();
    let clients: Vec<ClientId> = rows.clients.keys().cloned().collect();

    if dice.chance(2)
        && let Some(id) = dice.pick(&channels)
    {
        delete_channel(dice, &mut batch, rows, id);
    }
    if channels.len() < 3 || dice.chance(3) {
        create_channel(dice, &mut batch, rows, &mut counters);
    }
    if dice.chance(7) {
        publish(dice, &mut batch, rows);
    }
    if dice.chance(2)
        && let Some(id) = dice.pick(&channels)
        && !matches!(batch.channels.get(&id), Some(None))
    {
        trim(dice, &mut batch, rows, id);
    }
    for _ in 0..dice.below(3) {
        let row = (!dice.chance(2)).then(|| ClientRow {
            connection_id: ConnectionId(dice.bytes()),
            heartbeat_inbox: dice.subject(),
            protocol: dice.int4(),
            ping_interval: dice.int4(),
            ping_max_out: dice.int4(),
            connected_at: dice.time(),
            heartbeat: dice.heartbeat(),
        });
        batch.clients.insert(dice.client_id(), row);
    }
    for id in clients.iter().filter(|id| !batch.clients.contains_key(*id)) {
        if dice.chance(3) {
            batch.heartbeats.insert(id.clone(), dice.heartbeat());
        }
    }
    change_positions(dice, &mut batch, rows, &mut counters, &positions);
    if dice.chance(3) {
        batch.moved.extend(dice.pick(&positions));
    }
    if counters != rows.counters {
        batch.counters = Some(counters);
    }
    batch
}

fn create_channel(dice: &mut Dice, batch: &mut Batch, rows: &Snapshot, counters: &mut Counters) {
    counters.channel += 1;
    let written = batch.channels.values().flatten();
    let kept = rows
        .channels
        .iter()
        .filter(|(id, _)| !batch.channels.contains_key(id));
    let taken: Vec<ChannelName> = kept
        .map(|(_, row)| row)
        .chain(written)
        .filter(|row| !row.deleting)
        .map(|row| row.name.clone())
        .collect();
    // The name of a channel that goes in this very batch is the hard case.
    let gone = rows
        .channels
        .iter()
        .filter(|(id, _)| batch.channels.contains_key(id));
    let gone: Vec<ChannelName> = gone.map(|(_, row)| row.name.clone()).collect();
    let name = dice
        .pick(&gone)
        .filter(|name| !taken.contains(name))
        .unwrap_or_else(|| {
            let text = dice.text(NAME_BYTES_MAX - 8);
            ChannelName::parse(format!("{text}.{}", counters.channel).into()).unwrap()
        });
    let first = Sequence(1 + dice.below(3));
    let row = ChannelRow {
        name,
        created_at: dice.time(),
        deleting: false,
        first_sequence: first,
        last_sequence: first.previous(),
        last_published_at: Timestamp(0),
        message_count: 0,
        byte_count: 0,
    };
    batch
        .channels
        .insert(ChannelId(counters.channel), Some(row));
}

fn delete_channel(dice: &mut Dice, batch: &mut Batch, rows: &Snapshot, id: ChannelId) {
    let row = &rows.channels[&id];
    for (position, _) in rows.positions.iter().filter(|(_, row)| row.channel == id) {
        batch.positions.insert(*position, None);
        for (subscription, _) in rows
            .subscriptions
            .iter()
            .filter(|(_, s)| s.position == *position)
        {
            batch.subscriptions.insert(*subscription, None);
        }
    }
    if dice.chance(5) {
        batch.channels.insert(
            id,
            Some(ChannelRow {
                deleting: true,
                ..row.clone()
            }),
        );
    } else {
        let trim = Trim {
            after: Sequence::ZERO,
            through: row.last_sequence,
        };
        batch.trims.insert(id, trim);
        batch.channels.insert(id, None);
    }
}

fn publish(dice: &mut Dice, batch: &mut Batch, rows: &Snapshot) {
    let mut open = rows.channels.clone();
    for (id, row) in &batch.channels {
        match row {
            Some(row) => drop(open.insert(*id, row.clone())),
            None => drop(open.remove(id)),
        }
    }
    open.retain(|_, row| !row.deleting);
    let ids: Vec<ChannelId> = open.keys().copied().collect();
    for _ in 0..=dice.below(20) {
        let Some(id) = dice.pick(&ids) else { return };
        let row = open.get_mut(&id).unwrap();
        row.last_sequence = row.last_sequence.next();
        // Often several messages have the same time.
        let step = dice.below(3).cast_signed();
        row.last_published_at =
            Timestamp(row.last_published_at.0.max(1_700_000_000_000_000_000) + step);
        let message = Message {
            sequence: row.last_sequence,
            published_at: row.last_published_at,
            client_id: dice.client_id(),
            guid: Guid::parse(dice.text(3000).into()).unwrap(),
            reply: if dice.chance(5) {
                "".into()
            } else {
                dice.text(3000).into()
            },
            data: dice.bytes(),
        };
        row.message_count += 1;
        row.byte_count += message.size(&row.name);
        batch.messages.push((id, Arc::new(message)));
        batch.channels.insert(id, Some(row.clone()));
    }
}

fn trim(dice: &mut Dice, batch: &mut Batch, rows: &Snapshot, id: ChannelId) {
    let written = batch.channels.get(&id).cloned().flatten();
    let mut row = written.unwrap_or_else(|| rows.channels[&id].clone());
    let kept = row.last_sequence.0 + 1 - row.first_sequence.0;
    let after = row.first_sequence.previous();
    let through = Sequence(row.first_sequence.0 + dice.below(kept + 1)).previous();
    row.first_sequence = through.next();
    batch.channels.insert(id, Some(row));
    batch.trims.insert(id, Trim { after, through });
}

fn count(dice: &mut Dice) -> Option<Count> {
    dice.chance(7).then(|| Count {
        deliveries: u32::try_from(dice.below(1 << 32)).unwrap(),
        reason: dice.text(50).into(),
        is_given_up: dice.chance(3),
        is_awaited: dice.chance(3),
    })
}

fn change_positions(
    dice: &mut Dice,
    batch: &mut Batch,
    rows: &Snapshot,
    counters: &mut Counters,
    positions: &[PositionId],
) {
    let usable: Vec<ChannelId> = rows
        .channels
        .keys()
        .copied()
        .filter(|id| !matches!(batch.channels.get(id), Some(None)))
        .collect();
    if dice.chance(6)
        && let Some(channel) = dice.pick(&usable)
    {
        counters.subscription += 1;
        let position = PositionId(counters.subscription);
        let durable = dice.chance(5).then(|| dice.text(NAME_BYTES_MAX));
        let group = dice.chance(5).then(|| dice.text(NAME_BYTES_MAX));
        let row = PositionRow {
            channel,
            durable_name: durable.map(|name| DurableName::parse(name.into()).unwrap()),
            queue_group: group.map(|name| QueueName::parse(name.into()).unwrap()),
            progress: progress(dice),
        };
        batch.positions.insert(position, Some(row));
        for _ in 0..dice.below(3) {
            counters.subscription += 1;
            let row = subscription(dice, position);
            batch
                .subscriptions
                .insert(SubscriptionId(counters.subscription), Some(row));
        }
    }
    for &id in positions {
        if !matches!(batch.positions.get(&id), Some(None)) && dice.chance(3) {
            batch
                .counts
                .insert((id, Sequence(1 + dice.below(3))), count(dice));
        }
        if batch.positions.contains_key(&id) {
            continue;
        }
        match dice.below(10) {
            0..4 => drop(batch.progress.insert(id, progress(dice).into())),
            4 => {
                let row = PositionRow {
                    progress: progress(dice),
                    ..rows.positions[&id].clone()
                };
                batch.positions.insert(id, Some(row));
            }
            _ => {}
        }
    }
    for (id, row) in &rows.subscriptions {
        if batch.subscriptions.contains_key(id) {
            continue;
        }
        match dice.below(10) {
            0 => drop(batch.subscriptions.insert(*id, None)),
            1 => {
                let row = subscription(dice, row.position);
                batch.subscriptions.insert(*id, Some(row));
            }
            _ => {}
        }
    }
}

fn subscription(dice: &mut Dice, position: PositionId) -> SubscriptionRow {
    SubscriptionRow {
        position,
        client_id: dice.client_id(),
        inbox: dice.subject(),
        ack_inbox: dice.subject(),
        max_in_flight: [1, 16384, u32::MAX][usize::try_from(dice.below(3)).unwrap()],
        ack_wait: Duration::from_secs(1 + dice.below(1 << 31)),
        online: dice.chance(7),
        since: dice.time(),
    }
}

fn progress(dice: &mut Dice) -> Progress {
    let acked_floor = Sequence(dice.below(1000));
    let mut acked_above = Ranges::default();
    let mut last = acked_floor.0 + 1;
    for _ in 0..dice.below(4) {
        let first = last + 1 + dice.below(3);
        last = first + dice.below(4);
        acked_above.push(Sequence(first), Sequence(last));
    }
    let last_sent = if acked_above.is_empty() {
        acked_floor.0
    } else {
        last
    };
    Progress {
        last_sent: Sequence(last_sent + dice.below(5)),
        acked_floor,
        acked_above,
    }
}

/// A load of what may be there, or just beside it.
pub(crate) fn load(dice: &mut Dice, rows: &Snapshot, number: u64) -> Load {
    let channels: Vec<ChannelId> = rows.channels.keys().copied().collect();
    let channel = dice.pick(&channels).unwrap_or(ChannelId(77));
    let last = rows
        .channels
        .get(&channel)
        .map_or(0, |row| row.last_sequence.0);
    let any = |dice: &mut Dice| Sequence(dice.below(last + 4));
    let bytes = [0, 1, 100, 10_000, 1 << 20][usize::try_from(dice.below(5)).unwrap()];
    let count = [1, 2, 7, 1024][usize::try_from(dice.below(4)).unwrap()];
    let want = match dice.below(4) {
        0 => LoadQuery::Range {
            first: any(dice),
            last: any(dice),
            count,
            bytes,
        },
        1 => {
            let wanted = (0..last + 2)
                .filter(|_| dice.chance(5))
                .map(Sequence)
                .collect();
            LoadQuery::Exactly {
                sequences: wanted,
                bytes,
            }
        }
        2 => LoadQuery::FirstSince(Timestamp(
            1_700_000_000_000_000_000 - 2 + dice.below(2 * last + 4).cast_signed(),
        )),
        _ => LoadQuery::Oldest {
            first: any(dice),
            count,
        },
    };
    Load {
        id: LoadId(number),
        channel,
        query: want,
    }
}
