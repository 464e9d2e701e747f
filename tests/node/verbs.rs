//! Every verb of operators through every door: in SQL, by command and over HTTP, and what a connected client sees of it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::admin::Operator;
use crate::admin_api::{TOKEN, post};
use crate::console::{Browser, form};
use crate::held::publish;
use crate::pair::{Group, LIMIT, Pair};
use crate::stan::{StanClient, Taker};
use crate::support::wait::wait_until;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Sql,
    Command,
    Http,
    /// As a browser sends its forms.
    Console,
}

const DOORS: [Door; 4] = [Door::Sql, Door::Command, Door::Http, Door::Console];

/// As the server, the procedures and the paths call it.
#[derive(Clone, Copy, Debug)]
struct Verb {
    name: &'static str,
    procedure: &'static str,
}

const VERBS: &[Verb] = &[
    verb("channel create", "create_channel"),
    verb("channel limits", "limit_channel"),
    verb("channel purge", "purge"),
    verb("channel delete", "delete_channel"),
    verb("message republish", "republish"),
    verb("message delete", "delete_message"),
    verb("dlq redrive", "redrive"),
    verb("durable seek", "seek"),
    verb("durable pause", "pause"),
    verb("durable resume", "resume"),
    verb("durable ack", "ack_message"),
    verb("durable skip", "skip"),
    verb("durable remove", "remove_durable"),
    verb("client kick", "kick"),
    verb("step-down", "step_down"),
];

const fn verb(name: &'static str, procedure: &'static str) -> Verb {
    Verb { name, procedure }
}

/// What the command line takes without a flag, in this order.
const IN_ORDER: [&str; 3] = ["channel", "durable", "client_id"];

struct House<'a> {
    group: &'a Group,
    operator: Operator<'a>,
    port: u16,
    browser: Browser,
    /// The served document: verb to path.
    document: Value,
}

impl House<'_> {
    async fn ask(&mut self, verb: Verb, door: Door, arguments: Value) -> Value {
        let Value::Object(arguments) = arguments else {
            panic!("{arguments} are no arguments");
        };
        match door {
            Door::Sql => {
                let given: Vec<String> = arguments.iter().map(in_sql).collect();
                let call = format!("{}({})", verb.procedure, given.join(", "));
                self.operator.call(&call).await
            }
            Door::Command => self.command(verb, &arguments).await,
            Door::Http => self.post(verb, arguments).await,
            Door::Console => self.console(verb, &arguments).await,
        }
    }

    async fn command(&mut self, verb: Verb, arguments: &Map<String, Value>) -> Value {
        let mut words: Vec<String> = verb.name.split(' ').map(str::to_owned).collect();
        let in_order = IN_ORDER.iter().filter_map(|name| arguments.get(*name));
        words.extend(in_order.map(|value| value.as_str().unwrap().to_owned()));
        for (name, value) in arguments {
            if IN_ORDER.contains(&&**name) {
                continue;
            }
            words.push(format!("--{}", name.replace('_', "-")));
            if *value != Value::Bool(true) {
                let text = value.as_str().map(str::to_owned);
                words.push(text.unwrap_or_else(|| value.to_string()));
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.operator.command(&words).await
    }

    /// Fills in the form, looks at what it would do, confirms that, and reads what was done.
    async fn console(&mut self, verb: Verb, arguments: &Map<String, Value>) -> Value {
        let path = format!("/console/act/{}", verb.name.replace(' ', "-"));
        let text = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let given: Vec<(&str, String)> = arguments
            .iter()
            .map(|(name, value)| (name.as_str(), text(value)))
            .collect();
        let given: Vec<(&str, &str)> = given
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let page = self.browser.get(&format!("{path}?{}", form(&given))).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let csrf = page.csrf();
        let with = |more: &[(&str, &str)]| form(&[&given[..], &[("csrf", &csrf)], more].concat());
        let preview = self.browser.act(&path, &with(&[("step", "preview")])).await;
        assert!(
            preview.body.contains("what it would do"),
            "{}",
            preview.body
        );
        let once = preview.hidden("once");
        let done = with(&[("step", "do"), ("once", &once)]);
        let done = self.browser.act(&path, &done).await;
        let title = format!("Done: {}", verb.name);
        assert!(done.body.contains(&title), "{}", done.body);
        let result = "SELECT result::text FROM stanby.admin_log WHERE NOT dry_run AND application LIKE 'console: %' LIMIT 1";
        let result = self.group.tables().texts(result).await.remove(0);
        serde_json::from_str(&result).unwrap()
    }

    async fn post(&mut self, verb: Verb, mut arguments: Map<String, Value>) -> Value {
        let id = verb.name.replace([' ', '-'], "_");
        let paths = self.document["paths"].as_object().unwrap();
        let path = paths
            .iter()
            .find(|(_, methods)| methods["post"]["operationId"] == *id);
        let (path, _) = path.unwrap_or_else(|| panic!("no path does {}", verb.name));
        let mut path = path.clone();
        for name in IN_ORDER {
            let place = format!("{{{name}}}");
            if path.contains(&place) {
                let value = arguments.remove(name).unwrap();
                path = path.replace(&place, value.as_str().unwrap());
            }
        }
        let body = Value::Object(arguments).to_string();
        let (status, answer) = post(self.port, &path, Some(TOKEN), &body).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer["result"].clone()
    }
}

fn in_sql((name, value): (&String, &Value)) -> String {
    let text = value.as_str().map(|text| format!("'{text}'"));
    let value = text.unwrap_or_else(|| value.to_string());
    format!("\"{name}\" => {value}")
}

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
        assert_eq!(done["epoch"], before + 1, "{done}");
    } else {
        house.ask(verb, door, json!({})).await;
    }
    wait_until(LIMIT, async || match tables.number(terms).await {
        after if after == before + 1 => Ok(()),
        after => Err(format!("epoch {after}")),
    })
    .await;
    // What nobody heard in between clients ask again.
    let mut publisher = client.publisher("step-down").await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn every_verb_does_the_same_through_every_door_and_a_connected_client_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let Some(pair) = Pair::new(&["--api-token-file", file.to_str().unwrap()]).await else {
        return;
    };
    let group = &pair.group;
    let (_, document) = pair.standby.get("/api/openapi.json").await.unwrap();
    let mut browser = Browser::new(pair.standby.http_port);
    assert_eq!(browser.log_in("", TOKEN).await, 303);
    let mut house = House {
        group,
        operator: Operator::of(group).await,
        port: pair.standby.http_port,
        browser,
        document: serde_json::from_str(&document).unwrap(),
    };
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
