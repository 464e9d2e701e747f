//! Shows what is added to a log file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// A turn reads no more, so that a chatty log cannot hold up the rest; the next turn goes on.
const TURN_BYTES_MAX: u64 = 256 * 1024;
/// A line that is longer is shown in pieces.
const LINE_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Follower {
    file: File,
    /// The beginning of a line whose end has not been written.
    partial: Vec<u8>,
}

impl Follower {
    /// Begins at the end of what is there.
    pub(super) fn open(log: &Path) -> io::Result<Self> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            file,
            partial: Vec::new(),
        })
    }

    /// Hands over the lines that have been added.
    pub(super) fn turn(&mut self, mut show: impl FnMut(&str)) -> io::Result<()> {
        (&mut self.file)
            .take(TURN_BYTES_MAX)
            .read_to_end(&mut self.partial)?;
        let mut rest = self.partial.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            show(&String::from_utf8_lossy(&rest[..end]));
            rest = &rest[end + 1..];
        }
        if rest.len() > LINE_BYTES_MAX {
            show(&String::from_utf8_lossy(rest));
            rest = &[];
        }
        self.partial = rest.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_new_and_whole_lines_are_shown() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        log.write_all(b"old\n").unwrap();
        let mut follower = Follower::open(log.path()).unwrap();
        let mut turn = || {
            let mut shown = Vec::new();
            follower.turn(|line| shown.push(line.to_owned())).unwrap();
            shown
        };

        assert!(turn().is_empty());
        log.write_all(b"one\ntw").unwrap();
        assert_eq!(turn(), ["one"]);
        log.write_all(b"o\n\n").unwrap();
        assert_eq!(turn(), ["two", ""]);
        log.write_all("x".repeat(LINE_BYTES_MAX + 1).as_bytes())
            .unwrap();
        assert_eq!(turn()[0].len(), LINE_BYTES_MAX + 1);
        log.write_all(b"after\n").unwrap();
        assert_eq!(turn(), ["after"]);
    }
}
