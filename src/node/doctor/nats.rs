//! NATS and whoever else is on it.

use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::{Finding, Verdict, fail, ok, warn};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::limits::ChannelPattern;
use crate::core::partition::Partition;
use crate::leadership::Settings;
use crate::nats::{Connection, Error, cuts_off_without_holding};
use crate::node::managed_nats::{self, Outlook};
use crate::node::nats_settings::nats_settings;
use crate::node::partition_peers;
use crate::node::start::this_group;
use crate::protocol::permissions;

/// Time enough for whoever listens to a request to answer it.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

const FLUSH_LIMIT: Duration = Duration::from_secs(2);

const NATS_VERSION_MIN: (u64, u64, u64) = (2, 2, 0);

/// Channels that are named in a finding.
const LISTED_MAX: usize = 10;

/// What nats-server takes unless it is configured otherwise.
const MAX_PAYLOAD_DEFAULT: usize = 1 << 20;

pub(super) async fn of_nats(
    config: &Config,
    settings: &Settings,
    tasks: &TaskTracker,
    is_alone: bool,
    findings: &mut Vec<Finding>,
) {
    if let Some(managed) = &config.managed_nats {
        match managed_nats::look(managed).await {
            Ok(Outlook::Runs { program, port }) => {
                return findings.push(ok(
                    "nats",
                    format!("a server runs {} on port {port}", program.display()),
                ));
            }
            Ok(Outlook::Listens) => {}
            Err(error) => return findings.push(fail("nats", &*error)),
        }
    }
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
        let partition_peers =
            of_partition_peers(config, partition, settings, tasks, &connection).await;
        findings.push(partition_peers);
    } else if is_alone {
        // Servers of this schema listen there, as they should.
        findings.push(of_listeners(config, &connection).await);
    }
    // Last: for a moment it listens as a server would.
    findings.push(of_permissions(config, &connection).await);
}

/// Whether a server may listen and answer with this login.
async fn of_permissions(config: &Config, connection: &Connection) -> Finding {
    let about = "nats-permissions";
    let needed = permissions::of_servers(&config.subjects, &[]);
    let mut inbox = connection.inbox();
    let asked: Result<Vec<u64>, Error> = needed
        .subscribe
        .iter()
        .map(|subject| inbox.subscribe(subject))
        .collect();
    let asked = match asked {
        Ok(_) => connection.try_inbox().await,
        Err(error) => Err(error),
    };
    let answered = match asked {
        Ok(()) => connection.flush(FLUSH_LIMIT).await,
        Err(error) => Err(error),
    };
    drop(inbox);
    if let Err(error) = answered {
        return fail(about, &error);
    }
    let forbidden = match connection.forbids() {
        Some(error) => format!("NATS does not let a server listen with this login: {error}"),
        None if !connection.may_use_inboxes() => {
            "NATS does not let a server send to _INBOX.> with this login: clients with inboxes there get no answers".to_owned()
        }
        None => return ok(about, "a server may listen to clients, and answer them"),
    };
    Finding {
        verdict: Verdict::Fail,
        remedy: Some(
            "give its user the permissions that `stanby nats-permissions` prints".to_owned(),
        ),
        ..ok(about, forbidden)
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
        Some(_) if cuts_off_without_holding(version) => ok(
            "nats",
            format!(
                "{text}; this version disconnects a client that does not read once max_pending (64 MiB unless set) is full, and \
                 slows no sender down: the active keeps reading, and refuses publishes of clients that have too many waiting"
            ),
        ),
        Some(_) | None => ok(
            "nats",
            format!(
                "{text}; it keeps max_pending (64 MiB unless set) for who is slow, and holds those who send back"
            ),
        ),
    }
}

/// The three numbers of a version like `2.10.4-beta.1`.
fn parsed(version: &str) -> Option<(u64, u64, u64)> {
    let plain = version.split(['-', '+']).next()?;
    let mut numbers = plain.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// Nobody should listen for connects when no server of this schema runs.
async fn of_listeners(config: &Config, connection: &Connection) -> Finding {
    // Not a valid connect: whoever gets it refuses it.
    let has_listener = connection.has_listener(config.subjects.discover(), ANSWER_LIMIT);
    let has_listener = match has_listener.await {
        Ok(has_listener) => has_listener,
        Err(error) => return fail("listeners", &error),
    };
    if !has_listener {
        return ok(
            "listeners",
            format!(
                "no other server serves cluster ID {:?} on NATS",
                config.cluster_id
            ),
        );
    }
    warn(
        "listeners",
        format!(
            "another server listens for clients of cluster ID {:?}: a NATS Streaming server, or servers on \
             another schema",
            config.cluster_id
        ),
        "stop it before you start a server here: clients would get two answers",
    )
}

/// Another group must not serve a channel of this one.
async fn of_partition_peers(
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
    let subject = config.subjects.partition_peers();
    match partition_peers::look(connection, subject, me, partition.clone()).await {
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
}
