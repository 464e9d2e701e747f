//! Runs publishers and subscribers: a task per connection, which takes what one read brings and answers it with one
//! write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::line::Line;
use super::publisher::{Publisher, overdue};
use super::subscriber::Subscriber;
use crate::cli::failure::Failure;
use crate::clock::Clock;
use crate::core::time::Instant;

/// How often a connection without traffic looks whether it is done.
const LOOK: Duration = Duration::from_millis(20);

/// How long acks of what was sent are waited for after a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A connection and those who use it. Their places are the numbers of their subscriptions.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) line: Line,
    pub(super) workers: Vec<Worker>,
}

#[derive(Debug)]
pub(super) enum Worker {
    Publisher(Box<Publisher>),
    Subscriber(Box<Subscriber>),
}

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// Nothing more is sent, and what is missing is not waited for long.
    stop: AtomicBool,
    pub(super) acked: AtomicU64,
    pub(super) delivered: AtomicU64,
    /// On any connection, in nanoseconds: a member of a group, or a subscriber to a quiet channel, gets nothing while
    /// others do.
    last_delivery: AtomicU64,
    /// How long a publisher or subscriber waits for anything at all.
    patience: Duration,
}

impl Shared {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            stop: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            last_delivery: AtomicU64::new(0),
            patience,
        }
    }

    /// A phase begins.
    pub(super) fn begin(&self, now: Instant) {
        self.acked.store(0, Relaxed);
        self.delivered.store(0, Relaxed);
        self.last_delivery.store(now.as_nanos(), Relaxed);
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    fn last_delivery(&self) -> Instant {
        Instant::from_nanos(self.last_delivery.load(Relaxed))
    }
}

/// Until every publisher has its acks and every subscriber its messages.
pub(super) async fn run(
    drivers: Vec<Driver>,
    shared: &Arc<Shared>,
) -> Result<Vec<Driver>, Failure> {
    let mut tasks = JoinSet::new();
    for driver in drivers {
        tasks.spawn(drive(driver, Arc::clone(shared)));
    }
    let mut back = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let done =
            done.map_err(|error| Failure::Failed(anyhow!("a connection's task: {error}")))?;
        back.push(done?);
    }
    Ok(back)
}

async fn drive(mut driver: Driver, shared: Arc<Shared>) -> Result<Driver, Failure> {
    let mut stopped_at: Option<Instant> = None;
    loop {
        let now = Clock.now().monotonic;
        if shared.stop.load(Relaxed) {
            let since = *stopped_at.get_or_insert(now);
            if driver.stop(now.since(since) > STOP_PATIENCE) {
                return Ok(driver);
            }
        }
        let more = driver.fill(now);
        driver.line.flush().await?;
        if driver.is_done() {
            return Ok(driver);
        }
        if more {
            // What has come is taken on the way; nothing is waited for.
            driver.line.read().now_or_never().transpose()?;
        } else if let Ok(read) = timeout(LOOK, driver.line.read()).await {
            read?;
        }
        driver.take(&shared)?;
        driver.ensure_progress(&shared)?;
    }
}

impl Driver {
    fn is_done(&self) -> bool {
        self.workers.iter().all(|worker| match worker {
            Worker::Publisher(publisher) => publisher.is_done(),
            Worker::Subscriber(subscriber) => subscriber.is_done(),
        })
    }

    /// True when nothing is worth waiting for any more.
    fn stop(&mut self, out_of_patience: bool) -> bool {
        let mut waits = false;
        for worker in &mut self.workers {
            if let Worker::Publisher(publisher) = worker {
                publisher.stop_sending();
                waits |= !publisher.is_done();
            }
        }
        !waits || out_of_patience
    }

    fn fill(&mut self, now: Instant) -> bool {
        let mut more = false;
        for worker in &mut self.workers {
            if let Worker::Publisher(publisher) = worker {
                more |= publisher.fill(&mut self.line.out, now);
            }
        }
        more
    }

    fn take(&mut self, shared: &Shared) -> Result<(), Failure> {
        let now = Clock.now().monotonic;
        // Those that follow each other are mostly for the same worker.
        let mut current = usize::MAX;
        let mut count = 0;
        while let Some(message) = self.line.next_message()? {
            let sid = usize::try_from(message.sid()).unwrap_or(usize::MAX);
            if sid != current {
                self.note(current, count, now, shared);
                current = sid;
                count = 0;
            }
            let counts = match self.workers.get_mut(current) {
                Some(Worker::Publisher(publisher)) => publisher.take(&message, now)?,
                Some(Worker::Subscriber(subscriber)) => {
                    subscriber.take(&message, &mut self.line.out, now)?
                }
                None => false,
            };
            count += u64::from(counts);
        }
        self.note(current, count, now, shared);
        Ok(())
    }

    fn note(&mut self, worker: usize, count: u64, now: Instant, shared: &Shared) {
        if count == 0 {
            return;
        }
        match self.workers.get_mut(worker) {
            Some(Worker::Publisher(publisher)) => {
                publisher.note(count, now);
                shared.acked.fetch_add(count, Relaxed);
            }
            Some(Worker::Subscriber(subscriber)) => {
                subscriber.note(count, now);
                shared.delivered.fetch_add(count, Relaxed);
                shared.last_delivery.store(now.as_nanos(), Relaxed);
            }
            None => {}
        }
    }

    fn ensure_progress(&self, shared: &Shared) -> Result<(), Failure> {
        let now = Clock.now().monotonic;
        let patience = shared.patience;
        for worker in &self.workers {
            match worker {
                Worker::Publisher(publisher) if overdue(publisher, now, patience) => {
                    let unacked = publisher.unacked();
                    return Err(Failure::Unreachable(anyhow!(
                        "no ack came for {patience:?}; {unacked} sent but not acked by one publisher: is a server \
                         active?"
                    )));
                }
                Worker::Subscriber(subscriber)
                    if !subscriber.is_done() && now.since(shared.last_delivery()) > patience =>
                {
                    return Err(silent(subscriber, patience));
                }
                Worker::Publisher(_) | Worker::Subscriber(_) => {}
            }
        }
        Ok(())
    }
}

fn silent(subscriber: &Subscriber, patience: Duration) -> Failure {
    let awaited = subscriber.awaited.load(Relaxed);
    let channel = &subscriber.channel;
    Failure::Unreachable(anyhow!(
        "nothing was delivered on {channel} for {patience:?}; {awaited} messages are still to come"
    ))
}
