//! What has to hold of each message, kept in little memory however long it goes on: each publisher numbers its messages and
//! waits for each ack, so every receiver has to see its numbers without a gap, and none under two sequences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The first ones tell enough.
const SENTENCES_MAX: usize = 20;

/// Shared by all that take part.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    began: Instant,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) wrong: Vec<String>,
    /// The number of the last message of each publisher that was acked.
    pub(crate) acked: BTreeMap<String, u64>,
    pub(crate) counts: Counts,
    /// Of publishes until their acks, since the last sample.
    pub(crate) acks: Vec<Duration>,
    /// Of publishes until they came to a durable that stays, since the last sample.
    pub(crate) deliveries: Vec<Duration>,
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
    /// Of a channel too many, and of a message behind a channel's last sequence.
    pub(crate) refusals: u64,
    /// Messages that took the last sequence of a channel; there is one.
    pub(crate) last_sequences: u64,
    pub(crate) pages: u64,
    pub(crate) live_events: u64,
}

impl Facts {
    /// The run begins now.
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            known: Arc::default(),
        }
    }

    /// A message's text: who sends it, its number there, and when, with dots up to so many bytes.
    pub(crate) fn payload(&self, publisher: &str, number: u64, bytes: usize) -> String {
        let micros = self.began.elapsed().as_micros();
        let text = format!("{publisher} {number} {micros} ");
        format!("{text:.<bytes$}")
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A message that this receiver got. With `is_timed` it was there when the message was published.
    pub(crate) fn took(
        &self,
        by: &str,
        seen: &mut Seen,
        (sequence, payload): (u64, &str),
        is_timed: bool,
    ) {
        let found = seen.note(sequence, payload);
        let sent = payload.split(' ').nth(2).and_then(|text| text.parse().ok());
        let sent = sent.map(Duration::from_micros).filter(|_| is_timed);
        let mut known = self.known();
        match found {
            Ok(Arrival::First) => {
                known.counts.delivered += 1;
                let took = sent.map(|sent| self.began.elapsed().saturating_sub(sent));
                known.deliveries.extend(took);
            }
            Ok(Arrival::Again) => known.counts.delivered_again += 1,
            Err(why) => {
                drop(known);
                self.wrong(format!("{by}: {why}"));
            }
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
    /// Begins behind this sequence.
    pub(crate) fn behind(floor: u64) -> Self {
        Self {
            floor,
            ..Self::default()
        }
    }

    pub(crate) fn note(&mut self, sequence: u64, payload: &str) -> Result<Arrival, String> {
        if sequence <= self.floor || self.above.contains_key(&sequence) {
            return Ok(Arrival::Again);
        }
        let mut words = payload.split(' ');
        let parts = words
            .next()
            .zip(words.next().and_then(|number| number.parse().ok()));
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
        assert_eq!(seen.note(2, "b 1 77 .."), Ok(Arrival::First));
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
    fn sequences_may_begin_anywhere() {
        let mut seen = Seen::behind(1 << 32);
        assert_eq!(seen.note(1 << 32, "before 1"), Ok(Arrival::Again));
        assert_eq!(seen.note((1 << 32) + 1, "a 1"), Ok(Arrival::First));
        let payload = Facts::begin().payload("a", 2, 40);
        assert_eq!(payload.len(), 40);
        assert_eq!(seen.note((1 << 32) + 2, &payload), Ok(Arrival::First));
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
