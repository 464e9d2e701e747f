//! A database with our tables, and a session to write on.

use std::time::Duration;

use stanby::config::database::DatabaseUrl;
use stanby::store::{ServerInfo, Store, Writer};
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::support::postgres::{TestDatabase, database};

pub(crate) const SCHEMA: &str = "stan by\"x";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// For conditions that come true at once on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) url: DatabaseUrl,
    pub(crate) store: Store,
    pub(crate) tracker: TaskTracker,
    pub(crate) database: TestDatabase,
}

/// An empty database; `None` where Postgres is not installed.
pub(crate) async fn empty() -> Option<Fixture> {
    let database = database().await?;
    let url = DatabaseUrl::parse(&database.url).unwrap();
    let store = Store::open(&url, SCHEMA, "stanby/test", TIMEOUT);
    Some(Fixture {
        url,
        store,
        tracker: TaskTracker::new(),
        database,
    })
}

/// A database with our tables and a server's identity.
pub(crate) async fn migrated() -> Option<Fixture> {
    let fixture = empty().await?;
    fixture.store.migrate().await.unwrap();
    Some(fixture)
}

impl Fixture {
    /// A plain session within the schema.
    pub(crate) async fn client(&self) -> Client {
        let (config, tls) = self.url.for_session().unwrap();
        let (client, connection) = config.connect(tls).await.unwrap();
        self.tracker.spawn(async {
            // The end of the session is what some tests are about; the client tells it.
            drop(connection.await);
        });
        let schema = SCHEMA.replace('"', "\"\"");
        client
            .batch_execute(&format!("SET search_path = \"{schema}\""))
            .await
            .unwrap();
        client
    }

    /// A session that the server's row is written on already.
    pub(crate) async fn writer(&self) -> (Client, Writer) {
        let client = self.client().await;
        ServerInfo::read_or_create(&client, &self.url, &server_info("test-cluster"))
            .await
            .unwrap();
        let writer = Writer::prepare(&client, &self.url).await.unwrap();
        (client, writer)
    }
}

pub(crate) fn server_info(cluster_id: &str) -> ServerInfo {
    ServerInfo {
        cluster_id: cluster_id.to_owned(),
        discover_prefix: "disc".to_owned(),
        publish_prefix: "pub".to_owned(),
        subscribe_subject: "sub".to_owned(),
        unsubscribe_subject: "unsub".to_owned(),
        close_subscription_subject: "subclose".to_owned(),
        close_subject: "close".to_owned(),
        ack_prefix: "ack".to_owned(),
    }
}
