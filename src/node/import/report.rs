//! What there was, for a person.

use std::collections::BTreeMap;

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
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportedChannel {
    pub name: String,
    pub messages: u64,
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
    pub(super) fn new(snapshot: &Snapshot, notes: Vec<String>, problems: Vec<String>) -> Self {
        let rows = snapshot.channels.iter();
        let mut channels: BTreeMap<ChannelId, ImportedChannel> = rows
            .map(|(&id, row)| {
                let channel = ImportedChannel {
                    name: row.name.to_string(),
                    messages: row.message_count,
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
