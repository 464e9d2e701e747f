//! The file that tells scripts which process to signal.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Removed with this.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    pub(super) fn write(path: &Path) -> anyhow::Result<Self> {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("the pid file {} cannot be written", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Whoever has removed it already, meant it.
        std::fs::remove_file(&self.0).ok();
    }
}
