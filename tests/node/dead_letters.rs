//! What somebody tries against delivery policies: servers are killed while letters move, their channel is full, the policy
//! changes. And where it all shows.
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::admin::Operator;
use crate::admin_api::{TOKEN, ask};
use crate::held::publish;
use crate::pair::{Group, LIMIT, Pair, Server, wait_for_one_active};
use crate::policies::wait_for_texts;
use crate::support::wait::wait_until;

// Clients wait a second for acks here: what is delivered in the moment before a policy holds waits no longer.

/// The backend of the active while `under_way` is true; nothing when `over` is.
async fn kill_while(
    group: &Group,
    servers: &mut Vec<Server>,
    (under_way, over): (&'static str, &'static str),
    kills_max: usize,
) -> usize {
    let tables = group.tables();
    let mut kills = 0;
    loop {
        let active = wait_until(LIMIT, async || {
            if tables.number(over).await == 1 {
                return Ok(None);
            }
            let active = tables.texts(under_way).await.pop();
            active.map(Some).ok_or("it has not begun".to_owned())
        })
        .await;
        let Some(pid) = active else {
            return kills;
        };
        if kills < kills_max {
            for server in &mut *servers {
                if server.pid().to_string() == pid {
                    server.signal(Signal::SIGKILL);
                    server.end().await;
                    kills += 1;
                }
            }
        }
        for server in &mut *servers {
            if !server.is_running() {
                *server = group.server();
            }
        }
    }
}

#[tokio::test]
async fn dead_letters_and_their_redrive_are_neither_lost_nor_doubled_whichever_server_is_killed() {
    const LETTERS: i64 = 3000;
    const DYING: (&str, &str) = (
        "SELECT pid::text FROM stanby.leadership WHERE EXISTS (SELECT FROM stanby.dead_letters)",
        "SELECT (count(*) = 3000)::int::bigint FROM stanby.dead_letters",
    );
    const REDRIVING: (&str, &str) = (
        "SELECT pid::text FROM stanby.leadership
            WHERE EXISTS (SELECT FROM stanby.admin_requests WHERE state = 'running' AND messages > 0)",
        "SELECT (count(*) = 0)::int::bigint FROM stanby.admin_requests WHERE finished_at IS NULL",
    );
    /// Of which there are more or less than one.
    const ODD: &str = "SELECT count(*) FROM (
            SELECT d.origin_sequence FROM stanby.dead_letters d JOIN stanby.messages m USING (channel_id, sequence)
            JOIN stanby.messages o ON o.sequence = d.origin_sequence AND o.data = m.data
            JOIN stanby.channels c ON c.channel_id = o.channel_id AND c.name = 'orders'
            GROUP BY 1 HAVING count(*) = 1) once";
    const COPIES: &str = "SELECT DISTINCT count(*)::text FROM stanby.messages m JOIN stanby.channels c USING (channel_id)
        WHERE c.name = 'orders' GROUP BY m.data";

    let Some(group) = Group::new(&["--lease", "1s"]).await else {
        return;
    };
    let mut servers = vec![group.server(), group.server()];
    wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
    let mut operator = Operator::of(&group).await;
    let tables = group.tables();
    tables
        .execute(
            "SELECT stanby.set_policy('orders', 'd', max_deliveries => 1, dead_letter => 'dead',
                                      backoff => ARRAY['50 ms']::interval[])",
        )
        .await;
    let client = group.client("worker").await;
    client.hold_for("orders", "", "d", 500, 1).await.unwrap();
    let publish =
        format!("SELECT stanby.publish('orders', n::text) FROM generate_series(1, {LETTERS}) n");
    operator.run(&publish).await;
    let kills = kill_while(&group, &mut servers, DYING, 2).await;
    assert!(kills > 0, "all had died before anybody could be killed");
    assert_eq!(tables.number(ODD).await, LETTERS);
    let unacked = "SELECT lag FROM stanby.durables";
    wait_until(LIMIT, async || match tables.number(unacked).await {
        0 => Ok(()),
        unacked => Err(format!("{unacked} are not acked")),
    })
    .await;

    tables
        .execute("SELECT stanby.drop_policy('orders', 'd')")
        .await;
    let mut copies = 1;
    let mut ask = "SELECT stanby.request_redrive('dead')".to_owned();
    loop {
        operator.run(&ask).await;
        copies += 1;
        let kills = kill_while(&group, &mut servers, REDRIVING, 2).await;
        let done = "SELECT result ->> 'messages' FROM stanby.admin_log LIMIT 1";
        assert_eq!(tables.texts(done).await, [LETTERS.to_string()]);
        assert_eq!(tables.texts(COPIES).await, [copies.to_string()]);
        if kills > 0 {
            break;
        }
        assert!(copies < 6, "each was over before anybody could be killed");
        // These, again.
        ask = format!("SELECT stanby.request_redrive('dead', first => 1, last => {LETTERS})");
    }
}

#[tokio::test]
async fn a_dead_letter_channel_that_is_full_is_told_and_takes_them_when_there_is_room() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let mut operator = Operator::of(&group).await;
    operator.call("create_channel('dead', max_msgs => 1)").await;
    group
        .tables()
        .execute(
            "SELECT stanby.set_policy('dead', when_full => 'reject');
             SELECT stanby.set_policy('orders', max_deliveries => 1, dead_letter => 'dead',
                                      backoff => ARRAY['100 ms']::interval[])",
        )
        .await;
    let client = group.client("worker").await;
    client.hold_for("orders", "", "d", 10, 1).await.unwrap();
    publish(&client, "orders", 2).await;
    let told = "SELECT reason FROM stanby.conditions WHERE kind = 'dead-letters-refused'";
    let reason = wait_until(LIMIT, async || {
        let found = group.tables().texts(told).await.pop();
        found.ok_or("nobody was told".to_owned())
    })
    .await;
    assert!(reason.contains("channel dead"), "{reason}");
    let lag = "SELECT lag FROM stanby.durables";
    assert_eq!(group.tables().number(lag).await, 1);
    operator.call("purge('dead', \"all\" => true)").await;
    wait_until(LIMIT, async || match group.tables().number(lag).await {
        0 => Ok(()),
        lag => Err(format!("{lag} are not acked")),
    })
    .await;
    let letters = "SELECT origin_sequence::text FROM stanby.dead_letter_status";
    assert_eq!(group.tables().texts(letters).await, ["2"]);
}

#[tokio::test]
async fn which_policy_holds_and_what_it_waits_for_is_shown_through_every_door() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let flags = ["--api-token-file", file.to_str().unwrap()];
    let more = ["--max-msgs", "10", "--max-bytes", "0"];
    let Some(group) = Group::new(&[flags, [more[0], more[1]], [more[2], more[3]]].concat()).await
    else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let tables = group.tables();
    tables
        .execute(
            "SELECT stanby.set_policy('orders', 'd', max_deliveries => 2, poison => 'pause',
                                      backoff => ARRAY['100 ms', '200 ms']::interval[]);
             SELECT stanby.set_policy('>', keep_until_acked => true)",
        )
        .await;
    let client = group.client("worker").await;
    client.hold_for("orders", "", "d", 10, 1).await.unwrap();
    client.hold("orders", "", "other", 10).await.unwrap();
    publish(&client, "orders", 4).await;
    let waits =
        "SELECT concat_ws(' ', durable_name, source, waits_for, when_full, keep_until_acked)
        FROM stanby.effective_policies ORDER BY 1";
    let number = "SELECT policy_id FROM stanby.policies WHERE durable = 'd'";
    let (one, all) = (
        tables.number(number).await,
        tables
            .number("SELECT policy_id FROM stanby.policies WHERE durable IS NULL")
            .await,
    );
    let source = format!("policy {one} for orders, durable d");
    let wanted = [
        format!("d {source} 1 drop-oldest t"),
        format!("other policy {all} for > drop-oldest t"),
    ];
    wait_until(LIMIT, async || {
        let found = tables.texts(waits).await;
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?} instead of {wanted:?}"))
        }
    })
    .await;
    let deliveries =
        "SELECT concat_ws(' ', sequence, deliveries, since > published_at) FROM stanby.in_flight
        WHERE durable_name = 'd' AND deliveries IS NOT NULL ORDER BY sequence LIMIT 1";
    assert_eq!(tables.texts(deliveries).await, ["1 2 t"]);

    let operator = Operator::of(&group).await;
    let durable = operator.rows(&["durable", "show", "orders", "d"]).await;
    let policy = &durable[0]["policy"];
    assert_eq!(policy["source"], source, "{durable}");
    assert_eq!(policy["waits_for"], 1);
    assert_eq!(policy["backoff_seconds"], json!([0.1, 0.2]));
    assert_eq!(durable[0]["in_flight_messages"][0]["deliveries"], 2);
    let path = "/api/v1/policies?channel=orders";
    let (status, policies) = ask("GET", server.http_port, path, Some(TOKEN), "").await;
    assert_eq!(status, 200, "{policies}");
    let sources: Vec<&Value> = policies
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| &policy["source"])
        .collect();
    assert_eq!(
        sources,
        [&json!(source), &json!(format!("policy {all} for >"))]
    );
    let labels = "{channel=\"orders\",durable=\"d\",queue=\"\",client_id=\"worker\"}";
    let paused = format!("stanby_durable_paused{labels} 1");
    // The last delivery waits for its ack first.
    let metrics = wait_until(LIMIT, async || {
        let (_, metrics) = server.get("/metrics").await?;
        if metrics.contains(&paused) {
            Ok(metrics)
        } else {
            Err(metrics)
        }
    })
    .await;
    let behind = format!("stanby_durable_behind_seconds{labels} ");
    let seconds = metrics.lines().find_map(|line| line.strip_prefix(&behind));
    assert!(
        seconds.unwrap().parse::<f64>().unwrap() > 0.2,
        "{seconds:?}"
    );

    let channel = operator.rows(&["channel", "show", "orders"]).await;
    assert_eq!(channel["policy"], format!("policy {all} for >"));
    let shares = [
        &channel["max_msgs"],
        &channel["max_msgs_percent"],
        &channel["max_bytes"],
    ];
    assert_eq!(shares, [&json!(10), &json!(40.0), &Value::Null]);
    assert!(channel["seconds_to_full"].as_f64().unwrap() > 0.0);
    let from = "SELECT concat_ws(' ', max_msgs, max_msgs_from, max_subscriptions) FROM stanby.channel_limits";
    assert_eq!(tables.texts(from).await, ["10 configuration 1000"]);
    operator
        .command(&["channel", "limits", "orders", "--max-msgs", "5"])
        .await;
    assert_eq!(tables.texts(from).await, ["5 table 1000"]);
}

#[tokio::test]
async fn a_durable_that_a_policy_has_paused_says_so_until_its_message_is_settled_or_the_policy_ends_whichever_server_is_active()
 {
    const STATUS: &str = "SELECT concat_ws(' ', status, paused_for, regexp_replace(why, ' at [-0-9: ]+ UTC', '')) FROM stanby.durables";
    const SINCE: &str =
        "SELECT awaited_since::text FROM stanby.delivery_counts WHERE awaited_since IS NOT NULL";
    let paused = |sequence: u64| {
        format!(
            "paused {sequence} a policy paused it for message {sequence}, delivered 2 times; stanby durable ack or skip lets it go on"
        )
    };

    let Some(Pair {
        group,
        active,
        standby,
    }) = Pair::new(&["--lease", "1s"]).await
    else {
        return;
    };
    let tables = group.tables();
    tables
        .execute(
            "SELECT stanby.set_policy('orders', 'd', max_deliveries => 2, poison => 'pause',
                                      backoff => ARRAY['50 ms']::interval[])",
        )
        .await;
    let client = group.client("worker").await;
    client.hold_for("orders", "", "d", 1, 1).await.unwrap();
    publish(&client, "orders", 3).await;
    wait_for_texts(&tables, STATUS, &[&paused(1)]).await;
    let since = tables.texts(SINCE).await;

    active.kill().await;
    standby.wait_until_active().await;
    let labels = "{channel=\"orders\",durable=\"d\",queue=\"\",client_id=\"worker\"}";
    let held = format!("stanby_durable_paused{labels} 1");
    wait_until(LIMIT, async || {
        let (_, metrics) = standby.get("/metrics").await?;
        metrics.contains(&held).then_some(()).ok_or(metrics)
    })
    .await;
    assert_eq!(tables.texts(STATUS).await, [paused(1)]);
    assert_eq!(tables.texts(SINCE).await, since);
    let operator = Operator::of(&group).await;
    let listed = operator.rows(&["durable", "list"]).await;
    assert_eq!(listed[0]["status"], "paused", "{listed}");
    assert_eq!(listed[0]["paused_for"], 1);

    // The next message is not acked either.
    for (verb, sequence) in [("ack", 1), ("skip", 2)] {
        let number = sequence.to_string();
        let settle = ["durable", verb, "orders", "d", "--sequence", &number];
        operator.command(&settle).await;
        wait_for_texts(&tables, STATUS, &[&paused(sequence + 1)]).await;
    }
    tables
        .execute("SELECT stanby.drop_policy('orders', 'd')")
        .await;
    let stalled = "stalled waits for acks: 1 of 1 allowed are unacked";
    wait_for_texts(&tables, STATUS, &[stalled]).await;
    assert_eq!(tables.texts(SINCE).await, [""; 0]);
}
