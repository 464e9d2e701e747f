//! How to take back what an operator did, where that can be done, and what to know before.

use serde_json::Value;

use super::query::link;
use super::words::count;

/// What to do, and where.
pub(super) fn undo(
    verb: &str,
    arguments: &Value,
    result: Option<&Value>,
) -> Option<(String, Option<String>)> {
    let given = |name: &str| text(arguments.get(name));
    let found = |name: &str| result.map_or_else(String::new, |result| text(result.get(name)));
    let (channel, durable) = (given("channel"), given("durable"));
    let (group, client) = (given("queue_group"), given("client_id"));
    let position = [
        ("channel", channel.as_str()),
        ("durable", &durable),
        ("queue_group", &group),
        ("client_id", &client),
    ];
    let act = |verb: &str, more: &[(&str, &str)]| {
        Some(link(
            &format!("/act/{verb}"),
            &[&position[..], more].concat(),
        ))
    };
    let only_by_hand = |text: &str| Some((text.to_owned(), None));
    match verb {
        "durable pause" => Some(("resume it".to_owned(), act("durable-resume", &[]))),
        "durable resume" => Some(("pause it again".to_owned(), act("durable-pause", &[]))),
        "durable seek" => {
            let before = found("first_unacked");
            if before.is_empty() {
                // A server of an earlier version did it, and did not note where the first message was.
                return only_by_hand("seek it to the first message that it had not acked");
            }
            let more = [("sequence", before.as_str())];
            Some((
                format!(
                    "set it back to {before}, the first that was not acked; what was acked after it is delivered once more"
                ),
                act("durable-seek", &more),
            ))
        }
        "channel create" => Some(("delete it".to_owned(), act("channel-delete", &[]))),
        "channel limits" => Some((
            "set them as they were, or let the configuration hold again".to_owned(),
            act("channel-limits", &[("reset", "true")]),
        )),
        "message republish" => Some((
            "delete the new messages; who has been sent them keeps them".to_owned(),
            Some(link(
                "/act/message-delete",
                &[
                    ("channel", &found("to_channel")),
                    ("first", &found("first_sequence")),
                    ("last", &found("last_sequence")),
                ],
            )),
        )),
        "step-down" => Some((
            "have the new active step down".to_owned(),
            Some(link("/act/step-down", &[])),
        )),
        "channel purge" | "channel delete" | "message delete" => only_by_hand(
            "the messages are gone; a backup of the database has them (docs/operations.md)",
        ),
        "dlq redrive" => only_by_hand(
            "delete the messages that were published again; the dead letters themselves are still there",
        ),
        "durable skip" | "durable ack" => only_by_hand(
            "republish the message, or seek the durable to it: it is delivered again then",
        ),
        "durable remove" => {
            only_by_hand("it comes back when its client subscribes again; seek it to where it was")
        }
        "client kick" => {
            only_by_hand("the client connects again by itself, or its application is started")
        }
        _ => None,
    }
}

/// What cannot be taken back.
pub(super) fn destroys(verb: &str) -> bool {
    ["purge", "delete", "remove", "skip", "ack", "kick"]
        .iter()
        .any(|word| verb.ends_with(word))
}

/// What to know before it is done.
pub(super) fn warning(verb: &str, result: &Value) -> Option<String> {
    let passed_over = result["passed_over"].as_u64().unwrap_or(0);
    if passed_over > 0 {
        let messages = count(passed_over, "message that is", "messages that are");
        return Some(format!(
            "It passes over {messages} not acked: they are not delivered to it."
        ));
    }
    let again =
        "They are delivered again only if you seek the durable to them, or publish them again.";
    match verb {
        "durable skip" | "durable ack" => Some(again.to_owned()),
        _ => destroys(verb).then(|| "This cannot be taken back.".to_owned()),
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::routes::ROUTES;

    #[test]
    fn it_is_said_of_each_verb_how_it_is_taken_back() {
        let arguments = serde_json::json!({ "channel": "a b", "durable": "d" });
        let result = serde_json::json!({ "from_sequence": 9, "first_unacked": 7, "first_sequence": 1, "last_sequence": 2 });
        for route in ROUTES {
            assert!(
                undo(route.verb, &arguments, Some(&result)).is_some(),
                "{}",
                route.verb
            );
        }
        let before = serde_json::json!({ "from_sequence": 9 });
        let (_, link) = undo("durable seek", &arguments, Some(&before)).unwrap();
        assert_eq!(link, None, "of an earlier version");
        let (_, link) = undo("durable seek", &arguments, Some(&result)).unwrap();
        assert_eq!(
            link.as_deref(),
            Some("/console/act/durable-seek?channel=a+b&durable=d&sequence=7")
        );
    }
}
