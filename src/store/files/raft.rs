//! Nodes of a Raft cluster: a file store for the messages, and beside it a log and snapshots for everything else.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::directory::{FileStore, unreadable};
use crate::former::Broken;
use crate::former::encryption::ChannelKeys;
use crate::former::findings::Findings;
use crate::former::raft::bolt::Bolt;
use crate::former::raft::entry::{Entry, What};
use crate::former::raft::history::{self, History, Mark, Published};
use crate::former::raft::records::Snapshot;
use crate::former::raft::snapshot::Meta;
use crate::former::raft::state::is_same;
use crate::former::records::ServerInfo;
use crate::store::Error;

const LOG: &str = "raft.log";
const STORE: &str = "server.dat";
const SNAPSHOTS: &str = "snapshots";

/// How far below a directory that was named the two parts of a node are looked for.
const DEPTH_MAX: u32 = 5;

/// Where a node's two parts are, as somebody named them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// The store, or a directory that holds both.
    pub store: PathBuf,
    pub log: Option<PathBuf>,
}

/// Messages that a node's log and its store have both.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// The last entry of the log that was committed for certain.
    pub(super) committed: u64,
    /// The last one of each channel.
    pub(super) last: BTreeMap<String, Published>,
}

#[derive(Debug)]
pub struct RaftNode {
    pub files: FileStore,
    pub info: ServerInfo,
    log: Bolt<File>,
    /// Locks the log for as long as it is open.
    _lock: File,
    directory: PathBuf,
    snapshot: Option<(Meta, Snapshot)>,
    /// Term and index of the last entry: the greatest is that of the node with the newest log.
    pub(super) last: (u64, u64),
    pub(super) history: History,
}

impl RaftNode {
    /// `store` and `directory`, of the log, as [`find`] has found them.
    pub(super) fn open(
        (store, directory): (PathBuf, PathBuf),
        polynomial: u32,
        findings: &mut Findings,
    ) -> Result<Self, Error> {
        let files = FileStore::open(&store, polynomial, findings)?;
        let info = files.server_info(findings)?.ok_or_else(|| {
            refused(
                &store,
                &"its server.dat is missing or damaged, so whose node it was is not known: copy it again, or leave this \
                  node out",
            )
        })?;
        let info = Some(info)
            .filter(|info| info.node.is_some())
            .ok_or_else(|| {
                refused(
                    &store,
                    &"it is not the store of a node of a Raft cluster; give it as --from DIRECTORY",
                )
            })?;
        let path = directory.join(LOG);
        let opened = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        match opened.try_lock_shared() {
            // A file system without locks is no reason to stop.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Unavailable(format!(
                    "{}: the node {:?} runs: it has locked its log; stop all nodes, and keep them from starting again, before \
                     their files are taken over",
                    path.display(),
                    info.node.as_deref().unwrap_or_default()
                )));
            }
        }
        let lock = opened
            .try_clone()
            .map_err(|error| unreadable(&path, &error))?;
        let log = Bolt::open(opened).map_err(|why| refused(&path, &why))?;
        let snapshot = newest_snapshot(&directory.join(SNAPSHOTS), findings)?;
        let meta = snapshot.as_ref().map(|(meta, _)| meta);
        let mut history = History::over(meta.map(|meta| (meta.index, meta.term)));
        let mut node = Self {
            files,
            info,
            log,
            _lock: lock,
            last: meta.map_or((0, 0), |meta| (meta.term, meta.index)),
            history: History::default(),
            directory,
            snapshot,
        };
        let mut last = node.last;
        let snapshot_index = node.last.1;
        node.entries(0..=u64::MAX, &mut |entry| {
            if entry.index > snapshot_index {
                last = (entry.term, entry.index);
            }
            history.add(&entry);
            Ok(())
        })?;
        let meta = node.snapshot.as_ref().map(|(meta, _)| meta);
        history.finish(meta.map(|meta| (meta.configuration_index, meta.members())));
        node.last = last;
        node.history = history;
        Ok(node)
    }

    /// What is compared of some entries of its log.
    pub(super) fn marks(
        &self,
        indexes: RangeInclusive<u64>,
        keys: &ChannelKeys,
    ) -> Result<Vec<Mark>, Error> {
        let mut marks = self.history.marks(indexes.clone());
        self.entries(indexes, &mut |entry| {
            marks.add(&entry, keys);
            Ok(())
        })?;
        Ok(marks.finish())
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        self.info.node.as_deref().unwrap_or_default()
    }

    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |(meta, _)| meta.index)
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.directory
    }

    /// What its log says of messages that its own store has, too, which were committed therefore.
    pub(super) fn stored(&self, keys: &ChannelKeys) -> Result<Stored, Error> {
        let ids = self.channel_ids()?;
        let mut extents = BTreeMap::new();
        for (number, name) in self.files.channels() {
            // What is wrong with it is reported where it is read.
            if let Ok(channel) = self.files.channel(number, &mut Findings::default()) {
                let id = ids.get(name.as_str()).copied().unwrap_or_default();
                extents.insert(name.to_string(), (id, channel.extent.last));
            }
        }
        let mut stored = Stored::default();
        self.entries(self.history.first()..=u64::MAX, &mut |entry| {
            let What::Command(command) = entry.what else {
                return Ok(());
            };
            let Ok(command) = keys.open(command) else {
                return Ok(());
            };
            for published in history::published(&command) {
                let extent = extents.get(&published.channel);
                let is_stored = extent.is_some_and(|&(id, last)| {
                    is_same(id, published.channel_id) && published.sequence <= last
                });
                if is_stored {
                    stored.committed = stored.committed.max(entry.index);
                    stored.last.insert(published.channel.clone(), published);
                }
            }
            Ok(())
        })?;
        Ok(stored)
    }

    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().map(|(_, snapshot)| snapshot)
    }

    /// IDs of channels, which distinguish those of the same name.
    pub fn channel_ids(&self) -> Result<BTreeMap<String, u64>, Error> {
        let path = self.directory.join(LOG);
        let failed = |why: Broken| refused(&path, &why);
        let mut ids = BTreeMap::new();
        if let Some(bucket) = self.log.bucket("channels").map_err(failed)? {
            let mut each = |key: &[u8], value: &[u8]| {
                let id = value.try_into().map_or(0, u64::from_be_bytes);
                ids.insert(String::from_utf8_lossy(key).into_owned(), id);
                Ok(true)
            };
            self.log.each(&bucket, &[], &mut each).map_err(failed)?;
        }
        Ok(ids)
    }

    /// The commands behind the snapshot, in order. They must have no hole. The error of `each` is reported with its entry.
    pub fn commands(
        &self,
        each: &mut dyn FnMut(bytes::Bytes) -> Result<(), Broken>,
    ) -> Result<(), Error> {
        let after = self.snapshot_index();
        let mut expected = after + 1;
        self.entries(expected..=u64::MAX, &mut |entry| {
            if entry.index != expected {
                return Err(format!(
                    "entry {expected} is missing, and the snapshot ends with {after}; give another node's directories instead"
                )
                .into());
            }
            expected += 1;
            match entry.what {
                What::Command(command) => {
                    each(command).map_err(|why| format!("entry {}: {why}", entry.index).into())
                }
                What::Configuration(_) | What::Other => Ok(()),
            }
        })
    }

    fn entries(
        &self,
        indexes: RangeInclusive<u64>,
        each: &mut dyn FnMut(Entry) -> Result<(), Broken>,
    ) -> Result<(), Error> {
        let path = self.directory.join(LOG);
        let failed = |why: Broken| refused(&path, &why);
        let bucket = self.log.bucket("logs").map_err(failed)?;
        let Some(bucket) = bucket else { return Ok(()) };
        let mut all = |key: &[u8], value: &[u8]| {
            let index = key.try_into().map_or(u64::MAX, u64::from_be_bytes);
            if index > *indexes.end() {
                return Ok(false);
            }
            each(Entry::decode(key, value)?)?;
            Ok(true)
        };
        let from = indexes.start().to_be_bytes();
        self.log.each(&bucket, &from, &mut all).map_err(failed)
    }
}

fn refused(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::Refused(format!("{}: {why}", path.display()))
}

/// The newest that is whole.
fn newest_snapshot(
    directory: &Path,
    findings: &mut Findings,
) -> Result<Option<(Meta, Snapshot)>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(directory, &error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        let is_unfinished = path.extension().is_some_and(|extension| extension == "tmp");
        let meta = path.join("meta.json");
        if is_unfinished || !meta.exists() {
            continue;
        }
        let json = fs::read(&meta).map_err(|error| unreadable(&meta, &error))?;
        match Meta::decode(&json) {
            Ok(read) => found.push((read, path)),
            Err(why) => findings.note(format!("{}: {why}; it is passed over", meta.display())),
        }
    }
    found.sort_by(|(one, _), (other, _)| other.by_age(one));
    for (meta, path) in found {
        let state = path.join("state.bin");
        let bytes = fs::read(&state).map_err(|error| unreadable(&state, &error))?;
        match meta.state(&bytes) {
            Ok(snapshot) => return Ok(Some((meta, snapshot))),
            Err(why) => findings.note(format!(
                "{}: {why}; an older snapshot takes its place",
                state.display()
            )),
        }
    }
    Ok(None)
}

/// The directories of the store and of the log that a place names.
pub(super) fn find(place: &NodePlace) -> Result<(PathBuf, PathBuf), Error> {
    let refused = |why: Broken| refused(&place.store, &why);
    if !place.store.is_dir() {
        return Err(refused("there is no such directory".into()));
    }
    let store = one(&place.store, STORE).map_err(refused)?;
    let store = store.ok_or_else(|| {
        let why = format!("neither it nor a directory in it holds {STORE}; name the node's -dir");
        refused(why.into())
    })?;
    let hint = "name the store and the log of the node as STORE:LOG (-dir and -cluster_log_path)";
    let log = match &place.log {
        Some(log) => one(log, LOG).map_err(refused)?,
        None => match one(&place.store, LOG).map_err(refused)? {
            Some(found) => Some(found),
            // Beside the store, where nobody else's is.
            None => store.parent().map_or(Ok(None), |beside| {
                one(beside, LOG).map_err(|why| refused(format!("{why}; {hint}").into()))
            })?,
        },
    };
    let log = log.ok_or_else(|| refused(format!("no {LOG} was found for it; {hint}").into()))?;
    Ok((store, log))
}

/// The only directory below that holds such a file.
fn one(root: &Path, file: &str) -> Result<Option<PathBuf>, Broken> {
    let mut found = Vec::new();
    collect(root, file, 0, &mut found);
    match &found[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        [one, other, ..] => Err(format!(
            "there is more than one {file} below {}: in {} and in {}; name the directory of each node, with commas between",
            root.display(),
            one.display(),
            other.display()
        )
        .into()),
    }
}

fn collect(directory: &Path, file: &str, depth: u32, found: &mut Vec<PathBuf>) {
    if directory.join(file).is_file() {
        found.push(directory.to_owned());
        return;
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if depth < DEPTH_MAX && path.is_dir() && !path.is_symlink() {
            collect(&path, file, depth + 1, found);
        }
    }
}
