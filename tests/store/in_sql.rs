//! Functions that applications and operators call: what they refuse, and that none of it holds up or loses what others do.

use stanby::config::database::DatabaseUrl;
use stanby::store::Store;
use tokio_postgres::Client;

use super::fixture::{Fixture, SCHEMA, TIMEOUT, migrated};
use super::shared::session;

async fn text(client: &Client, query: &str) -> String {
    client.query_one_scalar(query, &[]).await.expect(query)
}

pub(crate) async fn number(client: &Client, query: &str) -> i64 {
    client.query_one_scalar(query, &[]).await.expect(query)
}

/// SQLSTATE, and what is said with its hint.
pub(crate) async fn refused(client: &Client, statement: &str) -> (String, String) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    let error = error.as_db_error().expect(statement);
    let told = format!("{} {}", error.message(), error.hint().unwrap_or_default());
    (error.code().code().to_owned(), told)
}

/// As the active does with all that the outbox holds.
async fn refuse_all(client: &Client) {
    let refuse = "SELECT take_outbox('{}', array_agg(id), array_agg('its channel is full'::text), '{}') FROM outbox";
    client.execute(refuse, &[]).await.unwrap();
}

async fn take_all(client: &Client) {
    let take = "SELECT take_outbox(array_agg(id), '{}', '{}', '{}') FROM outbox";
    client.execute(take, &[]).await.unwrap();
}

async fn fixture_and_client() -> Option<(Fixture, Client)> {
    let fixture = migrated().await?;
    let client = fixture.client().await;
    client
        .batch_execute("SET lock_timeout = '2s'")
        .await
        .unwrap();
    Some((fixture, client))
}

const PAY: &str = "SELECT publish('full', 'pay', msg_id => 'order-7')";

#[tokio::test]
async fn a_refused_publish_waits_for_no_open_transaction_that_has_its_msg_id() {
    let Some((fixture, active)) = fixture_and_client().await else {
        return;
    };
    let guid = text(&active, PAY).await;
    let publisher = fixture.client().await;
    publisher.batch_execute("BEGIN").await.unwrap();
    assert_eq!(text(&publisher, PAY).await, guid);

    refuse_all(&active).await;

    let set_aside = "SELECT count(*) FROM outbox_refused WHERE reason = 'its channel is full'";
    assert_eq!(number(&active, set_aside).await, 1);
    publisher.batch_execute("COMMIT").await.unwrap();
    // The ID is its own: it can be tried again, and is published once.
    assert_eq!(number(&active, "SELECT retry_refused()").await, 1);
    assert_eq!(text(&active, PAY).await, guid);
    // Where nobody holds it, it is new.
    refuse_all(&active).await;
    assert_ne!(text(&active, PAY).await, guid);
}

#[tokio::test]
async fn a_row_of_the_outbox_that_an_operator_has_deleted_and_not_committed_is_left_where_it_is() {
    let Some((fixture, active)) = fixture_and_client().await else {
        return;
    };
    text(&active, PAY).await;
    let operator = fixture.client().await;
    let delete = "BEGIN; DELETE FROM outbox";
    operator.batch_execute(delete).await.unwrap();

    refuse_all(&active).await;
    let rows = "SELECT (SELECT count(*) FROM outbox) * 10 + (SELECT count(*) FROM outbox_refused)";
    assert_eq!(number(&active, rows).await, 10);
    let take = "SET lock_timeout = '100ms'; SELECT take_outbox(array_agg(id), '{}', '{}', '{}') FROM outbox";
    let (code, told) = refused(&active, take).await;
    assert_eq!(code, "55P03", "{told}");

    operator.batch_execute("ROLLBACK").await.unwrap();
    take_all(&active).await;
    assert_eq!(number(&active, rows).await, 0);
}

#[tokio::test]
async fn what_was_published_since_under_the_same_msg_id_is_not_published_again_by_a_retry() {
    let Some((_fixture, client)) = fixture_and_client().await else {
        return;
    };
    for _ in 0..2 {
        text(&client, PAY).await;
        refuse_all(&client).await;
    }
    let third = text(&client, PAY).await;
    take_all(&client).await;

    assert_eq!(number(&client, "SELECT retry_refused()").await, 0);
    let reasons =
        "SELECT string_agg(DISTINCT reason, ';') FROM refused_publishes HAVING count(*) = 2";
    let reasons = text(&client, reasons).await;
    assert_eq!(
        reasons,
        format!("its msg_id was published since, as GUID {third}")
    );
    assert_eq!(number(&client, "SELECT count(*) FROM outbox").await, 0);

    // After the time of the ID only what is listed goes.
    let expire = "UPDATE message_ids SET expires_at = now() - interval '1 second'";
    client.batch_execute(expire).await.unwrap();
    assert_eq!(number(&client, "SELECT retry_refused()").await, 0);
    let listed = "SELECT retry_refused((SELECT array_agg(id) FROM outbox_refused))";
    assert_eq!(number(&client, listed).await, 1, "both have one ID");
    let again = text(&client, "SELECT guid FROM outbox").await;
    assert_eq!(text(&client, PAY).await, again);
}

/// A reader could make nothing of it, and would stop at it for ever.
#[tokio::test]
async fn text_that_is_not_utf8_is_refused_in_a_database_that_takes_any_bytes() {
    let Some((fixture, client)) = fixture_and_client().await else {
        return;
    };
    let name = format!("{}_ascii", fixture.database.name);
    let create = format!(
        "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    );
    client.batch_execute(&create).await.unwrap();
    let url = fixture.database.url.replace(&fixture.database.name, &name);
    let store = Store::open(
        &DatabaseUrl::parse(&url).unwrap(),
        SCHEMA,
        "stanby/test",
        TIMEOUT,
    );
    store.migrate().await.unwrap();
    let client = session(&url).await;
    let path = format!(
        "SET search_path = \"{}\"; SELECT publish('книги', 'да', msg_id => 'раз', reply => 'два')",
        SCHEMA.replace('"', "\"\"")
    );
    client.batch_execute(&path).await.unwrap();
    for (call, expected) in [
        (r"publish(E'a\xff', 'x')", "STB01"),
        (r"publish('a', 'x', msg_id => E'\xe9t')", "STB03"),
        (r"publish('a', 'x', reply => E'\xc3')", "STB03"),
        (
            r"publish('a', 'x', msg_id => E'\xc3', reply => E'\xa9')",
            "STB03",
        ),
        (
            r"ack('a', 1, queue_group => 'q', client_id => E'\xff')",
            "STB03",
        ),
        (
            r"nack('a', 1, queue_group => 'q', reason => E'\xff')",
            "STB03",
        ),
        (r"set_policy('a', durable => E'\xff')", "STB03"),
        (r"grant_channel(current_user::regrole, E'\xff')", "STB03"),
        (r"request_delete_channel(E'\xff')", "STB04"),
    ] {
        let (code, told) = refused(&client, &format!("SELECT {call}")).await;
        assert_eq!(code, expected, "{call}: {told}");
        assert!(told.contains("SQL_ASCII"), "{call}: {told}");
    }
    for row in [
        r"INSERT INTO set_limits (channel) VALUES (E'\xff')",
        r"INSERT INTO policies (channel) VALUES (E'\xff')",
    ] {
        // Of the constraint, or of the sentence that shows the row to this client.
        let (code, told) = refused(&client, row).await;
        assert!(
            ["23514", "22021"].contains(&code.as_str()),
            "{row}: {code} {told}"
        );
    }
    store.snapshot().await.unwrap();
    let rows = number(&client, "SELECT count(*) FROM outbox").await;
    assert_eq!(rows, 1, "the valid one");
}

#[tokio::test]
async fn rows_of_operators_that_no_server_can_read_are_refused_by_the_tables() {
    let Some((fixture, client)) = fixture_and_client().await else {
        return;
    };
    for row in [
        "INSERT INTO set_limits (channel, max_msgs) VALUES ('orders', -1)",
        "INSERT INTO set_limits (channel, max_age_ns) VALUES ('orders', -1)",
        "INSERT INTO set_limits (channel, max_msgs) VALUES ('orders.>', 1)",
        "INSERT INTO set_limits (channel, max_msgs) VALUES ('orders..eu', 1)",
        "INSERT INTO set_limits (channel, max_msgs) VALUES ('', 1)",
        "INSERT INTO policies (channel, backoff) VALUES ('orders', ARRAY[NULL::interval])",
        "INSERT INTO policies (channel, backoff) VALUES ('orders', ARRAY[interval '-1 s'])",
        "INSERT INTO policies (channel, backoff) VALUES ('orders', ARRAY[interval '400 days'])",
        "INSERT INTO policies (channel, backoff) VALUES ('orders', ARRAY[interval '1 microsecond'])",
        "INSERT INTO message_id_windows VALUES ('orders', '300000 years')",
    ] {
        assert_eq!(refused(&client, row).await.0, "23514", "{row}");
    }
    let soon = "SELECT set_policy('orders', backoff => array['1 microsecond']::interval[])";
    let (code, told) = refused(&client, soon).await;
    assert_eq!(code, "STB03", "{told}");
    assert!(told.contains("10 milliseconds"), "{told}");
    for row in [
        "INSERT INTO set_limits (channel, max_msgs, max_age_ns) VALUES ('orders.eu', 0, 1)",
        "SELECT set_policy('orders.>', backoff => array['10 ms', '365 days']::interval[])",
        "INSERT INTO message_id_windows VALUES ('orders', '10 years')",
        "SELECT publish('orders', 'x', msg_id => 'a')",
    ] {
        client.batch_execute(row).await.expect(row);
    }
    fixture.store.snapshot().await.unwrap();
}

#[tokio::test]
async fn a_msg_id_is_new_again_once_its_message_has_gone_with_its_channel() {
    let Some((_fixture, client)) = fixture_and_client().await else {
        return;
    };
    let make = "INSERT INTO channels (channel_id, name, created_at_ns, deleting, first_sequence, last_sequence,
        last_published_at_ns, message_count, byte_count) VALUES (1, 'full', 0, false, 1, 0, 0, 0, 0)";
    for delete in [
        "UPDATE channels SET deleting = true",
        "DELETE FROM channels",
    ] {
        let first = text(&client, PAY).await;
        take_all(&client).await;
        client.batch_execute(make).await.unwrap();
        assert_eq!(text(&client, PAY).await, first, "{delete}");
        let waiting = "SELECT publish('full', 'later', msg_id => 'other')";
        let other = text(&client, waiting).await;

        client.batch_execute(delete).await.unwrap();

        assert_eq!(text(&client, waiting).await, other, "it is to be stored");
        let second = text(&client, PAY).await;
        assert_ne!(second, first, "{delete}");
        assert_eq!(text(&client, PAY).await, second);
        let forget = "DELETE FROM channels; DELETE FROM outbox; DELETE FROM message_ids";
        client.batch_execute(forget).await.unwrap();
    }
    // One that had no IDs is not noted, and those whose IDs have expired are forgotten.
    client.batch_execute(make).await.unwrap();
    client.batch_execute("DELETE FROM channels").await.unwrap();
    let noted = "SELECT count(*) FROM deleted_channels";
    assert_eq!(number(&client, noted).await, 0);
}

#[tokio::test]
async fn who_cannot_give_a_right_is_told_who_can() {
    let Some((fixture, owner)) = fixture_and_client().await else {
        return;
    };
    let name = &fixture.database.name;
    let (user, app) = (format!("user_{name}"), format!("app_{name}"));
    let schema = format!("\"{}\"", SCHEMA.replace('"', "\"\""));
    let roles = format!(
        "CREATE ROLE {user}; CREATE ROLE {app}; SELECT grant_to_publisher('{user}');
        SELECT grant_to_operator('{user}'); SET ROLE {user}"
    );
    owner.batch_execute(&roles).await.unwrap();
    for verb in ["grant_to_publisher", "grant_to_operator"] {
        let (code, told) = refused(&owner, &format!("SELECT {verb}('{app}')")).await;
        assert_eq!(code, "42501", "{verb}: {told}");
        let remedy = format!("SET ROLE postgres; SELECT {schema}.{verb}('{app}');");
        assert!(told.contains(&remedy), "{told}");
    }
    // Of tables, and not of their schema.
    let owned = format!(
        "RESET ROLE; DO $$ DECLARE name text; BEGIN
            FOR name IN SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = current_schema()::regnamespace
                LOOP EXECUTE format('ALTER TABLE %s OWNER TO {user}', name); END LOOP;
            FOR name IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
                LOOP EXECUTE format('ALTER ROUTINE %s OWNER TO {user}', name); END LOOP; END $$;
        GRANT CREATE ON SCHEMA {schema} TO {user}; SET ROLE {user}"
    );
    let client = &owner;
    client
        .batch_execute(&owned.replace("current_schema()::", "quote_ident(current_schema())::"))
        .await
        .unwrap();
    for verb in ["grant_to_publisher", "grant_to_operator"] {
        let (code, told) = refused(client, &format!("SELECT {verb}('{app}')")).await;
        assert_eq!(code, "42501", "{verb}: {told}");
        let remedy = format!("postgres, has to: GRANT USAGE ON SCHEMA {schema} TO {app}");
        assert!(told.contains(&remedy), "{told}");
    }
    let given = format!(
        "RESET ROLE; GRANT USAGE ON SCHEMA {schema} TO {app}; SET ROLE {user};
        SELECT grant_to_publisher('{app}'); SELECT grant_to_operator('{app}'); RESET ROLE;
        SET ROLE {app}; SELECT publish('orders', '{{\"id\" :  7}}'::json); RESET ROLE"
    );
    client.batch_execute(&given).await.unwrap();
    let data = text(client, "SELECT convert_from(data, 'UTF8') FROM outbox").await;
    assert_eq!(data, "{\"id\" :  7}", "as it was written");
    let end = format!("DROP OWNED BY {user}, {app} CASCADE; DROP ROLE {user}, {app}");
    client.batch_execute(&end).await.unwrap();
}

#[tokio::test]
async fn the_first_grant_of_a_channel_stops_publishers_for_a_moment_only_and_names_who_is_in_its_way()
 {
    let Some((fixture, owner)) = fixture_and_client().await else {
        return;
    };
    let grant = "SELECT grant_channel(current_user::regrole, 'orders')";
    let [open, other] = [fixture.client().await, fixture.client().await];
    let begin = "SET application_name = 'forgotten'; BEGIN; SELECT publish('orders', 'x')";
    open.batch_execute(begin).await.unwrap();
    let unlimited = "SET lock_timeout = 0; SET statement_timeout = '20s'";
    owner.batch_execute(unlimited).await.unwrap();

    let publish = other.batch_execute("SELECT publish('orders', 'y')");
    let ((code, told), published) = tokio::join!(refused(&owner, grant), publish);

    published.unwrap();
    assert_eq!(code, "55P03", "{told}");
    let pid = number(&open, "SELECT pg_backend_pid()::bigint").await;
    for part in [&format!("pg_terminate_backend({pid})"), "'forgotten'"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(
        text(&owner, "SELECT current_setting('lock_timeout')").await,
        "0"
    );
    open.batch_execute("COMMIT").await.unwrap();
    owner.batch_execute(grant).await.unwrap();
}
