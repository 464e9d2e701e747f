//! What operators want to become of messages that are not acked, and of channels that are full.

use sqlx::Executor;

use crate::admin::Operator;
use crate::held::publish;
use crate::pair::{Group, LIMIT, Pair};
use crate::sql::{application, refused};
use crate::support::wait::wait_until;
use crate::tables::Tables;

pub(crate) async fn wait_for_texts(tables: &Tables, query: &'static str, wanted: &[&str]) {
    wait_until(LIMIT, async || {
        let found = tables.texts(query).await;
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?} instead of {wanted:?}"))
        }
    })
    .await;
}

/// What `set_policy` has set holds for what is delivered from then on.
async fn set(tables: &Tables, call: &str) {
    tables.execute(format!("SELECT stanby.{call}")).await;
}

#[tokio::test]
async fn a_message_that_is_not_acked_becomes_one_dead_letter_whichever_server_counts_and_comes_back_by_redrive()
 {
    let Some(Pair {
        group,
        active,
        standby,
    }) = Pair::new(&["--lease", "1s"]).await
    else {
        return;
    };
    let tables = group.tables();
    set(
        &tables,
        "set_policy('orders', max_deliveries => 4, dead_letter => 'dead', backoff => ARRAY['300 ms', '900 ms']::interval[])",
    )
    .await;
    let client = group.client("worker").await;
    let mut taker = client
        .take_for("orders", ("workers", "jobs"), 100, 30)
        .await;
    publish(&client, "orders", 2).await;
    let mut application = application(&group).await;
    while taker.times(1) < 2 {
        taker.next(LIMIT).await;
    }
    taker.ack(2).await;
    let counted = "SELECT deliveries::text FROM stanby.delivery_counts WHERE sequence = 1";
    wait_until(LIMIT, async || match tables.texts(counted).await {
        found if found.is_empty() => Err("nothing is counted".to_owned()),
        _ => Ok(()),
    })
    .await;
    active.kill().await;
    standby.wait_until_active().await;
    application
        .execute("SELECT stanby.nack('orders', 1, queue_group => 'workers', reason => 'no stock', delay => '200 ms')")
        .await
        .unwrap();

    let letters = "SELECT concat_ws(' ', channel, sequence, origin_channel, origin_sequence, durable_name, queue_group, reason)
        FROM stanby.dead_letter_status";
    wait_for_texts(&tables, letters, &["dead 1 orders 1 jobs workers no stock"]).await;
    // One that left just before the server died may not be counted.
    let count = "SELECT deliveries FROM stanby.dead_letters";
    assert_eq!(tables.number(count).await, 4);
    let times = taker.times(1);
    let unacked = "SELECT unacked FROM stanby.position_status WHERE channel = 'orders'";
    assert_eq!(tables.number(unacked).await, 0);
    wait_for_texts(&tables, counted, &[]).await;
    let source =
        "SELECT source || ' ' || dead_letter || ' ' || when_full FROM stanby.effective_policies";
    let number = tables.number("SELECT policy_id FROM stanby.policies").await;
    let told = format!("policy {number} for orders dead drop-oldest");
    wait_for_texts(&tables, source, &[&told]).await;
    let (_, metrics) = standby.get("/metrics").await.unwrap();
    assert!(metrics.contains("stanby_dead_letters_total 1"), "{metrics}");

    let mut operator = Operator::of(&group).await;
    for messages in [1, 0] {
        let done = operator.call("redrive('dead')").await;
        assert_eq!(done["messages"], messages, "{done}");
    }
    while taker.times(3) == 0 {
        taker.next(LIMIT).await;
    }
    assert!(taker.times(1) >= times && times >= 2);
    let redriven = "SELECT count(*) FROM stanby.dead_letter_status WHERE redriven_at IS NOT NULL";
    assert_eq!(tables.number(redriven).await, 1);
}

#[tokio::test]
async fn a_full_channel_refuses_publishes_by_policy_and_what_is_dropped_unacked_is_known_after_a_restart()
 {
    let Some(group) = Group::new(&["--max-msgs", "10", "--lease", "1s"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("reader").await;
    client.hold("orders", "", "books", 100).await.unwrap();
    publish(&client, "orders", 13).await;
    let tables = group.tables();
    let dropped = "SELECT concat_ws(' ', channel, messages, first_sequence, last_sequence) FROM stanby.dropped_unacked";
    wait_for_texts(&tables, dropped, &["orders 3 1 3"]).await;

    set(&tables, "set_policy('orders', when_full => 'reject')").await;
    let mut publisher = client.publisher("orders").await;
    let refusal = loop {
        publisher.send().await;
        assert!(publisher.take_ack(LIMIT).await, "no answer");
        if let Some(refusal) = publisher.published().errors.first() {
            break refusal.clone();
        }
    };
    assert!(refusal.contains("the channel is full"), "{refusal}");
    let kept = tables.messages("orders").await.len();
    assert_eq!(kept, 10);
    let told = tables.texts(dropped).await;

    server.kill().await;
    let server = group.server();
    server.wait_until_active().await;
    assert_eq!(tables.texts(dropped).await, told);
    let mut application = application(&group).await;
    application
        .execute("SELECT stanby.publish('orders', 'one more')")
        .await
        .unwrap();
    let refused = "SELECT reason FROM stanby.refused_publishes";
    let why = "its channel is full, and a policy keeps what is in it";
    wait_for_texts(&tables, refused, &[why]).await;
}

#[tokio::test]
async fn what_is_no_policy_is_told_with_what_to_say_instead() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut application = application(&group).await;
    for (arguments, text) in [
        ("NULL", "pattern"),
        ("'a/b'", "pattern"),
        ("'a..b'", "pattern"),
        ("'a.>.b'", "pattern"),
        ("'a', max_deliveries => 0", "1 or more"),
        ("'a', backoff => ARRAY['0 s']::interval[]", "365"),
        ("'a', poison => 'drop', max_deliveries => 3", "dead-letter"),
        ("'a', poison => 'pause'", "max_deliveries"),
        ("'a', dead_letter => 'b'", "max_deliveries"),
        (
            "'a', max_deliveries => 3, poison => 'dead-letter'",
            "dead_letter",
        ),
        ("'a', max_deliveries => 3, dead_letter => 'a'", "another"),
        ("'a', max_deliveries => 3, dead_letter => 'b.*'", "another"),
        ("'a', when_full => 'wait'", "reject"),
        ("'a', 'books', when_full => 'reject'", "without durable"),
        ("'a', ''", "NULL"),
    ] {
        let call = format!("SELECT stanby.set_policy({arguments})");
        let (code, hint) = refused(&mut application, &call).await;
        assert_eq!(code, "STB03", "{call}");
        assert!(hint.contains(text), "{call}: {hint}");
    }
    let tables = group.tables();
    let growing = "SELECT unnest(stanby.growing('1 s', 3, '10 s'))::text";
    assert_eq!(
        tables.texts(growing).await,
        ["00:00:01", "00:00:03", "00:00:09", "00:00:10"]
    );
    // As the servers match and sort them.
    let names = ["a", "a.b", "a.b.c", "b.b"];
    let all = [
        (">", vec!["a", "a.b", "a.b.c", "b.b"]),
        ("*", vec!["a"]),
        ("*.*", vec!["a.b", "b.b"]),
        ("a.>", vec!["a.b", "a.b.c"]),
        ("a.*", vec!["a.b"]),
        ("a.b", vec!["a.b"]),
    ];
    for (pattern, matched) in &all {
        for name in names {
            let query = format!("SELECT stanby.policy_matches('{pattern}', '{name}')");
            let matches: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .fetch_one(&mut application)
                .await
                .unwrap();
            assert_eq!(matches, matched.contains(&name), "{pattern} {name}");
        }
    }
    let sorted = "SELECT p FROM unnest(ARRAY['a.b', '>', '*.*', 'a.*', '*', 'a.>']) p ORDER BY stanby.policy_rank(p)";
    assert_eq!(
        tables.texts(sorted).await,
        [">", "*", "*.*", "a.>", "a.*", "a.b"]
    );
}
