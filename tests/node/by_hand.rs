//! What an operator does to the tables by hand, beside what `refused` tries: it is named with its remedy, and the pair keeps its
//! service or has it back.
use crate::cli::{stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Pair, Server, wait_for_one_active};
use crate::support::wait::wait_until;

async fn publishes(group: &Group, client: &str) {
    let client = group.client(client).await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;
}

async fn status(group: &Group) -> String {
    let output = stanby(&["status", "--database-url", &group.database_url]).await;
    format!("{}{}", stdout(&output), stderr(&output))
}

/// Each with what the log says of it.
const CHANGES: [(&str, &str); 5] = [
    ("DELETE FROM leadership", "has no row"),
    (
        "UPDATE leadership SET epoch = epoch + 40",
        "names term 42 of server",
    ),
    // A term that was.
    ("UPDATE leadership SET epoch = 1", "names term 1 of server"),
    (
        "UPDATE leadership SET holder = NULL, host = NULL, pid = NULL, since = NULL",
        "of nobody",
    ),
    (
        "DELETE FROM leadership; DELETE FROM takeovers",
        "has no row",
    ),
];

#[tokio::test]
async fn a_row_of_leadership_that_was_changed_or_deleted_is_set_right_by_a_new_term() {
    let Some(pair) = Pair::new(&["--lease", "1s"]).await else {
        return;
    };
    let group = &pair.group;
    let logs = || pair.active.log() + &pair.standby.log();
    publishes(group, "before").await;
    let mut epoch = 1;
    for (round, (change, told)) in (1..).zip(CHANGES) {
        group.tables().execute(change).await;

        wait_until(LIMIT, async || {
            let logs = logs();
            let said = logs.lines().filter(|line| {
                line.contains("stepped down") && line.contains("changed table leadership")
            });
            let said: Vec<&str> = said.collect();
            let is_told = said.len() >= round && said.iter().any(|line| line.contains(told));
            is_told.then_some(()).ok_or(format!("{change}: {logs}"))
        })
        .await;
        wait_for_one_active(&[&pair.active, &pair.standby]).await;
        let after = group.tables().number("SELECT epoch FROM leadership").await;
        assert!(after > epoch, "{change}: numbers of terms never go back");
        epoch = after;
        publishes(group, &format!("after-{epoch}")).await;
    }
    assert!(!logs().contains("unexpected null"), "{}", logs());
    let said = status(group).await;
    assert!(said.contains(&epoch.to_string()), "{said}");
}

#[tokio::test]
async fn a_row_of_leadership_that_is_missing_is_named_and_written_again_by_the_next_start() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let first = group.server();
    first.wait_until_active().await;
    publishes(&group, "before").await;
    first.kill().await;
    group.tables().execute("DELETE FROM leadership").await;

    let said = status(&group).await;
    assert!(said.contains("table leadership has no row"), "{said}");
    let second = group.server();

    assert_eq!(second.wait_until_active().await, 2);
    publishes(&group, "after").await;
    assert!(second.log().contains("it is written again"));
}

/// Postgres ends what needs more files than that.
#[tokio::test]
async fn a_limit_of_postgres_that_is_hit_is_named_with_the_remedy() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let first = group.server();
    first.wait_until_active().await;
    publishes(&group, "before").await;
    first.kill().await;
    // Clients are read in order, which needs more memory than that.
    let name = &group.cluster_id;
    let tables = group.tables();
    tables
        .execute(format!(
            "ALTER DATABASE {name} SET temp_file_limit = 1; ALTER DATABASE {name} SET work_mem = '64kB';
            INSERT INTO clients
                SELECT md5(n::text), 'c', '_INBOX.' || n, 1, 5, 3, 0, 0, 0 FROM generate_series(1, 5000) n"
        ))
        .await;

    let second: Server = group.server();
    second.wait_for_trouble("temp_file_limit").await;
    second.wait_for_trouble("SET temp_file_limit = -1").await;
    tables
        .execute(format!("ALTER DATABASE {name} RESET temp_file_limit"))
        .await;

    second.wait_until_active().await;
}
