//! The consoles of the servers: with which token one logs in. It is made once per directory.

use std::fs::{File, read_to_string};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::Error;
use super::directory::Directory;

#[derive(Clone, Debug)]
pub(super) struct Token {
    /// What the servers are given.
    pub(super) file: PathBuf,
    /// What a person types.
    pub(super) text: String,
}

impl Token {
    pub(super) fn of(directory: &Directory) -> Result<Self, Error> {
        let file = directory.root().join("console-token");
        match read_to_string(&file) {
            Ok(text) if !text.trim().is_empty() => {
                let text = text.trim().to_owned();
                return Ok(Self { file, text });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read", &file)(error)),
        }
        let mut bytes = [0; 16];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| Error::Refused("the system gives no random numbers".to_owned()))?;
        let text = HEXLOWER.encode(&bytes);
        let mut options = File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        let written = options
            .open(&file)
            .and_then(|mut out| writeln!(out, "{text}"));
        written.map_err(Error::file("write", &file))?;
        Ok(Self { file, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_token_and_others_cannot_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = Directory::temporary("stanby-console-").unwrap();
        let first = Token::of(&directory).unwrap();
        let again = Token::of(&directory).unwrap();
        assert_eq!(first.text, again.text);
        assert_eq!(first.text.len(), 32);
        let mode = first.file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
