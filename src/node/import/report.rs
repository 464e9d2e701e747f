//! What there was, for a person.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::core::batch::Progress;
use crate::core::ids::ChannelId;
use crate::core::snapshot::Snapshot;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Imported {
    pub channels: Vec<ImportedChannel>,
    pub clients: usize,
    /// What was not taken over, or not as it stood.
    pub notes: Vec<String>,
    /// What keeps it from being taken over. Empty when something was written.
    pub problems: Vec<String>,
    /// After a rehearsal: how long the import may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_seconds: Option<u64>,
}

/// What a Postgres on a small machine takes at least, in messages and in bytes per second.
const MESSAGES_PER_SECOND: u64 = 100_000;
const BYTES_PER_SECOND: u64 = 50_000_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportedChannel {
    pub name: String,
    pub messages: u64,
    /// As limits count them.
    pub bytes: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// Durables and durable queue groups.
    pub durables: u64,
    /// Other subscriptions and queue groups.
    pub others: u64,
    /// Messages that were sent and not acked, of all of these.
    pub pending: u64,
}

impl Imported {
    /// From how long reading took. Reading and writing go side by side.
    pub(super) fn estimate(&mut self, reading: Duration) {
        let messages: u64 = self.channels.iter().map(|channel| channel.messages).sum();
        let bytes: u64 = self.channels.iter().map(|channel| channel.bytes).sum();
        let writing = messages / MESSAGES_PER_SECOND + bytes / BYTES_PER_SECOND;
        self.estimated_seconds = Some(writing.max(reading.as_secs()) + 1);
    }

    pub(super) fn new(snapshot: &Snapshot, notes: Vec<String>, problems: Vec<String>) -> Self {
        let rows = snapshot.channels.iter();
        let mut channels: BTreeMap<ChannelId, ImportedChannel> = rows
            .map(|(&id, row)| {
                let channel = ImportedChannel {
                    name: row.name.to_string(),
                    messages: row.message_count,
                    bytes: row.byte_count,
                    first_sequence: row.first_sequence.0,
                    last_sequence: row.last_sequence.0,
                    ..ImportedChannel::default()
                };
                (id, channel)
            })
            .collect();
        for position in snapshot.positions.values() {
            if let Some(channel) = channels.get_mut(&position.channel) {
                let is_durable = position.durable_name.is_some();
                channel.durables += u64::from(is_durable);
                channel.others += u64::from(!is_durable);
                channel.pending += pending(&position.progress);
            }
        }
        Self {
            channels: channels.into_values().collect(),
            clients: snapshot.clients.len(),
            notes,
            problems,
            estimated_seconds: None,
        }
    }
}

fn pending(progress: &Progress) -> u64 {
    let acked = progress.acked_above.iter();
    let acked: u64 = acked.map(|(first, last)| last.0 - first.0 + 1).sum();
    progress.last_sent.0 - progress.acked_floor.0 - acked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Sequence;
    use crate::core::ranges::Ranges;

    #[test]
    fn pending_is_what_lies_between_the_acked_ranges() {
        let mut acked_above = Ranges::default();
        acked_above.push(Sequence(5), Sequence(6));
        acked_above.push(Sequence(9), Sequence(9));
        let progress = Progress {
            last_sent: Sequence(10),
            acked_floor: Sequence(2),
            acked_above,
        };
        assert_eq!(pending(&progress), 5);
    }
}
