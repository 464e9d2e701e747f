//! Rows of `outbox` that the batch carries out, and of `pending_acks`. The statement fails, and with it the batch, when
//! one of the outbox is gone. One of an ack may be: what it said is in the position.

use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::Pipeline;
use crate::core::batch::Batch;
use crate::core::ids::Guid;

const TAKE: &str = "SELECT take_outbox($1::int8[], $2::int8[], $3::text[], $4::text[])";

const ACKED: &str = "DELETE FROM pending_acks WHERE id = ANY($1)";

#[derive(Debug)]
pub(super) struct Statements {
    take: Statement,
    acked: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            take: client.prepare(TAKE).await?,
            acked: client.prepare(ACKED).await?,
        })
    }
}

pub(super) struct Columns<'a> {
    taken: Vec<i64>,
    refused: Vec<i64>,
    reasons: Vec<&'a str>,
    put_back: Vec<&'a str>,
    acked: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let outbox = &batch.outbox;
        let refused = &outbox.refused;
        let acked = outbox.acked.iter().map(|(_, id)| id);
        let acked = acked.chain(&outbox.acks_dropped);
        Self {
            taken: outbox.taken.iter().map(|id| int8(id.0)).collect(),
            refused: refused.iter().map(|(id, _)| int8(id.0)).collect(),
            reasons: refused.iter().map(|(_, why)| why.as_str()).collect(),
            put_back: outbox.put_back.iter().map(Guid::as_str).collect(),
            acked: acked.map(|id| int8(id.0)).collect(),
        }
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.acked.is_empty() {
            pipeline.add(&statements.acked, vec![&self.acked], "acks in SQL", None);
        }
        if self.taken.is_empty() && self.refused.is_empty() && self.put_back.is_empty() {
            return;
        }
        pipeline.add(
            &statements.take,
            vec![&self.taken, &self.refused, &self.reasons, &self.put_back],
            "outbox",
            None,
        );
    }
}
