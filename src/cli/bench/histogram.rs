//! Counts of durations, fine enough for percentiles: each bucket is less than one percent wide, so memory does not
//! grow with the number of durations.

/// Buckets per power of two.
const FINE: u64 = 1 << FINE_BITS;
const FINE_BITS: u32 = 7;

/// In nanoseconds. Buckets come into being with the first duration that needs them.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, nanos: u64) {
        let bucket = bucket_of(nanos);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.min = if self.count == 0 {
            nanos
        } else {
            self.min.min(nanos)
        };
        self.max = self.max.max(nanos);
        self.count += 1;
        self.sum += u128::from(nanos);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (bucket, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += count;
        }
        self.min = if self.count == 0 {
            other.min
        } else {
            self.min.min(other.min)
        };
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.sum += other.sum;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    pub(super) fn mean(&self) -> u64 {
        let mean = self.sum / u128::from(self.count.max(1));
        u64::try_from(mean).unwrap_or(u64::MAX)
    }

    /// What `per_mille` thousandths of the durations do not exceed; 0 when there is none.
    pub(super) fn percentile(&self, per_mille: u64) -> u64 {
        let rank = (u128::from(self.count) * u128::from(per_mille)).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank && *count > 0 {
                return upper_bound(bucket).clamp(self.min, self.max);
            }
        }
        self.max
    }

    /// Upper bounds of the buckets that hold something, with their counts, in order.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let filled = |(bucket, count): (usize, &u64)| {
            (*count > 0).then(|| (upper_bound(bucket).min(self.max), *count))
        };
        self.buckets.iter().enumerate().filter_map(filled)
    }
}

fn bucket_of(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(FINE_BITS + 1);
    let bucket = u64::from(shift) * FINE + (nanos >> shift);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest number in the bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    let begin = u128::from(bucket - shift * FINE) << shift;
    u64::try_from(begin + (1 << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_less_than_one_percent_wide() {
        let numbers = (0..64).flat_map(|bit| [0, 1, 77].map(|more| (1_u64 << bit) + more));
        for nanos in numbers.chain([0, u64::MAX]) {
            let upper = upper_bound(bucket_of(nanos));
            assert!(upper >= nanos, "{nanos}: {upper}");
            assert!(upper - nanos <= nanos / 100, "{nanos}: {upper}");
        }
    }

    #[test]
    fn percentiles_are_what_so_many_do_not_exceed() {
        let mut low = Histogram::default();
        let mut high = Histogram::default();
        for nanos in 1..=100 {
            low.add(nanos);
        }
        high.add(5_000_000);

        assert_eq!(low.percentile(500), 50);
        assert_eq!(low.percentile(990), 99);
        assert_eq!(low.percentile(1000), 100);
        low.merge(&high);
        assert_eq!((low.count(), low.max()), (101, 5_000_000));
        assert_eq!(low.percentile(999), 5_000_000);
        assert_eq!(low.buckets().map(|(_, count)| count).sum::<u64>(), 101);
        assert_eq!(Histogram::default().percentile(990), 0);
    }
}
