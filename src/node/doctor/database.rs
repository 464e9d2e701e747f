//! What a person wants to know of the database and the way to it: whether a server could hold the lock there, and what it would be worth.

use tokio_util::task::TaskTracker;

use super::{fail, ok, warn};
use crate::leadership::Settings;
use crate::leadership::checks::{Contender, Durability, Facts};
use crate::leadership::doctor::{self, Diagnosis, Link};
use crate::monitoring::finding::{Finding, Verdict};

/// More than that between two clocks is noticed by people who read times of messages.
const CLOCK_DIFFERENCE_MAX_MS: i64 = 2000;

/// A pair with one session for the lock and four for reading each, and the commands that look at it.
const CONNECTIONS_OF_A_PAIR: i64 = 12;

/// Returns who holds the lock or waits for it, if the database was of use.
pub(super) async fn of_database(
    settings: &Settings,
    tasks: &TaskTracker,
    findings: &mut Vec<Finding>,
) -> Option<Vec<Contender>> {
    let diagnosis = match doctor::diagnose(settings, tasks).await {
        Ok(diagnosis) => diagnosis,
        Err(error) => {
            findings.push(fail("database", &error));
            return None;
        }
    };
    let Diagnosis {
        primary,
        group,
        settings: kept,
        facts,
        link,
        blindness,
        contenders,
        lock_holder,
    } = diagnosis;
    findings.push(match (primary, &facts) {
        (Err(error), _) => fail("database", &error),
        (Ok(()), Err(error)) => fail("database", error),
        (Ok(()), Ok(facts)) => ok(
            "database",
            format!(
                "{} is a writable Postgres {}",
                settings.url.address(),
                facts.version
            ),
        ),
    });
    findings.push(ok("session", "direct, no pooler in between"));
    findings.push(match kept {
        Ok(()) => ok(
            "timeouts",
            "Postgres keeps what a server sets for its session",
        ),
        Err(error) => fail("timeouts", &error),
    });
    match link {
        Ok(link) => of_link(settings, &link, findings),
        Err(error) => findings.push(fail("link", &error)),
    }
    if let Ok(facts) = facts {
        findings.push(of_durability(&facts));
    }
    match lock_holder {
        Ok(None) => {}
        Ok(Some(holder)) => findings.push(Finding {
            about: "table locks",
            verdict: Verdict::Fail,
            text: holder.sentence("a takeover"),
            remedy: Some(holder.remedy),
        }),
        Err(error) => findings.push(fail("table locks", &error)),
    }
    match blindness {
        Ok(None) => {}
        Ok(Some(it)) => findings.push(warn(
            "sessions",
            format!(
                "role {} acts as {}, which may not see its sessions: a standby cannot end the session of a frozen active",
                it.logs_in_as, it.acts_as
            ),
            it.remedy,
        )),
        Err(error) => findings.push(fail("sessions", &error)),
    }
    if let Err(error) = group {
        findings.push(fail("group", &error));
    }
    match contenders {
        Ok(contenders) => Some(contenders),
        Err(error) => {
            findings.push(fail("lock", &error));
            None
        }
    }
}

fn of_link(settings: &Settings, link: &Link, findings: &mut Vec<Finding>) {
    findings.push(match &link.tls {
        Some(tls) => ok("tls", format!("the connection is encrypted ({tls})")),
        None if settings.url.is_local() => ok("tls", "none, and the database is on this machine"),
        None => warn(
            "tls",
            "the connection to the database is not encrypted",
            "add sslmode=verify-full and sslrootcert=FILE to the database URL",
        ),
    });
    let lease = settings.lease.duration();
    findings.push(if link.round_trip > lease / 8 {
        warn(
            "round-trip",
            format!(
                "a question to the database takes {:?}, with a lease of {lease:?}: healthy terms may end",
                link.round_trip
            ),
            "run the servers near the database, or give a longer --lease",
        )
    } else {
        ok(
            "round-trip",
            format!("a question to the database takes {:?}", link.round_trip),
        )
    });
    let ahead = link.clock_ahead_ms;
    findings.push(if ahead.abs() > CLOCK_DIFFERENCE_MAX_MS {
        warn(
            "clock",
            format!(
                "the database's clock is {ahead} ms ahead of this machine's (negative: behind); no decision \
                 depends on it, but messages bear this machine's time"
            ),
            "let NTP set both clocks",
        )
    } else {
        ok(
            "clock",
            format!("{ahead} ms between this machine's and the database's"),
        )
    });
    findings.push(if link.free_connections < CONNECTIONS_OF_A_PAIR {
        warn(
            "connections",
            format!(
                "the database takes {} more connections; a pair uses up to ten",
                link.free_connections
            ),
            format!("{}, or close connections", link.more_connections),
        )
    } else {
        ok("connections", format!("{} are free", link.free_connections))
    });
}

fn of_durability(facts: &Facts) -> Finding {
    let text = facts.durability.to_string();
    match facts.durability {
        Durability::Local | Durability::SynchronousStandby => ok("durability", text),
        Durability::AsynchronousStandby => warn(
            "durability",
            text,
            "set synchronous_standby_names, if the platform lets you",
        ),
        Durability::FsyncOff | Durability::FullPageWritesOff => {
            warn("durability", text, "set fsync and full_page_writes to on")
        }
    }
}
