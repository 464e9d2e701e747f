//! What can go wrong while running the children. Each text says what to do.

use std::io;
use std::path::{Path, PathBuf};

/// By what the caller would do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed. Tests that need it may be skipped.
    #[error("{0}")]
    Missing(String),
    /// Something that belongs to somebody else is in the way: the user has to decide.
    #[error("{0}")]
    Refused(String),
    /// A child ended, or was not ready in time; its log says why.
    #[error("{what}; the end of its log {} says:\n{tail}", log.display())]
    Child {
        what: String,
        log: PathBuf,
        tail: String,
    },
    #[error("cannot {doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot run {}", program.display())]
    Run { program: PathBuf, source: io::Error },
}

impl Error {
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    /// `begin` is where the child's own part of the log begins: what came before is history.
    pub(super) fn child(what: String, log: &Path, begin: u64) -> Self {
        Self::Child {
            what,
            log: log.to_path_buf(),
            tail: last_lines(log, begin),
        }
    }
}

/// Enough of a log's end to see the reason.
const LOG_TAIL_BYTES: u64 = 4096;
const LOG_TAIL_LINES: usize = 8;

fn last_lines(log: &Path, begin: u64) -> String {
    let Ok(bytes) = read_end(log, begin) else {
        return String::from("  (cannot be read)");
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<_> = text.lines().rev().take(LOG_TAIL_LINES).collect();
    lines.reverse();
    lines
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn read_end(log: &Path, begin: u64) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};

    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        length.saturating_sub(LOG_TAIL_BYTES).max(begin),
    ))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
