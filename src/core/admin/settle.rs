//! Messages settled for a durable or a queue group: as if a client had acked them, or passed over before they are sent.

use super::arguments::Arguments;
use super::channel::{deleted_meanwhile, out_of_range};
use super::durable::{Found, describe, ended_meanwhile};
use super::{Fact, RequestError, RequestRow, Stage, Step, Underway};
use crate::core::broker::Broker;
use crate::core::ids::Sequence;

/// Messages that are settled in one step.
const SETTLED_PER_STEP: usize = 4096;

/// Messages before those to be passed over that are yet to be sent, at most: they go out of turn.
const BEFORE_MAX: u64 = 1000;

impl Broker {
    pub(super) fn ack_for(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let found = self.find_position(given)?;
        given.need("sequence")?;
        let sequence = given.sequence("sequence")?.unwrap_or_default();
        given.finish()?;
        let Found { channel, position } = found;
        self.ensure_written(position)?;
        let channel = self.channels.get(channel).ok_or_else(deleted_meanwhile)?;
        let group = self.groups.get(&position).ok_or_else(ended_meanwhile)?;
        if sequence == Sequence::ZERO || sequence > channel.committed {
            return Err(out_of_range(channel, sequence));
        }
        if sequence > group.last_sent {
            return Err(RequestError::new(
                format!("message {sequence} has not been delivered to it yet"),
                "Messages that are yet to be delivered are skipped, not acked: skip it.",
            ));
        }
        let mut facts = describe(group);
        let is_in_flight = group.in_flight.contains_key(&sequence);
        facts.extend([
            ("sequence", sequence.into()),
            ("acked", is_in_flight.into()),
            ("was_acked", (!is_in_flight).into()),
        ]);
        if !row.dry_run && self.settle(position, sequence) {
            self.traffic.acked_messages += 1;
            self.note_progress(position);
            self.commits.wake_after_commit(position);
        }
        Ok(Step::Done(facts))
    }

    pub(super) fn begin_skip(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let found = self.find_position(given)?;
        let (first, last) = range(given)?;
        given.finish()?;
        let Found { channel, position } = found;
        self.ensure_written(position)?;
        let channel = self.channels.get(channel).ok_or_else(deleted_meanwhile)?;
        let group = self.groups.get(&position).ok_or_else(ended_meanwhile)?;
        for sequence in [first, last] {
            if sequence == Sequence::ZERO || sequence > channel.committed {
                return Err(out_of_range(channel, sequence));
            }
        }
        let next = group.last_sent.next();
        if last >= next && first.0 > next.0 + BEFORE_MAX {
            return Err(RequestError::new(
                format!(
                    "message {next} is the next one, and more than {BEFORE_MAX} would be delivered before {first}"
                ),
                format!("Skip from {next} on, or wait until it has come nearer."),
            ));
        }
        if row.dry_run {
            let in_flight = group.in_flight.range(first..=last);
            let in_flight = in_flight.filter(|(sequence, _)| channel.holds(**sequence));
            let in_flight = in_flight.count() as u64;
            let unsent = channel.count(first.max(next), last);
            let mut facts = describe(group);
            facts.extend(skipped(first, last, in_flight + unsent));
            return Ok(Step::Done(facts));
        }
        self.go_on_settling(given, &found, first)
    }

    /// `from`: those of the range before it are settled.
    pub(super) fn go_on_settling(
        &mut self,
        given: &mut Arguments<'_>,
        found: &Found,
        from: Sequence,
    ) -> Result<Step, RequestError> {
        let (first, last) = range(given)?;
        let position = found.position;
        let channel = self
            .channels
            .get(found.channel)
            .ok_or_else(deleted_meanwhile)?;
        let group = self.groups.get(&position).ok_or_else(ended_meanwhile)?;
        let in_flight = group.in_flight.range(from..=last.max(from));
        let step: Vec<Sequence> = in_flight
            .map(|(&sequence, _)| sequence)
            .take(SETTLED_PER_STEP)
            .collect();
        // Those that are gone are settled, too, and nobody misses them.
        let held = step.iter().filter(|sequence| channel.holds(**sequence));
        let mut settled = held.count() as u64;
        for &sequence in &step {
            self.settle(position, sequence);
        }
        let is_over = step.len() < SETTLED_PER_STEP;
        if is_over {
            settled += self.pass_over(*found, first, last)?;
        }
        let before = self.admin.taken.front().and_then(|row| row.taken);
        let messages = before.unwrap_or_default().messages + settled;
        self.note_progress(position);
        self.note_underway(Underway {
            messages,
            ..Underway::default()
        });
        if !is_over {
            let next = step.last().copied().unwrap_or(from).next();
            return Ok(Step::GoOn(Stage::Settle(*found, next)));
        }
        self.commits.wake_after_commit(position);
        let group = self.groups.get(&position).ok_or_else(ended_meanwhile)?;
        let mut facts = describe(group);
        facts.extend(skipped(first, last, messages));
        Ok(Step::Done(facts))
    }

    /// Those of the range that are yet to be sent. What lies before them goes out of turn.
    fn pass_over(
        &mut self,
        found: Found,
        first: Sequence,
        last: Sequence,
    ) -> Result<u64, RequestError> {
        let Found { channel, position } = found;
        let channel = self.channels.get(channel).ok_or_else(deleted_meanwhile)?;
        let group = self.groups.get_mut(&position).ok_or_else(ended_meanwhile)?;
        let next = group.last_sent.next();
        if last < next {
            return Ok(0);
        }
        let early = group.early_acks();
        let mut before = next;
        while before < first {
            if channel.holds(before) {
                group.send_later(before, self.now.monotonic);
                self.usage.in_flight += 1;
            } else {
                group.skip(before);
            }
            before = before.next();
        }
        let passed = channel.count(first.max(next), last);
        group.skip(last);
        self.usage.early_acks -= early - group.early_acks();
        self.paged_bytes -= group.page.skip_to(last.next());
        Ok(passed)
    }
}

fn skipped(first: Sequence, last: Sequence, messages: u64) -> [(&'static str, Fact); 3] {
    [
        ("first_sequence", first.into()),
        ("last_sequence", last.into()),
        ("messages", messages.into()),
    ]
}

/// A message, or all from the first to the last.
pub(super) fn range(given: &mut Arguments<'_>) -> Result<(Sequence, Sequence), RequestError> {
    let sequence = given.sequence("sequence")?;
    let (first, last) = (given.sequence("first")?, given.sequence("last")?);
    match (sequence, first, last) {
        (Some(sequence), None, None) => Ok((sequence, sequence)),
        (None, Some(first), Some(last)) if first <= last => Ok((first, last)),
        (None, Some(first), Some(last)) => Err(RequestError::new(
            format!("the first message ({first}) comes after the last one ({last})"),
            "Give the lower one as first.",
        )),
        _ => Err(RequestError::new(
            "it is not said which messages",
            "Give sequence, or first and last.",
        )),
    }
}
