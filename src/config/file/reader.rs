//! Reads configuration files from the disk, with what they include.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use super::parser::{self, Outside};
use super::settings::Found;
use super::{native, streaming};
use crate::config::Error;

const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is taken from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From `-sc`, with `-c` beside it.
    Streaming,
    /// From `-c`, with `-sc` beside it.
    Process,
    Both,
}

/// A file whose name ends in `.toml` is in our own format, any other in that of NATS.
pub fn read(path: &Path, part: Part) -> Result<Found, Error> {
    let name = path.display().to_string();
    let text = text_of(path).map_err(|why| {
        Error::new(format!(
            "the configuration file {name} cannot be read: {why}"
        ))
    })?;
    understand(&text, &name, part, &Machine)
}

/// What the text of a file says; `name` shows its format.
pub fn understand(
    text: &str,
    name: &str,
    part: Part,
    outside: &dyn Outside,
) -> Result<Found, Error> {
    if is_native(Path::new(name)) {
        return native::read(text, name);
    }
    let table = parser::parse(text, name, outside)?;
    let (streaming, process) = match part {
        Part::Streaming => (true, false),
        Part::Process => (false, true),
        Part::Both => (true, true),
    };
    Ok(streaming::interpret(&table, streaming, process))
}

struct Machine;

impl Outside for Machine {
    fn include(&self, path: &str, from: &str) -> Result<(Arc<str>, String), Error> {
        // There, a path was below the folder of the file that names it, even one that begins with a slash.
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let below = folder.join(path.trim_start_matches('/'));
        let path = if below.exists() {
            below
        } else {
            folder.join(path)
        };
        let text = text_of(&path)
            .map_err(|why| Error::new(format!("{} cannot be read: {why}", path.display())))?;
        Ok((path.display().to_string().into(), text))
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::other(why));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) if is_native(path) => Err(io::Error::other("it is not UTF-8 text")),
        // Old files have comments in other encodings. What is UTF-8 stays what it is beside them.
        Err(error) => {
            let mut text = String::new();
            for chunk in error.as_bytes().utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().copied().map(char::from));
            }
            Ok(text)
        }
    }
}

fn is_native(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}
