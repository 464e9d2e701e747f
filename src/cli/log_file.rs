//! A log file that can be reopened, and is begun again at a size; also one that is no file of a disk: a FIFO, a device.
//! Used by the thread of the log alone, which may wait for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use crate::log_queue::Sink;

/// Where nothing can be written to at the moment (another process made the pipe non-blocking), it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    limit: Option<u64>,
    /// The log is a FIFO whose reader has gone.
    is_broken: bool,
}

impl LogFile {
    /// Waits for a reader where the path is a FIFO.
    pub(super) fn open(path: PathBuf, limit: Option<u64>) -> io::Result<Self> {
        let (file, written) = open(&path)?;
        Ok(Self {
            path,
            file,
            written,
            limit,
            is_broken: false,
        })
    }

    /// The file before is kept as `<name>.1`.
    fn begin_anew(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        self.open_anew()
    }

    fn open_anew(&mut self) -> io::Result<()> {
        (self.file, self.written) = open(&self.path)?;
        self.is_broken = false;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    // Names of clients and channels are not everybody's to read.
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o660)
        .open(path)?;
    let written = file.metadata()?.len();
    Ok((file, written))
}

impl Sink for LogFile {
    fn write(&mut self, _: Level, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        let full = |limit| self.written > 0 && self.written + length > limit;
        if self.limit.is_some_and(full) {
            // Where that fails the file grows on, which is better than no log.
            self.begin_anew().ok();
        }
        if self.is_broken {
            self.open_anew()?;
        }
        let written = write_whole(&mut self.file, line);
        if let Err(error) = &written {
            self.is_broken = error.kind() == io::ErrorKind::BrokenPipe;
        }
        written?;
        self.written += length;
        Ok(())
    }

    /// In the words of NATS Streaming. Keeps the old file when that fails.
    fn reopen(&mut self) {
        match self.open_anew() {
            Ok(()) => tracing::info!("File log re-opened"),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(
                    error,
                    "the log file cannot be reopened; the old one stays in use"
                );
            }
        }
    }
}

/// Standard error under a descriptor of its own: whoever waits there holds the lock of `std::io::stderr` from nobody.
#[derive(Debug)]
pub(super) struct StandardError(File);

impl StandardError {
    pub(super) fn open() -> io::Result<Self> {
        let stream = io::stderr();
        Ok(Self(stream.as_fd().try_clone_to_owned()?.into()))
    }
}

impl Sink for StandardError {
    fn write(&mut self, _: Level, line: &[u8]) -> io::Result<()> {
        write_whole(&mut self.0, line)
    }
}

fn write_whole(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::park_timeout(TRY_AGAIN);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_begins_anew_at_its_limit_and_keeps_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut file = LogFile::open(path.clone(), Some(10)).unwrap();
        for line in [
            "12345\n",
            "abcd\n",
            "efgh\n",
            "a line of more than ten\n",
            "x\n",
        ] {
            file.write(Level::INFO, line.as_bytes()).unwrap();
        }

        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x\n");
        let before = std::fs::read_to_string(folder.path().join("a.log.1"));
        assert_eq!(before.unwrap(), "a line of more than ten\n");
    }

    #[test]
    fn a_file_that_was_renamed_is_left_when_it_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("a.log"), folder.path().join("moved"));
        let mut file = LogFile::open(path.clone(), None).unwrap();
        file.write(Level::INFO, b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        file.write(Level::INFO, b"two\n").unwrap();

        file.reopen();
        file.write(Level::INFO, b"three\n").unwrap();

        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_fifo_whose_reader_has_gone_is_written_to_again_when_there_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Opened for both, so that neither end waits for the other.
        let reader = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .unwrap()
        };
        let first = reader();
        let mut fifo = LogFile::open(path.clone(), None).unwrap();
        fifo.write(Level::INFO, b"one\n").unwrap();
        drop(first);
        assert!(fifo.write(Level::INFO, b"lost\n").is_err());

        let mut second = reader();
        fifo.write(Level::INFO, b"two\n").unwrap();

        // The pipe keeps what nobody has read for as long as one end is open.
        let mut read = [0; 8];
        std::io::Read::read_exact(&mut second, &mut read).unwrap();
        assert_eq!(&read, b"one\ntwo\n");
    }
}
