//! Reads beside the session with the lock: they see the tables as of a moment between question and answer, and connections
//! for them may lead elsewhere. A server proves of each read whose tables it saw; what proves nothing is read again on the
//! session with the lock.

use std::time::Duration;

use stanby::core::Event;
use stanby::core::load::{Load, Loaded};

use crate::database::DatabaseStep;
use crate::memory_store::MemoryStore;
use crate::node::Input;
use crate::plan::Sabotage;
use crate::world::{Step, Time, World, nanos};

/// Of a thousand connections, while some lead there.
const LED_ASTRAY: u64 = 700;

/// A copy of the tables as they were, that reads are led to.
#[derive(Debug, Default)]
pub(crate) struct Astray {
    store: MemoryStore,
    until: Time,
}

#[derive(Debug)]
pub(crate) struct Read {
    node: usize,
    incarnation: u64,
    term: u64,
    load: Load,
    /// How long its answer travels.
    back: Duration,
    /// Made again, where it proves what it saw.
    is_proven: bool,
}

impl World {
    pub(crate) fn read(&mut self, node: usize, term: u64, load: Load) {
        let (low, high) = self.plan.read_time;
        let total = self.rng.millis(low, high);
        // Seen somewhere on the way.
        let there = total * u32::try_from(self.rng.range(0, 100)).unwrap_or(0) / 100;
        let read = Read {
            node,
            incarnation: self.nodes[node].incarnation,
            term,
            load,
            back: total.saturating_sub(there),
            is_proven: false,
        };
        self.after(there, Step::Database(DatabaseStep::Read(Box::new(read))));
    }

    pub(crate) fn lead_reads_astray(&mut self, duration: Duration) {
        self.note(|| format!("database: reads are led to a copy for {duration:?}"));
        let (store, until) = (self.database.store.clone(), self.time + nanos(duration));
        self.database.astray = Astray { store, until };
    }

    pub(crate) fn answer_read(&mut self, mut read: Box<Read>) {
        self.database.reads += 1;
        let cut = self.nodes[read.node].cut_until > self.time;
        let down = self.time < self.database.down_until;
        let hidden = self.time < self.database.hidden_until;
        let failed =
            !self.calm && (cut || down || hidden || self.rng.chance(self.plan.read_failures));
        let is_astray = !read.is_proven
            && self.time < self.database.astray.until
            && self.rng.chance(LED_ASTRAY);
        let event = if failed {
            Event::LoadFailed(read.load.id)
        } else if is_astray && !self.plan.is(Sabotage::BelieveEveryRead) {
            self.database.reads_astray += 1;
            read.is_proven = true;
            let again = self.rng.millis(1, 50);
            return self.after(again, Step::Database(DatabaseStep::Read(read)));
        } else {
            let mut result = if is_astray {
                self.database.astray.store.load(&read.load)
            } else {
                self.database.store.load(&read.load)
            };
            if let Loaded::Messages { messages, gone, .. } = &mut result
                && self.plan.is(Sabotage::HideRowsFromReads)
                && self.rng.chance(50)
                && let Some(hidden) = messages.pop()
            {
                // Without this the core would wait for it.
                *gone = [(hidden.sequence, hidden.sequence)].into_iter().collect();
            }
            Event::Loaded {
                load: read.load.id,
                result,
            }
        };
        let input = Input::Received {
            term: read.term,
            event: Box::new(event),
        };
        let (node, incarnation) = (read.node, read.incarnation);
        self.after(
            read.back,
            Step::Node {
                node,
                incarnation,
                input,
            },
        );
    }
}
