//! One channel of a file store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::{FileStore, broken, opened, unreadable};
use crate::core::ids::{ChannelId, ChannelName};
use crate::core::limits::ChannelLimits;
use crate::core::time::Timestamp;
use crate::former::files::journals;
use crate::former::files::limits::Dropping;
use crate::former::files::records::RecordError;
use crate::former::files::slice::{Extent, Slice, SliceFiles};
use crate::former::findings::Findings;
use crate::former::records::Subscription;
use crate::store::Error;

const SUBSCRIPTIONS: &str = "subs.dat";

#[derive(Debug)]
pub struct ChannelFiles<'a> {
    store: &'a FileStore,
    pub id: ChannelId,
    pub name: &'a ChannelName,
    directory: &'a Path,
    /// In the order of their numbers, those without a message left out.
    slices: Vec<Slice<Paths>>,
    /// The extent of everything in the files.
    pub extent: Extent,
}

/// The two files of a slice.
#[derive(Clone, Debug)]
struct Paths {
    records: PathBuf,
}

impl SliceFiles for Paths {
    type Source = File;

    fn records(&self) -> io::Result<File> {
        File::open(&self.records)
    }

    fn index(&self) -> io::Result<Option<File>> {
        match File::open(self.records.with_extension("idx")) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<'a> ChannelFiles<'a> {
    /// Whether a directory holds a file of a channel.
    pub(super) fn is_one(directory: &Path) -> bool {
        let Ok(entries) = fs::read_dir(directory) else {
            return false;
        };
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            name == SUBSCRIPTIONS || name.to_str().and_then(slice_number).is_some()
        })
    }

    pub(super) fn examine(
        store: &'a FileStore,
        id: ChannelId,
        name: &'a ChannelName,
        directory: &'a Path,
        findings: &mut Findings,
    ) -> Result<Self, Error> {
        let mut slices = Vec::new();
        for records in slice_files(name, directory, findings)? {
            let place = place(name, &records);
            let mut found = |finding| findings.add(&place, finding);
            let paths = Paths {
                records: records.clone(),
            };
            let slice = Slice::examine(paths, store.checksum(), &mut found);
            let slice = slice.map_err(|error| broken(&records, &error))?;
            if slice.extent().count > 0 {
                slices.push(slice);
            }
        }
        // What a later slice has again was written again after a crash.
        let mut end = u64::MAX;
        for slice in slices.iter_mut().rev() {
            let cut = slice.cut_off(end, store.checksum());
            cut.map_err(|error| broken(&slice.files().records, &error))?;
            if slice.extent().count > 0 {
                end = slice.extent().first;
            }
        }
        slices.retain(|slice| slice.extent().count > 0);
        let mut extent = Extent::default();
        for slice in &slices {
            extent.join(slice.extent());
        }
        Ok(Self {
            store,
            id,
            name,
            directory,
            slices,
            extent,
        })
    }

    /// Whether an index says what each of its files holds, as it does where a server has written all of it.
    pub fn is_indexed(&self) -> bool {
        self.slices.iter().all(Slice::is_indexed)
    }

    pub fn subscriptions(&self, findings: &mut Findings) -> Result<Vec<Subscription>, Error> {
        let path = self.directory.join(SUBSCRIPTIONS);
        let place = place(self.name, &path);
        let Some((file, _)) = opened(&path)? else {
            // The former server starts on it, too, and makes one with every channel.
            if self.extent.last > 0 {
                findings.note(format!(
                    "{place}: it is missing: is the copy complete? The durables of this channel, and where they stand, are lost"
                ));
            }
            return Ok(Vec::new());
        };
        let mut found = |finding| findings.add(&place, finding);
        let read = journals::subscriptions(file, self.id, self.store.checksum(), &mut found);
        read.map_err(|error| broken(&path, &error))
    }

    /// The first message that these limits leave, and how many are left; without limits the first of all.
    pub fn first_kept(
        &self,
        limits: Option<&ChannelLimits>,
        now: Timestamp,
    ) -> Result<(u64, u64), Error> {
        let all = (self.extent.first, self.extent.count);
        let Some(limits) = limits else {
            return Ok(all);
        };
        let Some(mut dropping) = Dropping::new(self.extent, limits, now) else {
            return Ok(all);
        };
        let mut dropped = 0;
        let mut first = None;
        for slice in &self.slices {
            let mut each = |entry| {
                if dropping.drops(&entry) {
                    dropped += 1;
                } else {
                    first = Some(entry.sequence);
                }
                first.is_none()
            };
            let extent = slice.extent();
            let read = slice.entries(
                extent.first..extent.last + 1,
                self.store.checksum(),
                &mut each,
            );
            read.map_err(|error| broken(&slice.files().records, &error))?;
            if first.is_some() {
                break;
            }
        }
        let first = first.unwrap_or(self.extent.last + 1);
        Ok((first, self.extent.count - dropped))
    }

    /// Sequences and records from there on, in order. Damaged records are reported and left out; the error of `each` ends it.
    pub fn messages<E: From<Error>>(
        &self,
        first: u64,
        findings: &mut Findings,
        each: &mut dyn FnMut(u64, Bytes, &mut Findings) -> Result<(), E>,
    ) -> Result<(), E> {
        for slice in &self.slices {
            let extent = slice.extent();
            if extent.last < first {
                continue;
            }
            let sequences = first.max(extent.first)..extent.last + 1;
            let records = &slice.files().records;
            let place = place(self.name, records);
            let read = slice.messages(sequences, self.store.checksum(), &mut |sequence, record| {
                match record {
                    Ok(record) => each(sequence, record, findings).map_err(ReadEnd::Asked),
                    Err(RecordError::Io(error)) => Err(ReadEnd::Record(error.into())),
                    Err(error) => {
                        let what = format!("{}; message {sequence} is lost", error.sentence());
                        findings.damage(&place, &what);
                        Ok(())
                    }
                }
            });
            match read {
                Ok(()) => {}
                Err(ReadEnd::Asked(error)) => return Err(error),
                Err(ReadEnd::Record(error)) => return Err(broken(records, &error).into()),
            }
        }
        Ok(())
    }
}

enum ReadEnd<E> {
    Asked(E),
    Record(RecordError),
}

impl<E> From<RecordError> for ReadEnd<E> {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// The files of records, in the order of their numbers.
fn slice_files(
    name: &ChannelName,
    directory: &Path,
    findings: &mut Findings,
) -> Result<Vec<PathBuf>, Error> {
    let failed = |error: io::Error| unreadable(directory, &error);
    let mut numbered = Vec::new();
    let mut indexes = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if !path.is_file() {
            if let Some(Ok(_)) = slice_number(file) {
                findings.damage(
                    &place(name, &path),
                    "it is a directory, a pipe, a device or a link to nothing, and no file of records: is the copy complete? \
                     Its messages are lost",
                );
            }
            continue;
        }
        if index_number(file).is_some() {
            indexes.push(path.clone());
        }
        match slice_number(file) {
            Some(Ok(number)) => numbered.push((number, path)),
            Some(Err(())) => findings.damage(
                &place(name, &path),
                "its name holds no number, so its place among the others is not known; all that it holds is lost",
            ),
            None => {}
        }
    }
    for index in indexes {
        let length = index.metadata().map_or(0, |file| file.len());
        if !index.with_extension("dat").exists() && length > 4 {
            findings.damage(
                &place(name, &index),
                "there is no file of records beside this index: is the copy complete? The messages that it lists are lost",
            );
        }
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// `None` of files that hold no messages.
fn slice_number(file: &str) -> Option<Result<u64, ()>> {
    let number = file.strip_prefix("msgs.")?.strip_suffix(".dat")?;
    Some(number.parse().map_err(drop))
}

fn index_number(file: &str) -> Option<u64> {
    let number = file.strip_prefix("msgs.")?.strip_suffix(".idx")?;
    number.parse().ok()
}

/// The file as operators name it, below the root.
fn place(name: &ChannelName, path: &Path) -> String {
    let file = path.file_name().unwrap_or_default();
    format!("{name:?}/{}", file.to_string_lossy())
}
