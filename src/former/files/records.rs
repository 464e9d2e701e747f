//! The frame of all files but indexes: a version, then records of a header, a checksum and a payload.

use std::io::{self, BufRead, Read as _};

use bytes::Bytes;

use super::checksum::Checksum;

/// The only one that there is.
pub const VERSION: u32 = 1;

/// The size of the version, which stands before the first record.
pub const VERSION_BYTES: u64 = 4;

/// The size of the header and the checksum before each payload.
pub const HEADER_BYTES: u64 = 8;

/// A payload has so many bits of a header that has a type, too.
const TYPED_LENGTH_BITS: u32 = 24;

/// Payloads are read in steps, so that a length that is nonsense costs nothing.
const STEP_BYTES: u64 = 1 << 16;

/// Records that a damaged length hides are looked for in so much of what follows it.
const SEARCHED_BYTES_MAX: usize = 1 << 20;

/// So many bytes are checked meanwhile, whatever they look like.
const CHECKED_BYTES_MAX: usize = 256 << 20;

/// The largest type of a record, in any file.
const KINDS_MAX: u8 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Zero where records have no type.
    pub kind: u8,
    /// Counts from 1.
    pub number: u64,
    /// Where it begins in the file.
    pub at: u64,
    pub payload: Bytes,
}

impl Record {
    /// What it takes in the file.
    pub fn bytes(&self) -> u64 {
        HEADER_BYTES + self.payload.len() as u64
    }
}

/// Why a record cannot be had.
#[derive(Debug)]
pub enum RecordError {
    /// The file is shorter than the version.
    NoVersion,
    Version(u32),
    /// The file ends within it.
    Cut {
        number: u64,
        at: u64,
    },
    /// The next one may be good.
    Checksum {
        record: Record,
        expected: u32,
        found: u32,
    },
    Io(io::Error),
    /// In the index beside the file.
    OfIndex(Box<RecordError>),
}

impl RecordError {
    #[must_use]
    pub fn of_index(self) -> Self {
        Self::OfIndex(Box::new(self))
    }

    /// As the end of a sentence about the file.
    pub fn sentence(&self) -> String {
        match self {
            Self::NoVersion => "it is empty, or cut within its version".to_owned(),
            Self::Version(version) => format!(
                "it says version {version}, and only version {VERSION} is known; it was written by a newer server than \
                 0.25.6, or it is not one of its files"
            ),
            Self::Cut { number, at } => {
                format!("record {number} at byte {at} is cut: the file ends within it")
            }
            Self::Checksum {
                record,
                expected,
                found,
            } => format!(
                "record {} at byte {} (type {}, {} bytes) is damaged: its checksum is {found:08x} and should be \
                 {expected:08x}",
                record.number,
                record.at,
                record.kind,
                record.payload.len()
            ),
            Self::Io(error) => format!("it cannot be read: {error}"),
            Self::OfIndex(error) => format!("its index: {}", error.sentence()),
        }
    }
}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads one after the other. Eight zero bytes in place of a record end the file.
#[derive(Debug)]
pub struct Records<'a, R> {
    source: R,
    checksum: &'a Checksum,
    is_typed: bool,
    number: u64,
    at: u64,
    is_over: bool,
    /// What there was of a payload that was cut.
    rest: Vec<u8>,
}

impl<'a, R: BufRead> Records<'a, R> {
    pub fn typed(source: R, checksum: &'a Checksum) -> Result<Self, RecordError> {
        Self::open(source, checksum, true)
    }

    pub fn untyped(source: R, checksum: &'a Checksum) -> Result<Self, RecordError> {
        Self::open(source, checksum, false)
    }

    fn open(mut source: R, checksum: &'a Checksum, is_typed: bool) -> Result<Self, RecordError> {
        version(&mut source)?;
        Ok(Self {
            source,
            checksum,
            is_typed,
            number: 0,
            at: VERSION_BYTES,
            is_over: false,
            rest: Vec::new(),
        })
    }

    /// `None` at the end. After a checksum that is wrong the next record follows; after another flaw nothing does.
    pub fn read_next(&mut self) -> Result<Option<Record>, RecordError> {
        if self.is_over {
            return Ok(None);
        }
        let read = self.read();
        self.is_over = !matches!(read, Ok(Some(_)) | Err(RecordError::Checksum { .. }));
        read
    }

    fn read(&mut self) -> Result<Option<Record>, RecordError> {
        let mut header = [0; 8];
        let (number, at) = (self.number + 1, self.at);
        match fill(&mut self.source, &mut header)? {
            0 => return Ok(None),
            8 => {}
            _ => return Err(RecordError::Cut { number, at }),
        }
        let (length, checksum) = header_of(header);
        if length == 0 && checksum == 0 {
            return Ok(None);
        }
        let (kind, length) = self.parts_of(length);
        let payload = up_to(&mut self.source, length.into())?;
        if (payload.len() as u64) < u64::from(length) {
            self.rest = payload;
            return Err(RecordError::Cut { number, at });
        }
        let record = Record {
            kind,
            number,
            at,
            payload: payload.into(),
        };
        self.number = number;
        self.at += record.bytes();
        check(record, checksum, self.checksum).map(Some)
    }

    /// After a cut: whether a whole record follows, which no crash leaves behind one that is cut. Its length is damaged, then.
    pub fn hides_records(&self) -> bool {
        let rest = &self.rest[..self.rest.len().min(SEARCHED_BYTES_MAX)];
        let mut checked = 0;
        for at in 0..rest.len() {
            let Some((header, behind)) = rest[at..].split_first_chunk() else {
                return false;
            };
            let (length, expected) = header_of(*header);
            let (kind, length) = self.parts_of(length);
            let payload = usize::try_from(length).ok().and_then(|it| behind.get(..it));
            let Some(payload) = payload.filter(|it| !it.is_empty() && kind <= KINDS_MAX) else {
                continue;
            };
            checked += payload.len();
            if checked > CHECKED_BYTES_MAX {
                return false;
            }
            if self.checksum.of(payload) == expected {
                return true;
            }
        }
        false
    }

    fn parts_of(&self, length: u32) -> (u8, u32) {
        if self.is_typed {
            let [.., kind] = length.to_le_bytes();
            (kind, length & ((1 << TYPED_LENGTH_BITS) - 1))
        } else {
            (0, length)
        }
    }

    /// True when not one byte follows.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.source.fill_buf()?.is_empty())
    }
}

/// Reads the version, which is all that files of any kind have in common.
pub fn version(source: &mut impl BufRead) -> Result<(), RecordError> {
    let mut version = [0; 4];
    if fill(source, &mut version)? < version.len() {
        return Err(RecordError::NoVersion);
    }
    match u32::from_le_bytes(version) {
        VERSION => Ok(()),
        other => Err(RecordError::Version(other)),
    }
}

pub(super) fn header_of(header: [u8; 8]) -> (u32, u32) {
    let both = u64::from_le_bytes(header);
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    (half(both), half(both >> 32))
}

pub(super) fn check(
    record: Record,
    expected: u32,
    checksum: &Checksum,
) -> Result<Record, RecordError> {
    let found = checksum.of(&record.payload);
    if found == expected {
        Ok(record)
    } else {
        Err(RecordError::Checksum {
            record,
            expected,
            found,
        })
    }
}

/// `None` when there are fewer.
pub(super) fn payload(source: &mut impl BufRead, length: u64) -> io::Result<Option<Bytes>> {
    let payload = up_to(source, length)?;
    Ok((payload.len() as u64 == length).then(|| payload.into()))
}

fn up_to(source: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(usize::try_from(length.min(STEP_BYTES)).unwrap_or(0));
    source.take(length).read_to_end(&mut read)?;
    Ok(read)
}

/// How many bytes there were.
pub(super) fn fill(source: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::former::files::checksum::IEEE;

    fn bytes(hex: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    /// A slice with one message, as a real server wrote it.
    const SLICE: &str = "01000000180000006284c22808011203666f6f220568656c6c6f28808080c5ddf0959a16";

    #[test]
    fn a_record_is_read_and_zero_bytes_end_the_file() {
        let checksum = Checksum::new(IEEE);
        for padding in [0, 8, 20] {
            let file = [bytes(SLICE), vec![0; padding]].concat();
            let mut records = Records::untyped(&file[..], &checksum).unwrap();
            let record = records.read_next().unwrap().unwrap();
            assert_eq!((record.number, record.at, record.bytes()), (1, 4, 32));
            assert_eq!(record.payload, bytes(SLICE)[12..]);
            assert!(records.read_next().unwrap().is_none(), "{padding}");
            assert!(records.read_next().unwrap().is_none());
        }
    }

    #[test]
    fn a_type_stands_above_the_length() {
        let record =
            "080112026d6522085f494e424f582e312a085f494e424f582e32308008381e420364757248075001";
        let file = bytes(&format!("01000000280000016434aa32{record}"));
        let checksum = Checksum::new(IEEE);
        let mut records = Records::typed(&file[..], &checksum).unwrap();
        let read = records.read_next().unwrap().unwrap();
        assert_eq!((read.kind, read.payload), (1, bytes(record).into()));
    }

    #[test]
    fn every_cut_is_told_and_nothing_is_read_behind_it() {
        let checksum = Checksum::new(IEEE);
        let file = bytes(SLICE);
        for length in 0..file.len() {
            let read = Records::untyped(&file[..length], &checksum);
            match read {
                Err(error) => assert!(length < 4 && matches!(error, RecordError::NoVersion)),
                Ok(mut records) if length == 4 => assert!(records.read_next().unwrap().is_none()),
                Ok(mut records) => {
                    let error = records.read_next().unwrap_err();
                    assert!(
                        matches!(error, RecordError::Cut { number: 1, at: 4 }),
                        "{length}: {error:?}"
                    );
                    assert!(records.read_next().unwrap().is_none());
                }
            }
        }
    }

    #[test]
    fn a_length_that_is_damaged_is_told_from_a_cut() {
        let checksum = Checksum::new(IEEE);
        let record = bytes(&SLICE[8..]);
        let file = [bytes(SLICE), record.clone(), record].concat();
        let hides = |file: &[u8]| {
            let mut records = Records::untyped(file, &checksum).unwrap();
            while let Ok(Some(_)) = records.read_next() {}
            records.hides_records()
        };
        for length in 4..=file.len() {
            assert!(!hides(&file[..length]), "{length}");
        }
        for (byte, is_hiding) in [(5, true), (7, true), (37, true), (69, false)] {
            let mut damaged = file.clone();
            damaged[byte] ^= 1;
            assert_eq!(hides(&damaged), is_hiding, "{byte}");
        }
    }

    #[test]
    fn what_follows_a_damaged_record_is_read() {
        let checksum = Checksum::new(IEEE);
        let mut file = [bytes(SLICE), bytes(&SLICE[8..])].concat();
        file[20] ^= 1;
        let mut records = Records::untyped(&file[..], &checksum).unwrap();
        assert!(matches!(
            records.read_next(),
            Err(RecordError::Checksum { .. })
        ));
        let record = records.read_next().unwrap().unwrap();
        assert_eq!((record.number, record.at), (2, 36));

        file[0] = 2;
        let refused = Records::untyped(&file[..], &checksum).unwrap_err();
        assert!(refused.sentence().contains("version 2"));
    }
}
