//! Rows of `clients`, heartbeats of those that are there, and which connections have ended.

use tokio_postgres::{Client, Error, Statement};

use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::Batch;

/// No standby keeps requests for as long as ten minutes: its memory follows from the lease.
const DELETE: &str = "WITH gone AS (
        DELETE FROM clients WHERE client_id = ANY($1) RETURNING heartbeat_inbox
    ), forgotten AS (
        DELETE FROM closed_connections WHERE closed_at < clock_timestamp() - interval '10 minutes'
    )
    INSERT INTO closed_connections (heartbeat_inbox) SELECT heartbeat_inbox FROM gone";

const PUT: &str = "WITH new AS (
        SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::int4[], $5::int4[], $6::int4[],
            $7::int8[], $8::int8[], $9::int8[])
            AS t (client_id, connection_id, heartbeat_inbox, protocol, ping_interval, ping_max_out,
                connected_at_ns, last_heartbeat_at_ns, missed_heartbeats)
    ), replaced AS (
        INSERT INTO closed_connections (heartbeat_inbox)
        SELECT c.heartbeat_inbox FROM new JOIN clients c USING (client_id)
        WHERE c.heartbeat_inbox <> new.heartbeat_inbox
    )
    INSERT INTO clients
        (client_id, connection_id, heartbeat_inbox, protocol, ping_interval, ping_max_out,
         connected_at_ns, last_heartbeat_at_ns, missed_heartbeats)
    SELECT * FROM new
    ON CONFLICT (client_id) DO UPDATE SET
        connection_id = excluded.connection_id, heartbeat_inbox = excluded.heartbeat_inbox,
        protocol = excluded.protocol, ping_interval = excluded.ping_interval,
        ping_max_out = excluded.ping_max_out, connected_at_ns = excluded.connected_at_ns,
        last_heartbeat_at_ns = excluded.last_heartbeat_at_ns,
        missed_heartbeats = excluded.missed_heartbeats";

const SET_HEARTBEATS: &str = "UPDATE clients c
    SET last_heartbeat_at_ns = t.last_at, missed_heartbeats = t.missed
    FROM unnest($1::text[], $2::int8[], $3::int8[]) AS t (client_id, last_at, missed)
    WHERE c.client_id = t.client_id";

#[derive(Debug)]
pub(super) struct Statements {
    delete: Statement,
    put: Statement,
    set_heartbeats: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            delete: client.prepare(DELETE).await?,
            put: client.prepare(PUT).await?,
            set_heartbeats: client.prepare(SET_HEARTBEATS).await?,
        })
    }
}

#[derive(Default)]
pub(super) struct Columns<'a> {
    deleted: Vec<&'a str>,
    id: Vec<&'a str>,
    connection_id: Vec<&'a [u8]>,
    heartbeat_inbox: Vec<&'a str>,
    protocol: Vec<i32>,
    ping_interval: Vec<i32>,
    ping_max_out: Vec<i32>,
    connected_at: Vec<i64>,
    last_heartbeat_at: Vec<i64>,
    missed: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let mut columns = Self::default();
        for (id, row) in &batch.clients {
            let Some(row) = row else {
                columns.deleted.push(id.as_str());
                continue;
            };
            columns.id.push(id.as_str());
            columns.connection_id.push(&row.connection_id.0);
            columns.heartbeat_inbox.push(row.heartbeat_inbox.as_str());
            columns.protocol.push(row.protocol);
            columns.ping_interval.push(row.ping_interval);
            columns.ping_max_out.push(row.ping_max_out);
            columns.connected_at.push(row.connected_at.0);
            columns.last_heartbeat_at.push(row.heartbeat.last_at.0);
            columns.missed.push(row.heartbeat.missed.into());
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.deleted.is_empty() {
            pipeline.add(
                &statements.delete,
                vec![&self.deleted],
                "clients deleted",
                None,
            );
        }
        if !self.id.is_empty() {
            pipeline.add(
                &statements.put,
                self.parameters(),
                "clients",
                Some(self.id.len()),
            );
        }
    }

    fn parameters(&self) -> Parameters<'_> {
        vec![
            &self.id,
            &self.connection_id,
            &self.heartbeat_inbox,
            &self.protocol,
            &self.ping_interval,
            &self.ping_max_out,
            &self.connected_at,
            &self.last_heartbeat_at,
            &self.missed,
        ]
    }
}

#[derive(Default)]
pub(super) struct Heartbeats<'a> {
    client_id: Vec<&'a str>,
    last_at: Vec<i64>,
    missed: Vec<i64>,
}

impl<'a> Heartbeats<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let mut columns = Self::default();
        for (id, heartbeat) in &batch.heartbeats {
            columns.client_id.push(id.as_str());
            columns.last_at.push(heartbeat.last_at.0);
            columns.missed.push(heartbeat.missed.into());
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.client_id.is_empty() {
            let parameters: Parameters<'_> = vec![&self.client_id, &self.last_at, &self.missed];
            // Not counted: with the heartbeat of a client that somebody deleted by hand nothing is lost.
            pipeline.add(&statements.set_heartbeats, parameters, "heartbeats", None);
        }
    }
}
