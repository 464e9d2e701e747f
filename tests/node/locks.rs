//! Other transactions in the way of commits: forgotten ones, locked tables, triggers that ask elsewhere or take long.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use sqlx::{Connection, PgConnection};

use crate::cli::{stanby, stdout};
use crate::pair::{Group, LIMIT, Server, wait_for_one_active};
use crate::stan::StanClient;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

struct Servers {
    group: Group,
    servers: [Server; 2],
    good: StanClient,
}

impl Servers {
    async fn start() -> Option<Self> {
        Some(Self::of(Group::new(&["--lease", "1s"]).await?).await)
    }

    async fn of(group: Group) -> Self {
        let first = group.server();
        first.wait_until_active().await;
        let second = group.server();
        group.wait_for_standbys(1).await;
        let good = group.client("good").await;
        let servers = [first, second];
        let this = Self {
            group,
            servers,
            good,
        };
        for channel in ["orders", "locked"] {
            assert_eq!(publish(&this.good, channel).await, Ok(()));
        }
        this
    }

    /// A transaction that stays open.
    async fn holding(&self, statement: &'static str) -> PgConnection {
        let mut session = PgConnection::connect(&self.group.database_url)
            .await
            .unwrap();
        let begin = "SET search_path = stanby; SET application_name = 'forgotten'; BEGIN";
        sqlx::raw_sql(begin).execute(&mut session).await.unwrap();
        sqlx::raw_sql(statement)
            .execute(&mut session)
            .await
            .unwrap();
        session
    }

    async fn terms(&self) -> i64 {
        let count = "SELECT max(epoch) FROM takeovers";
        self.group.tables().number(count).await
    }

    async fn wait_until_told(&self, text: &str) -> String {
        wait_until(LIMIT, async || {
            let mut told = String::new();
            for server in &self.servers {
                told += &server.get("/readyz").await?.1;
            }
            if told.contains(text) {
                Ok(told)
            } else {
                Err(told)
            }
        })
        .await
    }

    async fn wait_until_ready(&self) {
        wait_until(LIMIT, async || {
            let active = wait_for_one_active(&self.servers.each_ref()).await;
            match self.servers[active].get("/readyz").await? {
                (200, _) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// Publishes one message; the error is the refusal.
async fn publish(client: &StanClient, channel: &str) -> Result<(), String> {
    let mut publisher = client.publisher(channel).await;
    publisher.send().await;
    assert!(publisher.take_ack(LIMIT).await, "no answer");
    match publisher.published().errors.first() {
        Some(error) => Err(error.clone()),
        None => Ok(()),
    }
}

#[tokio::test]
async fn a_transaction_that_holds_a_row_is_named_and_holds_up_its_channel_only() {
    let Some(pair) = Servers::start().await else {
        return;
    };
    let bad = pair.group.client("bad").await;
    let lock = "SELECT * FROM channels WHERE name = 'locked' FOR UPDATE";
    let holder = pair.holding(lock).await;

    let (refused, told) = tokio::join!(
        publish(&bad, "locked"),
        pair.wait_until_told("commit-blocked")
    );
    for part in ["forgotten", "idle in transaction", "pg_terminate_backend("] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let refused = refused.unwrap_err();
    assert!(refused.contains("not stored"), "{refused}");
    for _ in 0..3 {
        let (good, refused) = tokio::join!(publish(&pair.good, "orders"), publish(&bad, "locked"));
        assert_eq!(good, Ok(()));
        assert!(refused.is_err());
    }
    let told = pair.wait_until_told("writes-refused").await;
    assert!(told.contains("pg_terminate_backend("), "{told}");
    assert_eq!(pair.terms().await, 2, "one was lost");

    holder.close().await.unwrap();
    assert_eq!(publish(&bad, "locked").await, Ok(()));
    pair.wait_until_ready().await;
}

#[tokio::test]
async fn a_prepared_transaction_that_holds_a_row_is_named_with_the_statement_that_ends_it() {
    let own = postgres::own_server_with(&["max_prepared_transactions=5"]);
    let (Some(postgres), Some(nats_url)) = (own.await, nats::url().await) else {
        return;
    };
    let mut group = Group::over(postgres.url(), nats_url, &["--lease", "1s"]);
    "prepared-lock".clone_into(&mut group.cluster_id);
    let pair = Servers::of(group).await;
    let lock = "SELECT * FROM channels WHERE name = 'locked' FOR UPDATE; PREPARE TRANSACTION 'it''s forgotten'";
    pair.holding(lock).await.close().await.unwrap();

    let (refused, told) = tokio::join!(
        publish(&pair.good, "locked"),
        pair.wait_until_told("commit-blocked")
    );
    assert!(refused.is_err());
    let end = "ROLLBACK PREPARED 'it''s forgotten'";
    assert!(told.contains(end), "{told}");
    pair.group.tables().execute(end).await;
    assert_eq!(publish(&pair.good, "locked").await, Ok(()));
}

#[tokio::test]
async fn a_lock_on_all_messages_is_waited_out_in_one_term_and_its_holder_is_named() {
    let Some(pair) = Servers::start().await else {
        return;
    };
    let holder = pair.holding("LOCK TABLE messages").await;
    let mut publisher = pair.good.publisher("orders").await;
    publisher.send().await;

    let told = pair.wait_until_told("commit-blocked").await;
    assert!(told.contains("AccessExclusiveLock"), "{told}");
    assert!(told.contains("pg_terminate_backend("), "{told}");
    // The statement alone would have been given up by now.
    let waits = "SELECT count(*) FROM conditions WHERE kind = 'commit-blocked' AND since < now() - interval '11 seconds'";
    wait_until(LIMIT, async || {
        match pair.group.tables().number(waits).await {
            1 => Ok(()),
            other => Err(format!("{other} holders")),
        }
    })
    .await;

    holder.close().await.unwrap();
    assert!(publisher.take_ack(LIMIT).await, "no answer");
    assert_eq!(publisher.published().errors, [""; 0]);
    assert_eq!(pair.terms().await, 1);
    pair.wait_until_ready().await;
}

/// No term can begin while it is held.
#[tokio::test]
async fn a_lock_on_a_table_that_takeovers_read_is_waited_out_in_one_term_and_its_holder_is_named() {
    let Some(pair) = Servers::start().await else {
        return;
    };
    for (table, lock) in [
        ("positions", "ALTER TABLE positions ADD COLUMN note text"),
        (
            "server_info",
            "ALTER TABLE server_info ADD COLUMN note text",
        ),
    ] {
        let holder = pair.holding(lock).await;
        let told = async {
            let told = pair.wait_until_told("commit-blocked").await;
            // A row alone would have been given up by then, and so would the term.
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'ALTER TABLE%' AND state = 'idle in transaction'
                AND xact_start < clock_timestamp() - interval '7 seconds'";
            wait_until(LIMIT, async || {
                match pair.group.tables().number(waits).await {
                    1 => Ok(()),
                    other => Err(format!("{other} holders")),
                }
            })
            .await;
            holder.close().await.unwrap();
            told
        };
        // A new subscription has a position and a number. Its client may have given it up by then.
        let (_, told) = tokio::join!(pair.good.subscribe(table, "", ""), told);
        let held = format!("{table} (AccessExclusiveLock)");
        assert!(told.contains(&held), "{told}");
        assert!(told.contains("pg_terminate_backend("), "{told}");
        assert_eq!(publish(&pair.good, "orders").await, Ok(()), "{table}");
        assert_eq!(pair.terms().await, 1, "{table}");
        pair.wait_until_ready().await;
    }
}

#[tokio::test]
async fn who_locks_a_row_is_named_while_somebody_else_locks_what_the_servers_note_down() {
    let Some(pair) = Servers::start().await else {
        return;
    };
    let notes = pair
        .holding("LOCK TABLE refused_writes, conditions, takeovers")
        .await;
    let lock = "SELECT * FROM channels WHERE name = 'locked' FOR UPDATE";
    let holder = pair.holding(lock).await;
    let (_, told) = tokio::join!(
        publish(&pair.good, "locked"),
        pair.wait_until_told("commit-blocked")
    );
    for part in [
        "forgotten",
        "channels (RowShareLock)",
        "pg_terminate_backend(",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    // The rest of what is asked is answered.
    let status = stanby(&["status", "--database-url", &pair.group.database_url]).await;
    let status = stdout(&status);
    for part in [
        "orders",
        "another transaction holds a lock: conditions, takeovers",
    ] {
        assert!(status.contains(part), "{part} in {status}");
    }
    for session in [notes, holder] {
        session.close().await.unwrap();
    }
    assert_eq!(publish(&pair.good, "locked").await, Ok(()));
    pair.wait_until_ready().await;
}

#[tokio::test]
async fn a_trigger_that_fails_elsewhere_or_takes_too_long_holds_up_no_other_client() {
    let Some(pair) = Servers::start().await else {
        return;
    };
    let bad = pair.group.client("bad").await;
    let raise =
        |code: &str| format!("RAISE EXCEPTION 'the other server is away' USING ERRCODE = '{code}'");
    let codes = [
        "08001", "57P01", "28P01", "40001", "53100", "53200", "53300", "53400", "25006", "58030",
    ];
    for body in codes
        .map(raise)
        .into_iter()
        .chain(["PERFORM pg_sleep_for('1 minute')".to_owned()])
    {
        let trigger = format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN IF NEW.client_id = 'bad' THEN {body}; END IF; RETURN NEW; END $$;
            CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION refuse()"
        );
        pair.group.tables().execute(trigger).await;

        let refused = publish(&bad, "orders").await.unwrap_err();
        assert!(refused.contains("not stored"), "{refused}");
        assert_eq!(publish(&pair.good, "orders").await, Ok(()), "{body}");
    }
    assert_eq!(pair.terms().await, 2, "one was lost");
    pair.wait_until_told("look for triggers on").await;
}

/// They are due while it is open: each look finds them.
#[tokio::test]
async fn rows_of_the_outbox_that_an_operator_has_deleted_and_not_committed_hold_up_no_client() {
    let Some(pair) = Servers::start().await else {
        return;
    };
    let tables = pair.group.tables();
    let scheduled =
        "SELECT publish('orders', 'later', deliver_at => clock_timestamp() + interval '1 second')
        FROM generate_series(1, 3)";
    tables.execute(scheduled).await;
    let holder = pair.holding("DELETE FROM outbox").await;

    let told = pair.wait_until_told("commit-blocked").await;
    assert!(told.contains("forgotten"), "{told}");
    for _ in 0..3 {
        assert_eq!(publish(&pair.good, "orders").await, Ok(()));
    }
    // Those of one turn are put off together: this is for the next.
    pair.wait_until_told("writes-refused").await;
    tables.execute("SELECT publish('beside', 'x')").await;
    let beside = "SELECT count(*) FROM messages WHERE convert_from(data, 'UTF8') = 'x'";
    let later = "SELECT count(*) FROM messages WHERE convert_from(data, 'UTF8') = 'later'";
    wait_until(LIMIT, async || match tables.number(beside).await {
        1 => Ok(()),
        other => Err(format!("{other} beside")),
    })
    .await;
    assert_eq!(tables.number(later).await, 0);
    assert!(pair.terms().await <= 2, "one was lost");

    holder.close().await.unwrap();
    // What was locked may be put off for half a minute.
    wait_until(2 * LIMIT, async || {
        // One that was given up just when the lock went is among the refused ones.
        tables.execute("SELECT retry_refused()").await;
        match tables.number(later).await {
            3 => Ok(()),
            other => Err(format!("{other} of 3")),
        }
    })
    .await;
    pair.wait_until_ready().await;
}
