//! What a subscription was sent and has not acked: the sum of its rows in `SubsPending`, which come in two forms.

use std::collections::BTreeSet;

use super::error::Broken;
use crate::core::batch::Progress;
use crate::core::ids::Sequence;
use crate::core::ranges::Ranges;

/// Sequences past this do not fit into a column.
const SEQUENCE_MAX: u64 = i64::MAX.unsigned_abs();

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// The highest sequence that was ever sent.
    pub last_sent: u64,
    pub sequences: BTreeSet<u64>,
}

/// A row of `SubsPending`. With caching a row holds many sequences, as JSON; without, one.
#[derive(Clone, Copy, Debug, Default)]
pub struct PendingRow<'a> {
    pub sequence: u64,
    pub last_sent: u64,
    pub pending: Option<&'a [u8]>,
    pub acks: Option<&'a [u8]>,
}

impl Pending {
    pub fn sent_up_to(&mut self, sequence: u64) {
        self.last_sent = self.last_sent.max(sequence);
    }

    /// A message that has not been acked since.
    pub fn sent(&mut self, sequence: u64) -> Result<(), Broken> {
        if sequence == 0 || sequence > SEQUENCE_MAX {
            return Err(format!("{sequence} is not a sequence").into());
        }
        self.sequences.insert(sequence);
        self.sent_up_to(sequence);
        Ok(())
    }

    /// Rows must come in the order of their numbers, whatever order they lie in: an ack is in a later row than what it
    /// acks, and a message may have been sent again after that.
    pub fn add(&mut self, row: &PendingRow<'_>) -> Result<(), Broken> {
        let sent = numbers(row.pending, "pending")?;
        let acked = numbers(row.acks, "acks")?;
        let single = Some(row.sequence).filter(|&sequence| sequence > 0);
        for sequence in sent.into_iter().chain(single) {
            self.sent(sequence)?;
        }
        for sequence in acked {
            self.sequences.remove(&sequence);
        }
        self.sent_up_to(row.last_sent);
        Ok(())
    }

    /// As another member of the same group.
    pub fn join(&mut self, other: &Self) {
        self.sent_up_to(other.last_sent);
        self.sequences.extend(&other.sequences);
    }

    /// As a position's row says it. Messages before `first` are gone.
    pub fn progress(&self, first: Sequence) -> Progress {
        let last_sent = Sequence(self.last_sent);
        let mut in_flight = self.sequences.range(first.0..).map(|&n| Sequence(n));
        let Some(lowest) = in_flight.next() else {
            return Progress {
                last_sent,
                acked_floor: last_sent,
                acked_above: Ranges::default(),
            };
        };
        let mut acked_above = Ranges::default();
        let mut before = lowest;
        for next in in_flight {
            acked_above.push(before.next(), next.previous());
            before = next;
        }
        acked_above.push(before.next(), last_sent);
        Progress {
            last_sent,
            acked_floor: lowest.previous(),
            acked_above,
        }
    }
}

fn numbers(column: Option<&[u8]>, name: &str) -> Result<Vec<u64>, Broken> {
    match column {
        None | Some([]) => Ok(Vec::new()),
        Some(json) => serde_json::from_slice::<Option<Vec<u64>>>(json)
            .map(Option::unwrap_or_default)
            .map_err(|error| format!("column {name} is not a list of sequences: {error}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached<'a>(last_sent: u64, pending: &'a str, acks: &'a str) -> PendingRow<'a> {
        let column = |text: &'a str| (!text.is_empty()).then_some(text.as_bytes());
        PendingRow {
            last_sent,
            pending: column(pending),
            acks: column(acks),
            ..PendingRow::default()
        }
    }

    fn sum(rows: &[PendingRow]) -> Pending {
        let mut pending = Pending::default();
        for row in rows {
            pending.add(row).unwrap();
        }
        pending
    }

    #[test]
    fn later_rows_ack_what_earlier_ones_sent_and_may_send_it_again() {
        let pending = sum(&[
            cached(4, "[3,1,2,4]", ""),
            cached(6, "[5,6]", "[1,3,99]"),
            cached(6, "[3]", "[6]"),
            cached(9, "", "null"),
            PendingRow {
                sequence: 8,
                ..PendingRow::default()
            },
        ]);

        assert_eq!(pending.sequences, BTreeSet::from([2, 3, 4, 5, 8]));
        assert_eq!(pending.last_sent, 9);
    }

    #[test]
    fn what_is_no_list_of_sequences_is_refused() {
        for row in [
            cached(0, "[1,", ""),
            cached(0, "[-1]", ""),
            cached(0, "[0]", ""),
            cached(0, "[18446744073709551615]", ""),
            cached(0, "{}", ""),
            cached(0, "", "[\"1\"]"),
        ] {
            assert!(Pending::default().add(&row).is_err(), "{row:?}");
        }
    }

    #[test]
    fn progress_has_in_flight_what_is_pending_and_still_there() {
        let mut pending = sum(&[cached(10, "[1,4,5,8]", "")]);
        let progress = |pending: &Pending, first| {
            let progress = pending.progress(Sequence(first));
            let above = progress.acked_above.iter().map(|(from, to)| (from.0, to.0));
            (
                progress.acked_floor.0,
                above.collect::<Vec<_>>(),
                progress.last_sent.0,
            )
        };

        assert_eq!(
            progress(&pending, 1),
            (0, vec![(2, 3), (6, 7), (9, 10)], 10)
        );
        assert_eq!(progress(&pending, 2), (3, vec![(6, 7), (9, 10)], 10));
        assert_eq!(progress(&pending, 9), (10, vec![], 10));
        pending.sequences = BTreeSet::from([10]);
        assert_eq!(progress(&pending, 1), (9, vec![], 10));
    }
}
