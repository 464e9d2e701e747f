//! Looks at all servers for as long as a test lasts: no two of them may ever say that they are active.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::pair::{Server, get};

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What was seen up to now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Of every term that a server answered in.
    pub(crate) epochs: BTreeSet<u64>,
    /// Answers of a server that says it is active although it was asked after a newer term had been seen.
    pub(crate) contradictions: String,
    /// Servers that said they are active without naming a term, while the newest term was that of another one. Whether
    /// that other one was active meanwhile is known when it names the same term once more.
    doubtful: BTreeSet<Doubtful>,
    /// The server of the newest term.
    newest_on: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Doubtful {
    port: u16,
    newest: u64,
    newest_on: u16,
}

/// Ends with the value.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
}

impl Watch {
    pub(crate) fn over(servers: &[&Server]) -> Self {
        let mut watch = Self {
            seen: Arc::default(),
            tasks: JoinSet::new(),
        };
        for server in servers {
            watch.add(server);
        }
        watch
    }

    /// Looks at one more server, too.
    pub(crate) fn add(&mut self, server: &Server) {
        let (seen, port) = (Arc::clone(&self.seen), server.http_port);
        self.tasks.spawn(async move {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                look(port, &seen).await;
            }
        });
    }

    pub(crate) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
struct Answer {
    epoch: u64,
}

/// A term that is named has not ended in between. So whoever says that it is active between two answers that name the
/// same term of another server contradicts them, and one that names no term is judged by that.
async fn look(port: u16, seen: &Mutex<Seen>) {
    // What was known before the question: an answer may be overtaken by a takeover on its way.
    let before = lock(seen).clone();
    let says_active = matches!(get(port, "/streaming/isFTActive").await, Ok((200, _)));
    let epoch = match get(port, "/healthz/active").await {
        Ok((200, body)) => serde_json::from_str(&body).ok().map(|a: Answer| a.epoch),
        _ => None,
    };
    let mut seen = lock(seen);
    let newest = before.epochs.last().copied().unwrap_or(0);
    let Some(epoch) = epoch else {
        if says_active && before.newest_on != port {
            let newest_on = before.newest_on;
            seen.doubtful.insert(Doubtful {
                port,
                newest,
                newest_on,
            });
        }
        return;
    };
    if epoch < newest {
        let text = &mut seen.contradictions;
        writeln!(text, "{port} is active in term {epoch} after {newest}").ok();
    }
    if seen.epochs.last().is_none_or(|&last| last < epoch) {
        seen.newest_on = port;
        // Terms that are over are not named again.
        seen.doubtful.retain(|doubtful| doubtful.newest >= epoch);
    }
    seen.epochs.insert(epoch);
    let known = before.doubtful.iter();
    for doubtful in known.filter(|it| it.newest == epoch && it.newest_on == port) {
        if seen.doubtful.remove(doubtful) {
            let (text, other) = (&mut seen.contradictions, doubtful.port);
            writeln!(
                text,
                "{other} says it is active beside {port} in term {epoch}"
            )
            .ok();
        }
    }
}
