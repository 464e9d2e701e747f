//! What a standby prepares for its takeover.

use stanby::config::database::DatabaseUrl;
use stanby::core::takeover::FindPublishes;
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
    store.stored(&FindPublishes::default()).await.unwrap();
    all_given_back(&store).await;
    store.closed_connections(&["i".to_owned()]).await.unwrap();

    assert!(!before.is_empty(), "the rehearsal prepares");
    assert_eq!(parsed(server.log())[before.len()..], [""; 0]);
}

#[tokio::test]
async fn a_takeover_waits_for_one_message_to_postgres_per_question() {
    let Some(server) = own_server_with(&LOGGED).await else {
        return;
    };
    let url = DatabaseUrl::parse(&server.url()).unwrap();
    let store = Store::open(&url, SCHEMA, "stanby/test", TIMEOUT);
    store.migrate().await.unwrap();
    store.rehearse().await.unwrap();
    all_given_back(&store).await;

    let before = asked(server.log());
    store.snapshot().await.unwrap();
    all_given_back(&store).await;
    let of_snapshot = asked(server.log())[before.len()..].to_vec();
    let before = asked(server.log());
    store.stored(&FindPublishes::default()).await.unwrap();
    store.closed_connections(&["i".to_owned()]).await.unwrap();
    all_given_back(&store).await;
    let of_requests = asked(server.log())[before.len()..].to_vec();

    // Nobody waits for the end of the transaction.
    assert_eq!(of_snapshot.len(), 2, "{of_snapshot:#?}");
    assert!(of_snapshot[1].ends_with("statement: COMMIT"));
    assert_eq!(of_requests.len(), 2, "{of_requests:#?}");
}

/// A moment after a read, its connection can be checked out again.
async fn all_given_back(store: &Store) {
    wait_until(PATIENCE, || async {
        match store.pool_use() {
            (connections, idle) if connections == idle => Ok(()),
            other => Err(format!("connections and idle ones: {other:?}")),
        }
    })
    .await;
}

/// What Postgres was sent: several statements in one message are one line.
fn asked(log: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let of_pool = |line: &&str| line.contains(" statement: ") || line.contains(" execute ");
    text.lines().filter(of_pool).map(str::to_owned).collect()
}

/// The statements that Postgres has parsed for connections of the pool.
fn parsed(log: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().filter(|line| line.contains(" parse sqlx"));
    lines.map(str::to_owned).collect()
}
