//! Rows of `pending_acks`: by a read of the outbox as arrays, and all of them for a term that begins.

use std::time::Duration;

use bytestring::ByteString;

use super::error::Fault;
use super::rows::Reading;
use super::source::Line;
use crate::core::ids::{PositionId, Sequence};
use crate::core::snapshot::Snapshot;
use crate::core::sql_acks::{AckId, AckRow, Verdict};

/// What is no ack is to be delivered again after so many microseconds.
macro_rules! ack_columns {
    () => {
        "id, position_id, sequence,
        coalesce((extract(epoch FROM redeliver_after) * 1000000)::bigint, -1) AS redeliver_after,
        coalesce(reason, '') AS reason"
    };
}
pub(super) use ack_columns;

pub(super) const ALL: &str = concat!("SELECT ", ack_columns!(), " FROM pending_acks ORDER BY id");

/// Where they are arrays.
pub(super) fn of_arrays(line: &Line) -> Result<Vec<AckRow>, Fault> {
    let Some(ids) = line.get::<Option<Vec<i64>>>("ack_ids")? else {
        return Ok(Vec::new());
    };
    let positions: Vec<i64> = line.get("ack_positions")?;
    let sequences: Vec<i64> = line.get("ack_sequences")?;
    let after: Vec<i64> = line.get("ack_after")?;
    let reasons: Vec<String> = line.get("ack_reasons")?;
    let of = positions.into_iter().zip(sequences);
    let rows = ids.into_iter().zip(of).zip(after.into_iter().zip(reasons));
    let rows = rows.map(|((id, (position, sequence)), (after, reason))| AckRow {
        id: AckId(id.cast_unsigned()),
        position: PositionId(position.cast_unsigned()),
        sequence: Sequence(sequence.cast_unsigned()),
        verdict: verdict(after, &reason),
    });
    Ok(rows.collect())
}

pub(super) fn take(line: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let id: i64 = line.get("id")?;
    let row = Reading::new("pending_acks", line, id);
    snapshot.sql_acks.push(AckRow {
        id: AckId(row.number("id")?),
        position: PositionId(row.number("position_id")?),
        sequence: row.sequence("sequence")?,
        verdict: verdict(row.get("redeliver_after")?, row.get("reason")?),
    });
    Ok(())
}

fn verdict(after: i64, reason: &str) -> Verdict {
    match u64::try_from(after) {
        Ok(after) => Verdict::Refused {
            after: Duration::from_micros(after),
            reason: ByteString::from(reason),
        },
        Err(_) => Verdict::Acked,
    }
}
