//! Whether anything grew: the median of what was measured once everything had filled up that fills up, against that of the
//! end of the run.

use std::fmt::Write as _;

use crate::samples::Sample;

struct Bound {
    name: &'static str,
    value: fn(&Sample) -> f64,
    /// By how much the end may be above the beginning: a share of it, and so many units besides. Times have none:
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

/// In seconds. Publishes that limits have dropped are noted for an hour; tables, and an active's memory, are level after it.
/// A run that is too short for that leaves its first quarter out, for caches and the channels' limits.
const FILLS_FOR: f64 = 65.0 * 60.0;

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
        let [first, last] = compared(samples);
        let minutes = |part: &[Sample]| {
            let at = |sample: Option<&Sample>| sample.map_or(0.0, |it| it.at_s / 60.0);
            format!("minutes {:.0} to {:.0}", at(part.first()), at(part.last()))
        };
        let (begin, end) = (minutes(first), minutes(last));
        writeln!(
            verdict.table,
            "| median of | {begin} | {end} | bound |\n|---|---|---|---|"
        )
        .expect("a string takes everything");
        for bound in BOUNDS {
            let [then, now] = [first, last].map(|part| middle(part, bound.value));
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

/// The first and the last third of what comes after everything has filled up.
fn compared(samples: &[Sample]) -> [&[Sample]; 2] {
    let lasts = samples.last().map_or(0.0, |it| it.at_s);
    let begin = if lasts < 1.5 * FILLS_FOR {
        samples.len() / 4
    } else {
        samples.partition_point(|it| it.at_s < FILLS_FOR)
    };
    let rest = &samples[begin..];
    let third = rest.len() / 3;
    [&rest[..third], &rest[rest.len() - third..]]
}

fn middle(samples: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many samples, one each 30 s.
    fn samples(count: u32, of: impl Fn(f64) -> Sample) -> Vec<Sample> {
        let at = |at: u32| Sample {
            at_s: f64::from(at) * 30.0,
            ..of(f64::from(at))
        };
        (0..count).map(at).collect()
    }

    #[test]
    fn memory_descriptors_and_threads_that_grow_are_noticed() {
        let grows = samples(120, |at| Sample {
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
        let flat = samples(120, |at| Sample {
            resident_mib: 30.0 + (at / 3.0).sin(),
            tables_mib: at.min(20.0) + (at / 5.0).sin(),
            descriptors: 40.0,
            ..Sample::default()
        });
        assert_eq!(Verdict::of(&flat).wrong, [""; 0]);
    }

    #[test]
    fn what_fills_up_for_an_hour_is_flat_in_a_run_of_two_and_what_goes_on_is_not() {
        let two_hours = |until: f64| {
            samples(240, |at| Sample {
                resident_mib: 40.0 + at.min(until) / 2.0,
                ..Sample::default()
            })
        };
        assert_eq!(Verdict::of(&two_hours(125.0)).wrong, [""; 0]);
        assert_eq!(Verdict::of(&two_hours(1000.0)).wrong.len(), 1);
    }

    #[test]
    fn a_run_that_is_too_short_to_judge_is_not_called_flat() {
        assert_eq!(Verdict::of(&[]).wrong.len(), 1);
    }
}
