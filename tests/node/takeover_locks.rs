//! Takeovers that something is in the way of: locks of other transactions, additions to the table of the history, rows that make no
//! sense.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use sqlx::{Connection, PgConnection};

use crate::cli::{stanby, stdout};
use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

const FLAGS: [&str; 2] = ["--lease", "1s"];

/// A transaction that stays open.
async fn holding(url: &str, statement: &'static str) -> PgConnection {
    let mut session = PgConnection::connect(url).await.unwrap();
    let begin = "SET search_path = stanby; SET application_name = 'forgotten'; BEGIN";
    sqlx::raw_sql(begin).execute(&mut session).await.unwrap();
    let locked = sqlx::raw_sql(statement).execute(&mut session).await;
    locked.unwrap();
    session
}

async fn told(server: &Server, texts: &[&str]) -> String {
    wait_until(LIMIT, async || {
        let (code, page) = server.get("/readyz").await?;
        let is_told = texts.iter().all(|text| page.contains(text));
        if is_told {
            Ok(format!("{code} {page}"))
        } else {
            Err(format!("{code} {page}"))
        }
    })
    .await
}

async fn asked(group: &Group, command: &str) -> String {
    let mut args = vec![command, "--database-url", &group.database_url];
    if command == "doctor" {
        args.extend(["--nats-server", &group.nats_url]);
        args.extend(["--cluster-id", &group.cluster_id]);
    }
    // Lines are as wide as a terminal.
    let text = stdout(&stanby(&args).await);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Kills the active while the lock is held, and has the standby become it afterwards. The group has a standby again in the end.
async fn take_over_behind(mut pair: Pair, holds: &[&str], release: impl AsyncFnOnce()) -> Pair {
    let tables = pair.group.tables();
    let before = tables.number("SELECT max(epoch) FROM takeovers").await;
    pair.active.kill().await;

    let sentence = "another transaction holds a lock that a takeover needs";
    let texts = [&["takeover-blocked", sentence], holds].concat();
    let page = told(&pair.standby, &texts).await;
    assert!(page.starts_with("503 "), "{page}");
    let (_, metrics) = pair.standby.get("/metrics").await.unwrap();
    let condition = "\nstanby_condition{kind=\"takeover-blocked\"} 1\n";
    assert!(metrics.contains(condition), "{metrics}");
    for command in ["status", "doctor"] {
        // They name who has held a lock for a second.
        wait_until(LIMIT, async || {
            let text = asked(&pair.group, command).await;
            match texts.iter().skip(1).find(|part| !text.contains(**part)) {
                None => Ok(()),
                Some(part) => Err(format!("{command}: {part} in {text}")),
            }
        })
        .await;
    }
    let log = pair.standby.log();
    assert!(log.contains(sentence), "{log}");

    release().await;
    pair.standby.wait_until_active().await;
    pair.active = pair.standby;
    told(&pair.active, &["\"ready\""]).await;
    pair.standby = pair.group.server();
    pair.group.wait_for_standbys(1).await;
    let terms = "SELECT epoch || ' ' || cause FROM takeovers ORDER BY epoch DESC LIMIT 1";
    let last = tables.texts(terms).await;
    assert_eq!(last, [format!("{} session-ended", before + 1)]);
    pair
}

#[tokio::test]
async fn a_lock_that_a_takeover_needs_is_waited_for_and_its_holder_is_named_everywhere() {
    let Some(mut pair) = Pair::new(&FLAGS).await else {
        return;
    };
    for (statement, held) in [
        (
            "ALTER TABLE leadership ADD COLUMN note text",
            "leadership (AccessExclusiveLock)",
        ),
        (
            "LOCK TABLE leadership IN SHARE MODE",
            "leadership (ShareLock)",
        ),
        (
            "SELECT * FROM leadership FOR UPDATE",
            "leadership (RowShareLock)",
        ),
        ("LOCK TABLE positions", "positions (AccessExclusiveLock)"),
    ] {
        let holder = holding(&pair.group.database_url, statement).await;
        let holds = ["forgotten", "pg_terminate_backend(", held];
        let release = async || holder.close().await.unwrap();
        pair = take_over_behind(pair, &holds, release).await;
    }
}

#[tokio::test]
async fn a_prepared_transaction_that_a_takeover_waits_for_is_named_with_the_statement_that_ends_it()
{
    let own = postgres::own_server_with(&["max_prepared_transactions=5"]);
    let (Some(postgres), Some(nats_url)) = (own.await, nats::url().await) else {
        return;
    };
    let mut group = Group::over(postgres.url(), nats_url, &FLAGS);
    "prepared-leadership".clone_into(&mut group.cluster_id);
    let pair = Pair::of(group).await;
    let lock = "UPDATE leadership SET lease_ms = lease_ms; PREPARE TRANSACTION 'it''s forgotten'";
    let session = holding(&pair.group.database_url, lock).await;
    session.close().await.unwrap();
    let end = "ROLLBACK PREPARED 'it''s forgotten'";
    let tables = pair.group.tables();
    take_over_behind(pair, &[end], async || tables.execute(end).await).await;
}

#[tokio::test]
async fn a_takeover_that_fails_is_told_as_one_and_not_as_a_freeze() {
    let Some(pair) = Pair::new(&FLAGS).await else {
        return;
    };
    let client = pair.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;
    let tables = pair.group.tables();
    // A channel has a number that was never given out.
    tables
        .execute("UPDATE server_info SET last_channel_id = 0")
        .await;
    pair.active.kill().await;
    told(&pair.standby, &["last_channel_id"]).await;
    wait_until(LIMIT, async || {
        match tables.number("SELECT max(epoch) FROM takeovers").await {
            3.. => Ok(()),
            epoch => Err(epoch.to_string()),
        }
    })
    .await;
    tables
        .execute("UPDATE server_info SET last_channel_id = 1")
        .await;
    pair.standby.wait_until_active().await;
    let causes = "SELECT cause || ': ' || detail FROM takeovers ORDER BY epoch";
    let causes = tables.texts(causes).await;
    assert!(causes[1].starts_with("session-ended"), "{causes:?}");
    for cause in &causes[2..] {
        assert!(cause.starts_with("takeover-failed: "), "{causes:?}");
        assert!(cause.contains("last_channel_id"), "{causes:?}");
    }
}

/// What is added to the history, what is told of it, and how it is taken away.
const ADDITIONS: [(&str, &str, &str); 6] = [
    (
        "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the audit is away'; END $$;
         CREATE TRIGGER audit BEFORE INSERT ON takeovers FOR EACH ROW EXECUTE FUNCTION audit()",
        "the audit is away",
        "DROP TRIGGER audit ON takeovers; DROP FUNCTION audit",
    ),
    (
        "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER audit BEFORE INSERT ON takeovers FOR EACH ROW EXECUTE FUNCTION audit()",
        "a trigger or rule drops it",
        "DROP TRIGGER audit ON takeovers; DROP FUNCTION audit",
    ),
    (
        "CREATE RULE audit AS ON INSERT TO takeovers DO INSTEAD NOTHING",
        "takeovers",
        "DROP RULE audit ON takeovers",
    ),
    (
        "ALTER TABLE takeovers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE POLICY audit ON takeovers USING (true)",
        "",
        "DROP POLICY audit ON takeovers;
         ALTER TABLE takeovers DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
    ),
    (
        "ALTER TABLE takeovers ADD CONSTRAINT audit CHECK (epoch < 0) NOT VALID",
        "audit",
        "ALTER TABLE takeovers DROP CONSTRAINT audit",
    ),
    (
        "ALTER TABLE takeovers ADD COLUMN note text NOT NULL DEFAULT 'x'; ALTER TABLE takeovers ALTER note DROP DEFAULT",
        "note",
        "ALTER TABLE takeovers DROP COLUMN note",
    ),
];

#[tokio::test]
async fn nothing_that_is_added_to_the_history_of_takeovers_costs_a_term() {
    let Some(mut pair) = Pair::new(&FLAGS).await else {
        return;
    };
    for (epoch, (add, why, remove)) in (2..).zip(ADDITIONS) {
        let tables = pair.group.tables();
        tables.execute(add).await;
        if add.contains("TRIGGER") || add.contains("RULE") || add.contains("POLICY") {
            let text = asked(&pair.group, "doctor").await;
            assert!(text.contains("audit on takeovers"), "{text}");
            assert!(text.contains("DROP "), "{text}");
        }
        pair.active.kill().await;
        assert_eq!(pair.standby.wait_until_active().await, epoch, "{add}");
        // The role of these tests may see past every policy.
        if !why.is_empty() {
            let page = told(&pair.standby, &["history-incomplete", why]).await;
            assert!(page.contains("table takeovers"), "{page}");
            wait_until(LIMIT, async || match pair.standby.get("/readyz").await? {
                (200, page) if page.contains("history-incomplete") => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        }
        tables.execute(remove).await;
        // The row is written as soon as that goes.
        wait_until(LIMIT, async || {
            let (_, page) = pair.standby.get("/readyz").await?;
            let rows = tables.number("SELECT max(epoch) FROM takeovers").await;
            if !page.contains("history-incomplete") && rows == epoch.cast_signed() {
                Ok(())
            } else {
                Err(format!("{rows} {page}"))
            }
        })
        .await;
        pair.active = pair.standby;
        pair.standby = pair.group.server();
        pair.group.wait_for_standbys(1).await;
    }
    let client = pair.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send().await;
    publisher.take_all_acks().await;
}

/// A trigger on the row without which there is no term is named, and a takeover goes on as soon as it has gone.
#[tokio::test]
async fn a_trigger_on_the_row_of_leadership_is_named_by_the_server_and_the_doctor() {
    let Some(pair) = Pair::new(&FLAGS).await else {
        return;
    };
    let tables = pair.group.tables();
    let add = "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the audit is away'; END $$;
         CREATE TRIGGER audit BEFORE UPDATE ON leadership FOR EACH ROW EXECUTE FUNCTION audit()";
    tables.execute(add).await;
    pair.active.kill().await;
    told(&pair.standby, &["the audit is away", "table leadership"]).await;
    let text = asked(&pair.group, "doctor").await;
    assert!(
        text.contains("DROP TRIGGER audit ON stanby.leadership"),
        "{text}"
    );
    tables.execute("DROP TRIGGER audit ON leadership").await;
    pair.standby.wait_until_active().await;
    let causes = "SELECT cause FROM takeovers ORDER BY epoch DESC LIMIT 1";
    assert_eq!(tables.texts(causes).await, ["session-ended"]);
}
