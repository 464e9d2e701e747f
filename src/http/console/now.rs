//! The first page: whether everything is well, in a sentence, and what needs somebody.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};

use super::layout;
use super::live;
use super::parts::{figure, sql};
use super::principal::Principal;
use super::problems::{self, Facts, Problem};
use super::query::link;
use super::state::Inner;
use super::verbs::action;
use super::words::{bytes, count, grouped, or_dash, shown, time};
use crate::clock::Clock;
use crate::http::view::{Source, View};
use crate::monitoring::view_reader::Unread;
use crate::store::views::{Active, Condition, Durable, Overview, Part, Roles};

/// Durables that are looked at for trouble: those that are furthest behind.
const DURABLES_LOOKED_AT: i64 = 100;

/// So long those who look at the same time share what was read.
const FRESH: Duration = Duration::from_secs(1);

/// What the tables say, at one moment.
#[derive(Debug)]
pub(super) struct Found {
    roles: Roles,
    overview: Overview,
    conditions: Vec<Condition>,
    durables: Vec<Durable>,
}

pub(super) async fn page(user: Principal, State(source): State<Source>) -> Response {
    let console = match user.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let found = match read(console).await {
        Ok(found) => found,
        Err(why) => return layout::unread(&why),
    };
    let view = source.fresh_view().await;
    let problems = problems::find(&Facts {
        own: &view.status.conditions,
        unable_reason: view.status.unable_reason.as_deref(),
        is_active: view.is_active(),
        roles: &found.roles,
        conditions: &found.conditions,
        overview: &found.overview,
        durables: &found.durables,
    });
    let body = html! {
        div #now hx-get=(link("", &[])) hx-trigger="stanby:sample from:body" hx-target="#now" hx-select="#now"
            hx-select-oob="#role" hx-swap="outerHTML" {
        h1.sentence { (sentence(&found.roles, &problems)) }
        (pair(&found.roles, &view))
        ul.verbs { (action(&user, "step-down", "Have the active step down…", &[])) }
        @if problems.is_empty() {
            p.good { "Nothing needs you." }
        } @else {
            h2 { "What needs attention" }
            (problems::listed(&problems))
        }
        (figures(&found.overview))
        }
        h2 { "The last 15 minutes" }
        (live::shown(console))
    };
    layout::page(&user, "Now", "", &body)
}

async fn read(console: &Inner) -> Result<Arc<Found>, Unread> {
    let mut last = console.now.lock().await;
    let now = Clock.now().monotonic;
    if let Some((at, found)) = &*last
        && now.since(*at) < FRESH
    {
        return Ok(Arc::clone(found));
    }
    let read = console.views.read(async |store| {
        Ok(Found {
            roles: store.roles().await?,
            overview: store.overview().await?,
            conditions: store.conditions().await?,
            durables: store
                .durable_page(Part {
                    filter: "",
                    sort: "lag",
                    offset: 0,
                    limit: DURABLES_LOOKED_AT,
                })
                .await?,
        })
    });
    let found = Arc::new(read.await?);
    *last = Some((Clock.now().monotonic, Arc::clone(&found)));
    Ok(found)
}

/// "Serving since 14:23 on db-1; a standby is ready; one durable needs you."
fn sentence(roles: &Roles, problems: &[Problem]) -> String {
    let who = match &roles.active {
        Some(active) if active.holds_lock => format!("Serving {}", since(active)),
        Some(_) | None => "Nobody is served".to_owned(),
    };
    let standby = match roles.standbys.len() {
        0 => "no standby waits".to_owned(),
        1 => "a standby is ready".to_owned(),
        several => format!("{several} standbys are ready"),
    };
    let durables = problems::durables(problems);
    let others = problems.len() - durables;
    let durables = match durables {
        0 => None,
        number if number >= problems::DURABLES_SHOWN => {
            Some(format!("{number} durables or more need you"))
        }
        number => Some(count(
            number as u64,
            "durable needs you",
            "durables need you",
        )),
    };
    let others = (others > 0).then(|| {
        let also = if durables.is_some() { " also" } else { "" };
        format!(
            "{}{also} wrong",
            count(others as u64, "thing is", "things are")
        )
    });
    let needs: Vec<String> = durables.into_iter().chain(others).collect();
    let needs = if needs.is_empty() {
        "nothing needs you".to_owned()
    } else {
        needs.join("; ")
    };
    format!("{who}; {standby}; {needs}.")
}

fn since(active: &Active) -> String {
    let at = active.since.as_deref();
    let at = at.and_then(|at| Some((at.get(..10)?, at.get(11..16)?)));
    let at = at.map_or_else(String::new, |(day, time)| format!("since {day} {time} UTC"));
    match &active.host {
        Some(host) => format!("{at} on {}", shown(host)),
        None => at,
    }
}

/// Who serves, who waits, and what lies between them.
fn pair(roles: &Roles, view: &View) -> Markup {
    let lease = view.status.trusted_until;
    let left = lease.map(|until| until.since(view.now.monotonic).as_millis());
    html! {
        section.pair aria-label="The servers" {
            div.server.active[roles.active.as_ref().is_some_and(|it| it.holds_lock)] {
                h2 { "Active " (sql("active", &[])) }
                @match &roles.active {
                    Some(active) if active.holds_lock => {
                        p.name { (or_dash(active.host.as_deref())) @if let Some(pid) = active.pid { ", process " (pid) } }
                        p { "Term " (active.epoch) ", since " (time(active.since.as_deref())) }
                        p.note { (shown(&active.holder)) }
                    }
                    Some(last) => {
                        p.name { "nobody" }
                        p { "The last was " (shown(&last.holder)) ", term " (last.epoch) }
                    }
                    None => p.name { "nobody yet" }
                }
            }
            div.lock {
                h2 { "Lock" }
                p { "in Postgres" }
                @match left {
                    Some(left) if view.is_active() => p { "this server holds it; its lease runs " (left) " ms more" },
                    Some(_) | None => p { "this server waits for it" }
                }
            }
            div.server {
                h2 { (if roles.standbys.len() == 1 { "Standby" } else { "Standbys" }) " " (sql("standbys", &[])) }
                @for standby in roles.standbys.iter().take(8) {
                    p.name { (or_dash(standby.address.as_deref().or(Some("on the machine of Postgres")))) }
                    p { "waits since " (time(standby.connected_since.as_deref())) }
                    p.note { (shown(&standby.name)) }
                }
                @if roles.standbys.is_empty() { p.name { "none" } }
                @if roles.standbys.len() > 8 { p { "and " (roles.standbys.len() - 8) " more" } }
            }
        }
    }
}

fn figures(overview: &Overview) -> Markup {
    let about = sql("counts", &[]);
    html! {
        h2 { "How much there is" }
        dl.figures {
            (figure("Channels", grouped(overview.channels), &about))
            (figure("Messages", grouped(overview.messages), &about))
            (figure("Bytes", bytes(overview.bytes), &about))
            (figure("Clients", grouped(overview.clients), &about))
            (figure("Subscriptions", grouped(overview.subscriptions), &about))
            (figure("Durables", grouped(overview.durables), &about))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::console::problems::Severity;
    use crate::monitoring::condition::Conditions;
    use crate::store::views::Standby;

    fn roles(holds_lock: bool, standbys: usize) -> Roles {
        let standby = Standby {
            name: "stanby/c/g/s".to_owned(),
            address: None,
            connected_since: None,
        };
        Roles {
            active: Some(Active {
                epoch: 7,
                holder: "s".to_owned(),
                host: Some("db-1".to_owned()),
                pid: None,
                since: Some("2026-11-29T14:23:11.000Z".to_owned()),
                holds_lock,
            }),
            standbys: vec![standby; standbys],
        }
    }

    #[test]
    fn the_first_sentence_says_how_it_is_and_whether_it_needs_somebody() {
        let problems = |roles: &Roles, durables: &[Durable]| {
            problems::find(&Facts {
                own: &Conditions::default(),
                unable_reason: None,
                is_active: true,
                roles,
                conditions: &[],
                overview: &Overview::default(),
                durables,
            })
        };
        let stalled: Durable = serde_json::from_value(serde_json::json!({
            "channel": "orders", "durable": "billing", "queue_group": null, "clients": "b", "members": 1,
            "status": "stalled", "lag": 12, "unsent": 2, "in_flight": 10, "max_in_flight": 10,
            "behind_seconds": 60.0, "oldest_unacked": 1, "oldest_unacked_at": null, "last_sent": 10,
            "acked_floor": 0, "paused_since": null, "paused_for": null, "why": "waits for acks: 10 of 10 allowed are unacked"
        }))
        .unwrap();
        let well = roles(true, 1);
        assert_eq!(
            sentence(&well, &problems(&well, &[])),
            "Serving since 2026-11-29 14:23 UTC on db-1; a standby is ready; nothing needs you."
        );
        let found = problems(&well, std::slice::from_ref(&stalled));
        assert!(sentence(&well, &found).ends_with("; one durable needs you."));
        assert_eq!(
            found[0].why,
            "Waits for acks: 10 of 10 allowed are unacked."
        );

        let paused = Durable {
            status: "paused".to_owned(),
            paused_for: Some(1),
            ..stalled.clone()
        };
        let by_operator = Durable {
            paused_since: Some("2026-11-29T14:23:11.000Z".to_owned()),
            ..paused.clone()
        };
        let found = problems(&well, &[paused, by_operator]);
        assert!(sentence(&well, &found).ends_with("; one durable needs you."));

        let alone = roles(false, 0);
        let found = problems(&alone, &[stalled]);
        assert_eq!(
            sentence(&alone, &found),
            "Nobody is served; no standby waits; one durable needs you; 2 things are also wrong."
        );
        assert_eq!(found[0].severity, Severity::Outage);
    }
}
