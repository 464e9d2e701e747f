//! Operators ask for something.

use std::time::Duration;

use stanby::core::Event;
use stanby::core::admin::{Fact, RequestChange, RequestId, RequestRow};

use super::World;
use crate::script::Line;

/// What a commit takes while a server runs by itself.
const COMMIT_EVERY: Duration = Duration::from_millis(10);

impl World {
    /// Lets time pass, and commits whatever there is.
    pub(super) fn run(
        &mut self,
        duration: Duration,
        outputs: &mut Vec<String>,
    ) -> Result<(), String> {
        let end = self.elapsed + duration;
        while self.elapsed < end {
            self.pass(COMMIT_EVERY.min(end.saturating_sub(self.elapsed)), outputs);
            if let Some(batch) = self.next_batch() {
                self.committing = Some(batch);
                self.commit()?;
                self.drain(outputs);
            }
        }
        Ok(())
    }

    /// `ask channel-purge channel=orders keep=3 dry-run`
    pub(super) fn ask(&mut self, line: &mut Line) -> Result<(), String> {
        let verb = line
            .word(1)?
            .replacen('-', " ", usize::from(line.word(1)? != "step-down"));
        let names = [
            "channel",
            "durable",
            "queue_group",
            "client_id",
            "to",
            "sequence",
            "time",
            "first",
            "last",
            "before",
            "before_time",
            "keep",
            "all",
            "force",
            "max_msgs",
            "max_age",
            "max_bytes",
            "reset",
            "to_channel",
            "x",
        ];
        let given = names.iter().filter_map(|name| {
            let text = line.take(name)?;
            Some(((*name).into(), text.into()))
        });
        let arguments = given.collect();
        let row = RequestRow {
            id: RequestId::default(),
            verb: verb.into(),
            arguments,
            dry_run: line.take("dry-run").is_some(),
            taken: None,
        };
        self.store.ask(row);
        let now = self.now();
        self.broker().handle(Event::OutboxNoted, now);
        Ok(())
    }

    pub(super) fn requests(&self) -> Vec<String> {
        let fact = |fact: &Fact| match fact {
            Fact::Number(number) => number.to_string(),
            Fact::Text(text) => text.clone(),
            Fact::Flag(flag) => flag.to_string(),
            Fact::Nothing => "-".to_owned(),
        };
        let shown = |(row, answer): &(RequestRow, Option<RequestChange>)| {
            let answer = match answer {
                Some(RequestChange::Done(facts)) => {
                    let facts = facts
                        .iter()
                        .map(|(name, it)| format!("{name}={}", fact(it)));
                    format!("done {}", facts.collect::<Vec<_>>().join(" "))
                }
                Some(RequestChange::Refused(why)) => {
                    format!("refused: {}. {}", why.error, why.hint)
                }
                Some(RequestChange::Taken | RequestChange::Underway(_)) | None => {
                    match &row.taken {
                        Some(underway) => format!("under way: {} messages", underway.messages),
                        None => "waits".to_owned(),
                    }
                }
            };
            format!("request {} {}: {answer}", row.id.0, row.verb)
        };
        self.store.requests().map(shown).collect()
    }
}
