//! Whether anything grew: the middle of what was measured in the second quarter of a run against that of the last one. The
//! first quarter is for what fills up: caches, tables up to their limits.

use std::fmt::Write as _;

use crate::samples::Sample;

struct Bound {
    name: &'static str,
    value: fn(&Sample) -> f64,
    /// By how much the last quarter may be above the second one: a share of it, and so many units besides. Times have none:
    /// they say more of what else a machine does.
    more: Option<(f64, f64)>,
}

const BOUNDS: [Bound; 9] = [
    Bound {
        name: "resident memory, MiB",
        value: |sample| sample.resident_mib,
        more: Some((0.15, 6.0)),
    },
    Bound {
        name: "file descriptors",
        value: |sample| sample.descriptors,
        more: Some((0.0, 6.0)),
    },
    Bound {
        name: "threads",
        value: |sample| sample.threads,
        more: Some((0.0, 2.0)),
    },
    Bound {
        name: "tables, MiB",
        value: |sample| sample.tables_mib,
        more: Some((0.25, 8.0)),
    },
    Bound {
        name: "directory of the write-ahead log, MiB",
        value: |sample| sample.wal_mib,
        more: Some((0.5, 64.0)),
    },
    Bound {
        name: "connections to Postgres",
        value: |sample| sample.connections,
        more: Some((0.0, 4.0)),
    },
    Bound {
        name: "ack of a publish, ms",
        value: |sample| sample.ack_p50_ms,
        more: None,
    },
    Bound {
        name: "99 % of acks within, ms",
        value: |sample| sample.ack_p99_ms,
        more: None,
    },
    Bound {
        name: "publish to delivery, ms",
        value: |sample| sample.delivery_p50_ms,
        more: None,
    },
];

/// One line for each that is looked at, and a sentence for each that grew.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) table: String,
    pub(crate) wrong: Vec<String>,
}

/// Fewer samples say nothing.
const SAMPLES_MIN: usize = 16;

impl Verdict {
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let mut verdict = Self::default();
        if samples.len() < SAMPLES_MIN {
            let count = samples.len();
            verdict.wrong.push(format!(
                "{count} samples say nothing, {SAMPLES_MIN} are needed"
            ));
            return verdict;
        }
        let quarter = samples.len() / 4;
        let (second, last) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
        for bound in BOUNDS {
            let [then, now] = [second, last].map(|part| middle(part, bound.value));
            let limit = bound.more.map(|(share, units)| then + then * share + units);
            let name = bound.name;
            let shown = limit.map_or_else(|| "–".to_owned(), |limit| format!("{limit:.1}"));
            writeln!(verdict.table, "| {name} | {then:.1} | {now:.1} | {shown} |")
                .expect("a string takes everything");
            if let Some(limit) = limit
                && now > limit
            {
                let sentence = format!("{name}: {then:.1} became {now:.1}, more than {limit:.1}");
                verdict.wrong.push(sentence);
            }
        }
        verdict
    }
}

fn middle(samples: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of samples, one each 30 s.
    fn samples(of: impl Fn(f64) -> Sample) -> Vec<Sample> {
        (0..120).map(|at| of(f64::from(at))).collect()
    }

    #[test]
    fn memory_descriptors_and_threads_that_grow_are_noticed() {
        let grows = samples(|at| Sample {
            resident_mib: 30.0 + at / 4.0,
            descriptors: 40.0 + at / 8.0,
            threads: 5.0 + at / 20.0,
            ..Sample::default()
        });
        let wrong = Verdict::of(&grows).wrong.join("\n");
        for name in ["resident memory", "file descriptors", "threads"] {
            assert!(wrong.contains(name), "{name}: {wrong}");
        }
    }

    #[test]
    fn what_fills_up_and_then_breathes_is_flat() {
        let flat = samples(|at| Sample {
            resident_mib: 30.0 + (at / 3.0).sin(),
            tables_mib: at.min(20.0) + (at / 5.0).sin(),
            descriptors: 40.0,
            ..Sample::default()
        });
        assert_eq!(Verdict::of(&flat).wrong, [""; 0]);
    }

    #[test]
    fn a_run_that_is_too_short_to_judge_is_not_called_flat() {
        assert_eq!(Verdict::of(&[]).wrong.len(), 1);
    }
}
