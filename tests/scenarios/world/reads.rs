//! What becomes of reads: answered at once, held back, or failed.

use stanby::core::Event;
use stanby::core::load::{Load, LoadQuery};

use super::World;

/// What becomes of reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Answered at once and not shown.
    Silent,
    Shown,
    Held,
    Failing,
}

impl World {
    /// What becomes of reads from here on; `answered` also answers those that were held.
    pub(super) fn set_reads(&mut self, reads: &str) -> Result<(), String> {
        self.reads = match reads {
            "shown" => Reads::Shown,
            "held" => Reads::Held,
            "failing" => Reads::Failing,
            "answered" => Reads::Silent,
            other => return Err(format!("reads are not {other}")),
        };
        if self.reads == Reads::Silent {
            for load in std::mem::take(&mut self.held_reads) {
                self.answer_read(&load);
            }
        }
        Ok(())
    }

    fn answer_read(&mut self, load: &Load) {
        let (load, result, now) = (load.id, self.store.load(load), self.now());
        self.broker().handle(Event::Loaded { load, result }, now);
    }

    pub(super) fn read(&mut self, load: Load, outputs: &mut Vec<String>) {
        if self.reads != Reads::Silent {
            outputs.push(match &load.query {
                LoadQuery::Range { first, last, .. } => format!("read {first} to {last}"),
                LoadQuery::Exactly { sequences, .. } => {
                    let wanted: Vec<String> = sequences.iter().map(ToString::to_string).collect();
                    format!("read {}", wanted.join(", "))
                }
                LoadQuery::FirstSince(_) => "read the first since".into(),
                LoadQuery::Oldest { first, .. } => format!("read the oldest from {first}"),
                LoadQuery::Gone => "read what is gone".to_owned(),
                LoadQuery::Policies => "read the policies".to_owned(),
                LoadQuery::DeadLetters { first, .. } => format!("read dead letters from {first}"),
                LoadQuery::Outbox { .. } => "read the outbox".to_owned(),
                LoadQuery::Requests { .. } => "read requests".to_owned(),
            });
        }
        match self.reads {
            Reads::Silent | Reads::Shown => self.answer_read(&load),
            Reads::Held => self.held_reads.push(load),
            Reads::Failing => {
                let now = self.now();
                self.broker().handle(Event::LoadFailed(load.id), now);
            }
        }
    }
}
