//! Looks at everything that a server would need, before one is started: the database, NATS, the settings. Tries all
//! of it whatever fails, and says of each thing what to do. Takes no lock, makes no table, answers no client.

use std::time::Duration;

use serde::Serialize;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::nats_settings::nats_settings;
use super::neighbours;
use super::run::{STATEMENT_TIMEOUT, leadership_settings, new_server_id, this_group};
use super::shared::Setback;
use super::takeover::{ensure_same_cluster, subjects_of};
use crate::config::Config;
use crate::core::limits::ChannelPattern;
use crate::core::partition::Partition;
use crate::leadership::checks::{Contender, Durability, Facts};
use crate::leadership::examine::{self, Examination, Link};
use crate::leadership::{self, Settings};
use crate::nats::Connection;
use crate::store::{Keyring, SchemaVersion, Store};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// A server works, but not as one would wish.
    Warn,
    /// A server does not start, or cannot become active.
    Fail,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// One word, for scripts.
    pub about: &'static str,
    pub verdict: Verdict,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// More than that between two clocks is noticed by people who read times of messages.
const CLOCK_DIFFERENCE_MAX_MS: i64 = 2000;

/// A pair with one session for the lock and four for reading each, and the commands that look at it.
const CONNECTIONS_OF_A_PAIR: i64 = 12;

/// Time enough for whoever listens to a request to answer it.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

const FLUSH_LIMIT: Duration = Duration::from_secs(2);

const NATS_VERSION_MIN: (u64, u64, u64) = (2, 2, 0);

/// Channels that are named in a finding.
const LISTED_MAX: usize = 10;

/// What nats-server takes unless it is configured otherwise.
const MAX_PAYLOAD_DEFAULT: usize = 1 << 20;

/// In the order in which a person would ask. Fails only where the system gives no random numbers.
pub async fn examine(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let tasks = TaskTracker::new();
    let settings = leadership_settings(config, new_server_id()?)?;
    let mut findings = of_settings(config);
    let contenders = of_database(&settings, &tasks, &mut findings).await;
    // Behind a pooler or a closed door the tables would only repeat it.
    if let Some(contenders) = &contenders {
        of_tables(config, contenders, &mut findings).await;
    }
    let is_alone = contenders.is_some_and(|contenders| contenders.is_empty());
    of_nats(config, &settings, &tasks, is_alone, &mut findings).await;
    Ok(findings)
}

fn ok(about: &'static str, text: impl Into<String>) -> Finding {
    Finding {
        about,
        verdict: Verdict::Ok,
        text: text.into(),
        remedy: None,
    }
}

fn warn(about: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        about,
        verdict: Verdict::Warn,
        text: text.into(),
        remedy: Some(remedy.into()),
    }
}

/// The errors of the adapters are sentences with the remedy in them.
fn fail(about: &'static str, error: &dyn std::error::Error) -> Finding {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    Finding {
        about,
        verdict: Verdict::Fail,
        text,
        remedy: None,
    }
}

fn of_settings(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let channel = config.limits.channel;
    if channel.messages.is_none() && channel.bytes.is_none() && channel.age.is_none() {
        findings.push(warn(
            "limits",
            "channels have no limit in messages, bytes or age: their tables grow until the disk is full",
            "give --max-msgs, --max-bytes or --max-age",
        ));
    }
    let warnings = config.warnings();
    findings.extend(warnings.into_iter().map(|text| Finding {
        about: "settings",
        verdict: Verdict::Warn,
        text,
        remedy: None,
    }));
    if findings.is_empty() {
        findings.push(ok("settings", "they make sense"));
    }
    findings
}

/// Returns who holds the lock or waits for it, if the database was of use.
async fn of_database(
    settings: &Settings,
    tasks: &TaskTracker,
    findings: &mut Vec<Finding>,
) -> Option<Vec<Contender>> {
    let examination = match examine::examine(settings, tasks).await {
        Ok(examination) => examination,
        Err(error) => {
            findings.push(fail("database", &error));
            return None;
        }
    };
    let Examination {
        primary,
        group,
        timeouts,
        facts,
        link,
        contenders,
    } = examination;
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
    findings.push(match timeouts {
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
            "raise max_connections, or close connections",
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

async fn of_tables(config: &Config, contenders: &[Contender], findings: &mut Vec<Finding>) {
    let store = Store::open(
        &config.database_url,
        &config.schema,
        "stanby/doctor",
        STATEMENT_TIMEOUT,
    )
    .with_keys(Keyring::new(&config.encryption, &config.cluster_id));
    look_at_tables(&store, config, contenders, findings).await;
    store.close().await;
}

async fn look_at_tables(
    store: &Store,
    config: &Config,
    contenders: &[Contender],
    findings: &mut Vec<Finding>,
) {
    let user = config.database_url.user();
    match store.lacking().await {
        Ok(missing) if missing.is_empty() => {
            findings.push(ok(
                "rights",
                format!("role {user} may do all that it has to"),
            ));
        }
        Ok(missing) => {
            findings.extend(missing.into_iter().map(|lack| Finding {
                about: "rights",
                verdict: Verdict::Fail,
                text: format!("role {user} {}", lack.what),
                remedy: Some(lack.remedy),
            }));
        }
        Err(error) => findings.push(fail("rights", &error)),
    }
    let version = match store.version().await {
        Ok(version) => version,
        Err(error) => return findings.push(fail("schema", &error)),
    };
    let text = format!("schema {} {version}", config.schema);
    findings.push(match version {
        SchemaVersion::Current
        | SchemaVersion::Newer {
            is_usable: true, ..
        } => ok("schema", text),
        SchemaVersion::Empty | SchemaVersion::Older { .. } => {
            ok("schema", format!("{text}; the first server changes that"))
        }
        SchemaVersion::Newer {
            is_usable: false, ..
        } => Finding {
            verdict: Verdict::Fail,
            ..ok("schema", text)
        },
    });
    if version.is_usable()
        && let Err(error) = ensure_tables_fit(store, config).await
    {
        findings.push(fail("cluster-id", &error));
    }
    if version == SchemaVersion::Current {
        findings.push(of_encryption(store, config).await);
    }
    findings.push(of_lock(contenders));
}

/// As a server does when it starts.
async fn ensure_tables_fit(store: &Store, config: &Config) -> Result<(), Setback> {
    let mut config = config.clone();
    config.subjects = subjects_of(store, &config).await?;
    ensure_same_cluster(store, &config).await.map(drop)
}

async fn of_encryption(store: &Store, config: &Config) -> Finding {
    let about = "encryption";
    let in_use = match store.check_keys().await {
        Ok(in_use) => in_use,
        Err(error) => return fail(about, &error),
    };
    match (&config.encryption.key, in_use) {
        (Some(_), _) => ok(
            about,
            format!(
                "payloads are encrypted ({}), and the keys are the right ones",
                config.encryption.cipher
            ),
        ),
        (None, 0) => ok(about, "payloads are stored as they are"),
        (None, _) => warn(
            about,
            "encrypted messages can be read, and new ones are stored as they are",
            "give a key to encrypt with, if that is not wanted",
        ),
    }
}

fn of_lock(contenders: &[Contender]) -> Finding {
    let names = |holds: bool| -> Vec<&str> {
        let these = contenders.iter().filter(|it| it.holds_lock == holds);
        these.map(|it| it.name.as_str()).collect()
    };
    let waiting = match names(false).as_slice() {
        [] => "none waits".to_owned(),
        waiting => format!("waiting: {}", waiting.join(", ")),
    };
    match contenders.iter().find(|it| it.holds_lock) {
        None => ok("lock", format!("free: no server is active; {waiting}")),
        Some(holder) if holder.is_server() => {
            ok("lock", format!("active: {}; {waiting}", holder.name))
        }
        Some(holder) => warn(
            "lock",
            format!(
                "held by a session that is not a server's, or of another role ({:?}): no server can become active",
                holder.name
            ),
            "end that session, or give the servers one role; REVOKE CONNECT ON DATABASE … FROM PUBLIC keeps \
             strangers out",
        ),
    }
}

async fn of_nats(
    config: &Config,
    settings: &leadership::Settings,
    tasks: &TaskTracker,
    is_alone: bool,
    findings: &mut Vec<Finding>,
) {
    let name = format!("stanby-doctor-{}", settings.server_id);
    let connection = match Connection::open(&nats_settings(&config.nats, name), tasks).await {
        Ok(connection) => connection,
        Err(error) => return findings.push(fail("nats", &error)),
    };
    let before = Clock.now().monotonic;
    if let Err(error) = connection.flush(FLUSH_LIMIT).await {
        return findings.push(fail("nats", &error));
    }
    let round_trip = Clock.now().monotonic.since(before);
    findings.push(of_nats_version(connection.server_version(), round_trip));
    let payload = connection.max_payload();
    findings.push(if payload < MAX_PAYLOAD_DEFAULT {
        warn(
            "nats-payload",
            format!("NATS takes messages of up to {payload} bytes, less than its default"),
            "raise max_payload where publishers need more; lowering it later makes larger messages undeliverable",
        )
    } else {
        ok(
            "nats-payload",
            format!("NATS takes messages of up to {payload} bytes"),
        )
    });
    if let Some(partition) = &config.partition {
        let neighbours = of_neighbours(config, partition, settings, tasks, &connection).await;
        findings.push(neighbours);
    } else if is_alone {
        // Servers of this schema listen there, as they should.
        findings.push(of_listeners(config, &connection).await);
    }
}

fn of_nats_version(version: &str, round_trip: Duration) -> Finding {
    let text = format!("nats-server {version}, {round_trip:?} there and back");
    match parsed(version) {
        Some(found) if found < NATS_VERSION_MIN => Finding {
            verdict: Verdict::Fail,
            remedy: Some("at least 2.2 is needed".to_owned()),
            ..ok("nats", text)
        },
        Some(found) if found < (2, 9, 23) || ((2, 10, 0)..(2, 10, 2)).contains(&found) => warn(
            "nats",
            format!(
                "{text}; with system accounts this version may let strangers in (CVE-2023-47090)"
            ),
            "upgrade to 2.9.23, 2.10.2 or newer",
        ),
        Some(_) | None => ok("nats", text),
    }
}

/// Of `2.10.4-beta.1` the three numbers.
fn parsed(version: &str) -> Option<(u64, u64, u64)> {
    let plain = version.split(['-', '+']).next()?;
    let mut numbers = plain.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// Nobody should listen for connects when no server of this schema runs.
async fn of_listeners(config: &Config, connection: &Connection) -> Finding {
    // Not a valid connect: whoever gets it refuses it.
    let heard = connection.is_heard(config.subjects.discover(), ANSWER_LIMIT);
    let heard = match heard.await {
        Ok(heard) => heard,
        Err(error) => return fail("listeners", &error),
    };
    if !heard {
        return ok(
            "listeners",
            format!(
                "nobody else serves cluster ID {:?} on NATS",
                config.cluster_id
            ),
        );
    }
    warn(
        "listeners",
        format!(
            "somebody else listens for clients of cluster ID {:?}: a NATS Streaming server, or servers on \
             another schema",
            config.cluster_id
        ),
        "stop them before a server is started here: clients would get two answers",
    )
}

/// Another group must not serve a channel of this one.
async fn of_neighbours(
    config: &Config,
    partition: &Partition,
    settings: &Settings,
    tasks: &TaskTracker,
    connection: &Connection,
) -> Finding {
    let me = match this_group(config, settings, tasks).await {
        Ok(me) => me,
        Err(error) => return fail("channels", &error),
    };
    let subject = config.subjects.neighbours();
    match neighbours::look(connection, subject, me, partition.clone()).await {
        Ok(None) => ok(
            "channels",
            format!(
                "this group serves {}; no other group lists one of them",
                listed(partition)
            ),
        ),
        Ok(Some(conflict)) => Finding {
            verdict: Verdict::Fail,
            ..ok("channels", conflict.to_string())
        },
        Err(error) => fail("channels", &error),
    }
}

fn listed(partition: &Partition) -> String {
    let entries = partition.entries();
    let shown = entries.iter().take(LISTED_MAX).map(ChannelPattern::as_str);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match entries.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_nats_are_judged_by_their_numbers() {
        for (version, verdict) in [
            ("2.1.9", Verdict::Fail),
            ("2.2.0", Verdict::Warn),
            ("2.9.10", Verdict::Warn),
            ("2.9.23", Verdict::Ok),
            ("2.10.1-beta", Verdict::Warn),
            ("2.10.2", Verdict::Ok),
            ("3.0.0", Verdict::Ok),
            ("dev", Verdict::Ok),
        ] {
            let found = of_nats_version(version, Duration::ZERO);
            assert_eq!(found.verdict, verdict, "{version}");
        }
    }

    #[test]
    fn a_stranger_with_the_lock_is_pointed_out() {
        let contender = |name: &str, holds_lock| Contender {
            name: name.to_owned(),
            holds_lock,
        };
        assert!(of_lock(&[]).text.starts_with("free"));
        let pair = [
            contender("stanby/c/g/a", true),
            contender("stanby/c/g/b", false),
        ];
        let found = of_lock(&pair);
        assert_eq!(found.text, "active: stanby/c/g/a; waiting: stanby/c/g/b");
        for name in ["psql", ""] {
            assert_eq!(of_lock(&[contender(name, true)]).verdict, Verdict::Warn);
        }
    }
}
