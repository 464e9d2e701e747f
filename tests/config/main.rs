//! Configuration: files, flags and environment to the values that a server runs with. Nothing is started.

mod as_people_have_them;
mod as_the_former_took_them;
mod fields;
mod files;
mod lines;
mod native;
mod nats_part;
mod refusals;
mod syntax;

use std::ffi::OsString;
use std::path::PathBuf;

use stanby::config::{Error, Sources};
use tempfile::TempDir;

const DATABASE: &str = "postgres://u:geheim@db.example.com/stan";

/// A folder with configuration files.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file in it");
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What a server is told by the file `main.conf` and these flags, in our spelling.
    fn read(&self, name: &str, flags: &[&str]) -> Result<Sources, Error> {
        let mut args = vec![OsString::from(format!(
            "--config={}",
            self.path(name).display()
        ))];
        args.extend(flags.iter().map(OsString::from));
        Sources::read(&args)
    }

    /// An error as its reader sees it, but for the folder.
    fn told(&self, error: &Error) -> String {
        let folder = format!("{}/", self.0.path().display());
        error.to_string().replace(&folder, "")
    }
}

fn sources(text: &str) -> Sources {
    let files = Files::new(&[("main.conf", text)]);
    let read = files.read("main.conf", &[]);
    read.unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refusal(text: &str) -> String {
    let files = Files::new(&[("main.conf", text)]);
    match files.read("main.conf", &[]) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => files.told(&error),
    }
}
