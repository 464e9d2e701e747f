//! Children that outlived their supervisor, found by the notes it left and ended before new ones start.
//!
//! The guardian ends children within moments; this is for the case that it was killed too.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{interval, timeout};

use super::Error;
use super::directory::Directory;
use super::start_time::started;

const POLL: Duration = Duration::from_millis(20);

const EXTENSION: &str = "pid";

/// Notes that `pid` runs as the child called `name`. When it was started is part of the note: numbers are
/// reused.
pub(super) fn note(directory: &Directory, name: &str, pid: u32) -> Result<(), Error> {
    let path = directory.run().join(name).with_extension(EXTENSION);
    // A process that is gone again needs no note.
    let Some(started) = started(pid.cast_signed()) else {
        return Ok(());
    };
    fs::write(&path, format!("{pid} {started}\n")).map_err(Error::file("write", &path))
}

/// Ends what the notes in `directory` name and still runs. The caller holds its lock, so nobody needs them.
/// The guardian is given `patience` to do it, and the process as much after each signal.
pub(super) async fn end_all(directory: &Directory, patience: Duration) -> Result<(), Error> {
    let run = directory.run();
    let entries = fs::read_dir(&run).map_err(Error::file("read", &run))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            end(&path, patience).await?;
        }
        // What ends cleanly takes its own files along.
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(Error::file("remove", &path)(error));
        }
    }
    Ok(())
}

async fn end(note: &Path, patience: Duration) -> Result<(), Error> {
    for signal in [
        None,
        Some(Signal::SIGINT),
        Some(Signal::SIGQUIT),
        Some(Signal::SIGKILL),
    ] {
        let Some(pid) = running(note) else {
            return Ok(());
        };
        if let Some(signal) = signal {
            tracing::warn!(%pid, %signal, note = %note.display(), "ending a process that lost its supervisor");
            if let Err(error) = kill(pid, signal) {
                tracing::debug!(%error, "it could not be signalled");
            }
        }
        let gone = async {
            let mut tick = interval(POLL);
            while running(note).is_some() {
                tick.tick().await;
            }
        };
        if timeout(patience, gone).await.is_ok() {
            return Ok(());
        }
    }
    Err(Error::Refused(format!(
        "the process whose number is in {} still runs and does not end: stop it, then start again",
        note.display()
    )))
}

/// The process of a note, if it is the noted one.
fn running(note: &Path) -> Option<Pid> {
    let text = fs::read_to_string(note).ok()?;
    let (pid, noted) = text.trim_end().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (started(pid)? == noted).then_some(Pid::from_raw(pid))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_noted_process_is_ended_and_a_reused_number_is_not() {
        let directory = Directory::temporary("stanby-unit").unwrap();
        let cat = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (mut orphan, mut bystander) = (cat(), cat());
        note(&directory, "orphan", orphan.id()).unwrap();
        let other = format!("{} 1\n", bystander.id());
        fs::write(directory.run().join("bystander.pid"), other).unwrap();

        // `wait` would close it, and the program end by that.
        let _stdin = orphan.stdin.take();
        // Reaped while being waited for, as a real orphan is by init.
        let reaped = tokio::task::spawn_blocking(move || orphan.wait().unwrap());
        end_all(&directory, Duration::from_millis(200))
            .await
            .unwrap();

        assert!(!reaped.await.unwrap().success());
        assert!(
            bystander.try_wait().unwrap().is_none(),
            "the bystander still runs"
        );
        assert_eq!(fs::read_dir(directory.run()).unwrap().count(), 0);
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}
