//! The core's loads. All are ranges of the primary key; an answer is bounded by what the load asks for plus one
//! message.

use std::sync::Arc;

use super::encryption::{OVERHEAD, Opener};
use super::error::{Error, Fault};
use super::rows::Reading;
use super::salvage;
use super::source::{Line, Parameter, Source};
use crate::core::ids::{ChannelId, ClientId, Epoch, Guid, Sequence};
use crate::core::load::{Load, Loaded, Oldest, Unreadable, Want};
use crate::core::message::{self, Message};
use crate::core::time::Timestamp;
use bytes::Bytes;
use bytestring::ByteString;

/// Cuts after so many bytes of data and text, on the server: a page of large messages would otherwise cross the network
/// to be thrown away. (Lengths are known without reading what they are of.) `next` tells a page that was cut from one that came to the end.
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

const FIRST_SINCE: &str = "SELECT first_sequence_since($1, $2) AS sequence";

const OLDEST: &str = "SELECT m.sequence, m.published_at_ns, octet_length(c.name) AS channel_bytes,
        octet_length(m.reply) AS reply_bytes,
        octet_length(m.data) - CASE WHEN m.encrypted THEN $4::int4 ELSE 0 END AS data_bytes
    FROM messages m JOIN channels c USING (channel_id)
    WHERE m.channel_id = $1 AND m.sequence >= $2
    ORDER BY m.sequence LIMIT $3";

/// Where a page holds rows that Postgres finds damaged, it fails with that, and [`salvaged`] reads the others.
pub(super) async fn load(
    source: &mut Source<'_>,
    load: &Load,
    mut opener: Opener,
) -> Result<Loaded, Fault> {
    let channel = Parameter::Number(int8(load.channel.0));
    match &load.want {
        Want::Range {
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
            messages(load.channel, &rows, *last, *count, &mut opener)
        }
        Want::Exactly { sequences, bytes } => {
            let last = sequences.iter().max().copied().unwrap_or_default();
            let wanted = sequences.iter().map(|sequence| int8(sequence.0)).collect();
            let parameters = [
                channel,
                Parameter::Number(size(*bytes)),
                Parameter::Numbers(wanted),
            ];
            let rows = source.all(EXACTLY, &parameters).await?;
            messages(load.channel, &rows, last, usize::MAX, &mut opener)
        }
        Want::FirstSince(since) => {
            let parameters = [channel, Parameter::Number(since.0)];
            let row = source.one(FIRST_SINCE, &parameters).await?;
            let found: Option<i64> = row.get("sequence")?;
            Ok(Loaded::FirstSince(
                found.map(|sequence| Sequence(sequence.cast_unsigned())),
            ))
        }
        Want::Oldest { first, count } => {
            let parameters = [
                channel,
                Parameter::Number(int8(first.0)),
                Parameter::Number(size(*count)),
                Parameter::Size(OVERHEAD),
            ];
            let rows = source.all(OLDEST, &parameters).await?;
            let oldest = rows.iter().map(|row| oldest(load.channel, row));
            Ok(Loaded::Oldest(oldest.collect::<Result<_, _>>()?))
        }
    }
}

/// The rows of a page one by one, in another transaction than the one that has failed.
pub(super) async fn salvaged(
    source: &mut Source<'_>,
    load: &Load,
    mut opener: Opener,
) -> Result<Loaded, Fault> {
    let (sequences, bytes) = match &load.want {
        Want::Range {
            first,
            last,
            count,
            bytes,
        } => {
            let all = (first.0..=last.0).map(Sequence);
            (all.take(*count).collect(), *bytes)
        }
        Want::Exactly { sequences, bytes } => (sequences.clone(), *bytes),
        Want::FirstSince(_) | Want::Oldest { .. } => return self::load(source, load, opener).await,
    };
    salvage::messages(source, load.channel, &sequences, bytes, &mut opener).await
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
        Err(Fault::Told(Error::Corrupt { why, .. })) => Ok(Err(Unreadable {
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
        opened.map_err(|why| row.corrupt(why))?
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
