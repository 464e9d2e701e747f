//! A log file that can be opened anew, and begins anew at a size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Debug)]
pub(super) struct LogFile(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    file: File,
    written: u64,
    limit: Option<u64>,
}

impl LogFile {
    pub(super) fn open(path: PathBuf, limit: Option<u64>) -> io::Result<Self> {
        let (file, written) = open(&path)?;
        Ok(Self(Arc::new(Mutex::new(State {
            path,
            file,
            written,
            limit,
        }))))
    }

    /// For whoever has renamed the file: from here on a new one of the old name is written. Keeps the old one when
    /// that fails.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.file, state.written) = open(&state.path)?;
        Ok(())
    }
}

fn open(path: &PathBuf) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let written = file.metadata()?.len();
    Ok((file, written))
}

impl State {
    /// The file before is kept as `<name>.1`.
    fn begin_anew(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        (self.file, self.written) = open(&self.path)?;
        Ok(())
    }
}

/// Gets whole lines.
impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length = line.len() as u64;
        let full = |limit| state.written > 0 && state.written + length > limit;
        if state.limit.is_some_and(full) {
            // Where that fails the file grows on, which is better than no log.
            state.begin_anew().ok();
        }
        state.file.write_all(line)?;
        state.written += length;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
            file.write_all(line.as_bytes()).unwrap();
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
        file.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        file.write_all(b"two\n").unwrap();

        file.reopen().unwrap();
        file.write_all(b"three\n").unwrap();

        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }
}
