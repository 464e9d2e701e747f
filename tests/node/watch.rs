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

/// So many looks in a row that end between two short terms would be a strange chance.
const IN_NO_TERM_MAX: u32 = 5;

/// What was seen up to now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Of every term that a server answered in.
    pub(crate) epochs: BTreeSet<u64>,
    /// Answers of a server that says it is active although it was asked after a newer term had been seen.
    pub(crate) contradictions: String,
    /// The server of the newest term.
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
            let mut in_no_term = 0;
            loop {
                ticks.tick().await;
                let newest_on = lock(&seen).newest_on;
                match look(port, &seen).await {
                    Look::ActiveInNoTerm => in_no_term += 1,
                    Look::Explained => in_no_term = 0,
                }
                if in_no_term == IN_NO_TERM_MAX {
                    let text = &mut lock(&seen).contradictions;
                    writeln!(text, "{port} says it is active beside {newest_on}").ok();
                }
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

enum Look {
    /// It said that it is active, and right afterwards named no term: between the two a short term may have ended.
    ActiveInNoTerm,
    Explained,
}

async fn look(port: u16, seen: &Mutex<Seen>) -> Look {
    // What was known before the question: an answer may be overtaken by a takeover on its way.
    let before = lock(seen).clone();
    let says_active = matches!(get(port, "/streaming/isFTActive").await, Ok((200, _)));
    let epoch = match get(port, "/healthz/active").await {
        Ok((200, body)) => serde_json::from_str(&body).ok().map(|a: Answer| a.epoch),
        _ => None,
    };
    let mut seen = lock(seen);
    let newest = before.epochs.last().copied().unwrap_or(0);
    if let Some(epoch) = epoch {
        if epoch < newest {
            let text = &mut seen.contradictions;
            writeln!(text, "{port} is active in term {epoch} after {newest}").ok();
        }
        if seen.epochs.last().is_none_or(|&last| last < epoch) {
            seen.newest_on = port;
        }
        seen.epochs.insert(epoch);
    } else if says_active {
        return Look::ActiveInNoTerm;
    }
    Look::Explained
}
