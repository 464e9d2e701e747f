//! The data directory: where things lie in it, the lock that keeps a second supervisor out, and temporary
//! directories that are removed again.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{geteuid, mkdtemp};

use super::Error;

const LOCK_FILE: &str = "lock";

/// A locked data directory.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    temporary: bool,
    /// Held, not read: the kernel gives the lock back when this process ends.
    _lock: File,
}

impl Directory {
    /// Creates `root` where it is missing, and locks it.
    pub fn open(root: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(mode())
            .create(root)
            .map_err(Error::file("create the data directory", root))?;
        let root = root
            .canonicalize()
            .map_err(Error::file("find the data directory", root))?;
        let directory = Self {
            _lock: lock(&root)?,
            root,
            temporary: false,
        };
        directory.prepare()
    }

    /// Makes a directory named after `prefix`, and removes those that earlier processes left behind.
    pub fn temporary(prefix: &str) -> Result<Self, Error> {
        let base = std::env::temp_dir();
        remove_leftovers(&base, prefix);
        let root = mkdtemp(&base.join(format!("{prefix}-XXXXXX")))
            .map_err(|errno| Error::file("create a directory in", &base)(errno.into()))?;
        let permissions = fs::Permissions::from_mode(mode());
        fs::set_permissions(&root, permissions).map_err(Error::file("open up", &root))?;
        let directory = Self {
            _lock: lock(&root)?,
            root,
            temporary: true,
        };
        directory.prepare()
    }

    fn prepare(self) -> Result<Self, Error> {
        for directory in [self.logs(), self.run()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&directory)
                .map_err(Error::file("create", &directory))?;
        }
        Ok(self)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database's files.
    pub fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What only matters while things run: process numbers, port files.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.root)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.root.display(), "the temporary directory could not be removed");
        }
    }
}

/// Root lets the account that runs Postgres through; anybody else keeps the directory to themselves.
fn mode() -> u32 {
    if geteuid().is_root() { 0o755 } else { 0o700 }
}

fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode_private()
        .open(&path)
        .map_err(Error::file("open the lock", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Refused(format!(
            "another stanby dev is using {}: stop it, or choose another directory with --data (and other ports \
             with --port and --http-port)",
            root.display()
        ))),
        Err(TryLockError::Error(source)) => Err(Error::file("lock", &path)(source)),
    }
}

trait Private {
    fn mode_private(&mut self) -> &mut Self;
}

impl Private for fs::OpenOptions {
    fn mode_private(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;

        self.mode(0o600)
    }
}

/// Removes directories of ours whose process is gone. One without a lock file is just being made.
fn remove_leftovers(base: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let named_so = entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("{prefix}-"));
        // A link would lead to somebody else's directory.
        let ours = path
            .symlink_metadata()
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw());
        if !named_so || !ours || !path.join(LOCK_FILE).is_file() {
            continue;
        }
        if let Ok(_held) = lock(&path)
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::debug!(%error, path = %path.display(), "a leftover could not be removed");
        }
    }
}
