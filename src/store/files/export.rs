//! Makes the directory of a file store. It stands beside its place under another name until it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::directory::{CLIENTS, SERVER};
use crate::core::ids::ChannelName;
use crate::former::files::checksum::{Checksum, IEEE};
use crate::former::files::index::Entry;
use crate::former::files::writing::{self, Step};
use crate::former::return_way::{Connected, Subscribed};
use crate::store::Error;

/// As the former server begins a new slice.
const SLICE_BYTES: u64 = 64 << 20;

const SUBSCRIPTIONS: &str = "subs.dat";

#[derive(Debug)]
pub struct NewStore {
    place: PathBuf,
    /// Where it is made.
    root: PathBuf,
    checksum: Checksum,
}

impl NewStore {
    /// Fails where there is something already.
    pub fn begin(place: &Path) -> Result<Self, Error> {
        let shown = place.display();
        let is_empty = match fs::read_dir(place) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(unwritable(place, &error)),
        };
        if !is_empty {
            return Err(Error::Refused(format!(
                "{shown} is not empty: name a directory that does not exist yet"
            )));
        }
        let mut root = place.as_os_str().to_owned();
        root.push(".part");
        let root = PathBuf::from(root);
        if root.exists() {
            return Err(Error::Refused(format!(
                "{} is what an export that did not end has left: remove it first",
                root.display()
            )));
        }
        fs::create_dir_all(&root).map_err(|error| unwritable(&root, &error))?;
        Ok(Self {
            place: place.to_owned(),
            root,
            checksum: Checksum::new(IEEE),
        })
    }

    pub fn server(&self, record: &[u8]) -> Result<(), Error> {
        let framed = writing::untyped(record, &self.checksum).ok_or_else(|| too_long(SERVER))?;
        write_file(&self.root.join(SERVER), &[framed])
    }

    pub fn clients(&self, clients: &[Connected]) -> Result<(), Error> {
        let framed = clients.iter().map(|client| {
            writing::typed(Step::Connected, &client.record, &self.checksum)
                .ok_or_else(|| too_long(CLIENTS))
        });
        let framed = framed.collect::<Result<Vec<_>, Error>>()?;
        write_file(&self.root.join(CLIENTS), &framed)
    }

    /// A channel with its subscriptions; messages are added to it.
    pub fn channel(
        &self,
        name: &ChannelName,
        subscriptions: &[Subscribed],
    ) -> Result<NewChannel<'_>, Error> {
        let directory = self.root.join(name.as_str());
        fs::create_dir(&directory).map_err(|error| unwritable(&directory, &error))?;
        let mut framed = Vec::new();
        for subscribed in subscriptions {
            let record = &subscribed.record;
            framed.push(writing::typed(Step::SUBSCRIBED, record, &self.checksum));
            let sent = subscribed.pending_records();
            framed.extend(sent.map(|it| writing::typed(Step::Sent, &it, &self.checksum)));
        }
        let framed = framed.into_iter().collect::<Option<Vec<_>>>();
        let framed = framed.ok_or_else(|| too_long(SUBSCRIPTIONS))?;
        write_file(&directory.join(SUBSCRIPTIONS), &framed)?;
        Ok(NewChannel {
            checksum: &self.checksum,
            directory,
            slices: 0,
            slice: None,
        })
    }

    /// It is complete, and gets its name.
    pub fn finish(self) -> Result<(), Error> {
        let moved = match fs::remove_dir(&self.place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => fs::rename(&self.root, &self.place),
        };
        moved.map_err(|error| unwritable(&self.place, &error))
    }

    /// Nothing is left of it.
    pub fn give_up(self) {
        fs::remove_dir_all(&self.root).ok();
    }
}

#[derive(Debug)]
pub struct NewChannel<'a> {
    checksum: &'a Checksum,
    directory: PathBuf,
    slices: u32,
    slice: Option<Slice>,
}

#[derive(Debug)]
struct Slice {
    messages: BufWriter<File>,
    index: BufWriter<File>,
    bytes: u64,
}

impl NewChannel<'_> {
    /// In their order.
    pub fn add(&mut self, sequence: u64, timestamp: i64, record: &[u8]) -> Result<(), Error> {
        let framed =
            writing::untyped(record, self.checksum).ok_or_else(|| too_long("a message"))?;
        let size = u32::try_from(record.len()).map_err(|_| too_long("a message"))?;
        let mut write = || -> io::Result<()> {
            if self
                .slice
                .as_ref()
                .is_some_and(|it| it.bytes >= SLICE_BYTES)
            {
                self.close()?;
            }
            let slice = if let Some(slice) = &mut self.slice {
                slice
            } else {
                self.slices += 1;
                let opened = Slice::create(&self.directory, self.slices)?;
                self.slice.insert(opened)
            };
            let entry = Entry {
                sequence,
                at: slice.bytes,
                timestamp,
                size,
            };
            slice.messages.write_all(&framed)?;
            slice
                .index
                .write_all(&writing::indexed(&entry, self.checksum))?;
            slice.bytes += framed.len() as u64;
            Ok(())
        };
        write().map_err(|error| unwritable(&self.directory, &error))
    }

    pub fn finish(mut self) -> Result<(), Error> {
        let closed = self.close();
        closed.map_err(|error| unwritable(&self.directory, &error))
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(slice) = self.slice.take() else {
            return Ok(());
        };
        end(slice.messages)?;
        end(slice.index)
    }
}

impl Slice {
    fn create(directory: &Path, number: u32) -> io::Result<Self> {
        let create = |extension: &str| {
            let path = directory.join(format!("msgs.{number}.{extension}"));
            let mut file = BufWriter::new(File::create_new(path)?);
            file.write_all(&writing::version())?;
            Ok::<_, io::Error>(file)
        };
        Ok(Self {
            messages: create("dat")?,
            index: create("idx")?,
            bytes: writing::version().len() as u64,
        })
    }
}

/// With the version before the records.
fn write_file(path: &Path, records: &[Vec<u8>]) -> Result<(), Error> {
    let write = || {
        let mut file = BufWriter::new(File::create_new(path)?);
        file.write_all(&writing::version())?;
        for record in records {
            file.write_all(record)?;
        }
        end(file)
    };
    write().map_err(|error| unwritable(path, &error))
}

/// On the disk.
fn end(file: BufWriter<File>) -> io::Result<()> {
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

fn too_long(what: &str) -> Error {
    Error::Refused(format!(
        "{what}: a record is longer than the format has room for"
    ))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::Refused(format!("{} cannot be written: {error}", path.display()))
}
