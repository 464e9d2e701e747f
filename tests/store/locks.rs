//! Tables that somebody locks as a whole, and what a takeover makes of that.

use std::collections::BTreeSet;

use stanby::core::takeover::FindPublishes;
use stanby::postgres::holders::READ_BY_TAKEOVERS;
use stanby::store::{self, Error, Store};
use tokio_postgres::Client;

use super::fixture::{Fixture, migrated, server_info};

/// All that a term reads before it serves, on the session that it commits on.
async fn read_all(store: &Store, fixture: &Fixture, client: &Client) -> Result<(), Error> {
    store.fence(client, None).await?;
    store.server_info_on(client).await?;
    store::ServerInfo::read_or_create(client, &fixture.url, &server_info("test-cluster")).await?;
    store.keys_and_terms(client).await?;
    store.snapshot_on(client).await?;
    let wanted = FindPublishes {
        guids: ["guid".into()]
            .into_iter()
            .filter_map(stanby::core::ids::Guid::parse)
            .collect(),
        ..FindPublishes::default()
    };
    store.stored_on(client, &wanted).await?;
    let inboxes = ["inbox".to_owned()];
    store.closed_connections_on(client, &inboxes).await?;
    Ok(())
}

#[tokio::test]
async fn the_tables_whose_locks_are_waited_for_are_those_that_a_takeover_reads() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (reader, other) = (fixture.client().await, fixture.client().await);
    let store = &fixture.store;
    read_all(store, &fixture, &reader).await.unwrap();
    reader
        .batch_execute("SET lock_timeout = '100ms'")
        .await
        .unwrap();
    let tables = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())";
    let mut read = BTreeSet::new();
    for row in other.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        other.batch_execute(&lock).await.unwrap();
        if read_all(store, &fixture, &reader).await.is_err() {
            read.insert(table);
        }
        other.batch_execute("ROLLBACK").await.unwrap();
        read_all(store, &fixture, &reader).await.unwrap();
    }
    let known: BTreeSet<String> = READ_BY_TAKEOVERS.iter().map(|&it| it.to_owned()).collect();
    assert_eq!(read, known, "found, and postgres/holders.rs");
}
