//! A damaged row among the messages of a running server.

use std::collections::BTreeSet;

use crate::pair::{Group, LIMIT, Server};
use crate::support::wait::wait_until;

const CHANNEL: &str = "orders";

#[tokio::test]
async fn a_damaged_row_holds_up_no_subscription_and_is_shown_to_operators() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("alice").await;
    let mut publisher = client.publisher(CHANNEL).await;
    for _ in 0..3 {
        publisher.send().await;
        publisher.take_all_acks().await;
    }
    // What it has in memory it need not read.
    server.kill().await;
    let tables = group.tables();
    tables
        .execute("UPDATE stanby.messages SET guid = '' WHERE sequence = 2")
        .await;
    let server = group.server();
    server.wait_until_active().await;

    let received = client.subscribe(CHANNEL, "", "books").await.unwrap();

    wait_until(LIMIT, async || match received.sequences() {
        sequences if sequences == BTreeSet::from([1, 3]) => Ok(()),
        sequences => Err(format!("{sequences:?}")),
    })
    .await;
    let metric = "stanby_unreadable_messages_total 1\n";
    wait_until(LIMIT, async || match server.get("/metrics").await {
        Ok((200, page)) if page.contains(metric) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(server.log().contains("cannot be read and was passed over"));
    wait_until(LIMIT, async || {
        let mut command = Server::command();
        command.args(["status", "--database-url", &group.database_url]);
        let output = tokio::process::Command::from(command).output().await;
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let row: Option<Vec<&str>> = text
            .lines()
            .skip_while(|line| !line.starts_with("UNREADABLE MESSAGE OF"))
            .nth(1)
            .map(|line| line.split_whitespace().collect());
        match row.as_deref() {
            Some([CHANNEL, "2", _, "column", "guid", ..]) => Ok(()),
            _ => Err(text),
        }
    })
    .await;
}
