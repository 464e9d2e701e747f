//! What belongs to the test process as a whole.

use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use stanby::dev::Error;
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use tokio::runtime::{Builder, Runtime};

/// Outlives the runtimes of the tests, which would take the shared children's plumbing along.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
});

/// Removed by the guardian: nothing is dropped when a test process ends.
pub(crate) static DIRECTORY: LazyLock<Directory> = LazyLock::new(temporary_directory);

pub(crate) static GUARDIAN: LazyLock<Guardian> =
    LazyLock::new(|| Guardian::start(Some(DIRECTORY.root())).unwrap());

pub(crate) fn temporary_directory() -> Directory {
    Directory::temporary("stanby-test").unwrap()
}

/// A server of one test's own. Dropping it ends the server, however it fares, and removes its files.
#[derive(Debug)]
pub(crate) struct Own<S> {
    // Dropped in this order: the guardian waits for the server, and removes the directory.
    server: S,
    guardian: Guardian,
    directory: Directory,
}

impl<S> Own<S> {
    pub(crate) fn new(server: S, guardian: Guardian, directory: Directory) -> Self {
        Self {
            server,
            guardian,
            directory,
        }
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn guardian(&self) -> &Guardian {
        &self.guardian
    }

    /// Puts a newly started server in the place of one that has ended.
    pub(crate) fn replace(&mut self, server: S) {
        self.server = server;
    }
}

impl<S> Deref for Own<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.server
    }
}

impl<S> DerefMut for Own<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.server
    }
}

/// Lets a test end where `error` says that a program is missing and the run does not insist.
pub(crate) fn or_skip<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Missing(reason)) => {
            skip(&reason);
            None
        }
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

/// Says why a test checks nothing; fails it where the run insists on every tool.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var_os("STANBY_TEST_REQUIRE").is_none(),
        "{reason}"
    );
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // The harness captures what `eprintln!` writes, and shows it of failed tests only.
    let line = format!("skipped {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
