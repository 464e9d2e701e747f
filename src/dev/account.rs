//! As whom Postgres runs. It refuses to run as root, so root lends it another account.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User, chown, geteuid};

use super::Error;

/// Debian's package creates the first; the second exists everywhere.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

#[derive(Clone, Debug)]
pub(super) struct Account {
    /// `None` when Postgres runs as whoever we are.
    user: Option<(String, Uid, Gid)>,
}

impl Account {
    pub(super) fn choose() -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self { user: None });
        }
        let found = CANDIDATES
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        let user = found.ok_or_else(|| {
            Error::Refused(format!(
                "Postgres refuses to run as root and there is no account {} to run it as: \
                 create one or start this as another user",
                CANDIDATES.join(" or ")
            ))
        })?;
        Ok(Self {
            user: Some((user.name, user.uid, user.gid)),
        })
    }

    /// Makes `command` run as this account.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Some((_, uid, gid)) = &self.user {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Whether files of this user are the account's.
    pub(super) fn is(&self, uid: u32) -> bool {
        self.user
            .as_ref()
            .map_or_else(geteuid, |(_, uid, _)| *uid)
            .as_raw()
            == uid
    }

    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        let Some((_, uid, gid)) = &self.user else {
            return Ok(());
        };
        chown(path, Some(*uid), Some(*gid))
            .map_err(|errno| Error::file("change the owner of", path)(errno.into()))
    }

    /// Fails, naming the directory, when the account could not reach `path` through its parents.
    pub(super) fn ensure_reaches(&self, path: &Path) -> Result<(), Error> {
        let Some((name, uid, gid)) = &self.user else {
            return Ok(());
        };
        for parent in path
            .ancestors()
            .skip(1)
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            let meta = parent.metadata().map_err(Error::file("look at", parent))?;
            let bit = match (meta.uid() == uid.as_raw(), meta.gid() == gid.as_raw()) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            if meta.mode() & bit == 0 {
                return Err(Error::Refused(format!(
                    "Postgres runs as {name} here (it refuses to run as root), and {name} may not enter {}: \
                     choose a data directory elsewhere with --data, or start this as another user",
                    parent.display()
                )));
            }
        }
        Ok(())
    }
}
