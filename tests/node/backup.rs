//! A dump of the tables, restored elsewhere: `docs/backup.md` says how.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::Path;
use std::process::Command;

use crate::pair::{Group, LIMIT, Says};
use crate::support::postgres;
use crate::support::tools::of_postgres;
use crate::support::wait::wait_until;

fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", program.display());
}

/// So that no number that was given out after the dump is given out again: the statement of the page.
fn pass_over() -> &'static str {
    let page = include_str!("../../docs/backup.md");
    let (_, statement) = page.split_once("```sql\n").unwrap();
    statement.split_once("```").unwrap().0
}

#[tokio::test]
async fn a_dump_restored_on_another_postgres_serves_its_clients_once_an_operator_says_so() {
    let (Some(dump), Some(psql)) = (of_postgres("pg_dump"), of_postgres("psql")) else {
        return;
    };
    let (Some(group), Some(elsewhere)) = (Group::new(&[]).await, postgres::own_server().await)
    else {
        return;
    };
    let first = group.server();
    first.wait_until_active().await;
    let client = group.client("me").await;
    let durable = client.subscribe("orders", "", "billing").await.unwrap();
    let mut publisher = client.publisher("orders").await;
    for _ in 0..10 {
        publisher.send_until_acked(LIMIT).await;
    }
    client.hold("empty", "", "nobody", 1).await.unwrap();
    let acked = "SELECT count(*) FROM stanby.durables WHERE durable_name = 'billing' AND lag = 0 AND unacked = 0 AND last_sent = 10";
    wait_until(LIMIT, async || match group.tables().number(acked).await {
        1 => Ok(()),
        _ => Err("not everything is acked".to_owned()),
    })
    .await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stanby.sql");
    let file = file.to_str().unwrap();
    run(
        &dump,
        &["--schema=stanby", "--file", file, &group.database_url],
    );
    publisher.send_until_acked(LIMIT).await;
    first.kill().await;
    let url = elsewhere.url();
    run(
        &psql,
        &["--set=ON_ERROR_STOP=1", "--quiet", "--file", file, &url],
    );

    let mut restored = Group::over(url, group.nats_url.clone(), &[]);
    restored.cluster_id.clone_from(&group.cluster_id);
    let second = restored.server();
    second.wait_for_trouble("this is a restored copy").await;
    let Says::NotReady(reason) = second.says().await else {
        panic!("{:?}", second.says().await);
    };
    let (_, statement) = reason.split_once("say so with: ").unwrap();
    restored.tables().execute(pass_over()).await;
    restored.tables().execute(statement).await;
    second.wait_until_active().await;

    client.ping().await.unwrap();
    publisher.send_until_acked(LIMIT).await;
    wait_until(LIMIT, async || match durable.sequences() {
        came if came.contains(&1_000_011) => Ok(()),
        came => Err(format!("{came:?}")),
    })
    .await;
    let kept = restored.tables().messages("orders").await;
    let kept: Vec<i64> = kept.iter().map(|row| row.sequence).collect();
    let expected: Vec<i64> = (1..=10).chain([1_000_011]).collect();
    assert_eq!(kept, expected, "the eleventh was published after the dump");
}
