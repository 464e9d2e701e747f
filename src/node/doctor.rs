//! Looks at everything that a server would need, before one is started: the database, NATS, the settings. Tries all
//! of it whatever fails, and says of each thing what to do. Takes no lock, makes no table, answers no client.

mod database;
mod files;
mod nats;

use tokio_util::task::TaskTracker;

use self::database::of_database;
pub use self::files::{Files, files};
use self::nats::of_nats;
use super::owner::{ensure_same_cluster, subjects_of};
use super::run::{STATEMENT_TIMEOUT, leadership_settings, new_server_id};
use super::shared::RoleError;
use super::vacuum::cost;
use crate::config::Config;
use crate::leadership::checks::Contender;
pub use crate::monitoring::finding::{Finding, Verdict};
use crate::printable::with_causes;
use crate::store::{Keyring, Oldest, SchemaVersion, Store, Unlogged};

/// In the order in which a person would ask. Fails only where the system gives no random numbers.
pub async fn diagnose(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let tasks = TaskTracker::new();
    let settings = leadership_settings(config, new_server_id()?);
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
    Finding {
        about,
        verdict: Verdict::Fail,
        text: with_causes(error),
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

async fn of_tables(config: &Config, contenders: &[Contender], findings: &mut Vec<Finding>) {
    let store = Store::open(
        &config.database_url,
        &config.schema,
        "stanby/doctor",
        STATEMENT_TIMEOUT,
    )
    .with_keys(Keyring::new(&config.encryption, &config.cluster_id))
    .known_direct();
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
        findings.push(of_additions(store).await);
        findings.push(of_encryption(store, config).await);
        findings.push(of_snapshots(store).await);
        findings.push(of_logging(store).await);
        findings.extend(of_reads(store).await);
    }
    findings.push(of_lock(contenders));
}

/// What else acts on each row that is written.
async fn of_additions(store: &Store) -> Finding {
    let about = "triggers";
    let added = match store.additions().await {
        Ok(added) => added,
        Err(error) => return fail(about, &error),
    };
    if added.is_empty() {
        return ok(
            about,
            "nobody has added triggers, rules, policies or constraints to the tables",
        );
    }
    let what: Vec<&str> = added.iter().map(|it| it.what.as_str()).collect();
    let remedies: Vec<&str> = added.iter().map(|it| it.remedy.as_str()).collect();
    warn(
        about,
        format!(
            "somebody has added to the servers' tables: {}; a row that one of them fails for is not stored, or not deleted",
            what.join(", ")
        ),
        format!("where nothing needs them, {}", remedies.join("; ")),
    )
}

/// Who keeps Postgres from cleaning up, whether it costs already or not.
async fn of_snapshots(store: &Store) -> Finding {
    let oldest = match store.oldest().await {
        Ok(Some(oldest)) => oldest,
        Ok(None) => return ok("snapshot", "no session holds an old one"),
        Err(error) => return fail("snapshot", &error),
    };
    if let Some(sentence) = cost(&oldest) {
        return warn("snapshot", sentence, "pg_terminate_backend ends a process");
    }
    let Oldest { who, seconds, .. } = oldest;
    let text = format!("the oldest one is held by {who}, for {seconds} s");
    ok("snapshot", text)
}

/// What an active reads again and again. A right to a table does not say that its rows may be seen.
async fn of_reads(store: &Store) -> Vec<Finding> {
    let failed = store.try_loads().await;
    if failed.is_empty() {
        return vec![ok("reads", "all that an active reads can be read")];
    }
    failed.iter().map(|error| fail("reads", error)).collect()
}

/// What a crash of Postgres would leave of the tables.
async fn of_logging(store: &Store) -> Finding {
    match store.unlogged().await {
        Ok(None) => ok(
            "logging",
            "Postgres logs every table that has to outlast a crash",
        ),
        Ok(Some(Unlogged { what, remedy })) => warn("logging", what, remedy),
        Err(error) => fail("logging", &error),
    }
}

/// As a server does when it starts.
async fn ensure_tables_fit(store: &Store, config: &Config) -> Result<(), RoleError> {
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
        [] => "no standby waits".to_owned(),
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
            "end that session, or give the servers one role, or roles with pg_read_all_stats and pg_signal_backend; REVOKE CONNECT ON DATABASE … FROM PUBLIC keeps \
             strangers out",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
