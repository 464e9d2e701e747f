//! Reads of the outbox: one statement, which proves whose tables it sees and brings a page, so that looking every few
//! milliseconds costs little. Never on the leader session.

use bytes::Bytes;
use bytestring::ByteString;

use super::error::Fault;
use super::fence::{Fence, WrongServer, proof_columns};
use super::load::size;
use super::proven::ProvenRead;
use super::source::{Line, Parameter, Source};
use super::sql_acks::{self, ack_columns};
use crate::core::load::{LoadQuery, Loaded};
use crate::core::outbox::{OutboxId, OutboxPage, OutboxRow};
use crate::core::sql_acks::AckId;
use crate::core::time::Timestamp;

/// A row of nulls where there are none. Those that are due go first: they have waited longest. The end of a snapshot is one after the
/// last transaction that has ended, and others behind it may have begun; `age` counts from the next number to be given out.
///
/// Where it is asked for, `acks_ended_before` passes over transactions that run and hold no lock of `pending_acks`: they have acked
/// nothing, and are not about to be told that an ack of theirs counts. Those of other databases are among them. The locks are
/// read after the snapshot was taken, so a transaction that is not found there may have ended since, with an ack that the page does
/// not see: it counts as open. So does one that has ended and gives up its locks one after the other: whether it runs is
/// asked after the locks were read, which the `CASE` is for.
///
/// Numbers behind the snapshot's end that nobody holds any more are those of transactions that have ended, or of parts of one that
/// runs. They are passed over once a later one has ended, and where nobody else writes anything, that is this read itself.
const PAGE: &str = concat!(
    "WITH moment AS MATERIALIZED (
        SELECT snapshot, pg_snapshot_xmin(snapshot)::text::bigint AS ended_before, pg_snapshot_xmax(snapshot)::text::bigint AS xmax,
               pg_snapshot_xmax(snapshot)::text::bigint + age(pg_snapshot_xmax(snapshot)::xid) AS next
        FROM pg_current_snapshot() AS snapshot
    ), others AS (
        SELECT unnest(array_agg(transactionid)) AS number FROM pg_locks
        WHERE $7 AND granted
            AND (locktype = 'transactionid' AND mode = 'ExclusiveLock'
                OR locktype = 'relation' AND relation = 'pending_acks'::regclass
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
        GROUP BY virtualtransaction HAVING NOT bool_or(locktype = 'relation')
    ), open AS (
        SELECT xip::text::bigint AS number FROM moment, pg_snapshot_xip(snapshot) AS xip WHERE $7
        UNION ALL
        SELECT number FROM moment, generate_series(xmax, least(next, xmax + 1000) - 1) AS number WHERE $7
    ), acking AS (
        SELECT min(number) AS first FROM open
        WHERE CASE WHEN number::text::xid8::xid IN (SELECT number FROM others)
            THEN pg_xact_status(number::text::xid8) IS DISTINCT FROM 'in progress' ELSE true END
    ), taken AS MATERIALIZED (
        (SELECT plain.* FROM unnest($1::bigint[], $8::bigint[]) AS gap (first, last) CROSS JOIN LATERAL (
                SELECT id, guid, channel, data, reply, publisher, deliver_at
                FROM outbox WHERE deliver_at IS NULL AND id BETWEEN gap.first AND gap.last ORDER BY id LIMIT $3
            ) AS plain
            ORDER BY id LIMIT $3)
        UNION ALL
        (SELECT id, guid, channel, data, reply, publisher, deliver_at
            FROM outbox WHERE deliver_at <= 'epoch'::timestamptz + $2 * interval '1 microsecond' AND id <> ALL ($10::bigint[])
            ORDER BY deliver_at, id LIMIT $3)
    ), counted AS (
        SELECT *, row_number() OVER before AS ordinal,
               sum(200 + least(octet_length(data), $5) + octet_length(reply) + octet_length(channel)) OVER before
                   AS bytes_through,
               count(*) FILTER (WHERE deliver_at IS NULL) OVER () AS plain
        FROM taken WINDOW before AS (ORDER BY deliver_at NULLS LAST, id ROWS UNBOUNDED PRECEDING)
    ), acks AS (
        SELECT array_agg(id ORDER BY id) AS ack_ids, array_agg(position_id ORDER BY id) AS ack_positions,
               array_agg(sequence ORDER BY id) AS ack_sequences, array_agg(redeliver_after ORDER BY id) AS ack_after,
               array_agg(reason ORDER BY id) AS ack_reasons
        FROM (
            SELECT acked.* FROM unnest($6::bigint[], $9::bigint[]) AS gap (first, last) CROSS JOIN LATERAL (
                SELECT ",
    ack_columns!(),
    " FROM pending_acks WHERE id BETWEEN gap.first AND gap.last ORDER BY id LIMIT $3
            ) AS acked
            ORDER BY id LIMIT $3
        ) AS a
    )
    SELECT ",
    proof_columns!(),
    ", EXISTS (SELECT FROM outbox_used) OR NOT may_notify() AS is_used,
           (SELECT (extract(epoch FROM deliver_at) * 1000000)::bigint FROM outbox
               WHERE deliver_at > 'epoch'::timestamptz + $2 * interval '1 microsecond'
               ORDER BY deliver_at LIMIT 1) AS next_due,
           moment.ended_before, moment.next,
           CASE WHEN $7 THEN coalesce(acking.first, least(moment.next, moment.xmax + 1000)) ELSE moment.ended_before END
               AS acks_ended_before,
           CASE WHEN $7 AND coalesce(acking.first, moment.xmax + 1000) BETWEEN moment.xmax AND moment.next - 1
               THEN pg_current_xact_id()::text END AS ends_here,
           r.id, r.guid, r.channel, r.reply, r.publisher::text AS publisher, r.deliver_at IS NULL AS is_plain,
           octet_length(r.data)::bigint AS bytes, CASE WHEN octet_length(r.data) <= $5 THEN r.data END AS data,
           coalesce(r.plain, 0) AS plain, acks.*
    FROM moment CROSS JOIN acking
    LEFT JOIN counted r ON r.bytes_through <= $4 OR r.ordinal = 1
    LEFT JOIN acks ON coalesce(r.ordinal, 1) = 1
    ORDER BY r.ordinal"
);

/// What is wanted of it.
#[derive(Debug)]
pub(super) struct Page<'a>(pub(super) &'a LoadQuery);

impl ProvenRead for Page<'_> {
    type Found = Loaded;

    const WHAT: &'static str = "reading the outbox";
    const BEGINS: bool = false;

    async fn read(
        &self,
        source: &mut Source<'_>,
        fence: Fence,
    ) -> Result<Result<Loaded, WrongServer>, Fault> {
        page(source, self.0, fence).await
    }
}

async fn page(
    source: &mut Source<'_>,
    want: &LoadQuery,
    fence: Fence,
) -> Result<Result<Loaded, WrongServer>, Fault> {
    let LoadQuery::Outbox {
        gaps,
        ack_gaps,
        due,
        put_off,
        rows,
        bytes,
        payload_bytes,
        settles,
    } = want
    else {
        unreachable!("the caller asks for a page of the outbox");
    };
    let [(first, last), (first_ack, last_ack)] = [gaps, ack_gaps].map(|gaps| ends(gaps));
    let parameters = [
        first,
        Parameter::Number(due.0.div_euclid(1000)),
        Parameter::Number(size(*rows)),
        Parameter::Number(size(*bytes)),
        Parameter::Size(i32::try_from(*payload_bytes).unwrap_or(i32::MAX)),
        first_ack,
        Parameter::Flag(*settles),
        last,
        last_ack,
        Parameter::Numbers(put_off.iter().map(|id| id.0.cast_signed()).collect()),
    ];
    let lines = source.all(PAGE, &parameters).await?;
    let Some(first) = lines.first() else {
        return Err(sqlx::Error::RowNotFound.into());
    };
    if let Err(wrong_server) = fence.judge(first)? {
        return Ok(Err(wrong_server));
    }
    let number = |column| first.get::<i64>(column).map(i64::cast_unsigned);
    let next_due: Option<i64> = first.get("next_due")?;
    let mut page = OutboxPage {
        is_used: first.get("is_used")?,
        // Rounded up: at that time it is due.
        next_due: next_due.map(|at| Timestamp(at.saturating_mul(1000).saturating_add(1000))),
        ended_before: number("ended_before")?,
        next: number("next")?,
        acks_ended_before: number("acks_ended_before")?,
        acks: sql_acks::of_arrays(first)?,
        ..OutboxPage::default()
    };
    let plain: i64 = first.get("plain")?;
    let mut found = 0;
    for line in &lines {
        let Some(row) = row(line)? else {
            continue;
        };
        if line.get("is_plain")? {
            let (lowest, _) = page.now.unwrap_or((row.id, row.id));
            page.now = Some((lowest, row.id));
            found += 1;
        }
        page.rows.push(row);
    }
    // Without the last one it is not known that there are no more.
    if found < plain || plain >= size(*rows) {
        page.through = Some(page.now.map_or_else(OutboxId::default, |(_, last)| last));
    }
    page.acks_through = (page.acks.len() >= *rows)
        .then(|| page.acks.last().map_or_else(AckId::default, |row| row.id));
    Ok(Ok(Loaded::Outbox(page)))
}

/// The first numbers, and the last ones.
fn ends(gaps: &[(u64, u64)]) -> (Parameter, Parameter) {
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (first, last) = gaps.iter().map(|&(a, b)| (bound(a), bound(b))).unzip();
    (Parameter::Numbers(first), Parameter::Numbers(last))
}

fn row(line: &Line) -> Result<Option<OutboxRow>, Fault> {
    let Some(id) = line.get::<Option<i64>>("id")? else {
        return Ok(None);
    };
    let text = |column| line.get::<&str>(column).map(ByteString::from);
    let data: Option<&[u8]> = line.get("data")?;
    let bytes: i64 = line.get("bytes")?;
    Ok(Some(OutboxRow {
        id: OutboxId(id.cast_unsigned()),
        guid: text("guid")?,
        channel: text("channel")?,
        reply: text("reply")?,
        publisher: text("publisher")?,
        data: data
            .map(Bytes::copy_from_slice)
            .ok_or(bytes.cast_unsigned()),
    }))
}
