//! How far an import is: a bar on a terminal, else a line every two seconds.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output;
use crate::node::import::ImportProgress;

const LINE_EVERY: Duration = Duration::from_secs(2);

const BAR: &str = "{wide_bar} {human_pos} of {human_len} messages, {per_sec}, {eta} left";

#[derive(Debug)]
pub(super) struct Screen {
    /// `None` where nobody looks.
    bar: Option<ProgressBar>,
    /// When the last line was written, in milliseconds from the beginning.
    last: AtomicU64,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            bar: io::stderr().is_terminal().then(ProgressBar::no_length),
            last: AtomicU64::new(0),
        }
    }

    pub(super) fn report(&self, progress: ImportProgress) {
        match (&self.bar, progress) {
            (bar, ImportProgress::Follows) => beside(bar.as_ref(), FOLLOWS),
            (bar, ImportProgress::Hindered(why)) => beside(bar.as_ref(), &why),
            (Some(bar), ImportProgress::Total(total)) => {
                bar.set_length(total);
                // A template that is wrong would show another bar.
                if let Ok(style) = ProgressStyle::with_template(BAR) {
                    bar.set_style(style);
                }
            }
            (Some(bar), ImportProgress::Read { messages, .. }) => bar.set_position(messages),
            (Some(bar), ImportProgress::Compares) => {
                bar.finish_and_clear();
                output::note(COMPARES);
            }
            (None, ImportProgress::Total(total)) => {
                output::note(&format!("{total} messages to read"));
            }
            (
                None,
                ImportProgress::Read {
                    messages,
                    total,
                    after,
                },
            ) => {
                let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
                if after < last + LINE_EVERY {
                    return;
                }
                let now = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                self.last.store(now, Ordering::Relaxed);
                output::note(&format!(
                    "{messages} of {total} messages, {} per second",
                    messages / after.as_secs().max(1)
                ));
            }
            (None, ImportProgress::Compares) => output::note(COMPARES),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line above the bar, if there is one.
fn beside(bar: Option<&ProgressBar>, line: &str) {
    match bar {
        Some(bar) => bar.suspend(|| output::note(line)),
        None => output::note(line),
    }
}

const FOLLOWS: &str = "everything so far is read, and new messages are followed: stop all former servers (with \
                       --from-stan, the publishers first); nothing is committed before they have ended";

const COMPARES: &str = "all is written; comparing it with what was read";
