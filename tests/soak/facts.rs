//! What has to hold of each message, kept in little memory however long it goes on: each publisher numbers its messages and
//! waits for each ack, so every receiver has to see its numbers without a gap, and none under two sequences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The first ones tell enough.
const SENTENCES_MAX: usize = 20;

/// Shared by all that take part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) wrong: Vec<String>,
    /// The number of the last message of each publisher that was acked.
    pub(crate) acked: BTreeMap<String, u64>,
    pub(crate) counts: Counts,
    /// Of acks since the last sample.
    pub(crate) latencies: Vec<Duration>,
}

/// How much of each happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    pub(crate) acked: u64,
    pub(crate) published_in_sql: u64,
    pub(crate) acked_in_sql: u64,
    pub(crate) delivered: u64,
    pub(crate) delivered_again: u64,
    pub(crate) reconnects: u64,
    pub(crate) takeovers: u64,
    pub(crate) imports: u64,
    pub(crate) refusals: u64,
    pub(crate) pages: u64,
}

impl Facts {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wrong(&self, sentence: String) {
        let mut known = self.known();
        if known.wrong.len() < SENTENCES_MAX {
            known.wrong.push(sentence);
        }
    }

    pub(crate) fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.known().counts);
    }

    /// A message that this receiver got.
    pub(crate) fn took(&self, by: &str, seen: &mut Seen, sequence: u64, payload: &str) {
        let found = seen.note(sequence, payload);
        self.count(|counts| match found {
            Ok(Arrival::First) => counts.delivered += 1,
            Ok(Arrival::Again) => counts.delivered_again += 1,
            Err(_) => {}
        });
        if let Err(why) = found {
            self.wrong(format!("{by}: {why}"));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    First,
    Again,
}

/// What one subscription, or all members of a queue group, have seen of a channel.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Everything up to here.
    floor: u64,
    /// Members of a queue group get ahead of each other.
    above: BTreeMap<u64, (String, u64)>,
    /// The number of the last message of each publisher, up to the floor.
    numbers: BTreeMap<String, u64>,
}

/// More than this ahead of a hole, and what is missing does not come.
const AHEAD_MAX: usize = 20_000;

impl Seen {
    pub(crate) fn note(&mut self, sequence: u64, payload: &str) -> Result<Arrival, String> {
        if sequence <= self.floor || self.above.contains_key(&sequence) {
            return Ok(Arrival::Again);
        }
        let parts = payload
            .split_once(' ')
            .and_then(|(by, number)| Some((by, number.trim_end_matches('.').parse().ok()?)));
        let (publisher, number) =
            parts.ok_or_else(|| format!("#{sequence} is {payload:?}, which nobody sent"))?;
        self.above.insert(sequence, (publisher.to_owned(), number));
        while let Some((publisher, number)) = self.above.remove(&(self.floor + 1)) {
            self.floor += 1;
            let before = self.numbers.insert(publisher.clone(), number).unwrap_or(0);
            if number != before + 1 {
                let what = if number <= before {
                    "again"
                } else {
                    "too early"
                };
                return Err(format!(
                    "#{} is message {number} of {publisher}, {what} after {before}",
                    self.floor
                ));
            }
        }
        if self.above.len() > AHEAD_MAX {
            return Err(format!("#{} does not come", self.floor + 1));
        }
        Ok(Arrival::First)
    }

    /// Which publishers' last messages have not come, of those that publish to this channel.
    pub(crate) fn missing(
        &self,
        acked: &BTreeMap<String, u64>,
        of: &BTreeSet<String>,
    ) -> Vec<String> {
        let last = |publisher: &str| self.numbers.get(publisher).copied().unwrap_or(0);
        acked
            .iter()
            .filter(|(publisher, number)| of.contains(*publisher) && last(publisher) < **number)
            .map(|(publisher, number)| {
                format!(
                    "messages {} to {number} of {publisher}",
                    last(publisher) + 1
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_missing_or_stored_twice_is_noticed() {
        let mut seen = Seen::default();
        assert_eq!(seen.note(1, "a 1"), Ok(Arrival::First));
        assert_eq!(seen.note(3, "a 2"), Ok(Arrival::First));
        assert_eq!(seen.note(2, "b 1.."), Ok(Arrival::First));
        assert_eq!(seen.note(3, "a 2"), Ok(Arrival::Again));

        let twice = seen.note(4, "a 2");
        assert_eq!(twice, Err("#4 is message 2 of a, again after 2".to_owned()));
        let gap = seen.note(5, "b 3");
        assert_eq!(
            gap,
            Err("#5 is message 3 of b, too early after 1".to_owned())
        );
    }

    #[test]
    fn what_was_acked_and_never_came_is_missing() {
        let mut seen = Seen::default();
        seen.note(1, "a 1").expect("it is the first");
        let acked = BTreeMap::from([("a".to_owned(), 3), ("elsewhere".to_owned(), 9)]);
        let of = BTreeSet::from(["a".to_owned()]);
        assert_eq!(seen.missing(&acked, &of), ["messages 2 to 3 of a"]);
    }
}
