//! The messages of a channel, the newest first: by sequence, time, publisher, text and what stands in their JSON. A search goes
//! so far at a time and says how far; who closes the page ends it.

use std::num::ParseIntError;

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::channel::no_such;
use super::layout;
use super::parts::{channel_link, client_link, empty, sql, table};
use super::payload;
use super::principal::Principal;
use super::query::{QueryParams, link};
use super::users::Role;
use super::words::{bytes, grouped, shown, timestamp};
use crate::clock::Clock;
use crate::core::ids::Sequence;
use crate::core::time::Timestamp;
use crate::monitoring::find::{self, Found, InvalidJsonPath, Wanted};
use crate::store::views::Channel;

const SHOWN: usize = 50;

#[derive(Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    channel: String,
    /// From here on downward; empty: from the newest one.
    #[serde(default)]
    at: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    publisher: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    json: String,
}

/// What is wrong with a search, as a sentence for the page.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum InvalidSearch {
    #[error("The JSON path is not valid: {0}.")]
    JsonPath(#[from] InvalidJsonPath),
    #[error(
        "The time is not valid. Write how long ago (90s, 15m, 2h, 1d), or a time such as 2026-11-29T14:00Z."
    )]
    Time,
    #[error("The sequence is not valid. Write a whole number, such as 4711.")]
    Sequence(#[from] ParseIntError),
}

impl Asked {
    fn wanted(&self) -> Result<Wanted, InvalidSearch> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let paths = self.json.split_whitespace().map(str::parse);
        Ok(Wanted {
            publisher: some(self.publisher.trim()),
            text: some(&self.text),
            json: paths.collect::<Result<_, InvalidJsonPath>>()?,
        })
    }

    /// A time, or how long ago.
    fn time(&self, now: Timestamp) -> Result<Option<Timestamp>, InvalidSearch> {
        let text = self.since.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let time = ago(text).map(|nanos| now.0.saturating_sub(nanos));
        let time = time.or_else(|| at(text));
        time.map(|time| Some(Timestamp(time)))
            .ok_or(InvalidSearch::Time)
    }

    /// The largest sequence that is shown.
    fn last(&self) -> Result<u64, InvalidSearch> {
        let text = self.at.trim();
        if text.is_empty() {
            return Ok(u64::MAX);
        }
        Ok(text.parse()?)
    }

    fn link(&self, at: Sequence) -> String {
        let at = at.to_string();
        let given = [
            ("channel", self.channel.as_str()),
            ("at", &at),
            ("since", &self.since),
            ("publisher", &self.publisher),
            ("text", &self.text),
            ("json", &self.json),
        ];
        link("/messages", &given)
    }
}

/// In nanoseconds.
fn ago(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: i64 = number.parse().ok()?;
    number.checked_mul(seconds)?.checked_mul(1_000_000_000)
}

/// As ISO 8601, in UTC where it does not say otherwise.
fn at(text: &str) -> Option<i64> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    let time = time.or_else(|_| format!("{text}Z").parse());
    let time = time.or_else(|_| format!("{text}:00Z").parse());
    i64::try_from(time.ok()?.as_nanosecond()).ok()
}

pub(super) async fn page(user: Principal, QueryParams(asked): QueryParams<Asked>) -> Response {
    let sees = user.may(Role::Payloads);
    if !sees && (!asked.text.is_empty() || !asked.json.is_empty()) {
        let why = format!(
            "Your role is {}: a search would reveal their contents.",
            user.role.name()
        );
        let notice = (
            "You may not see the contents of messages",
            why.as_str(),
            "Search by sequence, time and publisher, or ask for the role payload-reader.",
        );
        return layout::no_page(&user, StatusCode::FORBIDDEN, "/channels", notice);
    }
    let now = Clock.now().wall;
    let read = || Ok::<_, InvalidSearch>((asked.wanted()?, asked.time(now)?, asked.last()?));
    let (wanted, since, at, wrong) = match read() {
        Ok((wanted, since, at)) => (wanted, since, at, None),
        Err(why) => (Wanted::default(), None, u64::MAX, Some(why)),
    };
    let read = user.read(async |store| {
        let Some(channel) = store.channel_named(&asked.channel).await? else {
            return Ok(None);
        };
        let mut first = Sequence(channel.first_sequence);
        if let Some(since) = since {
            let found = find::since(store, channel.id(), since).await?;
            first = found.unwrap_or(Sequence(channel.last_sequence).next());
        }
        let last = Sequence(at.min(channel.last_sequence));
        if wrong.is_some() || channel.messages == 0 {
            return Ok(Some((channel, Found::default())));
        }
        let range = (first, last);
        let found = find::backward(store, channel.id(), range, &wanted, SHOWN).await?;
        Ok(Some((channel, found)))
    });
    let (channel, found) = match read.await {
        Ok(Some(read)) => read,
        Ok(None) => return no_such(&user, &asked.channel),
        Err(answer) => return answer,
    };
    let body = html! {
        h1 { "Messages of " (channel_link(&asked.channel)) " " (sql("messages", &[("channel", &asked.channel)])) }
        (form(&asked, &channel, sees))
        div #list {
            @if let Some(wrong) = wrong {
                p.bad role="alert" { (shown(&wrong.to_string())) }
            } @else {
                (listed(&asked, &found, sees))
            }
        }
    };
    let title = format!("Messages of {}", asked.channel);
    layout::page(&user, &title, "/channels", &body)
}

fn form(asked: &Asked, channel: &Channel, sees: bool) -> Markup {
    let at = asked.at.trim().parse().unwrap_or(channel.last_sequence);
    let (low, high) = (channel.first_sequence, channel.last_sequence);
    html! {
        form.search role="search" action=(link("/messages", &[])) method="get"
            hx-get=(link("/messages", &[])) hx-trigger="submit, change from:#scrub" hx-target="#list" hx-select="#list"
            hx-swap="outerHTML" hx-push-url="true" hx-sync="this:replace" hx-indicator="#searching" {
            input type="hidden" name="channel" value=(asked.channel);
            label for="at" { "Up to sequence" }
            input #at type="number" name="at" min="1" value=(asked.at) placeholder=(high);
            label for="since" { "Since" }
            input #since name="since" value=(asked.since) placeholder="2h, or 2026-11-29T14:00Z" autocomplete="off";
            label for="publisher" { "Publisher" }
            input #publisher name="publisher" value=(asked.publisher) autocomplete="off";
            @if sees {
                label for="text" { "Text" }
                input #text name="text" value=(asked.text) autocomplete="off";
                label for="json" { "JSON" }
                input #json name="json" value=(asked.json) placeholder="customer.name=Smith" autocomplete="off";
            }
            button type="submit" { "Search" }
            span #searching.searching { "Searching… " button.quiet type="button" data-cancel="" { "Stop" } }
            @if high > low {
                label.wide for="scrub" { "Through the channel: " (low) " to " (high) }
                input #scrub.wide type="range" min=(low) max=(high) value=(at) data-into="at";
            }
        }
    }
}

fn listed(asked: &Asked, found: &Found, sees: bool) -> Markup {
    html! {
        @for it in found.unreadable.iter().take(20) {
            p.warn { "Message " (it.sequence) " cannot be read: " (shown(&it.why)) }
        }
        @if found.messages.is_empty() {
            (empty("None of the messages that were searched match."))
        } @else {
            (message_rows(&asked.channel, found, sees))
        }
        p.note {
            (grouped(found.looked_at)) " sequences were searched. "
            @match found.rest {
                Some(rest) => a href=(asked.link(rest)) rel="next" { "Go on from " (rest) " downward" },
                None => "There are no more.",
            }
        }
    }
}

fn message_rows(channel: &str, found: &Found, sees: bool) -> Markup {
    const COLUMNS: [&str; 5] = ["#Sequence", "Published", "By", "#Bytes", "Payload"];
    let rows = html! {
        @for it in &found.messages {
            @let sequence = it.sequence.to_string();
            tr {
                th.n scope="row" {
                    a href=(link("/message", &[("channel", channel), ("sequence", &sequence)])) { (sequence) }
                }
                td { (timestamp(it.published_at)) }
                td { (client_link(it.client_id.as_str())) }
                td.n { (bytes(it.data.len() as u64)) }
                td.mono { @if sees { (payload::line(&it.data)) } @else { "hidden from your role" } }
            }
        }
    };
    table("Messages", &COLUMNS, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_how_long_ago_or_when() {
        let now = Timestamp(10_000_000_000_000);
        let since = |text: &str| {
            let asked = Asked {
                since: text.to_owned(),
                ..Asked::default()
            };
            asked.time(now).map(|time| time.map(|time| time.0))
        };
        assert_eq!(since(""), Ok(None));
        assert_eq!(
            since("2h"),
            Ok(Some(10_000_000_000_000 - 7_200_000_000_000))
        );
        assert_eq!(
            since("15 min"),
            Ok(Some(10_000_000_000_000 - 900_000_000_000))
        );
        let noon = Ok(Some(1_795_953_600_000_000_000));
        assert_eq!(since("2026-11-29T12:00:00Z"), noon);
        assert_eq!(since("2026-11-29T12:00:00"), noon);
        assert_eq!(since("2026-11-29T12:00"), noon);
        for wrong in ["yesterday", "-2h", "99999999999999d", "2h ago"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
