//! One message: what stands in it, who has acked it, and how to get at it elsewhere.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::channel::no_such;
use super::layout;
use super::parts::{badge, channel_link, client_link, empty, figure, sql};
use super::payload::{self, Form};
use super::principal::Principal;
use super::query::{QueryParams, link};
use super::users::Role;
use super::verbs::action;
use super::words::{grouped, or_dash, shown, timestamp};
use crate::core::ids::Sequence;
use crate::core::message::Message;
use crate::monitoring::find::{self, Wanted};
use crate::printable;
use crate::store::views::{Statement, Taker};

const TAKERS_MAX: i64 = 200;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    sequence: u64,
    /// `json`, `text` or `hex`.
    #[serde(default, rename = "as")]
    form: String,
}

pub(super) async fn page(user: Principal, QueryParams(asked): QueryParams<Asked>) -> Response {
    let at = Sequence(asked.sequence);
    let read = user.read(async |store| {
        let Some(channel) = store.channel_named(&asked.channel).await? else {
            return Ok(None);
        };
        let wanted = Wanted::default();
        let found = find::backward(store, channel.id(), (at, at), &wanted, 1).await?;
        let takers = store.takers(&asked.channel, asked.sequence, TAKERS_MAX);
        Ok(Some((channel, found, takers.await?)))
    });
    let (channel, found, takers) = match read.await {
        Ok(Some(read)) => read,
        Ok(None) => return no_such(&user, &asked.channel),
        Err(answer) => return answer,
    };
    let Some(message) = found.messages.first() else {
        let why = match found.unreadable.first() {
            Some(unreadable) => format!("It cannot be read: {}.", unreadable.why),
            None if asked.sequence > channel.last_sequence => {
                "It has not been published yet.".to_owned()
            }
            None if asked.sequence < channel.first_sequence => {
                "A limit or an operator has dropped it.".to_owned()
            }
            None => "It was deleted, or it was never stored.".to_owned(),
        };
        let what = format!("Message {} is not there", asked.sequence);
        let remedy = format!(
            "The channel holds {} to {}.",
            channel.first_sequence, channel.last_sequence
        );
        let notice = (what.as_str(), why.as_str(), remedy.as_str());
        return layout::no_page(&user, StatusCode::NOT_FOUND, "/channels", notice);
    };
    let body = body(&user, &asked, message, &takers);
    let title = format!("Message {} of {}", asked.sequence, asked.channel);
    layout::page(&user, &title, "/channels", &body)
}

fn body(user: &Principal, asked: &Asked, message: &Message, takers: &[Taker]) -> Markup {
    let sequence = asked.sequence.to_string();
    let given = [("channel", asked.channel.as_str()), ("sequence", &sequence)];
    let about = sql("message", &given);
    let neighbour = |sequence: u64| {
        let sequence = sequence.to_string();
        link(
            "/message",
            &[("channel", &asked.channel), ("sequence", &sequence)],
        )
    };
    html! {
        h1 { "Message " (sequence) " of " (channel_link(&asked.channel)) }
        nav.pager aria-label="Neighbours" {
            @if asked.sequence > 1 { a href=(neighbour(asked.sequence - 1)) rel="prev" { "← before" } }
            a href=(link("/messages", &[("channel", &asked.channel), ("at", &sequence)])) { "among the others" }
            a href=(neighbour(asked.sequence + 1)) rel="next" { "after →" }
        }
        dl.figures {
            (figure("Published", timestamp(message.published_at), &about))
            (figure("By", client_link(message.client_id.as_str()), &about))
            (figure("Bytes", grouped(message.data.len() as u64), &about))
            (figure("GUID", shown(message.guid.as_str()), &about))
            @if !message.reply.is_empty() { (figure("Reply", shown(&message.reply), &about)) }
        }
        ul.verbs {
            (action(user, "message republish", "Republish…", &given))
            (action(user, "message delete", "Delete…", &given))
        }
        h2 { "Payload" }
        @if user.may(Role::Payloads) {
            @let form = Form::of(&message.data, &asked.form);
            nav.pager aria-label="Forms of the payload" {
                @for (other, name) in Form::ALL {
                    a href=(link("/message", &[given[0], given[1], ("as", name)])) aria-current=[(other == form).then_some("true")] { (name) }
                }
            }
            (payload::whole(&message.data, form))
            button.quiet type="button" data-copy="payload" hidden { "Copy" }
        } @else {
            (empty("Your role may not see the contents of messages."))
        }
        h2 { "Who has it " (sql("takers", &given)) }
        (taken(takers))
        h2 { "Elsewhere" }
        (elsewhere(asked, &given))
    }
}

fn taken(takers: &[Taker]) -> Markup {
    html! {
        @if takers.is_empty() {
            (empty("The channel has no subscription."))
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Who has the message" {
                table {
                    thead {
                        tr {
                            th scope="col" { "State" }
                            th scope="col" { "Durable" }
                            th scope="col" { "Queue group" }
                            th scope="col" { "With" }
                            th scope="col" { "Clients" }
                        }
                    }
                    tbody {
                        @for it in takers {
                            tr {
                                td { (badge(&it.state)) }
                                td { (or_dash(it.durable.as_deref())) }
                                td { (or_dash(it.queue_group.as_deref())) }
                                td { (or_dash(it.holder.as_deref())) }
                                td { (or_dash(it.clients.as_deref())) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// To be copied.
fn elsewhere(asked: &Asked, given: &[(&str, &str)]) -> Markup {
    let value = |name: &str| {
        let found = given.iter().find(|(known, _)| *known == name);
        found.map_or_else(String::new, |(_, value)| (*value).to_owned())
    };
    let query = Statement::find("message").map_or_else(String::new, |it| it.text(value));
    let word = shell_word(&asked.channel);
    let command = format!("stanby message get {word} {}", asked.sequence);
    // In an address a name has no quotes and spaces.
    let channel: String = url::form_urlencoded::byte_serialize(asked.channel.as_bytes()).collect();
    let channel = channel.replace('+', "%20");
    let curl = format!(
        "curl -X POST -H \"Authorization: Bearer $(cat token)\" -H 'Content-Type: application/json' \\\n    \
         -d '{{\"sequence\": {}}}' \"$SERVER/api/v1/channels/{channel}/messages/republish\"",
        asked.sequence
    );
    let all = [
        ("as-sql", "SQL", query),
        ("as-cli", "On the command line", command),
        ("as-curl", "Republish it with curl", curl),
    ];
    html! {
        @for (id, name, text) in &all {
            h3 { (name) }
            pre id=(id) tabindex="0" { (printable::lines(text)) }
            button.quiet type="button" data-copy=(id) hidden { "Copy" }
        }
    }
}

/// One word for a shell, whatever it is.
fn shell_word(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@%+=".contains(&b);
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let word = format!("'{}'", text.replace('\'', "'\\''"));
    // Else it would be taken for a flag.
    if text.starts_with('-') {
        format!("-- {word}")
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_word_of_a_shell() {
        assert_eq!(shell_word("orders.eu-1"), "orders.eu-1");
        assert_eq!(shell_word("a'b; rm -rf $HOME"), "'a'\\''b; rm -rf $HOME'");
        assert_eq!(shell_word("--yes"), "-- '--yes'");
    }
}
