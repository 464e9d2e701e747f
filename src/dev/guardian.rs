//! A helper process that outlives its parent by a moment: it stops the children when the parent was killed
//! (`kill -9` included) and could not do it itself.
//!
//! A pipe does the telling. The kernel closes its other end however the parent ends, so nothing has to be
//! polled, and there is no signal that a change of user or the end of a thread would cancel.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::Signal;

use super::Error;

const SHELL: &str = "/bin/sh";

/// Cheap to clone; the helper acts once the last clone and its process are gone.
#[derive(Clone, Debug)]
pub struct Guardian(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` only while being dropped.
    pipe: Mutex<Option<ChildStdin>>,
    helper: Mutex<Child>,
}

impl Guardian {
    /// Starts the helper. `remove` is deleted with all it holds after the children have been stopped.
    pub fn start(remove: Option<&Path>) -> Result<Self, Error> {
        let mut helper = Command::new(SHELL)
            .arg("-c")
            .arg(include_str!("guardian.sh"))
            .arg("stanby-guardian")
            .args(remove)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal goes to the supervisor alone, which stops things in order.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Run {
                program: PathBuf::from(SHELL),
                source,
            })?;
        let pipe = helper.stdin.take();
        Ok(Self(Arc::new(Inner {
            pipe: Mutex::new(pipe),
            helper: Mutex::new(helper),
        })))
    }

    /// From here on `pid` gets `signal` should this process vanish.
    pub fn watch(&self, pid: u32, signal: Signal) {
        let name = signal.as_str().trim_start_matches("SIG");
        self.tell(&format!("watch {pid} {name}\n"));
    }

    /// The process has been waited for: its number may soon be somebody else's.
    pub fn forget(&self, pid: u32) {
        self.tell(&format!("forget {pid}\n"));
    }

    fn tell(&self, line: &str) {
        let mut pipe = self.0.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = pipe.as_mut()
            && let Err(error) = pipe.write_all(line.as_bytes())
        {
            tracing::warn!(%error, "the helper that would stop the children after a kill is gone");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(
            self.pipe
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let helper = self
            .helper
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = helper.wait() {
            tracing::debug!(%error, "waiting for the helper failed");
        }
    }
}
