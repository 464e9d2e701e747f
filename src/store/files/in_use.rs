//! Whether a process has a directory open. A standalone server takes no lock, and one of a fault-tolerant group a lock
//! of POSIX on a file, so that neither `flock` nor the file itself shows it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Held by the active of a fault-tolerant group.
const LOCK_FILE: &str = ".rootdir.lck";

const PROCESSES: &str = "/proc";

/// Keeps a fault-tolerant group from starting while it lives.
#[derive(Debug)]
pub(super) struct Lock(
    #[expect(dead_code, reason = "it lasts as long as the file is open")] Option<File>,
);

#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    #[error("a server holds the lock {LOCK_FILE} in it")]
    Held,
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

pub(super) fn lock(root: &Path) -> Result<Lock, LockError> {
    let file = match File::open(root.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock(None)),
        Err(error) => return Err(error.into()),
    };
    let all = libc::flock {
        // The constants are small.
        l_type: libc::F_RDLCK.try_into().unwrap_or_default(),
        l_whence: libc::SEEK_SET.try_into().unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&all)) {
        Ok(_) => Ok(Lock(Some(file))),
        Err(Errno::EACCES | Errno::EAGAIN) => Err(LockError::Held),
        // A file system without such locks; the rest is looked at all the same.
        Err(_) => Ok(Lock(None)),
    }
}

/// A process of this machine that may write a file below `root`, as far as this one may see.
pub(super) fn writer(root: &Path) -> Option<String> {
    let root = root.canonicalize().ok()?;
    let own = std::process::id().to_string();
    for process in fs::read_dir(PROCESSES).ok()?.flatten() {
        let name = process.file_name();
        let Some(id) = name.to_str().filter(|id| id.parse::<u32>().is_ok()) else {
            continue;
        };
        if id == own {
            continue;
        }
        // Ended since, or of somebody else.
        let Ok(open) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for file in open.flatten() {
            let is_inside = fs::read_link(file.path()).is_ok_and(|to| to.starts_with(&root));
            let info = process.path().join("fdinfo").join(file.file_name());
            if is_inside && fs::read_to_string(info).is_ok_and(|info| may_write(&info)) {
                let command = fs::read_to_string(process.path().join("comm"));
                let command = command.unwrap_or_default();
                return Some(format!("process {id} ({})", command.trim_end()));
            }
        }
    }
    None
}

/// By the line of flags, which is in octal.
fn may_write(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_reads_a_file_does_not_write_it() {
        assert!(may_write("pos:\t0\nflags:\t0102001\n"));
        assert!(may_write("pos:\t0\nflags:\t0100002\n"));
        assert!(!may_write("pos:\t0\nflags:\t0100000\n"));
        assert!(!may_write(""));
    }
}
