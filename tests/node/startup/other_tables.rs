//! Tables of another version, cluster or group are left alone.

use std::process::Stdio;

use tokio::time::timeout;

use super::{NATS_AWAY, assert_says, execute, number, refusal, refusal_of, text};
use crate::pair::{Group, LIMIT, Server};
use crate::support::nats;
use crate::support::postgres;

/// Acceptance: 148.
#[tokio::test]
async fn tables_of_a_newer_server_are_left_alone() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    group.server().wait_until_active().await;
    let newer = "INSERT INTO stanby.schema_versions
        SELECT 999, 'from the future', now(), true, '', 0;
        CREATE OR REPLACE VIEW stanby.schema_compatibility AS SELECT 999::bigint AS oldest_server";
    execute(&group.database_url, newer).await;

    let line = refusal_of(&group.database_url).await;

    assert_says(
        &line,
        &["schema stanby has version 999", "run that version"],
    );
}

/// Acceptance: 135.
#[tokio::test]
async fn tables_of_another_cluster_are_left_alone() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let active = group.server();
    active.wait_until_active().await;

    let url = &group.database_url;
    let line = refusal(&["--database-url", url, "--cluster-id", "mine"]).await;
    let text = format!(
        "cluster ID \"mine\" does not match recovered value of {:?}; start with the recovered one",
        group.cluster_id
    );
    assert_says(&line, &[&text]);

    assert_eq!(active.wait_until_active().await, 1);
    let epoch = number(url, "SELECT epoch FROM stanby.leadership").await;
    assert_eq!(epoch, 1, "nobody else took over meanwhile");
}

/// Acceptance: 135.
#[tokio::test]
async fn a_server_in_the_queue_ends_when_the_tables_turn_out_to_be_another_clusters() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let active = group.server();
    active.wait_until_active().await;
    // As both found it when they started.
    let url = group.database_url.as_str();
    let empty = "CREATE TABLE kept AS TABLE stanby.server_info; DELETE FROM stanby.server_info";
    execute(url, empty).await;
    let mine = ["--database-url", url, "--cluster-id", "mine"];
    let mine = [&mine[..], &["--nats-server", &group.nats_url]].concat();

    let (line, ()) = tokio::join!(refusal(&mine), async {
        group.wait_for_standbys(1).await;
        execute(url, "INSERT INTO stanby.server_info TABLE kept").await;
    });

    let theirs = format!("recovered value of {:?}", group.cluster_id);
    assert_says(&line, &["cluster ID \"mine\" does not match", &theirs]);
    assert_eq!(active.wait_until_active().await, 1);
    let epoch = number(url, "SELECT epoch FROM stanby.leadership").await;
    assert_eq!(epoch, 1, "it took over before it looked");
}

/// Acceptance: 135.
#[tokio::test]
async fn of_two_clusters_that_start_at_once_on_an_empty_database_one_is_refused() {
    let (Some(database), Some(nats)) = (postgres::database().await, nats::url().await) else {
        return;
    };
    let start = |cluster_id: &str| {
        let mut command = Server::command();
        command
            .args([
                "serve",
                "--database-url",
                &database.url,
                "--nats-server",
                &nats,
            ])
            .args(["--cluster-id", cluster_id])
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let [one, other] = ["one", "other"].map(|suffix| format!("{}-{suffix}", database.name));
    let (mut first, mut second) = (start(&one), start(&other));

    let ended = timeout(LIMIT, async {
        tokio::select! {
            _ = first.wait() => first,
            _ = second.wait() => second,
        }
    });

    let output = ended.await.expect("one of them ends").wait_with_output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let line = said.lines().find(|line| line.contains("ERROR")).unwrap();
    assert_says(line, &["does not match recovered value of", &one, &other]);
    let owner = text(&database.url, "SELECT cluster_id FROM stanby.server_info").await;
    let owner = format!("recovered value of {owner:?}");
    assert_says(line, &[&owner]);
}

#[tokio::test]
async fn a_server_of_another_ft_group_is_refused_on_the_schema_of_a_pair() {
    let Some(group) = Group::new(&["--ft-group", "orders"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;

    let line = refusal(&[
        "--database-url",
        &group.database_url,
        "--nats-server",
        NATS_AWAY,
        "--cluster-id",
        &group.cluster_id,
        "--ft-group",
        "invoices",
    ])
    .await;

    assert_says(
        &line,
        &["\"orders\"", "\"invoices\"", "--ft-group", "--schema"],
    );
}
