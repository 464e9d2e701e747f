//! What functions of operators and applications say to those who may not call them, and to NULL where true or false is wanted.

use tokio_postgres::Client;

use super::fixture::{SCHEMA, migrated};
use super::in_sql::{number, refused};

/// What is only to be looked at must not happen because a variable is NULL.
#[tokio::test]
async fn null_is_neither_true_nor_false() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let verbs = client
        .query(
            "SELECT f.proname || '(' || concat_ws(', ', (
                    SELECT string_agg(format('%I => NULL', name), ', ')
                    FROM unnest(f.proargnames) WITH ORDINALITY AS argument (name, n)
                    WHERE n <= f.pronargs - f.pronargdefaults
                ), 'dry_run => NULL') || ')'
            FROM pg_proc f
            WHERE f.pronamespace = quote_ident(current_schema())::regnamespace AND f.prokind = 'f' AND 'dry_run' = ANY (f.proargnames)",
            &[],
        )
        .await
        .unwrap();
    let calls: Vec<String> = verbs.iter().map(|row| row.get(0)).collect();
    assert!(calls.len() > 14, "{calls:?}");
    for call in calls {
        let (code, told) = refused(&client, &format!("SELECT {call}")).await;
        assert_eq!(code, "STB04", "{call}: {told}");
        assert!(told.starts_with("dry_run is NULL"), "{call}: {told}");
    }
    for call in [
        "set_policy('a', keep_until_acked => NULL)",
        "set_policy('a', dead_letter_header => NULL)",
        "grant_channel(current_user::regrole, 'a', publish => NULL)",
        "grant_channel(current_user::regrole, 'a', ack => NULL)",
        "grant_to_publisher(NULL)",
        "grant_to_operator(NULL)",
    ] {
        let (code, told) = refused(&client, &format!("SELECT {call}")).await;
        assert_eq!(code, "STB03", "{call}: {told}");
    }
    let nothing = "SELECT (SELECT count(*) FROM admin_requests) + (SELECT count(*) FROM policies)
        + (SELECT count(*) FROM channel_grants)";
    assert_eq!(number(&client, nothing).await, 0);
}

async fn role(client: &Client, name: &str) {
    let schema = format!("\"{}\"", SCHEMA.replace('"', "\"\""));
    let made = format!(
        "CREATE ROLE {name}; GRANT USAGE ON SCHEMA {schema} TO {name}; SET SESSION AUTHORIZATION {name}"
    );
    client.batch_execute(&made).await.unwrap();
}

async fn end(client: &Client, name: &str) {
    let end =
        format!("RESET SESSION AUTHORIZATION; DROP OWNED BY {name} CASCADE; DROP ROLE {name}");
    client.batch_execute(&end).await.unwrap();
}

#[tokio::test]
async fn who_may_not_is_told_who_can() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let nobody = format!("nobody_{}", fixture.database.name);
    role(&client, &nobody).await;
    let operator = format!("grant_to_operator('{nobody}')");
    for call in [
        "SELECT request_step_down()",
        "SELECT request_purge('orders', keep => 1)",
        "CALL await_request(1)",
        "CALL step_down()",
        "CALL seek('orders', 'd', 'first')",
    ] {
        let (code, told) = refused(&client, call).await;
        assert_eq!(code, "42501", "{call}: {told}");
        assert!(told.contains(&operator), "{call}: {told}");
    }
    end(&client, &nobody).await;
}

#[tokio::test]
async fn a_limited_role_does_not_learn_which_channels_and_durables_there_are() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let app = format!("app_{}", fixture.database.name);
    let there = format!(
        "INSERT INTO channels (channel_id, name, created_at_ns, deleting, first_sequence, last_sequence, last_published_at_ns,
            message_count, byte_count) VALUES (1, 'secret', 0, false, 1, 0, 0, 0, 0);
        CREATE ROLE {app}; SELECT grant_to_publisher('{app}'); SELECT grant_channel('{app}', 'own');
        SET SESSION AUTHORIZATION {app}"
    );
    client.batch_execute(&there).await.unwrap();
    for verb in ["ack", "nack"] {
        let mut told = Vec::new();
        for channel in ["secret", "nothing"] {
            let call = format!("SELECT {verb}('{channel}', 1, durable => 'd')");
            let (code, text) = refused(&client, &call).await;
            assert_eq!(code, "42501", "{call}: {text}");
            told.push(text.replace(channel, "…"));
        }
        assert_eq!(told[0], told[1]);
        // Of its own it learns that there is none.
        let (code, _) = refused(&client, &format!("SELECT {verb}('own', 1, durable => 'd')")).await;
        assert_eq!(code, "STB04");
    }
    end(&client, &app).await;
}

/// In the forms that the command line has.
#[tokio::test]
async fn how_long_ago_it_was_is_said_in_one_or_more_units() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    for (text, seconds) in [
        ("90 min", 5400),
        ("1h30m", 5400),
        ("7 days", 604_800),
        ("1 day 12 hours ago", 129_600),
        ("2w ago", 1_209_600),
    ] {
        let asked = format!(
            "WITH asked AS (SELECT admin_request('channel purge', jsonb_build_object('before_time', '{text}')) AS id)
            SELECT id FROM asked"
        );
        let id = number(&client, &asked).await;
        let ago = format!(
            "SELECT round(extract(epoch FROM clock_timestamp()) - (arguments ->> 'before_time')::bigint / 1e9)::bigint
            FROM admin_requests WHERE id = {id}"
        );
        let ago = number(&client, &ago).await;
        assert!((seconds..seconds + 60).contains(&ago), "{text}: {ago}");
    }
    let none = "SELECT admin_request('channel purge', '{\"before_time\": \"7 fortnights\"}')";
    let (code, told) = refused(&client, none).await;
    assert_eq!(code, "STB04", "{told}");
    assert!(told.contains("how long ago"), "{told}");
}
