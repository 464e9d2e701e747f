//! Which server followed which, why, and what clients saw of it.

use axum::response::Response;
use maud::{Markup, html};

use super::layout;
use super::list::{ListQuery, ROWS};
use super::parts::{empty, sql};
use super::principal::Principal;
use super::query::QueryParams;
use super::words::{count, duration, grouped, shown, time, unsigned};
use crate::store::views::{LostRange, Takeover};

pub(super) async fn page(user: Principal, QueryParams(query): QueryParams<ListQuery>) -> Response {
    let part = query.part(&["newest"]);
    let read = user.read(async |store| {
        let takeovers = store.takeover_page(part).await?;
        Ok((takeovers, store.failovers().await?))
    });
    let (takeovers, lost) = match read.await {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    let found = takeovers.len();
    let rows = takeovers.get(..found.min(ROWS)).unwrap_or_default();
    let body = html! {
        h1 { "Takeovers " (sql("takeovers", &[])) " " (sql("failovers", &[])) }
        p.note {
            "A term begins with each. Silence is how long clients waited: from the last sign of the active before to the first \
             commit of the new one."
        }
        @if rows.is_empty() {
            (empty("No server has been active yet."))
        } @else {
            (silences(rows))
            ol.takeovers {
                @for it in rows { (one(it, lost.iter().find(|(epoch, _)| *epoch == it.epoch).map(|(_, lost)| lost))) }
            }
        }
        (query.pager("/takeovers", found))
    };
    layout::page(&user, "Takeovers", "/takeovers", &body)
}

/// A bar for each, the oldest first.
fn silences(takeovers: &[Takeover]) -> Markup {
    let seconds: Vec<f64> = takeovers
        .iter()
        .rev()
        .map(|it| it.silence_seconds.unwrap_or(0.0))
        .collect();
    let most = seconds.iter().copied().fold(0.0, f64::max);
    html! {
        @if most > 0.0 && seconds.len() > 1 {
            (super::plot::bars(&seconds, &format!("Silence of the last {} takeovers, up to {}", seconds.len(), duration(most))))
            p.note { "Silence, the oldest first; the highest bar is " (duration(most)) "." }
        }
    }
}

fn one(it: &Takeover, lost: Option<&LostRange>) -> Markup {
    html! {
        li #(format!("term-{}", it.epoch)) {
            h2 { "Term " (it.epoch) " · " (time(it.at.as_deref())) }
            p.why {
                strong { (shown(it.cause.as_deref().unwrap_or(&it.reason))) }
                @if let Some(detail) = &it.detail { ": " (shown(detail)) }
            }
            p {
                @match &it.from {
                    Some(from) => { "From " (shown(from)) " to " (shown(&it.to)) "." },
                    None => { "To " (shown(&it.to)) "; nobody served before." },
                }
            }
            dl.figures {
                div.figure { dt { "Clients waited" } dd { (length(it.silence_seconds)) } }
                div.figure { dt { "It had waited as a standby" } dd { (length(it.lock_wait_seconds)) } }
                div.figure { dt { "Tables read after" } dd { (length(it.load_seconds)) } }
                div.figure { dt { "First commit after" } dd { (length(it.first_ack_seconds)) } }
                div.figure {
                    dt { "Answered from memory" }
                    dd { (it.answered_from_memory.map_or_else(|| "–".to_owned(), grouped)) }
                }
                div.figure { dt { "Lost" } dd { (lost.map_or("nothing".to_owned(), in_words)) } }
            }
            p.note { "In the logs: " code { "journalctl -u stanby | grep 'epoch=" (it.epoch) "'" } }
        }
    }
}

fn in_words(lost: &LostRange) -> String {
    let messages = |number: i64| count(unsigned(number), "message", "messages");
    format!(
        "{} that were acked, {} that may have been; {} were restored{}",
        messages(lost.lost),
        messages(lost.unknown),
        messages(lost.restored),
        lost.ranges
            .as_deref()
            .map_or_else(String::new, |ranges| format!(": {}", shown(ranges)))
    )
}

fn length(seconds: Option<f64>) -> String {
    match seconds {
        None => "not known".to_owned(),
        Some(seconds) if seconds < 10.0 => format!("{:.0} ms", seconds * 1000.0),
        Some(seconds) => duration(seconds),
    }
}
