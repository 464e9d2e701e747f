//! What needs somebody, the most severe first: what is wrong, why, and what to do.

use maud::{Markup, html};

use super::parts::{durable_key, kind, names};
use super::query::link;
use super::words::{count, duration, shown, unsigned};
use crate::monitoring::condition::{Conditions, Effect};
use crate::store::views::{Condition, Durable, Overview, Roles};

/// A durable that is behind for longer than this is worth a look.
const BEHIND_OF_NOTE_SECONDS: f64 = 300.0;

/// Durables that are shown one by one.
pub(super) const DURABLES_SHOWN: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Nobody is served.
    Outage,
    /// Somebody is not.
    Degraded,
    /// The next fault would do harm.
    Risk,
}

#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) remedy: String,
    /// Where it is seen, or mended.
    pub(super) link: Option<(String, &'static str)>,
    is_durable: bool,
}

/// What problems are found in.
pub(super) struct Facts<'a> {
    /// What is wrong with this server itself.
    pub(super) own: &'a Conditions,
    pub(super) unable_reason: Option<&'a str>,
    pub(super) is_active: bool,
    pub(super) roles: &'a Roles,
    pub(super) conditions: &'a [Condition],
    pub(super) overview: &'a Overview,
    /// Those that are furthest behind.
    pub(super) durables: &'a [Durable],
}

pub(super) fn find(facts: &Facts<'_>) -> Vec<Problem> {
    let mut found = of_roles(facts.roles);
    found.extend(of_conditions(facts));
    found.extend(
        facts
            .durables
            .iter()
            .filter_map(of_durable)
            .take(DURABLES_SHOWN),
    );
    found.extend(of_counts(facts.overview));
    found.sort_by_key(|problem| problem.severity);
    found
}

/// How many durables need somebody.
pub(super) fn durables(problems: &[Problem]) -> usize {
    problems.iter().filter(|problem| problem.is_durable).count()
}

fn of_roles(roles: &Roles) -> Vec<Problem> {
    let is_served = roles
        .active
        .as_ref()
        .is_some_and(|active| active.holds_lock);
    let mut found = Vec::new();
    if !is_served {
        let who = roles.active.as_ref();
        found.push(Problem {
            severity: Severity::Outage,
            what: "Nobody is active".to_owned(),
            why: who.map_or_else(
                || "No server has been active on these tables yet.".to_owned(),
                |last| format!("The last was {}; the lock is free or being taken.", shown(&last.holder)),
            ),
            remedy: "Wait a moment: a standby takes over. Where none is left, start a server; /readyz of each says \
                what it waits for."
                .to_owned(),
            link: None,
            is_durable: false,
        });
    }
    if roles.standbys.is_empty() {
        found.push(Problem {
            severity: Severity::Risk,
            what: "No standby waits".to_owned(),
            why: "If the active fails, no server takes over.".to_owned(),
            remedy: "Start a second server with the same database, cluster ID and NATS server."
                .to_owned(),
            link: None,
            is_durable: false,
        });
    }
    found
}

/// Conditions of the active, as the tables have them, and of this server, as it knows them itself.
fn of_conditions(facts: &Facts<'_>) -> Vec<Problem> {
    let conditions = facts.conditions.iter();
    let mut found: Vec<Problem> = conditions
        .map(|it| of_condition(&it.kind, &it.reason, "The active says", Severity::Degraded))
        .collect();
    if !facts.is_active {
        let own = facts.own.iter();
        found.extend(own.map(|(condition, raised)| {
            let blocks = condition.effect() != Effect::Warns;
            let who = if blocks {
                "This server could not take over"
            } else {
                "This server says"
            };
            of_condition(condition.name(), &raised.reason, who, Severity::Risk)
        }));
    }
    if let Some(unable_reason) = facts.unable_reason {
        found.push(of_condition(
            "trouble",
            unable_reason,
            "This server says",
            Severity::Risk,
        ));
    }
    found
}

fn of_condition(kind: &str, reason: &str, who: &str, severity: Severity) -> Problem {
    Problem {
        severity,
        what: format!("{who}: {kind}"),
        why: sentence(reason),
        remedy: "docs/troubleshooting.md explains each condition.".to_owned(),
        link: None,
        is_durable: false,
    }
}

fn of_durable(durable: &Durable) -> Option<Problem> {
    let is_late = durable.behind_seconds >= BEHIND_OF_NOTE_SECONDS;
    let (severity, remedy) = match durable.status.as_str() {
        "stalled" => (
            Severity::Degraded,
            "Nothing more is sent until its application acks. If the same message stays the oldest, it cannot process that one: check it, \
             or skip the message. If not, it is slower than messages come.",
        ),
        "offline" if durable.lag > 0 => (
            Severity::Degraded,
            "Start its application, or remove the durable if it is no longer needed.",
        ),
        // All of them are one problem.
        "paused" if durable.paused_since.is_some() => return None,
        "paused" => (
            Severity::Degraded,
            "Fix the application and seek to the message, or skip the message that it cannot process.",
        ),
        _ if is_late => (
            Severity::Degraded,
            "Check whether its application keeps up; a queue group can get more members.",
        ),
        _ => return None,
    };
    let (kind, name, channel) = (kind(durable), names(durable), shown(&durable.channel));
    let lag = count(unsigned(durable.lag), "message", "messages");
    let behind = duration(durable.behind_seconds);
    Some(Problem {
        severity,
        what: format!("{kind} {name} on {channel} is {behind} behind, with {lag}"),
        why: sentence(&durable.why),
        remedy: remedy.to_owned(),
        link: Some((link("/durable", &durable_key(durable)), "Look at it")),
        is_durable: true,
    })
}

fn of_counts(overview: &Overview) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |number: u64, severity, what: String, why: &str, remedy: &str, link| {
        if number > 0 {
            found.push(Problem {
                severity,
                what,
                why: why.to_owned(),
                remedy: remedy.to_owned(),
                link,
                is_durable: false,
            });
        }
    };
    let clients = overview.unresponsive;
    add(
        clients,
        Severity::Degraded,
        format!(
            "{} heartbeats",
            count(clients, "client misses", "clients miss")
        ),
        "Its process hangs, or NATS cannot reach it. The server closes a client that misses too many.",
        "Check the application and its connection to NATS.",
        Some((link("/clients", &[("sort", "missed")]), "Look at them")),
    );
    let refused = overview.refused;
    add(
        refused,
        Severity::Degraded,
        format!(
            "{} in SQL could not be stored",
            at_most(refused, "message published", "messages published")
        ),
        "Each has its reason in the view refused_publishes.",
        "Fix the cause, then put them back.",
        Some((link("/dead-letters", &[]), "Look at them")),
    );
    let unreadable = overview.unreadable;
    add(
        unreadable,
        Severity::Degraded,
        format!(
            "{} be read",
            at_most(unreadable, "message cannot", "messages cannot")
        ),
        "Their rows are damaged, or their encryption key is missing. Subscriptions skipped them.",
        "Give the servers the key, or restore the rows; stanby status lists them.",
        None,
    );
    let paused = overview.paused;
    add(
        paused,
        Severity::Risk,
        count(paused, "durable is paused", "durables are paused"),
        "An operator has paused it. It gets no messages until it is resumed.",
        "Resume it when the reason is gone.",
        Some((link("/durables", &[]), "Look at them")),
    );
    found
}

/// They are not counted further.
fn at_most(number: u64, one: &str, several: &str) -> String {
    if number >= 1000 {
        format!("1,000 or more {several}")
    } else {
        count(number, one, several)
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

pub(super) fn listed(problems: &[Problem]) -> Markup {
    html! {
        ol.problems {
            @for it in problems {
                li.(match it.severity { Severity::Outage => "bad", Severity::Degraded => "warn", Severity::Risk => "plain" }) {
                    h3 {
                        span.harm {
                            (match it.severity { Severity::Outage => "Outage", Severity::Degraded => "Harm", Severity::Risk => "Risk" })
                        }
                        " " (shown(&it.what))
                    }
                    p { (shown(&it.why)) }
                    p.remedy { "→ " (shown(&it.remedy)) @if let Some((link, text)) = &it.link { " " a href=(link) { (text) } } }
                }
            }
        }
    }
}
