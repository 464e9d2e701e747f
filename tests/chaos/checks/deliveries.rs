//! Deliveries against what is stored.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Receiver, Row, Stored};
use crate::stan::MAX_IN_FLIGHT;

/// Or what a failover lost after it was delivered, if the servers tell of it.
pub(super) fn deliveries_are_what_is_stored(history: &History, stored: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for receiver in &history.subscriptions {
        let rows = &stored.messages[receiver.channel];
        for arrival in receiver.members.iter().flatten() {
            let sequence = arrival.sequence.cast_signed();
            let found = rows.binary_search_by_key(&sequence, |row| row.sequence);
            let is_stored_so = match found {
                Ok(at) => rows[at].data == arrival.data,
                Err(_) => stored.is_passed_over(receiver.channel, sequence),
            };
            if !is_stored_so {
                let what = format!("{} #{}", receiver.channel, arrival.sequence);
                wrong.push(format!(
                    "{} got a {what} that is not stored so",
                    receiver.name
                ));
            }
        }
    }
    wrong
}

/// Whoever got it, and also when the database has lost it since: no sequence is given out twice.
pub(super) fn a_sequence_is_one_message(history: &History, _: &Stored) -> Vec<String> {
    let mut known = BTreeMap::new();
    let mut wrong = Vec::new();
    for receiver in &history.subscriptions {
        for arrival in receiver.members.iter().flatten() {
            let key = (receiver.channel, arrival.sequence);
            let data = *known.entry(key).or_insert(&arrival.data);
            if data != &arrival.data {
                let (channel, sequence) = key;
                wrong.push(format!(
                    "{channel} #{sequence} was {data:?} and then {:?}",
                    arrival.data
                ));
            }
        }
    }
    wrong
}

/// But for those that are marked as sent again, and for what NATS kept while a term ended: as many as were in flight then.
/// The next term sends those again an ack wait after their publish, and goes on with later ones meanwhile. Members of a queue group have no order of their own: what a member got
/// and nobody noted before a takeover may go to another one after it.
pub(super) fn deliveries_come_in_order(history: &History, _: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for receiver in &history.subscriptions {
        if let [arrivals] = &receiver.members[..] {
            let mut seen = BTreeSet::new();
            let mut last = 0;
            let mut late = Vec::new();
            for arrival in arrivals {
                let is_first = seen.insert(arrival.sequence);
                if !is_first || arrival.is_redelivered {
                    continue;
                }
                if arrival.sequence < last {
                    let name = &receiver.name;
                    late.push(format!("{name} got #{} after #{last}", arrival.sequence));
                }
                last = last.max(arrival.sequence);
            }
            if late.len() > history.stalls * usize::from(MAX_IN_FLIGHT) {
                wrong.append(&mut late);
            }
        }
    }
    wrong
}

pub(super) fn everything_is_delivered(history: &History, stored: &Stored) -> Vec<String> {
    let missing = |receiver: &Receiver| {
        let arrivals = receiver.members.iter().flatten();
        let got: BTreeSet<u64> = arrivals.map(|arrival| arrival.sequence).collect();
        let rows = &stored.messages[receiver.channel];
        let is_missing = |row: &&Row| !got.contains(&row.sequence.cast_unsigned());
        let missing: Vec<_> = rows
            .iter()
            .filter(is_missing)
            .map(|row| row.sequence)
            .collect();
        let first = missing.first()?;
        let count = missing.len();
        Some(format!(
            "{} lacks {count}, the first is #{first}",
            receiver.name
        ))
    };
    history.subscriptions.iter().filter_map(missing).collect()
}
