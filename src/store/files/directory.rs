//! The root of a file store.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::channel::ChannelFiles;
use super::fingerprint::fingerprint;
use super::in_use::{self, Lock, LockError};
use crate::core::ids::{ChannelId, ChannelName};
use crate::former::files::checksum::Checksum;
use crate::former::files::journals::{self, BadServerInfo};
use crate::former::files::records::RecordError;
use crate::former::findings::Findings;
use crate::former::records::{Client, ServerInfo};
use crate::store::Error;

pub(super) const SERVER: &str = "server.dat";
pub(super) const CLIENTS: &str = "clients.dat";

/// How deep below the named directory a store is looked for, to report its place.
const HINT: &str = "name the directory that the former server had as -dir";

const SUBJECTS_LOST: &str =
    "The subjects that clients use are lost, and those of the cluster ID take their place";

#[derive(Debug)]
pub struct FileStore {
    root: PathBuf,
    checksum: Checksum,
    _lock: Option<Lock>,
    /// By name.
    channels: Vec<(ChannelName, PathBuf)>,
    /// What all files were like when they were opened.
    as_opened: u64,
    fingerprint: String,
}

impl FileStore {
    /// Fails unless there is a store that nobody has open: [`Error::Unavailable`] where somebody has.
    pub fn open(root: &Path, polynomial: u32, findings: &mut Findings) -> Result<Self, Error> {
        ensure_directory(root)?;
        let in_use = |who: &str| {
            let text = in_use_text(who);
            Error::Unavailable(format!("{}: {text}", root.display()))
        };
        let lock = in_use::lock(root).map_err(|error| match error {
            LockError::Held => in_use(&error.to_string()),
            LockError::Unreadable(error) => unreadable(root, &error),
        })?;
        if let Some(who) = in_use::writer(root) {
            return Err(in_use(&format!("{who} has files of it open")));
        }
        Self::of(root, polynomial, Some(lock), findings)
    }

    /// While a server may run on it: only what it has written down in full can be had, and what is wrong with the rest may
    /// be right a moment later.
    pub fn open_in_use(
        root: &Path,
        polynomial: u32,
        findings: &mut Findings,
    ) -> Result<Self, Error> {
        ensure_directory(root)?;
        Self::of(root, polynomial, None, findings)
    }

    /// Whether a process of this machine runs on it, as far as that shows.
    pub fn is_in_use(root: &Path) -> bool {
        let is_locked = matches!(in_use::lock(root), Err(LockError::Held));
        is_locked || in_use::writer(root).is_some()
    }

    fn of(
        root: &Path,
        polynomial: u32,
        lock: Option<Lock>,
        findings: &mut Findings,
    ) -> Result<Self, Error> {
        let refused = |why: String| Error::Refused(format!("{}: {why}", root.display()));
        let channels = channels(root, findings)?;
        let has_files = [SERVER, CLIENTS]
            .iter()
            .any(|file| root.join(file).exists());
        let is_channel = |(_, directory): &(_, PathBuf)| ChannelFiles::is_one(directory);
        if !has_files && !channels.iter().any(is_channel) {
            let inside = channels.iter().map(|(_, directory)| directory);
            let inside = inside.filter(|directory| directory.join(SERVER).exists());
            let inside = inside.map(|it| format!("; did you mean {}?", it.display()));
            return Err(refused(format!(
                "it holds no store of nats-streaming-server (no {SERVER}, no {CLIENTS}, no channel); {HINT}, or nodes \
                 of a Raft cluster as raft:DIR1,DIR2,DIR3{}",
                inside.collect::<String>()
            )));
        }
        let as_opened = state(root, &channels).map_err(|error| unreadable(root, &error))?;
        let fingerprint = fingerprint(root).map_err(|error| unreadable(root, &error))?;
        Ok(Self {
            root: root.to_owned(),
            checksum: Checksum::new(polynomial),
            _lock: lock,
            channels,
            as_opened,
            fingerprint,
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// As it was opened.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn checksum(&self) -> &Checksum {
        &self.checksum
    }

    /// `None` where it is not there and that is known.
    pub fn server_info(&self, findings: &mut Findings) -> Result<Option<ServerInfo>, Error> {
        let path = self.root.join(SERVER);
        // A server that ended in its first moment leaves an empty one.
        let Some((file, length)) = opened(&path)?.filter(|(_, length)| *length > 0) else {
            findings.damage(
                SERVER,
                &format!("it is missing or empty: is the copy complete? {SUBJECTS_LOST}"),
            );
            return Ok(None);
        };
        match journals::server_info(file, length, &self.checksum) {
            Ok(info) => Ok(Some(info)),
            // The other files are looked at all the same: all that is wrong is to be known at once.
            Err(BadServerInfo::Damaged(why)) => {
                findings.damage(SERVER, &format!("{why}. {SUBJECTS_LOST}"));
                Ok(None)
            }
            Err(BadServerInfo::Unreadable(why)) => {
                Err(Error::Refused(format!("{}: {why}", path.display())))
            }
        }
    }

    pub fn clients(&self, findings: &mut Findings) -> Result<Vec<Client>, Error> {
        let path = self.root.join(CLIENTS);
        let Some((file, _)) = opened(&path)? else {
            findings.damage(
                CLIENTS,
                "it is missing: is the copy complete? Connected clients have to connect again, and what they subscribed \
                 to without a durable name is lost",
            );
            return Ok(Vec::new());
        };
        let mut found = |finding| findings.add(CLIENTS, finding);
        let read = journals::clients(file, &self.checksum, &mut found);
        read.map_err(|error| broken(&path, &error))
    }

    /// In the order of their names, from which their numbers follow.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &ChannelName)> {
        let names = self.channels.iter().map(|(name, _)| name);
        (1..).map(ChannelId).zip(names)
    }

    /// Looks at the files of one of them.
    pub fn channel(
        &self,
        id: ChannelId,
        findings: &mut Findings,
    ) -> Result<ChannelFiles<'_>, Error> {
        let index = usize::try_from(id.0 - 1).unwrap_or(usize::MAX);
        let (name, directory) = &self.channels[index];
        ChannelFiles::examine(self, id, name, directory, findings)
    }

    /// Fails when a file was written since they were opened ([`Error::Unavailable`]).
    pub fn ensure_unchanged(&self) -> Result<(), Error> {
        let changed = || {
            Error::Unavailable(format!(
                "{}: its files have changed while they were read: a server runs on it; stop it, and keep it from starting \
                 again, before they are taken over",
                self.root.display()
            ))
        };
        if let Some(who) = in_use::writer(&self.root) {
            return Err(Error::Unavailable(format!(
                "{}: {}",
                self.root.display(),
                in_use_text(&format!("{who} has files of it open"))
            )));
        }
        let now = channels(&self.root, &mut Findings::default())?;
        match state(&self.root, &now) {
            Ok(state) if state == self.as_opened => Ok(()),
            Ok(_) => Err(changed()),
            Err(error) => Err(unreadable(&self.root, &error)),
        }
    }
}

fn ensure_directory(root: &Path) -> Result<(), Error> {
    if root.is_dir() {
        return Ok(());
    }
    let what = if root.exists() {
        "it is a file and no directory"
    } else {
        "there is no such directory"
    };
    Err(Error::Refused(format!(
        "{}: {what}; {HINT}",
        root.display()
    )))
}

fn in_use_text(who: &str) -> String {
    format!(
        "{who}: a server still runs on this store; stop it, and keep it from starting again, before its files are taken \
         over"
    )
}

/// Every directory is a channel, whatever is in it.
fn channels(root: &Path, findings: &mut Findings) -> Result<Vec<(ChannelName, PathBuf)>, Error> {
    let failed = |error: io::Error| unreadable(root, &error);
    let mut channels = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // Links lead to directories, too.
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| ChannelName::parse(name.into()));
        match name {
            Some(name) => channels.push((name, path)),
            None if ChannelFiles::is_one(&path) => findings.damage(
                &path.display().to_string(),
                "its name is not one of a channel; all that it holds is lost",
            ),
            None => findings.note(format!(
                "{}: no channel can have this name; it is left out",
                path.display()
            )),
        }
    }
    channels.sort();
    Ok(channels)
}

/// A digest of the names, sizes and times of everything that a server writes.
fn state(root: &Path, channels: &[(ChannelName, PathBuf)]) -> io::Result<u64> {
    let mut files = vec![root.join(SERVER), root.join(CLIENTS)];
    for (_, directory) in channels {
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    files.push(entry?.path());
                }
            }
            // A server that runs has deleted the channel.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort();
    let mut state = DefaultHasher::new();
    for file in files {
        if let Ok(metadata) = fs::metadata(&file) {
            (
                file,
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            )
                .hash(&mut state);
        }
    }
    Ok(state.finish())
}

/// Fails where something is there that is no file.
pub(super) fn ensure_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(io::Error::other(format!(
            "{} is a directory, a pipe or a device, and no file",
            path.display()
        ))),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// With its length; `None` when there is none.
pub(super) fn opened(path: &Path) -> Result<Option<(BufReader<File>, u64)>, Error> {
    // Opening a pipe would wait for ever.
    ensure_regular(path).map_err(|error| unreadable(path, &error))?;
    let opened = File::open(path).and_then(|file| {
        let length = file.metadata()?.len();
        Ok((BufReader::new(file), length))
    });
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Refused(format!(
        "{}: it cannot be read: {error}; run the import as the user of the former server, or copy the directory",
        path.display()
    ))
}

pub(super) fn broken(path: &Path, error: &RecordError) -> Error {
    match error {
        RecordError::Io(error) => unreadable(path, error),
        RecordError::OfIndex(error) => broken(&path.with_extension("idx"), error),
        RecordError::NoVersion
        | RecordError::Version(_)
        | RecordError::Cut { .. }
        | RecordError::Checksum { .. } => {
            Error::Refused(format!("{}: {}", path.display(), error.sentence()))
        }
    }
}
