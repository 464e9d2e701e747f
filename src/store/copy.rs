//! Messages as binary COPY, the cheapest way into a table, with a checksum of each channel.
//!
//! Postgres ends no session that stopped in the middle of a COPY, so a server never uses it: a frozen active would keep
//! the lock. An import may, because nobody serves from the tables that it fills, and each COPY carries what is in
//! memory already.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::encryption::{Sealed, Sealer};
use super::error::Error;
use super::row_hash;
use crate::core::batch::Batch;
use crate::core::ids::{ChannelId, Epoch};
use crate::core::message::Message;

pub(super) const COPY: &str = "COPY messages
    (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data, encrypted) FROM STDIN (FORMAT binary)";

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const COLUMNS: i16 = 9;

/// The size of a row beside its texts and data: the lengths of all columns, and those with a fixed length.
const ROW_BYTES: usize = 2 + 9 * 4 + 4 * 8 + 1;

/// For each channel the hashes of [`row_hash`] of all rows that were encoded, combined by exclusive or.
pub(super) type Checksums = BTreeMap<ChannelId, i64>;

/// Encodes messages for COPY. What it needs of the term is there from the begin of the import on.
#[derive(Debug, Clone, Default)]
pub struct CopyEncoder(Arc<Mutex<Option<Term>>>);

#[derive(Debug)]
struct Term {
    epoch: Epoch,
    /// Encrypts payloads, where the term has one.
    sealer: Option<Sealer>,
    checksums: Checksums,
}

/// The messages of a batch, as the data of one COPY.
#[derive(Debug)]
pub struct CopyRows {
    pub(super) bytes: Bytes,
    pub(super) count: u64,
}

impl CopyEncoder {
    pub(super) fn begin(&self, epoch: Epoch, sealer: Option<Sealer>) {
        *self.term() = Some(Term {
            epoch,
            sealer,
            checksums: Checksums::new(),
        });
    }

    /// Fails before the begin: it is not known yet whether payloads are to be encrypted.
    pub fn encode(&self, batch: &Batch) -> Result<CopyRows, Error> {
        let mut term = self.term();
        let Some(term) = &mut *term else {
            return Err(Error::Failed(
                "messages came before the import had begun".to_owned(),
            ));
        };
        let sealer = term.sealer.as_ref();
        let sealed = sealer.map(|sealer| sealer.seal(&batch.messages));
        Ok(CopyRows {
            bytes: rows(batch, term.epoch, sealed.as_ref(), &mut term.checksums),
            count: batch.messages.len() as u64,
        })
    }

    pub(super) fn checksums(&self) -> Checksums {
        let term = self.term();
        term.as_ref()
            .map(|term| term.checksums.clone())
            .unwrap_or_default()
    }

    fn term(&self) -> MutexGuard<'_, Option<Term>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `sealed` goes in place of payloads.
fn rows(batch: &Batch, epoch: Epoch, sealed: Option<&Sealed>, checksums: &mut Checksums) -> Bytes {
    let sealed: Option<Vec<&[u8]>> = sealed.map(|sealed| sealed.payloads().collect());
    let payload = |index: usize, message: &'_ Message| match &sealed {
        Some(sealed) => sealed[index].len(),
        None => message.data.len(),
    };
    let texts = batch.messages.iter().enumerate();
    let bytes = texts.map(|(index, (_, message))| {
        let texts = message.client_id.as_str().len() + message.guid.as_str().len();
        ROW_BYTES + texts + message.reply.len() + payload(index, message)
    });
    let mut rows = BytesMut::with_capacity(bytes.sum::<usize>() + 32);
    rows.put_slice(SIGNATURE);
    rows.put_u64(0);
    for (index, (channel, message)) in batch.messages.iter().enumerate() {
        let data = match &sealed {
            Some(sealed) => sealed[index],
            None => &message.data[..],
        };
        *checksums.entry(*channel).or_default() ^= row_hash::of_row(message, data);
        rows.put_i16(COLUMNS);
        for number in [
            int8(channel.0),
            int8(message.sequence.0),
            message.published_at.0,
            int8(epoch.0),
        ] {
            rows.put_i32(8);
            rows.put_i64(number);
        }
        for column in [
            message.client_id.as_str().as_bytes(),
            message.guid.as_str().as_bytes(),
            message.reply.as_bytes(),
            data,
        ] {
            // No message has 2 GiB: NATS does not take it.
            rows.put_i32(i32::try_from(column.len()).unwrap_or(i32::MAX));
            rows.put_slice(column);
        }
        rows.put_i32(1);
        rows.put_u8(u8::from(sealed.is_some()));
    }
    rows.put_i16(-1);
    rows.freeze()
}

fn int8(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
