//! Reads messages one by one where Postgres finds damage among them: one lost page of a disk must not keep back the
//! messages around it.

use std::sync::Arc;

use super::encryption::Opener;
use super::error::Fault;
use super::load::{EXACTLY, int8, message, size};
use super::source::{Line, Parameter, Source};
use crate::core::ids::{ChannelId, Sequence};
use crate::core::load::{Loaded, Unreadable};
use crate::core::ranges::Ranges;

/// Reads those of `sequences`, which ascend, that are there, up to so many bytes.
pub(super) async fn messages(
    source: &mut Source<'_>,
    channel: ChannelId,
    sequences: &[Sequence],
    bytes: usize,
    opener: &mut Opener,
) -> Result<Loaded, Fault> {
    let mut messages = Vec::new();
    let mut unreadable = Vec::new();
    let mut read_bytes = 0;
    let mut through = Sequence::ZERO;
    for &sequence in sequences {
        let read = match row(source, channel, sequence).await {
            Ok(None) => None,
            Ok(Some(row)) => Some(message(channel, &row, opener)?),
            Err(fault) if fault.is_damage() => Some(Err(Unreadable {
                sequence,
                why: "Postgres finds it damaged".to_owned(),
            })),
            Err(fault) => return Err(fault),
        };
        match read {
            Some(Ok(message)) => {
                read_bytes += message.bytes();
                if read_bytes > bytes && !messages.is_empty() {
                    break;
                }
                messages.push(Arc::new(message));
            }
            Some(Err(row)) => unreadable.push(row),
            None => {}
        }
        through = sequence;
    }
    Ok(Loaded::Messages {
        messages,
        unreadable,
        through,
        gone: Ranges::default(),
    })
}

async fn row(
    source: &mut Source<'_>,
    channel: ChannelId,
    sequence: Sequence,
) -> Result<Option<Line>, Fault> {
    let parameters = [
        Parameter::Number(int8(channel.0)),
        Parameter::Number(size(usize::MAX)),
        Parameter::Numbers(vec![int8(sequence.0)]),
    ];
    // An error would be the end of the transaction, and with it of the moment that is read.
    source.execute("SAVEPOINT one").await?;
    let rows = source.all(EXACTLY, &parameters).await;
    if matches!(&rows, Err(fault) if fault.is_damage()) {
        source.execute("ROLLBACK TO one").await?;
    }
    source.execute("RELEASE one").await?;
    Ok(rows?.pop())
}
