//! What Postgres refuses to store, every time: by a constraint or trigger added by hand, a column or a row that no server
//! made, a publication. It costs one term at most, and only what is refused.

use crate::pair::{Group, LIMIT, Server};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

/// A server and its standby, and clients of which Postgres is made to refuse something.
struct Refused {
    group: Group,
    servers: [Server; 2],
    good: StanClient,
}

impl Refused {
    async fn new(flags: &[&str]) -> Option<Self> {
        let group = Group::new(flags).await?;
        let first = group.server();
        first.wait_until_active().await;
        let second = group.server();
        group.wait_for_standbys(1).await;
        let good = group.client("good").await;
        assert_eq!(publish(&good, "orders").await, Ok(()));
        Some(Self {
            group,
            servers: [first, second],
            good,
        })
    }

    async fn execute(&self, statements: &str) {
        self.group.tables().execute(statements).await;
    }

    async fn terms(&self) -> i64 {
        let count = "SELECT max(epoch) FROM takeovers";
        self.group.tables().number(count).await
    }

    /// The body of `path` from the active.
    async fn told(&self, path: &str) -> (u16, String) {
        wait_until(LIMIT, async || {
            for server in &self.servers {
                if let Ok((200, _)) = server.get("/healthz/active").await {
                    return server.get(path).await;
                }
            }
            Err("nobody is active".to_owned())
        })
        .await
    }

    async fn wait_until_told(&self, text: &str) -> String {
        wait_until(LIMIT, async || {
            let (_, told) = self.told("/readyz").await;
            if told.contains(text) {
                Ok(told)
            } else {
                Err(told)
            }
        })
        .await
    }

    /// The history tells of one term that ended for it, and which cause that was.
    async fn assert_one_term_was_lost(&self) {
        assert_eq!(self.terms().await, 2, "one was lost");
        let tables = self.group.tables();
        let causes = tables.texts("SELECT cause FROM takeovers ORDER BY epoch");
        assert_eq!(causes.await, ["first-start", "refused-write"]);
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

const TRIGGER: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'not this one'; END $$;";

#[tokio::test]
async fn a_publish_that_a_constraint_refuses_is_told_so_and_the_others_go_on() {
    let Some(pair) = Refused::new(&[]).await else {
        return;
    };
    let bad = pair.group.client("bad").await;
    pair.execute("ALTER TABLE messages ADD CONSTRAINT nobody_bad CHECK (client_id <> 'bad')")
        .await;

    let refusal = publish(&bad, "orders").await.unwrap_err();
    assert!(
        refusal.contains("not stored") && refusal.contains("nobody_bad"),
        "{refusal}"
    );
    for round in 0..5 {
        let (good, refused) = tokio::join!(publish(&pair.good, "orders"), publish(&bad, "orders"));
        assert_eq!(good, Ok(()), "{round}");
        assert!(refused.unwrap_err().contains("nobody_bad"));
    }

    pair.assert_one_term_was_lost().await;
    let told = pair.wait_until_told("writes-refused").await;
    assert!(told.contains("DROP CONSTRAINT nobody_bad"), "{told}");
    let rows = pair.group.tables().messages("orders").await;
    let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6], "without a gap");
    pair.execute("ALTER TABLE messages DROP CONSTRAINT nobody_bad")
        .await;
    assert_eq!(publish(&bad, "orders").await, Ok(()));
}

#[tokio::test]
async fn an_index_that_somebody_made_is_named_with_the_statement_that_drops_it() {
    let Some(pair) = Refused::new(&[]).await else {
        return;
    };
    // The second message has the same reply; and what would be in the other index is too large for one.
    pair.execute(
        "CREATE FUNCTION large(bytea) RETURNS text IMMUTABLE LANGUAGE sql AS
            'SELECT string_agg(md5(n::text), '''') FROM generate_series(1, 200) n'",
    )
    .await;
    for (index, on, dropped) in [
        ("once", "messages (reply)", "DROP INDEX stanby.once"),
        ("small", "messages (large(data))", "DROP INDEX stanby.small"),
    ] {
        let bad = pair.group.client(index).await;
        let unique = if index == "once" { "UNIQUE" } else { "" };
        pair.execute(&format!(
            "CREATE {unique} INDEX {index} ON {on} WHERE client_id = '{index}'"
        ))
        .await;
        publish(&bad, "orders").await.ok();

        let refusal = publish(&bad, "orders").await.unwrap_err();
        assert!(refusal.contains(index), "{refusal}");
        assert_eq!(publish(&pair.good, "orders").await, Ok(()));
        let told = pair.wait_until_told(dropped).await;
        assert!(!told.contains("delete it"), "{told}");
        pair.execute(&format!("DROP INDEX {index}")).await;
        assert_eq!(publish(&bad, "orders").await, Ok(()));
    }
}

#[tokio::test]
async fn a_trigger_that_refuses_or_drops_rows_of_one_channel_holds_up_no_other() {
    for body in ["RAISE EXCEPTION 'not here'", "RETURN NULL"] {
        let Some(pair) = Refused::new(&[]).await else {
            return;
        };
        pair.execute(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN IF NEW.client_id = 'bad' THEN {body}; END IF; RETURN NEW; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION refuse()"
        ))
        .await;
        let bad = pair.group.client("bad").await;

        for _ in 0..3 {
            let (good, refused) = tokio::join!(publish(&pair.good, "orders"), publish(&bad, "b"));
            assert_eq!(good, Ok(()), "{body}");
            assert!(refused.unwrap_err().contains("not stored"), "{body}");
        }
        assert!(pair.terms().await <= 2, "{body}");
        assert!(pair.group.tables().messages("b").await.is_empty());
    }
}

#[tokio::test]
async fn a_row_at_the_next_sequence_that_no_server_wrote_is_named_and_holds_up_its_channel_only() {
    let Some(pair) = Refused::new(&[]).await else {
        return;
    };
    pair.execute(
        "INSERT INTO messages SELECT channel_id, 2, published_at_ns, epoch, client_id, 'by-hand', reply, data
            FROM messages WHERE sequence = 1",
    )
    .await;

    let refusal = publish(&pair.good, "orders").await.unwrap_err();
    assert!(
        refusal.contains("(channel_id, sequence)=(1, 2)"),
        "{refusal}"
    );
    assert_eq!(publish(&pair.good, "others").await, Ok(()));
    pair.assert_one_term_was_lost().await;

    pair.execute("DELETE FROM messages WHERE guid = 'by-hand'")
        .await;
    assert_eq!(publish(&pair.good, "orders").await, Ok(()));
}

#[tokio::test]
async fn when_no_message_can_be_stored_the_server_is_not_ready_until_that_is_mended() {
    let Some(pair) = Refused::new(&[]).await else {
        return;
    };
    pair.execute("DELETE FROM messages; ALTER TABLE messages ADD COLUMN extra text NOT NULL")
        .await;

    let mut publishers = Vec::new();
    for _ in 0..40 {
        let mut publisher = pair.good.publisher("orders").await;
        publisher.send().await;
        publishers.push(publisher);
    }
    for publisher in &mut publishers {
        assert!(publisher.take_ack(LIMIT).await, "no answer");
        let error = &publisher.published().errors[0];
        assert!(error.contains("\"extra\""), "{error}");
    }
    let told = pair.wait_until_told("nothing-stored").await;
    assert!(told.contains("DROP NOT NULL"), "{told}");
    let (code, _) = pair.told("/readyz").await;
    assert_eq!(code, 503);
    pair.assert_one_term_was_lost().await;

    pair.execute("ALTER TABLE messages DROP COLUMN extra").await;
    assert_eq!(publish(&pair.good, "orders").await, Ok(()));
    wait_until(LIMIT, async || match pair.told("/readyz").await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_client_or_subscription_that_cannot_be_stored_or_deleted_holds_up_nobody() {
    let Some(pair) = Refused::new(&[]).await else {
        return;
    };
    let stays = pair.group.client("stays").await;
    pair.execute(TRIGGER).await;
    pair.execute(
        "CREATE TRIGGER stays BEFORE DELETE ON clients FOR EACH ROW
            WHEN (OLD.client_id = 'stays') EXECUTE FUNCTION refuse();
        CREATE TRIGGER comes BEFORE INSERT ON clients FOR EACH ROW
            WHEN (NEW.client_id LIKE 'no%') EXECUTE FUNCTION refuse();
        CREATE TRIGGER subscribes BEFORE INSERT ON positions FOR EACH ROW
            WHEN (NEW.durable_name = 'never') EXECUTE FUNCTION refuse()",
    )
    .await;

    let refusal = stays.close().await.unwrap_err();
    assert!(refusal.contains("not this one"), "{refusal}");
    for id in ["no1", "no2", "no3"] {
        let nats = async_nats::connect(&pair.group.nats_url).await.unwrap();
        let refused = StanClient::connect(nats, &pair.group.cluster_id, id).await;
        assert!(refused.err().unwrap().contains("not this one"));
    }
    let refused = pair.good.subscribe("orders", "", "never").await;
    assert!(refused.err().unwrap().contains("not this one"));
    let subscription = pair.good.subscribe("orders", "", "fine").await.unwrap();
    assert_eq!(publish(&pair.good, "orders").await, Ok(()));
    wait_until(LIMIT, async || match subscription.sequences().len() {
        2 => Ok(()),
        found => Err(found.to_string()),
    })
    .await;
    pair.assert_one_term_was_lost().await;
}

#[tokio::test]
async fn progress_and_limits_that_cannot_be_stored_hold_up_no_publish() {
    let Some(pair) = Refused::new(&["--max-msgs=3"]).await else {
        return;
    };
    let stuck = pair.good.subscribe("orders", "", "stuck").await.unwrap();
    let fine = pair.good.subscribe("others", "", "fine").await.unwrap();
    pair.execute(TRIGGER).await;
    pair.execute(
        "CREATE TRIGGER progress BEFORE UPDATE ON positions FOR EACH ROW
            WHEN (NEW.durable_name = 'stuck') EXECUTE FUNCTION refuse();
        CREATE TRIGGER trims BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;

    for _ in 0..6 {
        assert_eq!(publish(&pair.good, "orders").await, Ok(()));
        assert_eq!(publish(&pair.good, "others").await, Ok(()));
    }
    wait_until(LIMIT, async || {
        match (stuck.sequences().len(), fine.sequences().len()) {
            (7, 6) => Ok(()),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
    wait_until(LIMIT, async || {
        let floors = "SELECT acked_floor::text FROM positions ORDER BY durable_name";
        match pair.group.tables().texts(floors).await.as_slice() {
            [fine, _] if fine == "6" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(pair.terms().await <= 2);
    pair.wait_until_told("writes-refused").await;
}

#[tokio::test]
async fn the_remedy_names_the_table_that_a_publication_keeps_from_being_changed() {
    let Some(pair) = Refused::new(&[]).await else {
        return;
    };
    pair.execute(
        "CREATE PUBLICATION everything FOR ALL TABLES; ALTER TABLE channels REPLICA IDENTITY NOTHING",
    )
    .await;

    publish(&pair.good, "orders").await.unwrap_err();

    let told = pair.wait_until_told("REPLICA IDENTITY").await;
    assert!(
        told.contains("ALTER TABLE channels REPLICA IDENTITY FULL"),
        "{told}"
    );
    pair.execute("ALTER TABLE channels REPLICA IDENTITY DEFAULT")
        .await;
    assert_eq!(publish(&pair.good, "orders").await, Ok(()));
}

#[tokio::test]
async fn a_publication_of_some_columns_and_a_deferred_trigger_are_named_as_what_they_are() {
    let Some(pair) = Refused::new(&[]).await else {
        return;
    };
    pair.execute("CREATE PUBLICATION some_columns FOR TABLE channels (name)")
        .await;
    publish(&pair.good, "orders").await.unwrap_err();
    let told = pair.wait_until_told("out of the publication").await;
    assert!(
        told.contains("leave channels out of the publication"),
        "{told}"
    );
    assert!(told.contains("replica identity"), "{told}");
    pair.execute("DROP PUBLICATION some_columns").await;

    pair.execute(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION late()",
    )
    .await;
    publish(&pair.good, "orders").await.unwrap_err();
    let told = pair.wait_until_told("deferred constraints").await;
    assert!(!told.contains("on COMMIT"), "{told}");
    pair.execute("DROP TRIGGER late ON messages").await;
    assert_eq!(publish(&pair.good, "orders").await, Ok(()));
}

#[tokio::test]
async fn a_publication_of_all_tables_refuses_nothing() {
    let Some(pair) = Refused::new(&["--max-msgs=3", "--max-inactivity=1s"]).await else {
        return;
    };
    pair.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        .await;
    let without_key = "SELECT relname::text FROM pg_class c
        WHERE relkind = 'r' AND relnamespace = 'stanby'::regnamespace AND NOT EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";
    assert_eq!(pair.group.tables().texts(without_key).await, [""; 0]);

    let leaver = pair.group.client("leaver").await;
    let durable = leaver.subscribe("orders", "", "d").await.unwrap();
    let _grouped = leaver.subscribe("orders", "q", "d").await.unwrap();
    for _ in 0..6 {
        assert_eq!(publish(&pair.good, "orders").await, Ok(()));
    }
    assert_eq!(publish(&pair.good, "short").await, Ok(()));
    wait_until(LIMIT, async || match durable.sequences().last() {
        Some(7) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // The channel that nobody uses goes; the client comes back in another connection, and closes.
    wait_until(LIMIT, async || {
        match pair
            .group
            .tables()
            .number("SELECT count(*) FROM channels")
            .await
        {
            1 => Ok(()),
            found => Err(found.to_string()),
        }
    })
    .await;
    leaver.close().await.unwrap();
    let leaver = pair.group.client("leaver").await;
    leaver.close().await.unwrap();
    assert_eq!(pair.terms().await, 1);

    let [active, standby] = pair.servers;
    active.kill().await;
    assert_eq!(standby.wait_until_active().await, 2);
    assert_eq!(publish(&pair.good, "orders").await, Ok(()));
}
