//! Rows of `position_acks` and `position_holders`: what changed of positions with many acked ranges, and of who holds what
//! in queue groups. To Postgres' refusals they are part of the progress.

use std::fmt::Write as _;

use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::{AckedChange, Batch, HOLDERS_PAGE, PageHolders};

const PART: &str = "progress";

const CLEAR_ACKS: &str = "DELETE FROM position_acks WHERE position_id = ANY($1)";

const DELETE_ACKS: &str = "DELETE FROM position_acks p
    USING unnest($1::int8[], $2::int8[]) AS t (position_id, page)
    WHERE p.position_id = t.position_id AND p.page = t.page";

const PUT_ACKS: &str = "INSERT INTO position_acks (position_id, page, pages, bits)
    SELECT position_id, page, pages, bits
    FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::bytea[]) AS t (position_id, page, pages, bits)
    ON CONFLICT (position_id, page) DO UPDATE SET pages = excluded.pages, bits = excluded.bits";

const CLEAR_HOLDERS: &str = "DELETE FROM position_holders WHERE position_id = ANY($1)";

const DELETE_HOLDERS: &str = "DELETE FROM position_holders p
    USING unnest($1::int8[], $2::int8[]) AS t (position_id, page)
    WHERE p.position_id = t.position_id AND p.page = t.page";

const PUT_HOLDERS: &str = "INSERT INTO position_holders (position_id, page, members, held)
    SELECT position_id, page, members::int8[], held
    FROM unnest($1::int8[], $2::int8[], $3::text[], $4::bytea[]) AS t (position_id, page, members, held)
    ON CONFLICT (position_id, page) DO UPDATE SET members = excluded.members, held = excluded.held";

#[derive(Debug)]
pub(super) struct Statements {
    clear_acks: Statement,
    delete_acks: Statement,
    put_acks: Statement,
    clear_holders: Statement,
    delete_holders: Statement,
    put_holders: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            clear_acks: client.prepare(CLEAR_ACKS).await?,
            delete_acks: client.prepare(DELETE_ACKS).await?,
            put_acks: client.prepare(PUT_ACKS).await?,
            clear_holders: client.prepare(CLEAR_HOLDERS).await?,
            delete_holders: client.prepare(DELETE_HOLDERS).await?,
            put_holders: client.prepare(PUT_HOLDERS).await?,
        })
    }
}

/// Rows by their key.
#[derive(Default)]
struct Keys {
    position: Vec<i64>,
    page: Vec<i64>,
}

impl Keys {
    fn push(&mut self, position: u64, page: u64) {
        self.position.push(int8(position));
        self.page.push(int8(page));
    }

    fn len(&self) -> usize {
        self.page.len()
    }

    fn is_empty(&self) -> bool {
        self.page.is_empty()
    }
}

#[derive(Default)]
pub(super) struct Acks<'a> {
    cleared: Vec<i64>,
    gone: Keys,
    put: Keys,
    pages: Vec<i64>,
    bits: Vec<Option<&'a [u8]>>,
}

impl<'a> Acks<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let mut columns = Self {
            cleared: deleted(batch),
            ..Self::default()
        };
        for (id, change) in &batch.progress {
            let (AckedChange::Row { clears, .. } | AckedChange::Pages { clears, .. }) =
                &change.acked;
            columns.cleared.extend(clears.then_some(int8(id.0)));
            if let AckedChange::Pages { changed, gone, .. } = &change.acked {
                for page in changed {
                    columns.put.push(id.0, page.page);
                    columns.pages.push(int8(page.pages));
                    columns.bits.push(page.bits.as_deref());
                }
                for &page in gone {
                    columns.gone.push(id.0, page);
                }
            }
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.cleared.is_empty() {
            pipeline.add(&statements.clear_acks, vec![&self.cleared], PART, None);
        }
        if !self.gone.is_empty() {
            let parameters: Parameters<'_> = vec![&self.gone.position, &self.gone.page];
            pipeline.add(&statements.delete_acks, parameters, PART, None);
        }
        if !self.put.is_empty() {
            let Keys { position, page } = &self.put;
            let parameters: Parameters<'_> = vec![position, page, &self.pages, &self.bits];
            let rows = Some(self.put.len());
            pipeline.add(&statements.put_acks, parameters, PART, rows);
        }
    }
}

#[derive(Default)]
pub(super) struct Holders {
    cleared: Vec<i64>,
    gone: Keys,
    put: Keys,
    members: Vec<String>,
    held: Vec<Vec<u8>>,
}

impl Holders {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut columns = Self {
            cleared: deleted(batch),
            ..Self::default()
        };
        for (&(position, page), held) in &batch.holders {
            let Some(held) = held else {
                columns.gone.push(position.0, page);
                continue;
            };
            columns.put.push(position.0, page);
            let (members, held) = encoded(page, held);
            columns.members.push(members);
            columns.held.push(held);
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.cleared.is_empty() {
            pipeline.add(&statements.clear_holders, vec![&self.cleared], PART, None);
        }
        if !self.gone.is_empty() {
            let parameters: Parameters<'_> = vec![&self.gone.position, &self.gone.page];
            pipeline.add(&statements.delete_holders, parameters, PART, None);
        }
        if !self.put.is_empty() {
            let Keys { position, page } = &self.put;
            let parameters: Parameters<'_> = vec![position, page, &self.members, &self.held];
            let rows = Some(self.put.len());
            pipeline.add(&statements.put_holders, parameters, PART, rows);
        }
    }
}

/// Positions whose rows go.
fn deleted(batch: &Batch) -> Vec<i64> {
    let gone = batch.positions.iter().filter(|(_, row)| row.is_none());
    gone.map(|(id, _)| int8(id.0)).collect()
}

/// The members that hold something, as an array in Postgres' words, and a byte per sequence of the page: which of them.
fn encoded(page: u64, held: &PageHolders) -> (String, Vec<u8>) {
    let first = page * HOLDERS_PAGE;
    let mut members = Vec::new();
    let mut bytes = Vec::new();
    // Always as long, so that what Postgres logs of a changed page is what changed.
    bytes.resize_with(usize::try_from(HOLDERS_PAGE).unwrap_or_default(), || 0);
    for &(sequence, holder) in held {
        let place = members.iter().position(|member| *member == holder);
        let place = place.unwrap_or_else(|| {
            members.push(holder);
            members.len() - 1
        });
        let at = usize::try_from(sequence.0 - first).ok();
        if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
            *byte = u8::try_from(place + 1).unwrap_or_default();
        }
    }
    let mut text = String::from("{");
    for member in members {
        let comma = if text.len() > 1 { "," } else { "" };
        write!(text, "{comma}{member}").expect("a String takes everything");
    }
    text.push('}');
    (text, bytes)
}
