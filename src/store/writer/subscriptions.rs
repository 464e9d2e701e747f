//! Rows of `subscriptions`.

use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::Batch;

const DELETE: &str = "DELETE FROM subscriptions WHERE subscription_id = ANY($1)";

const PUT: &str = "INSERT INTO subscriptions
        (subscription_id, position_id, client_id, inbox, ack_inbox, max_in_flight, ack_wait_ns,
         online, since_ns)
    SELECT * FROM unnest($1::int8[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::int8[],
        $7::int8[], $8::bool[], $9::int8[])
    ON CONFLICT (subscription_id) DO UPDATE SET
        position_id = excluded.position_id, client_id = excluded.client_id,
        inbox = excluded.inbox, ack_inbox = excluded.ack_inbox,
        max_in_flight = excluded.max_in_flight, ack_wait_ns = excluded.ack_wait_ns,
        online = excluded.online, since_ns = excluded.since_ns";

#[derive(Debug)]
pub(super) struct Statements {
    delete: Statement,
    put: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            delete: client.prepare(DELETE).await?,
            put: client.prepare(PUT).await?,
        })
    }
}

#[derive(Default)]
pub(super) struct Columns<'a> {
    deleted: Vec<i64>,
    id: Vec<i64>,
    position: Vec<i64>,
    client_id: Vec<&'a str>,
    inbox: Vec<&'a str>,
    ack_inbox: Vec<&'a str>,
    max_in_flight: Vec<i64>,
    ack_wait: Vec<i64>,
    online: Vec<bool>,
    since: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let mut columns = Self::default();
        for (id, row) in &batch.subscriptions {
            let Some(row) = row else {
                columns.deleted.push(int8(id.0));
                continue;
            };
            columns.id.push(int8(id.0));
            columns.position.push(int8(row.position.0));
            columns.client_id.push(row.client_id.as_str());
            columns.inbox.push(row.inbox.as_str());
            columns.ack_inbox.push(row.ack_inbox.as_str());
            columns.max_in_flight.push(row.max_in_flight.into());
            // 292 years are as good as for ever.
            columns
                .ack_wait
                .push(i64::try_from(row.ack_wait.as_nanos()).unwrap_or(i64::MAX));
            columns.online.push(row.online);
            columns.since.push(row.since.0);
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.deleted.is_empty() {
            pipeline.add(
                &statements.delete,
                vec![&self.deleted],
                "subscriptions deleted",
                None,
            );
        }
        if !self.id.is_empty() {
            let rows = Some(self.id.len());
            pipeline.add(&statements.put, self.parameters(), "subscriptions", rows);
        }
    }

    fn parameters(&self) -> Parameters<'_> {
        vec![
            &self.id,
            &self.position,
            &self.client_id,
            &self.inbox,
            &self.ack_inbox,
            &self.max_in_flight,
            &self.ack_wait,
            &self.online,
            &self.since,
        ]
    }
}
