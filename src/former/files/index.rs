//! Entries of `msgs.N.idx`, which says what a slice of messages holds.

use std::io::BufRead;

use super::checksum::Checksum;
use super::records::{RecordError, fill, version};

pub const ENTRY_BYTES: usize = 32;

/// What limits count of a message beside its record: the frame and the entry.
pub const OVERHEAD_BYTES: u64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub sequence: u64,
    /// The offset of the record in the other file, in bytes.
    pub at: u64,
    /// In nanoseconds since 1970.
    pub timestamp: i64,
    /// The size of the record's payload, in bytes.
    pub size: u32,
}

impl Entry {
    /// As `max_bytes` of the former server counts the message.
    pub fn counted_bytes(&self) -> u64 {
        u64::from(self.size) + OVERHEAD_BYTES
    }
}

/// Reads one after the other. An entry's worth of zero bytes ends the file.
#[derive(Debug)]
pub struct Index<'a, R> {
    source: R,
    checksum: &'a Checksum,
}

/// The index is of no use.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable;

impl<'a, R: BufRead> Index<'a, R> {
    pub fn open(mut source: R, checksum: &'a Checksum) -> Result<Self, RecordError> {
        version(&mut source)?;
        Ok(Self { source, checksum })
    }

    pub fn read_next(&mut self) -> Result<Option<Entry>, Unusable> {
        let mut entry = [0; ENTRY_BYTES];
        let filled = fill(&mut self.source, &mut entry).map_err(|_| Unusable)?;
        match filled {
            0 => return Ok(None),
            ENTRY_BYTES if entry == [0; ENTRY_BYTES] => return Ok(None),
            ENTRY_BYTES => {}
            _ => return Err(Unusable),
        }
        let (body, expected) = entry.split_last_chunk::<4>().ok_or(Unusable)?;
        if self.checksum.of(body) != u32::from_le_bytes(*expected) {
            return Err(Unusable);
        }
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&body[at..at + 8]);
            u64::from_le_bytes(number)
        };
        let mut size = [0; 4];
        size.copy_from_slice(&body[24..]);
        Ok(Some(Entry {
            sequence: number(0),
            at: number(8),
            timestamp: number(16).cast_signed(),
            size: u32::from_le_bytes(size),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::former::files::checksum::IEEE;

    #[test]
    fn an_entry_is_read_and_any_bit_that_is_wrong_is_noticed() {
        let vector = "01000000010000000000000004000000000000000000a0d88557341618000000338ce0d1";
        let file = data_encoding::HEXLOWER.decode(vector.as_bytes()).unwrap();
        let checksum = Checksum::new(IEEE);
        let mut index = Index::open(&file[..], &checksum).unwrap();
        let entry = Entry {
            sequence: 1,
            at: 4,
            timestamp: 1_600_000_000_000_000_000,
            size: 24,
        };
        assert_eq!(index.read_next(), Ok(Some(entry)));
        assert_eq!(index.read_next(), Ok(None));
        assert_eq!(entry.counted_bytes(), 64);

        for bit in 32..file.len() * 8 {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            let mut index = Index::open(&file[..], &checksum).unwrap();
            assert_eq!(index.read_next(), Err(Unusable), "{bit}");
        }
        for length in 5..file.len() {
            let mut index = Index::open(&file[..length], &checksum).unwrap();
            assert_eq!(index.read_next(), Err(Unusable), "{length}");
        }
        let padded = [&file[..], &[0; 40]].concat();
        let mut index = Index::open(&padded[..], &checksum).unwrap();
        assert_eq!(index.read_next(), Ok(Some(entry)));
        assert_eq!(index.read_next(), Ok(None));
    }
}
