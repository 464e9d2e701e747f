//! Dead letters, as a redrive reads them.

use bytestring::ByteString;

use super::error::Fault;
use super::load::{int8, size};
use super::rows::Reading;
use super::source::{Line, Parameter, Source};
use crate::core::ids::ChannelId;
use crate::core::load::LoadQuery;
use crate::core::policy::StoredDeadLetter;

/// The columns of letters that are there.
macro_rules! dead_letters {
    ($which:literal) => {
        concat!(
            "SELECT d.sequence, d.origin_channel, d.reply, octet_length(m.data)::bigint AS bytes
            FROM dead_letters d
            JOIN messages m ON m.channel_id = d.channel_id AND m.sequence = d.sequence
            WHERE d.channel_id = $1 AND d.sequence BETWEEN $2 AND $3 AND ",
            $which,
            " ORDER BY d.sequence LIMIT $4"
        )
    };
}

const NEW: &str = dead_letters!("d.redriven_at IS NULL");
const AGAIN: &str = dead_letters!("d.redriven_by IS DISTINCT FROM $5");

pub(super) async fn page(
    source: &mut Source<'_>,
    channel: ChannelId,
    want: &LoadQuery,
) -> Result<Vec<StoredDeadLetter>, Fault> {
    let LoadQuery::DeadLetters {
        first,
        last,
        again,
        rows,
    } = want
    else {
        return Ok(Vec::new());
    };
    let mut parameters = vec![
        Parameter::Number(int8(channel.0)),
        Parameter::Number(int8(first.0)),
        Parameter::Number(int8(last.0)),
        Parameter::Number(size(*rows)),
    ];
    let statement = if let Some(request) = again {
        parameters.push(Parameter::Number(int8(request.0)));
        AGAIN
    } else {
        NEW
    };
    let lines = source.all(statement, &parameters).await?;
    let letter = |line: &Line| {
        let key = Reading::new("dead_letters", line, channel);
        Ok(StoredDeadLetter {
            sequence: key.sequence("sequence")?,
            origin: ByteString::from(key.get::<&str>("origin_channel")?),
            reply: ByteString::from(key.get::<&str>("reply")?),
            bytes: key.number("bytes")?,
        })
    };
    lines.iter().map(letter).collect()
}
