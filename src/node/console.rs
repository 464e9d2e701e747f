//! What the console reads with, once this server knows its tables.

use std::time::Duration;

use super::doctor::diagnose;
use crate::config::Config;
use crate::monitoring::view_reader::{Doctor, ViewReader};
use crate::store::{Error, Keyring, Store};

/// How long one statement may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// `secret` is what the servers of these tables share and nobody else knows. No connection is opened before somebody looks.
pub(super) fn open(views: &ViewReader, config: &Config, secret: &[u8]) {
    let store = Store::open(
        &config.database_url,
        &config.schema,
        "stanby/console",
        STATEMENT_TIMEOUT,
    );
    let store = store
        .with_keys(Keyring::new(&config.encryption, &config.cluster_id))
        .known_direct();
    let config = config.clone();
    let doctor: Doctor = Box::new(move || {
        let config = config.clone();
        Box::pin(async move {
            let findings = diagnose(&config).await;
            findings.map_err(|error| Error::Failed(error.to_string()))
        })
    });
    views.open(store, secret, doctor);
}
