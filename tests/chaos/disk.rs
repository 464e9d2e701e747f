//! A file system in memory with little room, to run out of it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::geteuid;
use tokio::task::spawn_blocking;

use crate::support::process::skip;

/// Room for a new database, its log of writes and some minutes of messages.
const SIZE: &str = "size=400m,mode=0755";

/// Unmounted with the value.
pub(crate) struct SmallDisk {
    root: PathBuf,
}

impl SmallDisk {
    /// `None`, with the reason printed, where nothing may be mounted.
    pub(crate) fn mount() -> Option<Self> {
        if !geteuid().is_root() {
            skip("a disk of a limited size can only be mounted by root");
            return None;
        }
        let root = nix::unistd::mkdtemp(&std::env::temp_dir().join("stanby-disk-XXXXXX")).unwrap();
        let none: Option<&Path> = None;
        if let Err(error) = mount(none, &root, Some("tmpfs"), MsFlags::empty(), Some(SIZE)) {
            fs::remove_dir(&root).ok();
            skip(&format!(
                "a disk of a limited size cannot be mounted here ({error})"
            ));
            return None;
        }
        Some(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes all the room that is left, also what has become free since the last time.
    pub(crate) async fn fill(&self) {
        let path = self.filler();
        // Memory may come slowly, and the world's links to Postgres and NATS go on meanwhile.
        let filled = spawn_blocking(move || {
            let options = fs::File::options().create(true).append(true).open(path);
            let mut filler = options.unwrap();
            for size in [1 << 20, 4096] {
                let block = vec![1; size];
                while filler.write_all(&block).is_ok() {}
            }
        });
        filled.await.unwrap();
    }

    pub(crate) fn empty(&self) {
        fs::remove_file(self.filler()).ok();
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still has a file open there keeps it until it ends.
        umount2(&self.root, MntFlags::MNT_DETACH).ok();
        fs::remove_dir(&self.root).ok();
    }
}
