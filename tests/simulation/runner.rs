//! Runs seeds by the thousand, on as many threads as asked for, until their number or the time is up, and keeps the
//! first failures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::world::World;

#[derive(Debug)]
pub(crate) struct Amount {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) limit: Option<Duration>,
    pub(crate) threads: usize,
    /// After so many failures more of them tell nothing.
    pub(crate) failures: usize,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seeds: u64,
    pub(crate) took: Duration,
    /// What they report, by seed.
    pub(crate) failures: Vec<(u64, String)>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is what people ask"
)]
pub(crate) fn run(amount: &Amount) -> Outcome {
    let began = Instant::now();
    let next = AtomicU64::new(amount.first);
    let ended = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_late = amount.limit.is_some_and(|limit| began.elapsed() >= limit);
            let is_last = seed >= amount.first.saturating_add(amount.seeds);
            if is_last || is_late || enough.load(Ordering::Relaxed) {
                return;
            }
            // The world that panics prints its report itself.
            let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, None).run()));
            let report = match run {
                Ok(Ok(_)) => None,
                Ok(Err(failure)) => Some(failure.to_string()),
                Err(_) => Some(format!("seed {seed} panics; SEED={seed}")),
            };
            ended.fetch_add(1, Ordering::Relaxed);
            if let Some(report) = report {
                let mut failures = failures.lock().expect("nobody panics with the lock");
                failures.push((seed, report));
                enough.store(failures.len() >= amount.failures, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..amount.threads {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().expect("nobody panics with the lock");
    failures.sort();
    Outcome {
        seeds: ended.into_inner(),
        took: began.elapsed(),
        failures,
    }
}
