//! Every verb of operators through every door: in SQL, by command and over HTTP, and what a connected client sees of it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

mod house;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use self::house::{DOORS, Door, House, VERBS, Verb, house, pair};
use crate::held::publish;
use crate::pair::LIMIT;
use crate::stan::{StanClient, Taker};
use crate::support::wait::wait_until;

/// All that a new subscription gets from the first message on.
async fn seen_from_the_first(client: &StanClient, channel: &str, wanted: &[u64]) {
    let subscription = client.subscribe(channel, "", "").await.unwrap();
    wait_until(LIMIT, async || {
        let found: Vec<u64> = subscription.sequences().into_iter().collect();
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?} of {wanted:?} on {channel}"))
        }
    })
    .await;
}

async fn next_is(taker: &mut Taker, wanted: u64) {
    loop {
        let (sequence, _) = taker.next(LIMIT).await.expect("a message comes");
        if sequence == wanted {
            return;
        }
    }
}

/// Asks for what the verb does, and waits until the client sees it.
async fn carry_out(house: &mut House<'_>, verb: Verb, door: Door) {
    let name = format!("{}-{door:?}", verb.name.replace(' ', "-"));
    let channel = name.as_str();
    let client = house.group.client(&name).await;
    match verb.name {
        "channel create" => {
            let asked = json!({ "channel": channel, "max_msgs": 2 });
            house.ask(verb, door, asked).await;
            publish(&client, channel, 3).await;
            seen_from_the_first(&client, channel, &[2, 3]).await;
        }
        "channel limits" => {
            publish(&client, channel, 3).await;
            let asked = json!({ "channel": channel, "max_msgs": 2 });
            house.ask(verb, door, asked).await;
            seen_from_the_first(&client, channel, &[2, 3]).await;
        }
        "channel purge" => {
            publish(&client, channel, 4).await;
            let asked = json!({ "channel": channel, "before": 3 });
            house.ask(verb, door, asked).await;
            seen_from_the_first(&client, channel, &[3, 4]).await;
        }
        "channel delete" => {
            let mut taker = client.take(channel, ("", "d"), 10).await;
            publish(&client, channel, 2).await;
            next_is(&mut taker, 2).await;
            let asked = json!({ "channel": channel, "force": true });
            house.ask(verb, door, asked).await;
            publish(&client, channel, 1).await;
            seen_from_the_first(&client, channel, &[1]).await;
        }
        "message republish" => {
            let mut taker = client.take(channel, ("", ""), 10).await;
            publish(&client, channel, 2).await;
            let asked = json!({ "channel": channel, "sequence": 1 });
            house.ask(verb, door, asked).await;
            next_is(&mut taker, 3).await;
        }
        "message delete" => {
            publish(&client, channel, 3).await;
            let asked = json!({ "channel": channel, "sequence": 2 });
            house.ask(verb, door, asked).await;
            seen_from_the_first(&client, channel, &[1, 3]).await;
        }
        "dlq redrive" => redrive(house, verb, door, &client, channel).await,
        "durable seek" => {
            let mut taker = client.take(channel, ("", "d"), 10).await;
            publish(&client, channel, 2).await;
            next_is(&mut taker, 2).await;
            let asked = json!({ "channel": channel, "durable": "d", "to": "first" });
            house.ask(verb, door, asked).await;
            next_is(&mut taker, 1).await;
        }
        "durable pause" | "durable resume" => {
            let mut taker = client.take(channel, ("", "d"), 10).await;
            let mut other = client.take(channel, ("", "other"), 10).await;
            let (pause, resume) = match verb.name {
                "durable pause" => ((verb, door), (VERBS[9], Door::Sql)),
                _ => ((VERBS[8], Door::Sql), (verb, door)),
            };
            let asked = json!({ "channel": channel, "durable": "d" });
            house.ask(pause.0, pause.1, asked.clone()).await;
            publish(&client, channel, 1).await;
            next_is(&mut other, 1).await;
            assert!(taker.next(Duration::ZERO).await.is_none(), "it is paused");
            house.ask(resume.0, resume.1, asked).await;
            next_is(&mut taker, 1).await;
        }
        "durable ack" | "durable skip" => {
            let mut taker = client.take(channel, ("", "d"), 1).await;
            publish(&client, channel, 3).await;
            next_is(&mut taker, 1).await;
            let mut asked = json!({ "channel": channel, "durable": "d" });
            if verb.name == "durable ack" {
                asked["sequence"] = json!(1);
                house.ask(verb, door, asked).await;
                next_is(&mut taker, 2).await;
            } else {
                asked["first"] = json!(1);
                asked["last"] = json!(2);
                house.ask(verb, door, asked).await;
                next_is(&mut taker, 3).await;
                assert_eq!(taker.times(2), 0);
            }
        }
        "durable remove" => {
            let subscription = client.subscribe(channel, "", "d").await.unwrap();
            publish(&client, channel, 2).await;
            wait_until(LIMIT, async || match subscription.sequences().len() {
                2 => Ok(()),
                found => Err(format!("{found} of 2")),
            })
            .await;
            let asked = json!({ "channel": channel, "durable": "d", "force": true });
            house.ask(verb, door, asked).await;
            let mut taker = client.take(channel, ("", "d"), 10).await;
            next_is(&mut taker, 1).await;
        }
        "client kick" => {
            client.subscribe(channel, "", "d").await.unwrap();
            house.ask(verb, door, json!({ "client_id": name })).await;
            let refused = client.ping().await.unwrap_err();
            assert!(refused.contains("replaced"), "{refused}");
        }
        "step-down" => step_down(house, verb, door, &client).await,
        other => panic!("nobody looks at what {other} does"),
    }
}

async fn redrive(
    house: &mut House<'_>,
    verb: Verb,
    door: Door,
    client: &StanClient,
    channel: &str,
) {
    let dead = format!("{channel}-dead");
    let tables = house.group.tables();
    let policy = format!(
        "SELECT stanby.set_policy('{channel}', 'd', max_deliveries => 1, dead_letter => '{dead}',
                                  backoff => ARRAY['100 ms']::interval[])"
    );
    tables.execute(policy).await;
    // What is delivered in the moment before the policy holds waits for a second.
    let mut taker = client.take_for(channel, ("", "d"), 1, 1).await;
    publish(client, channel, 1).await;
    next_is(&mut taker, 1).await;
    let letters = "SELECT concat_ws(' ', channel, origin_channel, origin_sequence, durable_name) FROM stanby.dead_letter_status
        WHERE redriven_at IS NULL";
    let told = format!("{dead} {channel} 1 d");
    wait_until(LIMIT, async || {
        let found = tables.texts(letters).await;
        if found.contains(&told) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    let listed = house.operator.rows(&["dlq", "list", &dead]).await;
    assert_eq!(listed[0]["origin_channel"], channel, "{listed}");
    let drop = format!("SELECT stanby.drop_policy('{channel}', 'd')");
    tables.execute(drop).await;
    let would = json!({ "channel": dead, "dry_run": true });
    let would = house.ask(verb, Door::Sql, would).await;
    assert_eq!(would["to_channels"], format!("{channel} (1)"), "{would}");
    let done = house.ask(verb, door, json!({ "channel": dead })).await;
    assert_eq!((&done["messages"], &done["left"]), (&json!(1), &json!(0)));
    next_is(&mut taker, 2).await;
}

async fn step_down(house: &mut House<'_>, verb: Verb, door: Door, client: &StanClient) {
    let terms = "SELECT max(epoch) FROM stanby.takeovers";
    let tables = house.group.tables();
    house.group.wait_for_standbys(1).await;
    let before = tables.number(terms).await;
    if door == Door::Command {
        let done = house.operator.rows(&["step-down"]).await;
        assert!(done["epoch"].as_i64() > Some(before), "{done}");
    } else {
        house.ask(verb, door, json!({})).await;
    }
    wait_until(LIMIT, async || match tables.number(terms).await {
        after if after > before => Ok(()),
        after => Err(format!("epoch {after}")),
    })
    .await;
    // What nobody heard in between clients ask again.
    let mut publisher = client.publisher("step-down").await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn every_verb_does_the_same_through_every_door_and_a_connected_client_sees_it() {
    let Some((pair, _folder)) = pair().await else {
        return;
    };
    let group = &pair.group;
    let mut house = house(&pair).await;
    // The server says what it does: a verb that nobody tries here is found.
    let known = "await_request(stanby.admin_request('no such verb'))";
    let [_, _, known] = house.operator.refused(known).await;
    let known = known.strip_prefix("There are: ").unwrap();
    let known: BTreeSet<&str> = known.trim_end_matches('.').split(", ").collect();
    let tried: BTreeSet<&str> = VERBS.iter().map(|verb| verb.name).collect();
    assert_eq!(known, tried);
    let paths = house.document["paths"].as_object().unwrap();
    let posts = paths.values().filter(|path| !path["post"].is_null());
    assert_eq!(posts.count(), VERBS.len());

    for &verb in VERBS {
        for door in DOORS {
            carry_out(&mut house, verb, door).await;
        }
    }
    let log = "SELECT verb || ' ' || count(*) FROM stanby.admin_log WHERE state = 'done' AND NOT dry_run AND verb = 'channel purge' GROUP BY verb";
    assert_eq!(group.tables().texts(log).await, ["channel purge 4"]);
}

/// What no server can do, of each verb that has arguments.
fn impossible(verb: Verb) -> Option<Value> {
    Some(match verb.name {
        "channel create" => json!({ "channel": "a..b" }),
        "channel limits" => json!({ "channel": "ordres", "max_msgs": 1 }),
        "channel purge" => json!({ "channel": "orders", "before": 99 }),
        "channel delete" => json!({ "channel": "nothing", "force": true }),
        "message republish" => json!({ "channel": "orders", "sequence": 99 }),
        "message delete" => json!({ "channel": "orders", "first": 2, "last": 1 }),
        "dlq redrive" => json!({ "channel": "nothing" }),
        "durable seek" => json!({ "channel": "orders", "durable": "d", "to": "frist" }),
        "durable pause" | "durable resume" | "durable remove" => {
            json!({ "channel": "orders", "durable": "other" })
        }
        "durable ack" | "durable skip" => {
            json!({ "channel": "orders", "durable": "d", "sequence": 99 })
        }
        "client kick" => json!({ "client_id": "nobody" }),
        "step-down" => return None,
        other => panic!("nobody knows what {other} cannot do"),
    })
}

#[tokio::test]
async fn what_no_server_can_do_is_refused_with_the_same_words_through_every_door() {
    let Some((pair, _folder)) = pair().await else {
        return;
    };
    let mut house = house(&pair).await;
    let client = pair.group.client("billing-1").await;
    let mut taker = client.take("orders", ("", "d"), 10).await;
    publish(&client, "orders", 2).await;
    next_is(&mut taker, 2).await;
    for &verb in VERBS {
        let Some(Value::Object(arguments)) = impossible(verb) else {
            continue;
        };
        let wanted = house.refused(verb, Door::Sql, &arguments).await;
        for door in [Door::Command, Door::Http, Door::Console] {
            let told = house.refused(verb, door, &arguments).await;
            assert!(
                told.contains(&wanted),
                "{door:?} {}: {told}, not {wanted}",
                verb.name
            );
        }
    }
    let done = "SELECT count(*) FROM stanby.admin_log WHERE state <> 'refused'";
    assert_eq!(pair.group.tables().number(done).await, 0);
}
