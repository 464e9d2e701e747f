//! Rows of `outbox` that the batch carries out. The statement fails, and with it the batch, when one of them is gone.

use tokio_postgres::{Client, Error, Statement};

use super::flight::Flight;
use super::int8;
use crate::core::batch::Batch;
use crate::core::ids::Guid;

const TAKE: &str = "SELECT take_outbox($1::int8[], $2::int8[], $3::text[], $4::text[])";

#[derive(Debug)]
pub(super) struct Statements {
    take: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            take: client.prepare(TAKE).await?,
        })
    }
}

pub(super) struct Columns<'a> {
    taken: Vec<i64>,
    refused: Vec<i64>,
    reasons: Vec<&'a str>,
    put_back: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let outbox = &batch.outbox;
        let refused = &outbox.refused;
        Self {
            taken: outbox.taken.iter().map(|id| int8(id.0)).collect(),
            refused: refused.iter().map(|(id, _)| int8(id.0)).collect(),
            reasons: refused.iter().map(|(_, why)| why.as_str()).collect(),
            put_back: outbox.put_back.iter().map(Guid::as_str).collect(),
        }
    }

    pub(super) fn board<'f>(&'f self, flight: &mut Flight<'f>, statements: &'f Statements) {
        if self.taken.is_empty() && self.refused.is_empty() && self.put_back.is_empty() {
            return;
        }
        flight.add(
            &statements.take,
            vec![&self.taken, &self.refused, &self.reasons, &self.put_back],
            "outbox",
            None,
        );
    }
}
