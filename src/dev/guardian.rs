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
use super::start_time::started;

const SHELL: &str = "/bin/sh";

/// The start of a process that has ended already, and of any where there is no /proc.
const UNKNOWN: &str = "-";

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

    /// From here on `pid` gets `signal` should this process vanish. Whoever calls has not waited for it yet. A process that
    /// ends without being forgotten does no harm: who has its number later was started at another time.
    pub fn watch(&self, pid: u32, signal: Signal) {
        let name = signal.as_str().trim_start_matches("SIG");
        let started = started(pid.cast_signed()).unwrap_or_else(|| UNKNOWN.to_owned());
        self.send(&format!("watch {pid} {started} {name}\n"));
    }

    /// The process has been waited for.
    pub fn forget(&self, pid: u32) {
        self.send(&format!("forget {pid}\n"));
    }

    fn send(&self, line: &str) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_watches_is_ended_with_it_and_a_reused_number_is_not() {
        let cat = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (mut child, mut bystander) = (cat(), cat());
        let guardian = Guardian::start(None).unwrap();
        guardian.watch(child.id(), Signal::SIGKILL);
        // As of one that had this number before.
        guardian.send(&format!("watch {} 1 KILL\n", bystander.id()));

        drop(guardian);

        assert!(bystander.try_wait().unwrap().is_none(), "it still runs");
        bystander.kill().unwrap();
        bystander.wait().unwrap();
        // `wait` closes its input, by which it would end in order.
        let _stdin = child.stdin.take();
        assert!(!child.wait().unwrap().success());
    }
}
