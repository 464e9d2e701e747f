//! How often something took how much: plain numbers, cheap to copy.

/// Upper bounds of commits' durations, in seconds.
pub const COMMIT_SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
];

/// Upper bounds of the numbers of messages in a batch.
pub const BATCH_MESSAGES: [f64; 12] = [
    0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10_000.0,
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64; 12],
    /// Within each bound and above the one before.
    counts: [u64; 12],
    above: u64,
    sum: f64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64; 12]) -> Self {
        Self {
            bounds,
            counts: [0; 12],
            above: 0,
            sum: 0.0,
        }
    }

    pub fn observe(&mut self, value: f64) {
        self.sum += value;
        match self.bounds.iter().position(|bound| value <= *bound) {
            Some(index) => self.counts[index] += 1,
            None => self.above += 1,
        }
    }

    /// Each bound with what lies within it and above the one before; the last one is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let within = self.bounds.iter().copied().zip(self.counts);
        within.chain([(f64::INFINITY, self.above)])
    }

    pub fn sum(&self) -> f64 {
        self.sum
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_of_their_bound() {
        let mut histogram = Histogram::new(&BATCH_MESSAGES);
        for value in [0.0, 1.0, 3.0, 20_000.0] {
            histogram.observe(value);
        }

        let buckets = histogram.buckets();
        let filled: Vec<_> = buckets.filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.0, 1), (1.0, 1), (5.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 20_004.0));
    }
}
