//! The file in which scripts find which process to signal.

use std::path::{Path, PathBuf};

/// Removed with this.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// `None` where it cannot be written, which is no reason not to serve: the former server went on without it, too.
    pub(super) fn write(path: &Path) -> Option<Self> {
        match std::fs::write(path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(Self(path.to_owned())),
            Err(error) => {
                tracing::warn!("the pid file {} cannot be written: {error}", path.display());
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It may have been removed on purpose.
        std::fs::remove_file(&self.0).ok();
    }
}
