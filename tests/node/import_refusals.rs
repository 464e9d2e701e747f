//! When `stanby import` refuses, nothing is written: neither to our tables nor to the former ones.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::cli::{code, stderr, stdout};
use crate::former::{FormerTables, ServerInfo, SubState, server_info};
use crate::import::{
    CHANNEL, command, ensure_imported, ensure_nothing_written, fill, group, import, import_with,
    refusal,
};
use crate::pair::{Group, LIMIT};
use crate::startup::as_role_of;
use crate::support::wait::wait_until;

#[tokio::test]
async fn tables_that_are_not_those_asked_for_are_refused() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    let other = server_info("other-cluster");
    tables.server_info(&other, 1).await;
    let text = refusal(&group, &[], &[]).await;
    assert!(
        text.contains("those of cluster ID \"other-cluster\""),
        "{text}"
    );
    assert!(text.contains("give --cluster-id other-cluster"), "{text}");

    let own = server_info(&group.cluster_id);
    tables.server_info(&own, 2).await;
    let text = refusal(&group, &[], &[]).await;
    assert!(text.contains("only version 1 is known"), "{text}");

    tables.execute("DELETE FROM ServerInfo").await;
    let text = refusal(&group, &[], &[]).await;
    assert!(text.contains("table ServerInfo has no row"), "{text}");

    let elsewhere = server_info(&group.cluster_id);
    let elsewhere = ServerInfo {
        discovery: format!("elsewhere.{}", group.cluster_id),
        ..elsewhere
    };
    tables.server_info(&elsewhere, 1).await;
    let text = refusal(&group, &[], &[]).await;
    let remedy = "give --discover-prefix elsewhere, here and to the servers";
    assert!(text.contains(remedy), "{text}");
    tables.server_info(&own, 1).await;

    let text = refusal(&group, &["--from-schema", "nowhere"], &[]).await;
    assert!(text.contains("has no table nowhere.serverinfo"), "{text}");
    let text = refusal(&group, &["--schema", "public"], &[]).await;
    assert!(text.contains("name another one with --schema"), "{text}");
    let away = "postgres://u:geheim@127.0.0.1:1/d";
    let output = import_with(&group, &["--from", away], &[]).await;
    assert_eq!(code(&output), Some(2), "given twice: {}", stderr(&output));
    ensure_nothing_written(&group).await;
}

#[tokio::test]
async fn a_former_server_that_runs_is_noticed_by_its_lock() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    tables
        .execute("INSERT INTO StoreLock VALUES ('holder', 5)")
        .await;
    let mut command = command(&group, &[], &[]);
    let importing = command.output();
    let ticking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            tables.execute("UPDATE StoreLock SET tick = tick + 1").await;
        }
    };
    let output = tokio::select! {
        output = importing => output.unwrap(),
        () = ticking => unreachable!("it does not end"),
    };
    assert_eq!(code(&output), Some(1));
    let text = stderr(&output);
    assert!(text.contains("\"holder\" still runs"), "{text}");
    ensure_nothing_written(&group).await;

    // It has crashed.
    let output = import(&group).await;
    ensure_imported(&output);
}

#[tokio::test]
async fn whoever_listens_for_clients_is_noticed() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    let nats = async_nats::connect(&group.nats_url).await.unwrap();
    let discover = server_info(&group.cluster_id).discovery;
    let _listening = nats.subscribe(discover).await.unwrap();
    nats.flush().await.unwrap();

    let text = refusal(&group, &[], &[]).await;
    assert!(text.contains("a server listens for clients"), "{text}");
    ensure_nothing_written(&group).await;
}

#[tokio::test]
async fn tables_in_use_are_not_imported_into() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    // Another cluster ID: it is not heard on NATS.
    let others = Group::over(group.database_url.clone(), group.nats_url.clone(), &[]);
    let server = others.server();
    server.wait_until_active().await;

    let text = refusal(&group, &[], &[]).await;
    assert!(text.contains("holds the lock of schema stanby"), "{text}");

    others.client("somebody").await;
    server.kill().await;
    let text = refusal(&group, &[], &[]).await;
    assert!(text.contains("schema stanby is not empty"), "{text}");
    assert_eq!(group.tables().messages(CHANNEL).await, []);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_named_and_nothing_is_written() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    tables.channel(2, "later", 0).await;
    tables.message(2, "later", 1, b"x").await;
    tables
        .execute("INSERT INTO Messages (id, seq, data) VALUES (2, 5, '\\xffff')")
        .await;

    let text = refusal(&group, &[], &[]).await;
    assert!(text.contains("channel \"later\", message 5: "), "{text}");
    ensure_nothing_written(&group).await;

    tables
        .execute("DELETE FROM Messages WHERE id = 2 AND seq = 5")
        .await;
    ensure_imported(&import(&group).await);
    assert_eq!(group.tables().messages(CHANNEL).await.len(), 8);
}

#[tokio::test]
async fn rows_of_the_former_store_that_a_policy_hides_are_not_left_out() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    let role = format!("importing_{}", group.cluster_id);
    for statement in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"),
        format!("GRANT CREATE ON DATABASE {} TO {role}", group.cluster_id),
        "ALTER TABLE Messages ENABLE ROW LEVEL SECURITY".to_owned(),
        "CREATE POLICY first_ones ON Messages USING (seq < 6)".to_owned(),
    ] {
        tables.execute(&statement).await;
    }
    let url = as_role_of(&group.database_url, &role);
    let mut importing = Group::over(url, group.nats_url.clone(), &[]);
    importing.cluster_id.clone_from(&group.cluster_id);

    let text = refusal(&importing, &[], &[]).await;

    assert!(text.contains("row-level security policy"), "{text}");
    ensure_nothing_written(&group).await;
}

#[tokio::test]
async fn a_former_server_that_starts_meanwhile_undoes_the_import() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    // From when it sees the tables on until it reads the channels.
    let mut in_the_way = FormerTables::connect(&group.database_url).await;
    in_the_way
        .execute("BEGIN; LOCK TABLE public.Channels")
        .await;
    let mut command = command(&group, &[], &[]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'stanby/import'";
    wait_until(LIMIT, async || match group.tables().number(waiting).await {
        1 => Ok(()),
        count => Err(format!("{count} wait")),
    })
    .await;

    tables.message(1, CHANNEL, 11, b"late").await;
    in_the_way.execute("COMMIT").await;
    let output = timeout(LIMIT, child.wait_with_output()).await.unwrap();

    let text = stderr(&output.unwrap());
    assert!(text.contains("have changed while they were read"), "{text}");
    ensure_nothing_written(&group).await;
}

#[tokio::test]
async fn a_dry_run_tells_everything_and_writes_nothing() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill(&mut tables).await;
    let durable = SubState::of(1, "bob").durable("books");
    tables.subscription(1, 8, &durable).await;
    tables.pending(1, 1, 4).await;
    tables.pending(1, 2, 6).await;
    let before = tables.fingerprint().await;

    let output = import_with(&group, &["--dry-run", "--json"], &[]).await;
    ensure_imported(&output);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let channel = serde_json::json!({
        "name": CHANNEL, "messages": 8, "bytes": told["channels"][0]["bytes"], "first_sequence": 3, "last_sequence": 10,
        "durables": 1, "others": 0, "pending": 2,
    });
    assert_eq!(told["channels"], serde_json::json!([channel]));
    assert_eq!(told["problems"], serde_json::json!([]));
    let exists = "SELECT count(*) FROM pg_namespace WHERE nspname = 'stanby'";
    assert_eq!(group.tables().number(exists).await, 0);

    tables
        .execute(
            "INSERT INTO Messages (id, seq, data) VALUES (1, 11, '\\xffff'), (1, 12, '\\xffff')",
        )
        .await;
    let output = import_with(&group, &["--dry-run"], &[]).await;
    assert_eq!(code(&output), Some(1));
    let text = stdout(&output);
    for part in [
        "message 11: ",
        "message 12: ",
        "problems: 2",
        "nothing was written",
    ] {
        assert!(text.contains(part), "{text}");
    }
    tables.execute("DELETE FROM Messages WHERE seq > 10").await;

    let output = import(&group).await;
    ensure_imported(&output);
    let text = stdout(&output);
    assert!(
        text.contains("imported channels: 1, messages: 8, clients: 0"),
        "{text}"
    );
    let row = ["orders", "8", "3", "10", "1", "0", "2"];
    let has_row = |line: &str| line.split_whitespace().eq(row);
    assert!(text.lines().any(has_row), "{text}");
    assert_eq!(tables.fingerprint().await, before);
}
