//! The way of the process' log lines to wherever they go: a queue with a bound in bytes, emptied by a thread of its own.
//! Nobody who logs ever waits: a pipe that nobody reads, a full or hanging disk, a FIFO without a reader or a silent
//! syslog hold up the thread and nothing else. What does not fit is dropped and counted.
//!
//! One per process, as the logger itself is. (`tracing-appender` bounds such a queue in lines only, and prints when it
//! cannot end in time, which is the very wait that this is about.)

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The most bytes of lines that wait.
const BYTES_MAX: usize = 4 << 20;

/// What a line costs beside its text.
const OVERHEAD_BYTES: usize = 64;

/// A sink that takes longer to open may never: the process goes on without.
const OPEN_LIMIT: Duration = Duration::from_secs(1);

/// Where lines go. It may take as long as it likes.
pub(crate) trait Sink: Send {
    /// One whole line, with its end.
    fn write(&mut self, level: Level, line: &[u8]) -> io::Result<()>;

    /// As a signal asks for.
    fn reopen(&mut self) {
        tracing::warn!("File log re-open ignored, not a file logger");
    }
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// How [`start`] found the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    Yes,
    /// It is still being opened; lines wait until it is.
    NotYet,
}

/// Starts the thread, once per process: a second call changes nothing. An error is that of `open`.
pub(crate) fn start<S: Sink>(
    open: impl FnOnce() -> io::Result<S> + Send + 'static,
) -> io::Result<Opened> {
    let mut is_first = false;
    let queue = QUEUE.get_or_init(|| {
        is_first = true;
        Queue::default()
    });
    if !is_first {
        return Ok(Opened::Yes);
    }
    queue.start(open)
}

/// Lines that were not written since the process started.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, Queue::dropped)
}

/// For whoever has renamed the log file: a new one of the old name is begun, after what waits is written.
pub(crate) fn reopen() {
    if let Some(queue) = QUEUE.get() {
        queue.push(Entry::Reopen);
    }
}

/// Waits until all that was logged before is written, at most so long. False when it is not by then.
pub(crate) fn flush(limit: Duration) -> bool {
    QUEUE.get().is_none_or(|queue| queue.flush(limit))
}

/// What a subscriber writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines;

impl<'w> MakeWriter<'w> for Lines {
    type Writer = LineWriter;

    fn make_writer(&'w self) -> LineWriter {
        LineWriter(Level::INFO)
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> LineWriter {
        LineWriter(*metadata.level())
    }
}

/// Gets whole lines.
#[derive(Debug)]
pub(crate) struct LineWriter(Level);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(queue) = QUEUE.get() {
            queue.push(Entry::Line(self.0, line.into()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Entry {
    Line(Level, Box<[u8]>),
    Reopen,
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Line(_, line) => line.len() + OVERHEAD_BYTES,
            Self::Reopen => OVERHEAD_BYTES,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    emptied: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The thread has one in its hands.
    is_writing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn push(&self, entry: Entry) {
        let bytes = entry.bytes();
        let mut waiting = self.lock();
        if waiting.bytes + bytes > BYTES_MAX {
            drop(waiting);
            return self.drop_one();
        }
        waiting.bytes += bytes;
        waiting.entries.push_back(entry);
        drop(waiting);
        self.filled.notify_one();
    }

    fn flush(&self, limit: Duration) -> bool {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.entries.is_empty();
        let waited = self
            .emptied
            .wait_timeout_while(self.lock(), limit, is_busy)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    fn start<S: Sink>(
        &'static self,
        open: impl FnOnce() -> io::Result<S> + Send + 'static,
    ) -> io::Result<Opened> {
        let (report, opened) = mpsc::sync_channel(1);
        let work = move || match open() {
            Ok(sink) => {
                report.send(Ok(())).ok();
                self.write_all(sink);
            }
            Err(error) => drop(report.send(Err(error))),
        };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(work)?;
        match opened.recv_timeout(OPEN_LIMIT) {
            Ok(Ok(())) => Ok(Opened::Yes),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Opened::NotYet),
        }
    }

    fn write_all(&self, mut sink: impl Sink) -> ! {
        loop {
            match self.take() {
                Entry::Line(level, line) => {
                    if sink.write(level, &line).is_err() {
                        self.drop_one();
                    }
                }
                Entry::Reopen => sink.reopen(),
            }
        }
    }

    fn take(&self) -> Entry {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        loop {
            if let Some(entry) = waiting.entries.pop_front() {
                waiting.bytes -= entry.bytes();
                waiting.is_writing = true;
                return entry;
            }
            self.emptied.notify_all();
            waiting = self
                .filled
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Writes a line when it is asked to.
    struct Gate {
        open: mpsc::Receiver<io::Result<()>>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Sink for Gate {
        fn write(&mut self, _: Level, line: &[u8]) -> io::Result<()> {
            let answer = self.open.recv().map_err(io::Error::other)?;
            self.written.send(line.to_vec()).map_err(io::Error::other)?;
            answer
        }
    }

    fn line(length: usize) -> Entry {
        Entry::Line(Level::INFO, vec![b'x'; length].into())
    }

    #[test]
    fn a_sink_that_takes_nothing_holds_nobody_up_and_what_does_not_fit_is_counted() {
        let queue: &'static Queue = Box::leak(Box::default());
        let (gate, open) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let sink = Gate {
            open,
            written: sender,
        };
        assert_eq!(queue.start(move || Ok(sink)).unwrap(), Opened::Yes);

        let length = (1 << 20) - OVERHEAD_BYTES;
        for _ in 0..10 {
            queue.push(line(length));
        }
        // The sink may have one in its hands.
        assert!((5..=6).contains(&queue.dropped()), "{}", queue.dropped());
        assert!(!queue.flush(Duration::from_millis(1)));

        let fitted = 10 - queue.dropped();
        gate.send(Err(io::Error::other("full"))).unwrap();
        for _ in 1..fitted {
            gate.send(Ok(())).unwrap();
        }
        assert!(queue.flush(LIMIT));
        assert_eq!(queue.dropped(), 10 - fitted + 1, "that one was not written");
        assert_eq!(written.try_iter().count() as u64, fitted);
        queue.push(line(1));
        gate.send(Ok(())).unwrap();
        assert_eq!(written.recv_timeout(LIMIT).unwrap().len(), 1);
    }

    #[test]
    fn a_sink_that_cannot_be_opened_is_an_error_and_a_slow_one_is_not_waited_for() {
        let fails = || -> io::Result<Gate> { Err(io::Error::other("no")) };
        let queue: &'static Queue = Box::leak(Box::default());
        assert!(queue.start(fails).is_err());

        let (go, wait) = mpsc::channel::<()>();
        let hangs = move || -> io::Result<Gate> {
            wait.recv().ok();
            Err(io::Error::other("too late"))
        };
        let queue: &'static Queue = Box::leak(Box::default());
        assert_eq!(queue.start(hangs).unwrap(), Opened::NotYet);
        drop(go);
    }
}
