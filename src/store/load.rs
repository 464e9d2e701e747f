//! The core's loads. All are ranges of the primary key; an answer is bounded by what the load asks for plus one
//! message.

use std::sync::Arc;

use super::dead_letters;
use super::encryption::{OVERHEAD, Opener};
use super::error::{Error, Fault};
use super::gone;
use super::policies;
use super::row_by_row;
use super::rows::Reading;
use super::source::{Line, Parameter, Source};
use crate::core::ids::{ChannelId, ClientId, Epoch, Guid, Sequence};
use crate::core::load::{Hole, Load, LoadQuery, Loaded, Oldest, Unreadable};
use crate::core::message::{self, Message};
use crate::core::ranges::Ranges;
use crate::core::time::Timestamp;
use bytes::Bytes;
use bytestring::ByteString;

/// Cuts after so many bytes of data and text, on the server: a page of large messages would otherwise cross the network
/// to be thrown away. (Lengths are known without reading what they are of.) `next` distinguishes a page that was cut from one that came to the end.
macro_rules! cut_by_bytes {
    ($wanted:literal) => {
        concat!(
            "SELECT * FROM (
                SELECT *, sum(octet_length(data) + octet_length(reply) + octet_length(guid)
                              + octet_length(client_id)) OVER before AS bytes_through,
                       lead(sequence) OVER before AS next, row_number() OVER before AS ordinal
                FROM (
                    SELECT sequence, published_at_ns, epoch, client_id, guid, reply, data, encrypted
                    FROM messages
                    WHERE channel_id = $1 AND ",
            $wanted,
            "   ) wanted
                WINDOW before AS (ORDER BY sequence ROWS UNBOUNDED PRECEDING)
            ) counted
            WHERE bytes_through <= $2 OR ordinal = 1"
        )
    };
}

const RANGE: &str = cut_by_bytes!("sequence BETWEEN $3 AND $4 ORDER BY sequence LIMIT $5");
pub(super) const EXACTLY: &str = cut_by_bytes!("sequence = ANY($3) ORDER BY sequence");

/// And the last message before it, or before the end.
const FIRST_SINCE: &str = "SELECT s.sequence, c.first_sequence AS from_there,
        coalesce(s.sequence - 1, s.newest) AS to_there,
        (SELECT m.sequence FROM messages m
            WHERE m.channel_id = $1 AND m.sequence <= coalesce(s.sequence - 1, s.newest)
            ORDER BY m.sequence DESC LIMIT 1) AS before
    FROM (SELECT first_sequence_since($1, $2) AS sequence, newest_sequence($1) AS newest) s LEFT JOIN channels c ON c.channel_id = $1";

const OLDEST: &str = "SELECT m.sequence, m.published_at_ns, octet_length(c.name) AS channel_bytes,
        octet_length(m.reply) AS reply_bytes,
        octet_length(m.data) - CASE WHEN m.encrypted THEN $4::int4 ELSE 0 END AS data_bytes
    FROM messages m JOIN channels c USING (channel_id)
    WHERE m.channel_id = $1 AND m.sequence >= $2
    ORDER BY m.sequence LIMIT $3";

/// Where a page holds rows that Postgres finds damaged, it fails with that, and [`read_row_by_row`] reads the others.
pub(super) async fn load(
    source: &mut Source<'_>,
    load: &Load,
    mut opener: Opener,
) -> Result<Loaded, Fault> {
    let channel = Parameter::Number(int8(load.channel.0));
    match &load.query {
        LoadQuery::Range {
            first,
            last,
            count,
            bytes,
        } => {
            let parameters = [
                channel,
                Parameter::Number(size(*bytes)),
                Parameter::Number(int8(first.0)),
                Parameter::Number(int8(last.0)),
                Parameter::Number(size(*count)),
            ];
            let rows = source.all(RANGE, &parameters).await?;
            let page = messages(load.channel, &rows, *last, *count, &mut opener)?;
            with_gone(source, load, page).await
        }
        LoadQuery::Exactly { sequences, bytes } => {
            let last = sequences.iter().max().copied().unwrap_or_default();
            let wanted = sequences.iter().map(|sequence| int8(sequence.0)).collect();
            let parameters = [
                channel,
                Parameter::Number(size(*bytes)),
                Parameter::Numbers(wanted),
            ];
            let rows = source.all(EXACTLY, &parameters).await?;
            let page = messages(load.channel, &rows, last, usize::MAX, &mut opener)?;
            with_gone(source, load, page).await
        }
        LoadQuery::FirstSince(since) => {
            let parameters = [channel, Parameter::Number(since.0)];
            let row = source.one(FIRST_SINCE, &parameters).await?;
            let sequence = |column| {
                let sequence: Option<i64> = row.get(column)?;
                Ok::<_, Fault>(sequence.map(|sequence| Sequence(sequence.cast_unsigned())))
            };
            let from = sequence("from_there")?.max(sequence("before")?.map(Sequence::next));
            let hole = match (from, sequence("to_there")?) {
                (Some(first), Some(last)) if first <= last => Some(Hole {
                    first,
                    last,
                    gone: gone::within(source, load.channel, first, last).await?,
                }),
                _ => None,
            };
            let first = sequence("sequence")?;
            Ok(Loaded::FirstSince { first, hole })
        }
        LoadQuery::Oldest { first, count } => {
            let parameters = [
                channel,
                Parameter::Number(int8(first.0)),
                Parameter::Number(size(*count)),
                Parameter::Size(OVERHEAD),
            ];
            let rows = source.all(OLDEST, &parameters).await?;
            let oldest = rows.iter().map(|row| oldest(load.channel, row));
            let oldest = oldest.collect::<Result<Vec<Oldest>, _>>()?;
            let end = match oldest.last() {
                Some(last) if last.sequence.next().0 == first.0 + oldest.len() as u64 => None,
                Some(last) => Some(last.sequence),
                None => Some(Sequence(u64::MAX)),
            };
            let gone = match end {
                None => Ranges::default(),
                Some(last) => gone::within(source, load.channel, *first, last).await?,
            };
            Ok(Loaded::Oldest { oldest, gone })
        }
        LoadQuery::Gone => Ok(Loaded::Gone(gone::unsettled(source).await?)),
        LoadQuery::Policies => Ok(Loaded::Policies(policies::all(source).await?)),
        LoadQuery::DeadLetters { .. } => {
            let page = dead_letters::page(source, load.channel, &load.query).await?;
            Ok(Loaded::DeadLetters(page))
        }
        LoadQuery::Outbox { .. } | LoadQuery::Requests { .. } => {
            let why = "what is asked for in SQL is not read on the leader session";
            Err(Error::Unavailable(why.to_owned()).into())
        }
    }
}

/// Where some were not found, it takes another statement, of the same moment, to tell what of that is gone.
async fn with_gone(
    source: &mut Source<'_>,
    load: &Load,
    mut page: Loaded,
) -> Result<Loaded, Fault> {
    let Loaded::Messages {
        messages,
        unreadable,
        through,
        gone,
    } = &mut page
    else {
        return Ok(page);
    };
    let found = messages.len() + unreadable.len();
    let (first, asked) = match &load.query {
        LoadQuery::Range { first, .. } => (*first, through.next().0.saturating_sub(first.0)),
        LoadQuery::Exactly { sequences, .. } => {
            let asked = sequences.iter().filter(|sequence| *sequence <= through);
            let first = sequences.iter().min().copied().unwrap_or_default();
            (first, asked.count() as u64)
        }
        LoadQuery::FirstSince(_)
        | LoadQuery::Oldest { .. }
        | LoadQuery::Gone
        | LoadQuery::Policies
        | LoadQuery::DeadLetters { .. }
        | LoadQuery::Outbox { .. }
        | LoadQuery::Requests { .. } => {
            return Ok(page);
        }
    };
    if found as u64 != asked {
        *gone = gone::within(source, load.channel, first, *through).await?;
    }
    Ok(page)
}

/// The rows of a page one by one, in another transaction than the one that has failed.
pub(super) async fn read_row_by_row(
    source: &mut Source<'_>,
    load: &Load,
    mut opener: Opener,
) -> Result<Loaded, Fault> {
    let (sequences, bytes) = match &load.query {
        LoadQuery::Range {
            first,
            last,
            count,
            bytes,
        } => {
            let all = (first.0..=last.0).map(Sequence);
            (all.take(*count).collect(), *bytes)
        }
        LoadQuery::Exactly { sequences, bytes } => (sequences.clone(), *bytes),
        LoadQuery::FirstSince(_)
        | LoadQuery::Oldest { .. }
        | LoadQuery::Gone
        | LoadQuery::Policies
        | LoadQuery::DeadLetters { .. }
        | LoadQuery::Outbox { .. }
        | LoadQuery::Requests { .. } => {
            return self::load(source, load, opener).await;
        }
    };
    let page = row_by_row::messages(source, load.channel, &sequences, bytes, &mut opener).await?;
    with_gone(source, load, page).await
}

fn messages(
    channel: ChannelId,
    rows: &[Line],
    last: Sequence,
    count: usize,
    opener: &mut Opener,
) -> Result<Loaded, Fault> {
    let mut messages = Vec::new();
    let mut unreadable = Vec::new();
    let mut last_read = None;
    let mut was_cut = false;
    for row in rows {
        let next: Option<i64> = row.get("next")?;
        was_cut = next.is_some();
        last_read = Some(reading(channel, row)?.sequence("sequence")?);
        match message(channel, row, opener)? {
            Ok(message) => messages.push(Arc::new(message)),
            Err(row) => unreadable.push(row),
        }
    }
    was_cut |= messages.len() + unreadable.len() >= count;
    Ok(Loaded::Messages {
        messages,
        unreadable,
        through: last_read.filter(|_| was_cut).unwrap_or(last),
        gone: Ranges::default(),
    })
}

/// The inner error is a row that no server wrote like this.
pub(super) fn message(
    channel: ChannelId,
    row: &Line,
    opener: &mut Opener,
) -> Result<Result<Message, Unreadable>, Fault> {
    match checked_message(channel, row, opener) {
        Ok(message) => Ok(Ok(message)),
        Err(Fault::Store(Error::Corrupt { why, .. })) => Ok(Err(Unreadable {
            sequence: reading(channel, row)?.sequence("sequence")?,
            why,
        })),
        Err(fault) => Err(fault),
    }
}

fn checked_message(channel: ChannelId, row: &Line, opener: &mut Opener) -> Result<Message, Fault> {
    let row = reading(channel, row)?;
    let mut message = Message {
        sequence: row.sequence("sequence")?,
        published_at: Timestamp(row.get("published_at_ns")?),
        client_id: row.text("client_id", ClientId::parse)?,
        guid: row.text("guid", Guid::parse)?,
        reply: ByteString::from(row.get::<&str>("reply")?),
        data: Bytes::new(),
    };
    let data: &[u8] = row.get("data")?;
    message.data = if row.get("encrypted")? {
        let epoch = Epoch(row.number("epoch")?);
        let opened = opener.open(epoch, channel, &message, data);
        opened.map_err(|why| row.corrupt(why.to_string()))?
    } else {
        Bytes::copy_from_slice(data)
    };
    Ok(message)
}

fn oldest(channel: ChannelId, row: &Line) -> Result<Oldest, Fault> {
    let row = reading(channel, row)?;
    let sequence = row.sequence("sequence")?;
    let published_at = Timestamp(row.get("published_at_ns")?);
    let bytes = |column| {
        let bytes: i32 = row.get(column)?;
        usize::try_from(bytes).map_err(|_| row.corrupt("a negative length"))
    };
    let size = message::encoded_size(
        sequence,
        published_at,
        bytes("channel_bytes")?,
        bytes("reply_bytes")?,
        bytes("data_bytes")?,
    );
    Ok(Oldest {
        sequence,
        published_at,
        size,
    })
}

fn reading(channel: ChannelId, row: &Line) -> Result<Reading<'_>, Fault> {
    let sequence: i64 = row.get("sequence")?;
    Ok(Reading::new(
        "messages",
        row,
        format_args!("({channel}, {sequence})"),
    ))
}

// What a bigint cannot hold is past every row.
pub(super) fn int8(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn size(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
