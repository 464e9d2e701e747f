//! A nats-server for the tests: shared by a process' tests, which keep apart by their cluster IDs and subjects.

use std::path::PathBuf;
use std::time::Duration;

use stanby::dev::Error;
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::nats::{NatsServer, Options};
use tokio::sync::OnceCell;

use super::process::{DIRECTORY, GUARDIAN, Own, RUNTIME, or_skip, temporary_directory};

static SHARED: OnceCell<Option<NatsServer>> = OnceCell::const_new();

/// The URL of the shared server; `None` where nats-server is not installed.
pub(crate) async fn url() -> Option<String> {
    SHARED
        .get_or_init(shared)
        .await
        .as_ref()
        .map(NatsServer::url)
}

async fn shared() -> Option<NatsServer> {
    or_skip(
        RUNTIME
            .spawn(start(&DIRECTORY, &GUARDIAN, None, Vec::new()))
            .await
            .unwrap(),
    )
}

/// A nats-server of the test's own with these arguments added, for tests that stop it or configure it. It
/// ends with the test's runtime.
pub(crate) async fn own_server(arguments: &[&str]) -> Option<Own<NatsServer>> {
    let directory = temporary_directory();
    let guardian = Guardian::start(Some(directory.root())).unwrap();
    let arguments = arguments
        .iter()
        .map(|argument| String::from(*argument))
        .collect();
    let server = or_skip(start(&directory, &guardian, None, arguments).await)?;
    Some(Own::new(server, guardian, directory))
}

/// Starts the test's own server again on the same port, after it was stopped or crashed.
pub(crate) async fn restart(own: &mut Own<NatsServer>, arguments: &[&str]) {
    let port = own.port();
    own.stop(Duration::from_secs(10)).await.unwrap();
    let arguments = arguments
        .iter()
        .map(|argument| String::from(*argument))
        .collect();
    let server = start(own.directory(), own.guardian(), Some(port), arguments)
        .await
        .unwrap();
    own.replace(server);
}

async fn start(
    directory: &Directory,
    guardian: &Guardian,
    port: Option<u16>,
    arguments: Vec<String>,
) -> Result<NatsServer, Error> {
    let program = std::env::var_os("STANBY_NATS_SERVER_BIN").map(PathBuf::from);
    NatsServer::start(
        directory,
        &Options {
            program,
            port,
            arguments,
        },
        guardian,
    )
    .await
}
