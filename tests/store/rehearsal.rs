//! What a standby prepares for its takeover.

use std::collections::{BTreeMap, BTreeSet};

use stanby::config::database::DatabaseUrl;
use stanby::store::Store;

use crate::fixture::{PATIENCE, SCHEMA, TIMEOUT};
use crate::support::postgres::own_server_with;
use crate::support::wait::wait_until;

/// Postgres writes a line for each step of each statement.
const LOGGED: [&str; 2] = ["log_min_duration_statement=0", "log_line_prefix=%p "];

#[tokio::test]
async fn a_takeover_after_a_rehearsal_only_asks_what_is_prepared() {
    let Some(server) = own_server_with(&LOGGED).await else {
        return;
    };
    let url = DatabaseUrl::parse(&server.url()).unwrap();
    let store = Store::open(&url, SCHEMA, "stanby/test", TIMEOUT);
    store.migrate().await.unwrap();

    store.rehearse().await.unwrap();
    let before = parsed(server.log());
    all_given_back(&store).await;
    store.snapshot().await.unwrap();
    all_given_back(&store).await;
    store
        .stored(&BTreeMap::new(), &BTreeSet::new(), 0)
        .await
        .unwrap();
    all_given_back(&store).await;
    store.closed_connections(&["i".to_owned()]).await.unwrap();

    assert!(!before.is_empty(), "the rehearsal prepares");
    assert_eq!(parsed(server.log())[before.len()..], [""; 0]);
}

/// A moment after a read, its connection can be lent again.
async fn all_given_back(store: &Store) {
    wait_until(PATIENCE, || async {
        match store.pool_use() {
            (connections, idle) if connections == idle => Ok(()),
            lent => Err(format!("connections and idle ones: {lent:?}")),
        }
    })
    .await;
}

/// The statements that Postgres has parsed for connections of the pool.
fn parsed(log: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().filter(|line| line.contains(" parse sqlx"));
    lines.map(str::to_owned).collect()
}
