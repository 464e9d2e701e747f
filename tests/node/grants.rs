//! Roles that may publish and ack in SQL, each on channels of its own.
use sqlx::Executor;

use crate::pair::{Group, LIMIT};
use crate::sql::{application, refused};
use crate::support::wait::wait_until;

#[tokio::test]
async fn a_role_that_was_granted_channels_publishes_and_acks_there_and_nowhere_else() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("worker").await;
    let mut own = client.take("billing.paid", ("", "d"), 10).await;
    let mut others = client.take("orders", ("", "d"), 10).await;
    let mut owner = application(&group).await;
    let (app, team) = (
        format!("app_{}", group.cluster_id),
        format!("team_{}", group.cluster_id),
    );
    let made = format!(
        "CREATE ROLE {app} LOGIN; CREATE ROLE {team}; GRANT {team} TO {app};
         SELECT stanby.grant_to_publisher('{app}');
         SELECT stanby.publish('orders', 'x', msg_id => 'one')"
    );
    owner.execute(sqlx::AssertSqlSafe(made)).await.unwrap();
    others.wait_for(1).await;
    let mut login = application(&group).await;
    let as_app = format!("SET SESSION AUTHORIZATION {app}");
    login.execute(sqlx::AssertSqlSafe(as_app)).await.unwrap();
    // Until anybody bounds it, all channels.
    let publish = "SELECT stanby.publish('elsewhere', 'x')";
    login.execute(publish).await.unwrap();
    let granted = format!(
        "SELECT stanby.grant_channel('{team}', 'billing.>');
         SELECT stanby.grant_channel('{app}', 'orders', publish => false)"
    );
    owner.execute(sqlx::AssertSqlSafe(granted)).await.unwrap();
    login
        .execute("SELECT stanby.publish('billing.paid', 'x')")
        .await
        .unwrap();
    own.wait_for(1).await;
    for call in [
        "SELECT stanby.ack('billing.paid', 1, durable => 'd')",
        "SELECT stanby.nack('orders', 1, durable => 'd', delay => '1 hour')",
    ] {
        login.execute(call).await.unwrap();
    }
    for call in [
        publish,
        "SELECT stanby.publish('orders', 'x')",
        // It tells nobody what the first one was.
        "SELECT stanby.publish('orders', 'x', msg_id => 'one')",
    ] {
        let (code, hint) = refused(&mut login, call).await;
        assert_eq!(code, "42501", "{call}");
        assert!(hint.contains("billing.>"), "{call}: {hint}");
    }
    let owned = "SELECT stanby.publish('elsewhere', 'x')";
    owner.execute(owned).await.unwrap();
    let narrowed = format!("DELETE FROM stanby.channel_grants WHERE role = '{app}'");
    owner.execute(sqlx::AssertSqlSafe(narrowed)).await.unwrap();
    let ack = "SELECT stanby.ack('orders', 1, durable => 'd')";
    let (code, _) = refused(&mut login, ack).await;
    assert_eq!(code, "42501");
    let (code, _) = refused(&mut login, "SELECT stanby.grant_channel('postgres', '>')").await;
    assert_eq!(code, "42501");
    let (code, hint) = refused(
        &mut owner,
        &format!("SELECT stanby.grant_channel('{app}', 'a..b')"),
    )
    .await;
    assert_eq!(code, "STB03");
    assert!(hint.contains("pattern"), "{hint}");
    owner
        .execute("DELETE FROM stanby.channel_grants")
        .await
        .unwrap();
    login.execute(publish).await.unwrap();
    let stored = "SELECT count(*) FROM stanby.messages m JOIN stanby.channels c USING (channel_id) WHERE c.name = 'elsewhere'";
    wait_until(LIMIT, async || match group.tables().number(stored).await {
        3 => Ok(()),
        stored => Err(format!("{stored} of 3")),
    })
    .await;
    let ended = format!("DROP OWNED BY {app}, {team}; DROP ROLE {app}, {team}");
    drop(login);
    owner.execute(sqlx::AssertSqlSafe(ended)).await.unwrap();
}
