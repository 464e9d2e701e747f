//! Keeps a server from serving beside data that it was to take over: a start line that named a file store of
//! nats-streaming-server goes on only with what is in there, or once there is something newer.

use std::path::Path;

use super::shared::Setback;
use crate::config::Config;
use crate::store::Store;

/// In the root of every file store.
const SERVER_FILE: &str = "server.dat";

/// Refuses to serve from tables that nobody has used while the former store has something in it.
pub(super) async fn ensure_carried_over(store: &Store, config: &Config) -> Result<(), Setback> {
    let Some(directory) = config.import_dir.as_deref().filter(|it| holds_store(it)) else {
        return Ok(());
    };
    if store.server_info().await?.is_some() {
        return Ok(());
    }
    let directory = directory.display();
    Err(Setback::Settings(format!(
        "{directory} holds the data of a nats-streaming-server, and the tables are empty: carry it over with `stanby \
         import --from {directory}`, or start without the file store to leave it behind"
    )))
}

fn holds_store(directory: &Path) -> bool {
    directory.join(SERVER_FILE).is_file()
}
