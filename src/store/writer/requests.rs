//! Requests of operators that the batch takes or answers, and what they set for channels and positions.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::Pipeline;
use crate::core::admin::{Fact, Facts, RequestChange};
use crate::core::batch::Batch;

const ANSWER: &str =
    "SELECT answer_requests($1::int8[], $2::text[], $3::int8[], $4::int8[], $5::int8[],
    $6::text[], $7::text[], $8::text[])";

const UNLIMIT: &str = "DELETE FROM set_limits WHERE channel = ANY($1)";

const LIMIT: &str = "INSERT INTO set_limits
        (channel, max_subscriptions, max_msgs, max_bytes, max_age_ns, max_inactivity_ns)
    SELECT * FROM unnest($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])
    ON CONFLICT (channel) DO UPDATE SET
        max_subscriptions = excluded.max_subscriptions, max_msgs = excluded.max_msgs,
        max_bytes = excluded.max_bytes, max_age_ns = excluded.max_age_ns,
        max_inactivity_ns = excluded.max_inactivity_ns";

const PAUSE: &str = "INSERT INTO paused_positions (position_id) SELECT * FROM unnest($1::int8[])
    ON CONFLICT DO NOTHING";

const RESUME: &str = "DELETE FROM paused_positions WHERE position_id = ANY($1)";

/// An hour is longer than any standby keeps acks.
const MOVE: &str = "WITH forgotten AS (
        DELETE FROM moved_positions
        WHERE moved_at < clock_timestamp() - interval '1 hour' AND position_id <> ALL ($1)
    )
    INSERT INTO moved_positions (position_id) SELECT * FROM unnest($1::int8[])
    ON CONFLICT (position_id) DO UPDATE SET moved_at = excluded.moved_at";

#[derive(Debug)]
pub(super) struct Statements {
    answer: Statement,
    unlimit: Statement,
    limit: Statement,
    pause: Statement,
    resume: Statement,
    moves: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            answer: client.prepare(ANSWER).await?,
            unlimit: client.prepare(UNLIMIT).await?,
            limit: client.prepare(LIMIT).await?,
            pause: client.prepare(PAUSE).await?,
            resume: client.prepare(RESUME).await?,
            moves: client.prepare(MOVE).await?,
        })
    }
}

#[derive(Default)]
pub(super) struct Columns<'a> {
    id: Vec<i64>,
    state: Vec<&'static str>,
    through: Vec<Option<i64>>,
    messages: Vec<i64>,
    bytes: Vec<i64>,
    result: Vec<Option<String>>,
    error: Vec<Option<&'a str>>,
    hint: Vec<Option<&'a str>>,
    unlimited: Vec<&'a str>,
    limited: Vec<&'a str>,
    /// As the columns of the table: NULL inherits, 0 is unlimited.
    limits: [Vec<Option<i64>>; 5],
    paused: Vec<i64>,
    resumed: Vec<i64>,
    moved: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let mut columns = Self::default();
        for (id, change) in &batch.requests {
            columns.id.push(int8(id.0));
            columns.push(change);
        }
        for (channel, own) in &batch.limits {
            let Some(own) = own else {
                columns.unlimited.push(channel.as_str());
                continue;
            };
            columns.limited.push(channel.as_str());
            let number = |limit: Option<Option<u64>>| limit.map(|limit| int8(limit.unwrap_or(0)));
            let time = |limit: Option<Option<Duration>>| {
                limit.map(|limit| {
                    let nanos = limit.unwrap_or_default().as_nanos();
                    i64::try_from(nanos).unwrap_or(i64::MAX)
                })
            };
            let subscriptions = own.subscriptions.map(|limit| limit.map(|it| it as u64));
            let values = [
                number(subscriptions),
                number(own.messages),
                number(own.bytes),
                time(own.age),
                time(own.inactivity),
            ];
            for (column, value) in columns.limits.iter_mut().zip(values) {
                column.push(value);
            }
        }
        for (position, paused) in &batch.paused {
            let column = if *paused {
                &mut columns.paused
            } else {
                &mut columns.resumed
            };
            column.push(int8(position.0));
        }
        columns.moved = batch.moved.iter().map(|id| int8(id.0)).collect();
        columns
    }

    fn push(&mut self, change: &'a RequestChange) {
        let underway = match change {
            RequestChange::Underway(underway) => *underway,
            RequestChange::Taken | RequestChange::Done(_) | RequestChange::Refused(_) => {
                crate::core::admin::Underway::default()
            }
        };
        self.through.push(underway.through.map(|it| int8(it.0)));
        self.messages.push(int8(underway.messages));
        self.bytes.push(int8(underway.bytes));
        let (state, result, error) = match change {
            RequestChange::Taken => ("taken", None, None),
            RequestChange::Underway(_) => ("running", None, None),
            RequestChange::Done(facts) => ("done", Some(json(facts).to_string()), None),
            RequestChange::Refused(error) => ("refused", None, Some(error)),
        };
        self.state.push(state);
        self.result.push(result);
        self.error.push(error.map(|it| it.error.as_str()));
        self.hint.push(error.map(|it| it.hint.as_str()));
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.unlimited.is_empty() {
            pipeline.add(&statements.unlimit, vec![&self.unlimited], "limits", None);
        }
        if !self.limited.is_empty() {
            let [subscriptions, messages, bytes, age, inactivity] = &self.limits;
            let parameters: super::pipeline::Parameters<'_> = vec![
                &self.limited,
                subscriptions,
                messages,
                bytes,
                age,
                inactivity,
            ];
            let rows = Some(self.limited.len());
            pipeline.add(&statements.limit, parameters, "limits", rows);
        }
        if !self.paused.is_empty() {
            pipeline.add(&statements.pause, vec![&self.paused], "paused", None);
        }
        if !self.resumed.is_empty() {
            pipeline.add(&statements.resume, vec![&self.resumed], "paused", None);
        }
        if !self.moved.is_empty() {
            let rows = Some(self.moved.len());
            pipeline.add(&statements.moves, vec![&self.moved], "moved", rows);
        }
        if !self.id.is_empty() {
            let parameters: super::pipeline::Parameters<'_> = vec![
                &self.id,
                &self.state,
                &self.through,
                &self.messages,
                &self.bytes,
                &self.result,
                &self.error,
                &self.hint,
            ];
            pipeline.add(&statements.answer, parameters, "requests", None);
        }
    }
}

fn json(facts: &Facts) -> Value {
    let facts = facts.iter().map(|(name, fact)| {
        let value = match fact {
            Fact::Number(number) => Value::from(*number),
            // Postgres' text holds no NUL.
            Fact::Text(text) => Value::from(text.replace('\0', "")),
            Fact::Flag(flag) => Value::from(*flag),
            Fact::Nothing => Value::Null,
        };
        ((*name).to_owned(), value)
    });
    Value::Object(facts.collect::<Map<_, _>>())
}
