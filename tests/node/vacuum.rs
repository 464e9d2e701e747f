//! Dead rows of a busy channel.

use crate::pair::{Group, LIMIT};
use crate::support::wait::wait_until;

#[tokio::test]
async fn an_active_vacuums_what_limits_have_dropped_without_waiting_for_autovacuum() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let tables = group.tables();
    let server = group.server();
    server.wait_until_active().await;

    tables
        .execute("ALTER TABLE stanby.messages SET (autovacuum_enabled = false)".to_owned())
        .await;
    for statement in [
        "INSERT INTO stanby.messages SELECT 7, n, n, 1, 'c', 'g', '', '' FROM generate_series(1, 150000) n",
        "DELETE FROM stanby.messages WHERE channel_id = 7",
    ] {
        tables.execute(statement.to_owned()).await;
    }

    let vacuums =
        "SELECT vacuum_count FROM pg_stat_user_tables WHERE relid = 'stanby.messages'::regclass";
    wait_until(LIMIT, async || match tables.number(vacuums).await {
        0 => Err("no vacuum".to_owned()),
        _ => Ok(()),
    })
    .await;
}
