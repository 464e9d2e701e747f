//! What is noted as gone (`gone_ranges`), and holes that a channel never counted.

use super::error::Fault;
use super::identifier::quoted;
use super::load::int8;
use super::rows::{Reading, parse_multirange};
use super::source::{Line, Parameter, Source};
use crate::core::gone::GoneRange;
use crate::core::ids::{ChannelId, Sequence};
use crate::core::ranges::Ranges;
use crate::core::snapshot::Snapshot;
use crate::core::unseen::UnseenRange;

pub(super) const ALL: &str =
    "SELECT channel_id, first_sequence, last_sequence, byte_count, settled_bytes
    FROM gone_ranges ORDER BY channel_id, first_sequence";

const UNSETTLED: &str =
    "SELECT channel_id, first_sequence, last_sequence, byte_count, settled_bytes
    FROM gone_ranges WHERE byte_count <> settled_bytes ORDER BY channel_id, first_sequence";

const WITHIN: &str = "SELECT coalesce(range_agg(int8range(greatest(first_sequence, $2), least(last_sequence, $3), '[]')),
        '{}')::text AS gone
    FROM gone_ranges WHERE channel_id = $1 AND last_sequence >= $2 AND first_sequence <= $3";

const COUNT: &str =
    "SELECT count(*) AS count FROM messages WHERE channel_id = $1 AND sequence BETWEEN $2 AND $3";

const HOLES: &str = "SELECT (int8multirange(int8range($2, $3, '[]')) - coalesce(range_agg(int8range(first, last, '[]')), '{}'))::text
        AS holes
    FROM (
        SELECT min(sequence) AS first, max(sequence) AS last
        FROM (
            SELECT sequence, sequence - row_number() OVER (ORDER BY sequence) AS island
            FROM messages WHERE channel_id = $1 AND sequence BETWEEN $2 AND $3
        ) there
        GROUP BY island
    ) islands";

/// The statement by which an operator says that these messages are gone for good.
pub fn say_gone(schema: &str, range: &UnseenRange) -> String {
    let schema = quoted(schema);
    let channel = range.channel.as_str().replace('\'', "''");
    let (first, last) = (range.first, range.last);
    format!("SELECT {schema}.messages_are_gone('{channel}', {first}, {last})")
}

/// Which of these sequences of the channel are gone.
pub(super) async fn within(
    source: &mut Source<'_>,
    channel: ChannelId,
    first: Sequence,
    last: Sequence,
) -> Result<Ranges, Fault> {
    if last < first {
        return Ok(Ranges::default());
    }
    let line = source.one(WITHIN, &place(channel, first, last)).await?;
    ranges(channel, &line, "gone")
}

/// Ranges whose bytes the channel still counts.
pub(super) async fn unsettled(source: &mut Source<'_>) -> Result<Vec<GoneRange>, Fault> {
    let lines = source.all(UNSETTLED, &[]).await?;
    lines.iter().map(range).collect()
}

pub(super) fn take(line: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    snapshot.gone.push(range(line)?);
    Ok(())
}

/// Finds the holes of channels that count fewer messages than they should have.
pub(super) async fn count(source: &mut Source<'_>, snapshot: &mut Snapshot) -> Result<(), Fault> {
    for (id, first, last, count) in uncounted(snapshot) {
        if let Some(holes) = proven_holes(source, id, first, last, count).await? {
            snapshot.counted.insert(id, holes);
        }
    }
    Ok(())
}

/// Channels that count fewer messages than they have sequences which are not noted as gone: somebody has moved their
/// numbers by hand, or a server that noted nothing has left sequences out.
fn uncounted(snapshot: &Snapshot) -> Vec<(ChannelId, Sequence, Sequence, u64)> {
    let mut gone = snapshot.gone.iter().peekable();
    let mut uncounted = Vec::new();
    for (&id, row) in &snapshot.channels {
        let (first, last) = (row.first_sequence, row.last_sequence);
        let mut missing = 0;
        let mut next = first;
        while let Some(range) = gone.next_if(|range| range.channel <= id) {
            let (from, to) = (range.first.max(next), range.last.min(last));
            if range.channel == id && from <= to {
                missing += to.0 + 1 - from.0;
                next = to.next();
            }
        }
        let span = last.next().0.saturating_sub(first.0);
        if !row.deleting && row.message_count < span.saturating_sub(missing) {
            uncounted.push((id, first, last, row.message_count));
        }
    }
    uncounted
}

/// The holes of a channel that has as many messages as it counts. Counting all of them may take longer than a statement may:
/// then nothing is proven.
async fn proven_holes(
    source: &mut Source<'_>,
    id: ChannelId,
    first: Sequence,
    last: Sequence,
    count: u64,
) -> Result<Option<Ranges>, Fault> {
    source.execute("SAVEPOINT counting").await?;
    let counted = async {
        let line = source.one(COUNT, &place(id, first, last)).await?;
        let there: i64 = line.get("count")?;
        if there != int8(count) {
            return Ok(None);
        }
        let line = source.one(HOLES, &place(id, first, last)).await?;
        ranges(id, &line, "holes").map(Some)
    }
    .await;
    let undo = match &counted {
        Err(fault) if fault.is_timeout() || fault.is_damage() => true,
        Err(_) | Ok(_) => false,
    };
    if undo {
        source.execute("ROLLBACK TO counting").await?;
        source.execute("RELEASE counting").await?;
        return Ok(None);
    }
    let counted = counted?;
    source.execute("RELEASE counting").await?;
    Ok(counted)
}

fn place(channel: ChannelId, first: Sequence, last: Sequence) -> [Parameter; 3] {
    // The end of a range is one more.
    let bound = |sequence: Sequence| Parameter::Number(int8(sequence.0).min(i64::MAX - 1));
    [
        Parameter::Number(int8(channel.0)),
        bound(first),
        bound(last),
    ]
}

fn ranges(channel: ChannelId, line: &Line, column: &str) -> Result<Ranges, Fault> {
    let text: &str = line.get(column)?;
    let row = Reading::new("gone_ranges", line, channel);
    parse_multirange(text).ok_or_else(|| row.corrupt("its ranges are no ranges"))
}

fn range(line: &Line) -> Result<GoneRange, Fault> {
    let key = line.get::<i64>("first_sequence")?;
    let row = Reading::new("gone_ranges", line, key);
    Ok(GoneRange {
        channel: ChannelId(row.number("channel_id")?),
        first: row.sequence("first_sequence")?,
        last: row.sequence("last_sequence")?,
        bytes: row.number("byte_count")?,
        settled: row.number("settled_bytes")?,
    })
}
