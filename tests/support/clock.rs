//! A Postgres' wall clock that a test sets.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::process::skip;

/// Of one Postgres. What it counts by other clocks is left alone.
#[derive(Debug)]
pub(crate) struct WallClock {
    /// Programs of Postgres that go by the clock, and the clock.
    directory: tempfile::TempDir,
}

impl WallClock {
    /// `programs`: where those of Postgres are. `None` where libfaketime is not installed.
    pub(crate) fn of_postgres(programs: &Path) -> Option<Self> {
        let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
            .map(|machine| PathBuf::from(format!("/usr/lib/{machine}/faketime/libfaketimeMT.so.1")))
            .into_iter()
            .find(|path| path.exists());
        let Some(library) = found else {
            skip("libfaketime is not installed: scripts/test installs it");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        set_mode(directory.path(), 0o755);
        let clock = Self { directory };
        clock.jump(0);
        symlink(programs.join("initdb"), clock.programs().join("initdb")).unwrap();
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1\n\
             export FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\nexec {} \"$@\"\n",
            library.display(),
            clock.file().display(),
            programs.join("postgres").display()
        );
        let program = clock.programs().join("postgres");
        std::fs::write(&program, script).unwrap();
        set_mode(&program, 0o755);
        Some(clock)
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// From now on it is so many seconds later than it is.
    pub(crate) fn jump(&self, seconds: i64) {
        let file = self.file();
        std::fs::write(&file, format!("{seconds:+}s\n")).unwrap();
        set_mode(&file, 0o644);
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("clock")
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
