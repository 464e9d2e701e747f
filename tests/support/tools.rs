//! The programs by which tests drive clients of NATS Streaming. `scripts/test` installs them.

use std::path::{Path, PathBuf};

use super::process::skip;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The directory of the Node client's scripts, if `node` and the client are installed.
pub(crate) fn node() -> Option<PathBuf> {
    let directory = Path::new(ROOT).join("tests/clients/node");
    let client = directory.join("node_modules/node-nats-streaming/package.json");
    installed(
        directory,
        &[program("node"), Some(client)],
        "the Node client",
    )
}

/// Chromium, and the directory of the scripts that drive it, if both are installed.
pub(crate) fn browser() -> Option<(PathBuf, PathBuf)> {
    let directory = Path::new(ROOT).join("tests/console");
    let driver = directory.join("node_modules/playwright-core/package.json");
    let chromium = program("chromium");
    let needs = [program("node"), chromium.clone(), Some(driver)];
    installed(
        (chromium.unwrap_or_default(), directory),
        &needs,
        "Chromium or its driver",
    )
}

/// The interpreter of `target/<environment>`, which has a Python client, if it is installed.
pub(crate) fn python(environment: &str) -> Option<PathBuf> {
    let environment = Path::new(ROOT).join("target").join(environment);
    let interpreter = environment.join("bin/python");
    // Written once all of the requirements are there.
    let stamp = environment.join("installed-for");
    installed(
        interpreter.clone(),
        &[Some(interpreter), Some(stamp)],
        "the Python client",
    )
}

/// Where cargo builds the Rust clients, if it has done so before: the first time it downloads what they need.
pub(crate) fn rust_clients() -> Option<PathBuf> {
    let directory = Path::new(ROOT).join("target/clients-rust");
    let built = directory.join("debug/steps-stan");
    installed(directory, &[Some(built)], "what the Rust clients need")
}

/// The C compiler, if the C client's headers are installed too.
pub(crate) fn c_compiler() -> Option<PathBuf> {
    let header = PathBuf::from("/usr/include/nats/nats.h");
    installed(
        program("cc").unwrap_or_default(),
        &[program("cc"), Some(header)],
        "the C client",
    )
}

/// A client program of Postgres: `psql`, `pg_dump`. That of the servers which the tests are to use, where one is named.
pub(crate) fn of_postgres(name: &str) -> Option<PathBuf> {
    let named =
        std::env::var_os("STANBY_PG_BIN").map(|directory| PathBuf::from(directory).join(name));
    let found = named
        .filter(|file| file.is_file())
        .or_else(|| program(name));
    installed(found.clone().unwrap_or_default(), &[found], name)
}

fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn installed<T>(value: T, needs: &[Option<PathBuf>], what: &str) -> Option<T> {
    let complete = needs
        .iter()
        .all(|need| need.as_deref().is_some_and(Path::exists));
    if !complete {
        skip(&format!(
            "{what} is not installed: scripts/test installs it"
        ));
    }
    complete.then_some(value)
}
