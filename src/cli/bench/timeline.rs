//! How many messages came in each tenth of a second.

use std::time::Duration;

pub(super) const STEP: Duration = Duration::from_millis(100);

/// An hour. Later messages count in the last step.
const STEPS_MAX: usize = 36_000;

#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    counts: Vec<u64>,
}

impl Timeline {
    pub(super) fn add(&mut self, since_start: Duration, messages: u64) {
        let step = since_start.as_millis() / STEP.as_millis();
        let step = usize::try_from(step)
            .unwrap_or(STEPS_MAX)
            .min(STEPS_MAX - 1);
        if step >= self.counts.len() {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += messages;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    pub(super) fn into_counts(self) -> Vec<u64> {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_counts_in_its_tenth_of_a_second() {
        let mut timeline = Timeline::default();
        timeline.add(Duration::from_millis(99), 3);
        timeline.add(Duration::from_millis(250), 4);
        let mut other = Timeline::default();
        other.add(Duration::from_millis(50), 1);
        other.merge(&timeline);

        assert_eq!(other.into_counts(), [4, 0, 4]);
        let mut late = Timeline::default();
        late.add(Duration::MAX, 1);
        assert_eq!(late.into_counts().len(), STEPS_MAX);
    }
}
