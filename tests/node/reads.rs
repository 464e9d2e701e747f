//! Connections for reading that lead elsewhere than to the primary, or that cannot be had.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stanby::dev::postgres::Postgres;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Server};
use crate::stan::{Publisher, Subscription};
use crate::support::copy::{Copy, Kind};
use crate::support::process::Own;
use crate::support::wait::wait_until;
use crate::support::way::Way;
use crate::support::{nats, postgres};
use crate::tables::Tables;

/// A Postgres of the test's own, and servers that reach it on a way that may lead elsewhere.
struct Setting {
    group: Group,
    way: Way,
    postgres: Own<Postgres>,
}

impl Setting {
    async fn new(cluster_id: &str) -> Option<Self> {
        let postgres = postgres::own_server().await?;
        let way = Way::to(&postgres.socket()).await;
        let flags = ["--lease", "2s"];
        let mut group = Group::over(way.url(), nats::url().await?, &flags);
        cluster_id.clone_into(&mut group.cluster_id);
        Some(Self {
            group,
            way,
            postgres,
        })
    }

    /// Whatever the way leads to.
    fn tables(&self) -> Tables {
        Tables::new(&self.postgres.url())
    }

    async fn wait_for_standby(&self) {
        let tables = self.tables();
        wait_until(LIMIT, async || match tables.standbys().await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// All but those that the lock is held on or waited for.
    async fn end_connections_for_reading(&self) {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name LIKE 'stanby/%' AND pid <> (SELECT backend_pid FROM stanby.leadership)
                AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
        self.tables().number(end).await;
    }

    /// Where the durable stands, once it stands somewhere else than at nothing.
    async fn acked(&self) -> i64 {
        let floor =
            "SELECT coalesce(max(acked_floor), 0) FROM positions WHERE durable_name IS NOT NULL";
        self.tables().number(floor).await
    }

    async fn wait_until_acked(&self, through: i64) {
        wait_until(LIMIT, async || match self.acked().await {
            acked if acked == through => Ok(()),
            acked => Err(format!("{acked} of {through}")),
        })
        .await;
    }
}

async fn publish(publisher: &mut Publisher, count: usize) {
    for _ in 0..count {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
}

async fn wait_for(received: &Subscription, count: u64) {
    let all = (1..=count).collect();
    wait_until(LIMIT, async || match received.sequences() {
        got if got == all => Ok(()),
        got => Err(format!("{} of {count}: {got:?}", got.len())),
    })
    .await;
}

async fn wait_for_condition(server: &Server, kind: &str, holds: bool) {
    let line = format!("stanby_condition{{kind=\"{kind}\"}} {}", u64::from(holds));
    wait_until(LIMIT, async || {
        let (_, page) = server.get("/metrics").await?;
        if page.contains(&line) {
            Ok(())
        } else {
            Err(format!("no {line}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_read_from_a_lagging_replica_moves_no_position() {
    let Some(setting) = Setting::new("lagging-replica").await else {
        return;
    };
    let first = setting.group.server();
    first.wait_until_active().await;
    let client = setting.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publish(&mut publisher, 50).await;
    let replica = Copy::of(&setting.postgres, Kind::Lagging).await;
    publish(&mut publisher, 100).await;
    let second = setting.group.server();
    setting.wait_for_standby().await;

    // The session in the queue for the lock stays where it is.
    setting.way.lead_to(&replica.socket());
    setting.end_connections_for_reading().await;
    first.kill().await;
    second.wait_until_active().await;
    let received = client.subscribe("orders", "", "books").await.unwrap();

    wait_for(&received, 150).await;
    setting.wait_until_acked(150).await;
    wait_for_condition(&second, "reads-astray", true).await;
    // One that was being opened when the others were ended led to the primary, and still does.
    wait_until(LIMIT, async || {
        setting.end_connections_for_reading().await;
        match second.get("/readyz").await? {
            (_, page) if page.contains("a replica") => Ok(()),
            (status, page) => Err(format!("{status} {page}")),
        }
    })
    .await;
    let status = stanby(&["status", "--database-url", &replica.url()]).await;
    assert_ne!(code(&status), Some(0), "{}", stdout(&status));
    assert!(
        stderr(&status).contains("leads to a replica"),
        "{}",
        stderr(&status)
    );
    setting.way.lead_to(&setting.postgres.socket());
    publish(&mut publisher, 1).await;
    wait_for(&received, 151).await;
    wait_for_condition(&second, "reads-fail", false).await;
}

/// Its system identifier, timeline and epoch are the same.
#[tokio::test]
async fn a_read_from_an_old_primary_or_a_clone_is_made_again_elsewhere() {
    let Some(setting) = Setting::new("old-primary").await else {
        return;
    };
    let first = setting.group.server();
    first.wait_until_active().await;
    let client = setting.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publish(&mut publisher, 150).await;
    first.kill().await;
    let second = setting.group.server();
    second.wait_until_active().await;
    let clone = Copy::of(&setting.postgres, Kind::Separate).await;
    let delete = "DELETE FROM stanby.messages WHERE sequence > 50";
    let mut connection = PgConnection::connect(&clone.url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(delete))
        .execute(&mut connection)
        .await
        .unwrap();

    setting.way.lead_to(&clone.socket());
    setting.end_connections_for_reading().await;
    let received = client.subscribe("orders", "", "books").await.unwrap();

    wait_for(&received, 150).await;
    setting.wait_until_acked(150).await;
    wait_for_condition(&second, "reads-astray", true).await;
}

#[tokio::test]
async fn an_active_without_a_connection_for_reading_delivers_and_says_so() {
    let Some(setting) = Setting::new("no-connection").await else {
        return;
    };
    let first = setting.group.server();
    first.wait_until_active().await;
    let client = setting.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publish(&mut publisher, 600).await;
    let second = setting.group.server();
    setting.wait_for_standby().await;

    // Neither for the takeover nor afterwards.
    setting.way.close();
    first.kill().await;
    second.wait_until_active().await;
    setting.end_connections_for_reading().await;
    let received = client.subscribe("orders", "", "books").await.unwrap();
    wait_for(&received, 600).await;
    setting.wait_until_acked(600).await;

    // As long as somebody wants to read.
    let again = client.subscribe("orders", "", "again").await.unwrap();
    wait_for(&again, 600).await;
    wait_for_condition(&second, "reads-fail", true).await;
    // It delivers, so that it is ready; what is wrong is told all the same.
    let (code, told) = second.get("/readyz").await.unwrap();
    assert_eq!(code, 200, "{told}");
    let sentence = "the tables cannot be read with connections of their own";
    assert!(told.contains(sentence), "{told}");
    let told = second.log().matches("cannot be read").count();
    assert!(told <= 3, "{told} lines: {}", second.log());

    setting.way.lead_to(&setting.postgres.socket());
    wait_for_condition(&second, "reads-fail", false).await;
    publish(&mut publisher, 1).await;
    wait_for(&again, 601).await;
}

/// For a role that policies hold for.
#[tokio::test]
async fn rows_that_a_policy_hides_are_not_taken_for_gone() {
    let Some(mut setting) = Setting::new("policy").await else {
        return;
    };
    let tables = setting.tables();
    tables
        .execute("CREATE ROLE limited LOGIN; GRANT CREATE ON DATABASE postgres TO limited")
        .await;
    let url = setting.way.url().replace("postgres@", "limited@");
    setting.group.database_url = url;
    let first = setting.group.server();
    first.wait_until_active().await;
    let client = setting.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publish(&mut publisher, 30).await;
    client.hold("orders", "", "books", 10).await.unwrap();
    let last_sent = "SELECT coalesce(max(last_sent), 0) FROM positions";
    wait_until(LIMIT, async || match tables.number(last_sent).await {
        10 => Ok(()),
        other => Err(format!("{other} sent")),
    })
    .await;
    first.kill().await;

    let policy = |word: &str| {
        format!(
            "ALTER TABLE messages {word} ROW LEVEL SECURITY; ALTER TABLE messages FORCE ROW LEVEL SECURITY"
        )
    };
    tables.execute(policy("ENABLE")).await;
    let second = setting.group.server();
    second.wait_for_trouble("row-level security").await;
    assert_eq!(tables.number(last_sent).await, 10);

    tables.execute(policy("DISABLE")).await;
    second.wait_until_active().await;
    let received = client.subscribe("orders", "", "all").await.unwrap();
    wait_for(&received, 30).await;
    let books = "SELECT acked_floor FROM durables WHERE durable_name = 'books'";
    assert_eq!(tables.number(books).await, 0);
}

/// Other reads go, and each of them says that reading goes.
#[tokio::test]
async fn an_outbox_that_cannot_be_read_is_told_until_it_can() {
    let Some(mut setting) = Setting::new("unread-outbox").await else {
        return;
    };
    let tables = setting.tables();
    tables
        .execute("CREATE ROLE limited LOGIN; GRANT CREATE ON DATABASE postgres TO limited")
        .await;
    let url = setting.way.url().replace("postgres@", "limited@");
    setting.group.database_url = url;
    let server = setting.group.server();
    server.wait_until_active().await;
    let publish = "SELECT stanby.publish('orders', 'a')";
    let stored = async |count: i64| {
        wait_until(LIMIT, async || {
            match tables.number("SELECT count(*) FROM messages").await {
                found if found == count => Ok(()),
                found => Err(format!("{found} of {count}")),
            }
        })
        .await;
    };
    tables.execute(publish).await;
    stored(1).await;

    tables
        .execute(
            "CREATE POLICY taken ON outbox FOR INSERT WITH CHECK (true);
            ALTER TABLE outbox ENABLE ROW LEVEL SECURITY; ALTER TABLE outbox FORCE ROW LEVEL SECURITY",
        )
        .await;
    tables.execute(publish).await;
    wait_for_condition(&server, "reads-fail", true).await;
    let remedy = "ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY";
    let log = server.log();
    assert!(
        log.contains("reading the outbox") && log.contains(remedy),
        "{log}"
    );
    assert_eq!(server.get("/readyz").await.unwrap().0, 200);
    let flags = [
        "doctor",
        "--database-url",
        &setting.group.database_url,
        "--nats-server",
        &setting.group.nats_url,
        "--cluster-id",
        &setting.group.cluster_id,
    ];
    let found = stanby(&flags).await;
    assert_eq!(code(&found), Some(1), "{}", stderr(&found));
    assert!(stdout(&found).contains(remedy), "{}", stdout(&found));

    tables.execute(remedy).await;
    stored(2).await;
    wait_for_condition(&server, "reads-fail", false).await;
    assert_eq!(code(&stanby(&flags).await), Some(0));
}
