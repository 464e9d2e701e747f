//! A slice of a channel's messages: `msgs.N.dat` with the records, `msgs.N.idx` with an entry for each.
//!
//! The index decides what the slice holds. After a crash there may be records behind those that it lists, whole ones
//! or torn: their publishers never had an ack, later records stand behind them, and a sequence may stand twice. Only where
//! the index is missing or wrong are the records themselves listed, and the later one of a sequence counts.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;

use super::checksum::Checksum;
use super::index::{Entry, Index};
use super::records::{
    Record, RecordError, Records, VERSION_BYTES, check, fill, header_of, payload,
};
use crate::protocol::client::delivery;

const BUFFER_BYTES: usize = 1 << 18;

/// After so many damaged records in a row the place of the next one is not believed any more.
const DAMAGED_IN_A_ROW_MAX: u32 = 3;

/// Where the two files come from. Each is opened several times.
pub trait SliceFiles {
    type Source: Read + Seek;

    fn records(&self) -> io::Result<Self::Source>;

    /// `None` when there is none.
    fn index(&self) -> io::Result<Option<Self::Source>>;
}

/// What is wrong with a slice, or only remarkable; the caller names the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing whose storing was ever acknowledged.
    Cut(String),
    /// With what is lost if it is left out.
    Damage(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub count: u64,
    /// As the former server's limits count them.
    pub bytes: u64,
    /// Zero when there is no message.
    pub first: u64,
    pub last: u64,
}

impl Extent {
    pub fn add(&mut self, entry: &Entry) {
        if self.count == 0 {
            self.first = entry.sequence;
        }
        self.last = entry.sequence;
        self.count += 1;
        self.bytes += entry.counted_bytes();
    }

    /// Adds a slice that follows this one.
    pub fn join(&mut self, next: Self) {
        if next.count == 0 {
            return;
        }
        if self.count == 0 {
            self.first = next.first;
        }
        self.last = next.last;
        self.count += next.count;
        self.bytes += next.bytes;
    }
}

#[derive(Debug)]
pub struct Slice<F> {
    files: F,
    by: By,
    extent: Extent,
}

/// What says which records are messages of the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Index,
    /// The index, as far as its records are there.
    Both,
    Records,
}

impl<F: SliceFiles> Slice<F> {
    /// Looks at both files and reads no message that the index lists, but the last.
    pub fn examine(
        files: F,
        checksum: &Checksum,
        found: &mut dyn FnMut(Finding),
    ) -> Result<Self, RecordError> {
        let listed = listed(&files, checksum)?;
        let mut slice = Self {
            files,
            by: listed.by,
            extent: listed.extent,
        };
        if listed.by == By::Index {
            return Ok(slice);
        }
        slice.extent = Extent::default();
        let entries = slice.scan(checksum, found)?;
        for entry in &entries {
            slice.extent.add(entry);
        }
        if listed.by == By::Both {
            let there: BTreeSet<u64> = entries.iter().map(|entry| entry.at).collect();
            let mut gone = Extent::default();
            slice.indexed(checksum, &mut |entry| {
                if !there.contains(&entry.at) {
                    gone.add(&entry);
                }
                true
            })?;
            if gone.count > 0 {
                let lost = if gone.first == gone.last {
                    format!("message {}", gone.first)
                } else {
                    format!("{} of messages {} to {}", gone.count, gone.first, gone.last)
                };
                found(Finding::Damage(format!(
                    "its index lists messages whose records are not there: is the copy complete? Lost: {lost}"
                )));
            }
        } else if listed.extent.last > slice.extent.last {
            found(Finding::Damage(format!(
                "its index lists messages up to {}, and it ends with message {}: is the copy complete? What comes after \
                 that is lost",
                listed.extent.last, slice.extent.last
            )));
        }
        Ok(slice)
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The index alone says what there is.
    pub fn is_indexed(&self) -> bool {
        self.by == By::Index
    }

    pub fn files(&self) -> &F {
        &self.files
    }

    /// What stands before `end` only: a later slice has the rest again.
    pub fn cut_off(&mut self, end: u64, checksum: &Checksum) -> Result<(), RecordError> {
        if self.extent.last < end {
            return Ok(());
        }
        let mut extent = Extent::default();
        self.entries(0..end, checksum, &mut |entry| {
            extent.add(&entry);
            true
        })?;
        self.extent = extent;
        Ok(())
    }

    /// In the order of sequences, until `each` says that it has enough.
    pub fn entries(
        &self,
        sequences: Range<u64>,
        checksum: &Checksum,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), RecordError> {
        let wanted = |entry: &Entry| sequences.contains(&entry.sequence);
        if self.by != By::Index {
            // What is wrong with them was reported at the first reading.
            let entries = self.scan(checksum, &mut |_| {})?;
            entries.into_iter().filter(wanted).all(each);
            return Ok(());
        }
        self.indexed(checksum, &mut |entry| !wanted(&entry) || each(entry))
    }

    fn indexed(
        &self,
        checksum: &Checksum,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), RecordError> {
        let of_index = |error: io::Error| RecordError::from(error).of_index();
        let source = self.files.index().map_err(of_index)?;
        let source = source.ok_or_else(|| of_index(io::ErrorKind::NotFound.into()))?;
        let mut index = Index::open(buffered(source), checksum).map_err(RecordError::of_index)?;
        let changed = |_| of_index(io::Error::other("it has changed while it was read"));
        while let Some(entry) = index.read_next().map_err(changed)? {
            if !each(entry) {
                break;
            }
        }
        Ok(())
    }

    /// Sequences and payloads, in the order of sequences. The error of `each` ends it.
    pub fn messages<E: From<RecordError>>(
        &self,
        sequences: Range<u64>,
        checksum: &Checksum,
        each: &mut dyn FnMut(u64, Result<Bytes, RecordError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let opened = self.files.records().map_err(RecordError::from)?;
        let mut data = Data::new(opened);
        let mut ended = Ok(());
        let mut number = 0;
        self.entries(sequences, checksum, &mut |entry| {
            number += 1;
            let read = data.record(&entry, number, checksum);
            ended = each(entry.sequence, read.map(|record| record.payload));
            ended.is_ok()
        })?;
        ended
    }

    /// Lists the records themselves. Takes memory for each message of this slice.
    fn scan(
        &self,
        checksum: &Checksum,
        found: &mut dyn FnMut(Finding),
    ) -> Result<Vec<Entry>, RecordError> {
        let source = buffered(self.files.records()?);
        let mut entries: Vec<Entry> = Vec::new();
        let mut records = match Records::untyped(source, checksum) {
            Err(error @ RecordError::NoVersion) => {
                // What an index lists of it is reported beside the index.
                if self.by == By::Records {
                    found(Finding::Damage(format!(
                        "{}: is the copy complete? nats-streaming-server does not start with it, either; what it held, if \
                         anything, is lost",
                        error.sentence()
                    )));
                }
                return Ok(entries);
            }
            opened => opened?,
        };
        let mut damaged = 0;
        loop {
            match records.read_next() {
                Ok(None) => break,
                Ok(Some(record)) => {
                    damaged = 0;
                    match entry(&record) {
                        Some(entry) => entries.push(entry),
                        None => found(Finding::Damage(format!(
                            "record {} at byte {} is no message; nothing else is known of it",
                            record.number, record.at
                        ))),
                    }
                }
                Err(RecordError::Checksum { .. }) if damaged == DAMAGED_IN_A_ROW_MAX => {
                    found(Finding::Damage(
                        "what follows cannot be read either, up to its end; all of it is lost"
                            .to_owned(),
                    ));
                    break;
                }
                Err(error @ RecordError::Checksum { .. }) => {
                    damaged += 1;
                    let after = entries.last().map_or(0, |entry| entry.sequence);
                    found(Finding::Damage(format!(
                        "{}; the message after {after} is lost",
                        error.sentence()
                    )));
                }
                Err(error @ RecordError::Cut { .. }) if records.hides_records() => {
                    let after = entries.last().map_or(0, |entry| entry.sequence);
                    found(Finding::Damage(format!(
                        "{}, but whole records follow: its length is damaged; what follows message {after} is lost",
                        error.sentence()
                    )));
                    break;
                }
                Err(error @ RecordError::Cut { .. }) => {
                    let after = entries.last().map_or(0, |entry| entry.sequence);
                    found(Finding::Cut(format!(
                        "{}; nothing of it is taken, the last message is {after}",
                        error.sentence()
                    )));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if self.by == By::Both {
            // What a crash left beside them was never acked.
            let mut places = BTreeSet::new();
            self.indexed(checksum, &mut |entry| places.insert(entry.at))?;
            entries.retain(|entry| places.contains(&entry.at));
        }
        // Stable: of a sequence the later one comes last, and that one counts.
        entries.sort_by_key(|entry| entry.sequence);
        entries.reverse();
        entries.dedup_by_key(|entry| entry.sequence);
        entries.reverse();
        Ok(entries)
    }
}

struct Listed {
    by: By,
    /// The extent of the entries up to the first that is wrong.
    extent: Extent,
}

/// What the index says, and whether the former server would believe it.
fn listed<F: SliceFiles>(files: &F, checksum: &Checksum) -> Result<Listed, RecordError> {
    let mut listed = Listed {
        by: By::Records,
        extent: Extent::default(),
    };
    let source = files.index();
    let Some(source) = source.map_err(|error| RecordError::from(error).of_index())? else {
        return Ok(listed);
    };
    let mut index = match Index::open(buffered(source), checksum) {
        Ok(index) => index,
        Err(RecordError::NoVersion) => return Ok(listed),
        Err(error) => return Err(error.of_index()),
    };
    let mut last = None;
    loop {
        match index.read_next() {
            // Sequences that do not rise are sorted from the records.
            Ok(Some(entry)) if listed.extent.last < entry.sequence => {
                listed.extent.add(&entry);
                last = Some(entry);
            }
            Ok(Some(_)) | Err(_) => return Ok(listed),
            Ok(None) => break,
        }
    }
    let Some(last) = last else {
        return Ok(listed);
    };
    let mut data = Data::new(files.records()?);
    let there = data.record(&last, listed.extent.count, checksum);
    let is_there = match there {
        Ok(record) => entry(&record).is_some_and(|entry| entry.sequence == last.sequence),
        Err(RecordError::Io(error)) => return Err(error.into()),
        Err(_) => false,
    };
    listed.by = if is_there { By::Index } else { By::Both };
    Ok(listed)
}

fn entry(record: &Record) -> Option<Entry> {
    let message = delivery(record.payload.clone()).ok()?;
    (message.sequence > 0).then_some(Entry {
        sequence: message.sequence,
        at: record.at,
        timestamp: message.published_at,
        size: u32::try_from(record.payload.len()).ok()?,
    })
}

fn buffered<R: Read>(source: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER_BYTES, source)
}

/// The records at the places that an index names.
struct Data<R> {
    source: BufReader<R>,
    at: u64,
}

impl<R: Read + Seek> Data<R> {
    fn new(source: R) -> Self {
        Self {
            source: buffered(source),
            at: 0,
        }
    }

    fn record(
        &mut self,
        entry: &Entry,
        number: u64,
        checksum: &Checksum,
    ) -> Result<Record, RecordError> {
        let at = entry.at.max(VERSION_BYTES);
        let cut = RecordError::Cut { number, at };
        match i64::try_from(i128::from(at) - i128::from(self.at)) {
            Ok(0) => {}
            Ok(way) => self.source.seek_relative(way)?,
            Err(_) => return Err(cut),
        }
        // Where it stands after an error is not known.
        self.at = 0;
        let Some((expected, payload)) = self.read(entry)? else {
            self.source.seek(SeekFrom::Start(0))?;
            return Err(cut);
        };
        let record = Record {
            kind: 0,
            number,
            at,
            payload,
        };
        self.at = at + record.bytes();
        check(record, expected, checksum)
    }

    fn read(&mut self, entry: &Entry) -> io::Result<Option<(u32, Bytes)>> {
        let mut header = [0; 8];
        if fill(&mut self.source, &mut header)? < header.len() {
            return Ok(None);
        }
        let (length, expected) = header_of(header);
        if length != entry.size {
            return Ok(None);
        }
        Ok(payload(&mut self.source, length.into())?.map(|payload| (expected, payload)))
    }
}
