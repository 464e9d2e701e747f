//! Applications that publish in transactions of their own: they need no server, and no NATS. What a transaction has
//! published is stored once when it has committed, and never when it was rolled back.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use stanby::core::Event;
use stanby::core::batch::Batch;
use stanby::core::ids::Guid;
use stanby::core::outbox::{OutboxId, OutboxRow};

use crate::node::Input;
use crate::plan::Sabotage;
use crate::replica::Change;
use crate::requests::channel_name;
use crate::rng::Rng;
use crate::sql_acks::OpenAcks;
use crate::world::{Step, World};

#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) rng: Rng,
    /// Of the rows that have committed, but those that no server can store.
    pub(crate) committed: BTreeSet<Guid>,
    rows: u64,
    pub(crate) open_acks: OpenAcks,
}

impl Sql {
    /// In some worlds, and in none where a checker is to notice something else.
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>) -> Option<Self> {
        let is_wanted = sabotage.is_none_or(|sabotage| sabotage == Sabotage::ForgetSqlAcks);
        (seed.is_multiple_of(3) && is_wanted).then(|| Self {
            rng: Rng::new(seed ^ 0x5157_1c0d),
            committed: BTreeSet::new(),
            rows: 0,
            open_acks: OpenAcks::default(),
        })
    }

    pub(crate) fn is_used(&self) -> bool {
        self.rows > 0
    }
}

impl World {
    /// A transaction commits, or is rolled back.
    pub(crate) fn publish_in_sql(&mut self) {
        let is_down = self.time < self.database.down_until;
        let channels = self.plan.channels;
        let Some(sql) = &mut self.sql else {
            return;
        };
        if self.calm {
            return;
        }
        let pause = sql.rng.pick(&[(5, 40), (100, 600), (500, 3_000)]);
        let pause = sql.rng.millis(pause.0, pause.1);
        let is_rolled_back = is_down || sql.rng.chance(200);
        let mut rows = Vec::new();
        for _ in 0..sql.rng.pick(&[1, 1, 3, 40]) {
            sql.rows += 1;
            let guid = format!("sql-{}", sql.rows);
            let data = Bytes::from(format!("{} in SQL", sql.rows));
            let channel = channel_name(sql.rng.index(channels));
            let guid = Guid::parse(guid.into()).expect("it is not empty");
            // One that no server can store is set aside.
            let is_bad = sql.rng.chance(30);
            self.checks.publishes(guid.clone(), &channel, data.clone());
            rows.push(OutboxRow {
                id: OutboxId::default(),
                guid: guid.to_text(),
                channel: if is_bad {
                    "a//b".into()
                } else {
                    channel.to_text()
                },
                reply: "".into(),
                publisher: "application".into(),
                data: Ok(data),
            });
            if !is_bad && !is_rolled_back {
                sql.committed.insert(guid);
            }
        }
        self.after(pause, Step::PublishInSql);
        if is_rolled_back {
            return;
        }
        let rows: Vec<_> = rows.into_iter().map(|row| (None, row)).collect();
        let count = rows.len();
        self.note(|| format!("an application publishes {count} messages in SQL"));
        self.database.store.publish_in_sql(rows.clone());
        self.replicate(Change::Sql(rows));
        self.tell_of_outbox();
    }

    /// Whoever is the active is notified of the first one; the others it looks for itself.
    pub(crate) fn tell_of_outbox(&mut self) {
        for node in 0..self.nodes.len() {
            let state = &self.nodes[node];
            let incarnation = state.incarnation;
            if let Some(term) = state.term.as_ref().map(|term| term.serial) {
                let event = Box::new(Event::OutboxNoted);
                let input = Input::Received { term, event };
                let step = Step::Node {
                    node,
                    incarnation,
                    input,
                };
                self.after(Duration::ZERO, step);
            }
        }
    }

    /// What a batch that is about to be committed refuses to publish: Postgres would never store it.
    pub(crate) fn expect_of_sql(&mut self, batch: &Batch) {
        let Some(sql) = &mut self.sql else {
            return;
        };
        for (id, _) in &batch.outbox.refused {
            let mut rows = self.database.store.outbox();
            if let Some(row) = rows.find(|row| row.id == *id)
                && let Some(guid) = Guid::parse(row.guid.clone())
            {
                sql.committed.remove(&guid);
            }
        }
    }

    pub(crate) fn check_sql(&mut self) {
        let Some(sql) = &self.sql else {
            return;
        };
        let left = self.database.store.outbox().count();
        self.checks.require(left == 0, || {
            format!("what was published in SQL is taken in the end: {left} rows are not")
        });
        let lost = sql.committed.iter();
        let mut lost = lost.filter(|guid| !self.checks.was_stored(guid));
        let lost = lost.next().filter(|_| self.checks.failovers.count == 0);
        self.checks.require(lost.is_none(), || {
            format!("what a transaction has published is stored: {lost:?} is not")
        });
        self.check_sql_acks();
    }
}
