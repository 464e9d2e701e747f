//! What `stanby doctor` finds with the settings of this server, and in what the servers are set up differently.

use std::collections::BTreeSet;

use axum::response::Response;
use maud::{Markup, html};

use super::layout;
use super::parts::{badge, empty, sql};
use super::principal::Principal;
use super::words::{count, shown, time};
use crate::monitoring::finding::{Finding, Verdict};
use crate::store::views::ServerSettings;

pub(super) async fn page(user: Principal) -> Response {
    let console = match user.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let servers = user.read(async |store| store.server_settings().await);
    let servers = match servers.await {
        Ok(servers) => servers,
        Err(answer) => return answer,
    };
    let findings = match console.views.diagnose().await {
        Ok(findings) => findings,
        Err(why) => return layout::unread(&why),
    };
    let bad = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
    let (failures, warnings) = (bad(Verdict::Fail), bad(Verdict::Warn));
    let body = html! {
        h1 { "Doctor" }
        p.(if failures > 0 { "bad" } else if warnings > 0 { "warn" } else { "good" }) {
            (count(failures as u64, "failure", "failures")) ", " (count(warnings as u64, "warning", "warnings")) ", as " code { "stanby doctor" } " finds them with the settings of this server."
        }
        (listed(&findings))
        h2 { "The servers " (sql("servers", &[])) }
        (compared(&servers))
    };
    layout::page(&user, "Doctor", "/doctor", &body)
}

/// What is worst comes first.
fn listed(findings: &[Finding]) -> Markup {
    let mut findings: Vec<&Finding> = findings.iter().collect();
    findings.sort_by_key(|it| match it.verdict {
        Verdict::Fail => 0,
        Verdict::Warn => 1,
        Verdict::Ok => 2,
    });
    html! {
        ul.problems {
            @for it in findings {
                li.(match it.verdict { Verdict::Fail => "bad", Verdict::Warn => "warn", Verdict::Ok => "plain" }) {
                    h3 {
                        span.harm { (match it.verdict { Verdict::Fail => "fails", Verdict::Warn => "warns", Verdict::Ok => "ok" }) }
                        " " (it.about)
                    }
                    p { (shown(&it.text)) }
                    @if let Some(remedy) = &it.remedy { p.remedy { "→ " (shown(remedy)) } }
                }
            }
        }
    }
}

/// Those that run, and only in what they differ.
fn compared(servers: &[ServerSettings]) -> Markup {
    let running: Vec<&ServerSettings> = servers
        .iter()
        .filter(|it| it.is_active || it.is_standby)
        .collect();
    let names: BTreeSet<&str> = running
        .iter()
        .flat_map(|it| it.settings.keys().map(String::as_str))
        .collect();
    let value = |it: &ServerSettings, name: &str| it.settings.get(name).cloned();
    let differ = |name: &&str| {
        let mut values = running.iter().map(|it| value(it, name));
        let first = values.next();
        values.any(|other| Some(&other) != first.as_ref())
    };
    let differing: Vec<&str> = names.into_iter().filter(differ).collect();
    html! {
        @if running.is_empty() {
            (empty("No server that runs has said what it was set up with."))
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Servers" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Setting" }
                            @for it in &running {
                                th scope="col" {
                                    (shown(&it.host)) " " (badge(if it.is_active { "active" } else { "standby" }))
                                    div.note { (shown(&it.server_id)) }
                                }
                            }
                        }
                    }
                    tbody {
                        tr { th scope="row" { "version" } @for it in &running { td { (shown(&it.version)) } } }
                        tr { th scope="row" { "started" } @for it in &running { td { (time(it.told_at.as_deref())) } } }
                        tr { th scope="row" { "pages" } @for it in &running { td { (super::words::or_dash(it.pages.as_deref())) } } }
                        @for name in &differing {
                            tr {
                                th scope="row" { (shown(name)) " " (badge("differs")) }
                                @for it in &running { td.mono { (shown(&value(it, name).unwrap_or_else(|| "–".to_owned()))) } }
                            }
                        }
                    }
                }
            }
            @if running.len() > 1 && differing.is_empty() {
                p.good { "They have the same settings: a takeover changes nothing else." }
            }
            @if !differing.is_empty() {
                p.warn { "After a takeover the other values apply. Give both servers the same settings, unless the difference is intended." }
            }
        }
    }
}
