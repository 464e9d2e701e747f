//! The validated configuration of a server.

use std::path::PathBuf;
use std::time::Duration;

use super::database::DatabaseUrl;
use super::duration::GoDuration;
use super::encryption::Encryption;
use super::error::Error;
use super::flags::ServeFlags;
use super::limits::{channel_entries, limits};
use super::log::{self, LogConfig};
use super::managed_nats::ManagedNats;
use super::nats::NatsConfig;
use super::pages::{PagesAddress, SecurePages};
use super::{partition, shadow};
use crate::certificates::Demand;
use crate::core::lease::Lease;
use crate::core::limits::{Heartbeats, Limits, Settings};
use crate::core::partition::Partition;
use crate::core::replicas::Promoted;
use crate::core::shadow::ShadowLimits;
use crate::protocol::Subjects;
use crate::protocol::subjects::Prefixes;

/// With what comes after it, a takeover takes the 15 s that some clients wait.
const LEASE_OF_NOTE: Duration = Duration::from_secs(12);

/// In the place of no pause at all, which would keep servers and clients busy with nothing else.
const HEARTBEATS_WITHOUT_PAUSE: Duration = Duration::from_secs(1);

const NAME_BYTES_MAX: usize = 255;

/// The configuration of a server. Plain data whose every value is valid.
#[derive(Clone, Debug)]
pub struct Config {
    pub database_url: DatabaseUrl,
    /// `a-z 0-9 _`, not longer than Postgres allows.
    pub schema: String,
    /// How payloads in the tables are encrypted.
    pub encryption: Encryption,
    pub nats: NatsConfig,
    /// The nats-server to run where nobody else's is named.
    pub managed_nats: Option<ManagedNats>,
    /// A file store of nats-streaming-server whose data must not be left behind.
    pub import_dir: Option<PathBuf>,
    /// The polynomial of its checksums.
    pub import_crc_poly: u32,
    /// The former server kept everything in SQL tables.
    pub is_sql_store: bool,
    /// Where, if that is not where the tables are.
    pub sql_source: Option<DatabaseUrl>,
    pub cluster_id: String,
    pub ft_group: Option<String>,
    pub lease: Lease,
    /// How many of the last requests a standby keeps; `None`: none.
    pub shadow: Option<ShadowLimits>,
    /// What replicas are believed to have when one becomes the primary.
    pub promoted: Promoted,
    /// Where the health and monitoring pages listen.
    pub http: Option<PagesAddress>,
    pub https: Option<SecurePages>,
    /// The token of who may change something there.
    pub api_token_file: Option<PathBuf>,
    /// Who may log in to the console.
    pub console_users: Option<PathBuf>,
    pub heartbeats: Heartbeats,
    pub replace_durables: bool,
    pub limits: Limits,
    /// Where other groups serve the other channels of the cluster ID.
    pub partition: Option<Partition>,
    /// The subjects of the cluster ID, with the chosen prefix of ack inboxes.
    pub subjects: Subjects,
    pub log: LogConfig,
    /// Where the process' number is written.
    pub pid_file: Option<PathBuf>,
}

impl Config {
    /// Fails with all that is wrong, a line each.
    pub fn from_flags(flags: &ServeFlags) -> Result<Self, Error> {
        Self::judge(flags).map_err(|errors| Error::all(&errors))
    }

    pub(super) fn judge(flags: &ServeFlags) -> Result<Self, Vec<Error>> {
        let mut errors = Errors::default();
        errors.take(ensure_known_store(flags));
        let database_url = errors.take(flags.database.url());
        let schema = errors.take(flags.database.schema());
        let sql_source = errors.take(sql_source(flags)).flatten();
        let encryption = errors.take(flags.encryption.encryption());
        let group = flags.ft_group.as_deref().filter(|name| !name.is_empty());
        let group = errors.take(group.map(ft_group).transpose());
        let entries = errors.take(channel_entries(flags)).unwrap_or_default();
        let partition = errors.take(partition::partition(flags.partitioning, &entries));
        let (group, partition) = (group.flatten(), partition.flatten());
        let subjects = errors.take(subjects(
            flags,
            schema.as_deref(),
            group.as_deref(),
            partition.as_ref(),
        ));
        let lease = errors.take(lease(flags.lease));
        let shadow = lease.and_then(|lease| errors.take(flags.shadow.limits(lease.duration())));
        let mut nats = errors.take(flags.nats.server_nats());
        let managed = nats
            .as_mut()
            .map(|nats| ManagedNats::from_flags(flags, nats));
        let managed_nats = managed.and_then(|managed| errors.take(managed));
        let pages = flags.pages.beside(flags);
        let https = errors.take(pages.secure());
        let api_token_file = errors.take(flags.pages.token_file()).flatten();
        let console_users = errors.take(flags.pages.console_users()).flatten();
        let heartbeats = errors.take(heartbeats(flags));
        let limits = errors.take(limits(flags));
        let log = errors.take(log::log(flags));
        let all = (
            (database_url, schema, encryption, subjects, lease, shadow),
            (nats, managed_nats, https, heartbeats, limits, log),
        );
        let (
            (
                Some(database_url),
                Some(schema),
                Some(encryption),
                Some(subjects),
                Some(lease),
                Some(shadow),
            ),
            (
                Some(nats),
                Some(managed_nats),
                Some(https),
                Some(heartbeats),
                Some(limits),
                Some(log),
            ),
        ) = all
        else {
            return Err(errors.0);
        };
        if !errors.0.is_empty() {
            return Err(errors.0);
        }
        Ok(Self {
            database_url,
            schema,
            encryption,
            nats,
            managed_nats,
            import_dir: import_dir(flags),
            import_crc_poly: flags.import_crc_poly,
            is_sql_store: is_store(flags, "sql"),
            sql_source,
            subjects,
            cluster_id: flags.nats.cluster_id.clone(),
            ft_group: group,
            lease,
            shadow,
            promoted: flags.database_failover.into(),
            http: pages.plain(),
            https,
            api_token_file,
            console_users,
            heartbeats,
            replace_durables: flags.replace_durable,
            limits: Limits {
                duplicate_window: shadow::window(shadow, lease.duration()) * 2,
                ..limits
            },
            partition,
            log,
            pid_file: flags.pid.clone(),
        })
    }

    /// What works, but not as one would wish.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.database_url.warnings().to_vec();
        warnings.extend(self.encryption.warnings());
        if self.nats.tls.demand == Demand::Nothing {
            warnings.push(
                "the certificates of NATS servers are not checked (insecure): whoever is between can read and change \
                 everything; leave it out, and name the authority that signed them with client_ca (--nats-tls-ca)"
                    .to_owned(),
            );
        }
        if self.lease.duration() >= LEASE_OF_NOTE {
            warnings.push(format!(
                "with a lease of {}, clients may give up while a frozen active is replaced: those for Java, .NET \
                 and Python wait 15s for an answer to their pings; the default is 2s",
                GoDuration::from(self.lease.duration())
            ));
        }
        warnings
    }

    /// What the last active stored in so long before its end may still arrive, or was received by a standby.
    pub fn replay_window(&self) -> Duration {
        shadow::window(self.shadow, self.lease.duration())
    }

    /// What the core wants to know.
    pub fn settings(&self) -> Settings {
        Settings {
            heartbeats: self.heartbeats.clone(),
            limits: self.limits.clone(),
            replace_durables: self.replace_durables,
            ack_prefix: self.subjects.ack_prefix().clone(),
            partition: self.partition.clone(),
        }
    }
}

/// What is wrong, each once.
#[derive(Default)]
struct Errors(Vec<Error>);

impl Errors {
    fn take<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.0.contains(&error) {
                    self.0.push(error);
                }
                None
            }
        }
    }
}

/// The subjects, as far as a configuration with mistakes allows.
fn subjects(
    flags: &ServeFlags,
    schema: Option<&str>,
    ft_group: Option<&str>,
    partition: Option<&Partition>,
) -> Result<Subjects, Error> {
    let own_token = || partition::token(ft_group, schema.unwrap_or_default());
    let prefixes = Prefixes {
        discover: flags.discover_prefix.clone(),
        ack: flags.ack_prefix.clone(),
        group: partition.is_some().then(own_token),
    };
    let subjects = flags.nats.subjects(&prefixes)?;
    match partition {
        None => Ok(subjects),
        Some(partition) => subjects
            .serving(partition)
            .map_err(|error| Error::new(error.to_string())),
    }
}

/// Everything is in Postgres, whatever the former server kept it in. What it kept in `MySQL` is imported by hand.
fn ensure_known_store(flags: &ServeFlags) -> Result<(), Error> {
    // As there, the driver and its source mean nothing without the store.
    let Some(store) = flags.store.as_deref() else {
        return Ok(());
    };
    if store.eq_ignore_ascii_case("MEMORY") {
        return Ok(());
    }
    if store.eq_ignore_ascii_case("FILE") {
        // Started without its data, it would not import it later.
        return match &flags.import_dir {
            Some(_) => Ok(()),
            None => Err(Error::new(
                "for FILE stores, root directory must be specified: give the one of the former server (-dir, or dir in the \
                 file), whose data is imported, or leave the store out",
            )),
        };
    }
    if !store.eq_ignore_ascii_case("SQL") {
        return Err(Error::new(format!(
            "unknown store type: {store}; leave it out, everything is kept in Postgres"
        )));
    }
    match flags.sql_driver.as_deref() {
        None | Some("postgres" | "") => Ok(()),
        Some("mysql") => Err(Error::new(
            "the store is in MySQL, and stanby serves from Postgres: carry it over once by `stanby import --from \
             mysql://user:password@host:3306/database` (docs/migrate.md), then leave the SQL driver and its source out",
        )),
        Some(other) => Err(Error::new(format!(
            "unknown sql driver {other:?}; use the driver postgres (-sql_driver postgres)"
        ))),
    }
}

/// Only the file store kept anything there.
fn import_dir(flags: &ServeFlags) -> Option<PathBuf> {
    flags.import_dir.clone().filter(|_| is_store(flags, "file"))
}

/// The URL of a former store that is elsewhere than the tables are to be.
fn sql_source(flags: &ServeFlags) -> Result<Option<DatabaseUrl>, Error> {
    // With another driver than Postgres' the start is refused anyway.
    let is_postgres = matches!(flags.sql_driver.as_deref(), None | Some("postgres" | ""));
    let source = flags.sql_source.as_ref();
    let source = source.filter(|_| is_store(flags, "sql") && is_postgres);
    let source = source.map(|source| DatabaseUrl::parse(source.expose()));
    source.transpose().map_err(|error| {
        Error::new(format!(
            "the source of the SQL store (-sql_source): {error}"
        ))
    })
}

fn is_store(flags: &ServeFlags, kind: &str) -> bool {
    let store = flags.store.as_deref();
    store.is_some_and(|store| store.eq_ignore_ascii_case(kind))
}

fn ft_group(name: &str) -> Result<String, Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(Error::new(format!(
            "the name of the ft group must have 1 to {NAME_BYTES_MAX} bytes, none of them a control character"
        )));
    }
    Ok(name.to_owned())
}

fn lease(given: GoDuration) -> Result<Lease, Error> {
    Lease::new(given.to_std())
        .ok_or_else(|| Error::new(format!("a lease of {given} does not work; use 500ms to 1m")))
}

fn heartbeats(flags: &ServeFlags) -> Result<Heartbeats, Error> {
    let defaults = Heartbeats::default();
    // The former server took others, too. What they mean here is said (`sources/remarks`).
    let positive = |given: Option<GoDuration>| {
        let given = given.map(GoDuration::to_std);
        given.map(|given| Some(given).filter(|it| !it.is_zero()))
    };
    let fail_count = match flags.hb_fail_count {
        None => defaults.fail_count,
        // The first miss is more than either.
        Some(..=0) => 0,
        Some(count) => u32::try_from(count).map_err(|_| {
            Error::new(format!(
                "--hb-fail-count must be at most {}, not {count}",
                u32::MAX
            ))
        })?,
    };
    Ok(Heartbeats {
        interval: positive(flags.hb_interval).map_or(defaults.interval, |given| {
            given.unwrap_or(HEARTBEATS_WITHOUT_PAUSE)
        }),
        timeout: positive(flags.hb_timeout)
            .flatten()
            .unwrap_or(defaults.timeout),
        fail_count,
        duplicate_timeout: defaults.duplicate_timeout,
    })
}

#[cfg(test)]
mod tests;
