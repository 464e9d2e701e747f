//! A server that is started with the line of a nats-streaming-server with a file or SQL store imports that, once: the first one that
//! finds empty tables, before it serves. A note in the tables keeps later starts from doing it again, on every machine. What
//! cannot be imported is not left behind: the start ends with a sentence that says how to carry it over.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::import::{Error, Import, ImportProgress, Imported, Source};
use super::shared::RoleError;
use super::status_publisher::StatusPublisher;
use crate::config::database::Endpoint;
use crate::config::{Config, DatabaseUrl};
use crate::former::Keys;
use crate::monitoring::condition::Condition;
use crate::store::files::fingerprint::{fingerprint, holds_store};
use crate::store::{self, FormerStore, FormerTables, Noted, Store};

/// Where a former server makes its tables.
const FORMER_SCHEMA: &str = "public";

/// For the database in which a former server kept its data to appear. Clients wait for 15 s.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct CarryOver<'a> {
    pub(super) store: &'a Store,
    pub(super) config: &'a Config,
    pub(super) status: &'a StatusPublisher,
}

/// What there is to do about a directory.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// It is in the tables already.
    IsThere,
    /// It has not been imported, and nothing else has.
    IsNew,
    /// The tables hold what was imported from somewhere else, or before somebody wrote to it.
    Differs(Noted),
}

impl CarryOver<'_> {
    /// Returns when nothing is left to carry over. May be called again when it has failed with something that passes:
    /// another server imports, or the former one has not ended yet.
    pub(super) async fn run(&self) -> Result<(), RoleError> {
        let Some(directory) = &self.config.import_dir else {
            return if self.config.is_sql_store {
                self.tables().await
            } else {
                Ok(())
            };
        };
        let Some(now) = look(directory.clone()).await? else {
            if self.store.ensure_vacant().await.is_ok() {
                tracing::warn!(
                    "{} holds no store of a nats-streaming-server: nothing is imported, and the tables begin empty; \
                     if there should be one, end this server and see whether the path is right and its disk is mounted",
                    directory.display()
                );
            }
            return Ok(());
        };
        match judge(&now, self.store.imports().await?) {
            Finding::IsThere => {
                tracing::debug!(directory = %directory.display(), "the file store was imported before");
                Ok(())
            }
            Finding::Differs(noted) => {
                let reason = format!(
                    "{} is not what was imported into these tables from {} at {} (UTC): a former server has written to it \
                     since, or it is another store. It is not imported: if you no longer need what it holds, take the file store \
                     out of line and file; otherwise import it into another schema, to look at it",
                    directory.display(),
                    noted.source,
                    noted.at
                );
                self.status.raise(Condition::FormerStoreChanged, reason);
                Ok(())
            }
            Finding::IsNew => {
                let source = Source::Files {
                    directory: directory.clone(),
                    polynomial: self.config.import_crc_poly,
                    limits: Some(Box::new(self.config.limits.clone())),
                };
                self.import(source, &directory.display().to_string()).await
            }
        }
    }

    /// The former server's tables stand in the same database, unless its source is another one.
    async fn tables(&self) -> Result<(), RoleError> {
        if !self.store.imports().await?.is_empty() {
            return Ok(());
        }
        let url = self.config.sql_source.as_ref();
        let url = url.unwrap_or(&self.config.database_url);
        let from = url.to_string();
        let tables = FormerTables::Postgres {
            url: Box::new(url.clone()),
            schema: FORMER_SCHEMA.to_owned(),
        };
        match self.store.ensure_vacant().await {
            Ok(()) => match FormerStore::is_there(&tables).await {
                Ok(false) => Ok(()),
                Ok(true) => self.import(Source::Tables(tables), &from).await,
                // As with a directory that is not there.
                Err(store::Error::Unavailable(why))
                    if self.config.sql_source.is_some() && is_gone(url).await =>
                {
                    let reason = format!(
                        "the former SQL store {from} is not there ({why}): nothing is imported, and the tables begin empty; if there \
                         should be data, end this server before clients use it, drop schema {}, and start it again once that \
                         database answers",
                        self.config.schema
                    );
                    self.status.raise(Condition::FormerStoreChanged, reason);
                    Ok(())
                }
                Err(error @ store::Error::Unavailable(_)) if self.config.sql_source.is_some() => {
                    Err(passing(format!(
                        "{from} is not imported yet: {error}; to begin without its data, take the SQL source out of line and file"
                    )))
                }
                Err(error) => Err(role_error(Error::Former(error), &from)),
            },
            Err(store::Error::Refused(_)) => self.ensure_nothing_is_left(&tables, &from).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Tables that are in use, and of which nothing says that anything was imported, may lack what the former ones hold: they
    /// were filled without it, or imported by a version that left no note.
    async fn ensure_nothing_is_left(
        &self,
        tables: &FormerTables,
        from: &str,
    ) -> Result<(), RoleError> {
        let left = match FormerStore::last_of_channels(tables, &self.config.cluster_id).await {
            Ok(last) => last,
            // It has served without them. Nobody else remembers that their data may be missing here.
            Err(error) => {
                let reason = format!(
                    "the former SQL store {from} cannot be looked at ({error}), and nothing was ever imported into schema {}: the tables \
                     may lack what it holds; if there is nothing, or nobody needs it, take the SQL source out of line and file",
                    self.config.schema
                );
                self.status.raise(Condition::FormerStoreChanged, reason);
                return Ok(());
            }
        };
        let marks = self.store.high_water_marks().await?;
        let is_here = |name: &str, last: u64| {
            let mut channels = marks.channels.values();
            channels.any(|it| it.name.as_str() == name && it.last.0 >= last)
        };
        let Some((channel, last)) = left.iter().find(|(name, last)| !is_here(name, **last)) else {
            return Ok(());
        };
        let why = format!(
            "schema {} is in use, and lacks messages that are there: channel {channel:?} goes to {last}",
            self.config.schema
        );
        Err(by_hand(from, &why))
    }

    async fn import(&self, source: Source, from: &str) -> Result<(), RoleError> {
        match Box::pin(self.attempt(source, from)).await {
            Ok(imported) => {
                log(&imported, from);
                Ok(())
            }
            // Another server, started at the same moment with the same line, may have been faster.
            Err(_) if !self.store.imports().await?.is_empty() => {
                Err(passing("another server has imported meanwhile".to_owned()))
            }
            Err(error) => Err(role_error(error, from)),
        }
    }

    async fn attempt(&self, source: Source, from: &str) -> Result<Imported, Error> {
        // What the tables hold says more than that somebody serves them.
        self.store.ensure_vacant().await?;
        tracing::info!(from, "importing the store of the former server");
        let status = self.status;
        let report = |update: ImportProgress| {
            let text = progress(update);
            status.unable(Some(format!("it is starting: it imports {from}: {text}")));
        };
        Box::pin(self.plan(source).run(report)).await
    }

    fn plan(&self, from: Source) -> Import {
        let config = self.config;
        let encryption = &config.encryption;
        let keys = encryption.key.iter().chain(&encryption.other_keys);
        Import {
            from,
            from_keys: Keys::new(keys),
            not_encrypted: false,
            to: config.database_url.clone(),
            schema: config.schema.clone(),
            cluster_id: config.cluster_id.clone(),
            subjects: config.subjects.clone(),
            encryption: encryption.clone(),
            nats: config.nats.clone(),
            skip_damaged: false,
            ahead: false,
            must_ask_nats: true,
        }
    }
}

/// Nothing can be at any place of the URL: its host has no address, nothing listens there on this machine, or its socket has
/// no directory. It is looked for again and again for a while: it may be about to start.
async fn is_gone(url: &DatabaseUrl) -> bool {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        for endpoint in url.endpoints() {
            if !is_empty(endpoint).await {
                return false;
            }
        }
    }
    true
}

/// What the C library says of a name that the name service does not know. One that is out of order says something else.
const NO_SUCH_NAME: [&str; 3] = ["not known", "No address associated", "does not resolve"];

async fn is_empty(endpoint: &Endpoint) -> bool {
    if let Some(directory) = endpoint.directory() {
        return matches!(directory.try_exists(), Ok(false));
    }
    let Some((host, port)) = endpoint.host() else {
        return false;
    };
    let addresses = match lookup_host((host.as_str(), port)).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let error = error.to_string();
            return NO_SUCH_NAME.iter().any(|it| error.contains(it));
        }
    };
    for address in addresses {
        // The second: of IPv6, where there is none.
        let is_refused = |error: io::Error| {
            [
                io::ErrorKind::ConnectionRefused,
                io::ErrorKind::AddrNotAvailable,
            ]
            .contains(&error.kind())
        };
        let connected = timeout(PAUSE, TcpStream::connect(address)).await;
        if !address.ip().is_loopback() || !connected.is_ok_and(|it| it.is_err_and(is_refused)) {
            return false;
        }
    }
    true
}

/// Its fingerprint; `None` where no former server has kept anything.
async fn look(directory: PathBuf) -> Result<Option<String>, RoleError> {
    let looking = spawn_blocking(move || {
        let looked = match holds_store(&directory) {
            Ok(false) => return Ok(None),
            Ok(true) => fingerprint(&directory),
            Err(error) => Err(error),
        };
        looked.map(Some).map_err(|error| {
            format!(
                "the file store {} cannot be read: {error}; let this server's user read it, or start without the file store \
                 to leave its data behind",
                directory.display()
            )
        })
    });
    let looked = looking.await.map_err(|error| passing(error.to_string()))?;
    looked.map_err(RoleError::Settings)
}

fn judge(now: &str, mut noted: Vec<Noted>) -> Finding {
    let is_this = |noted: &Noted| noted.fingerprints.iter().any(|it| it == now);
    if noted.iter().any(is_this) {
        return Finding::IsThere;
    }
    noted.pop().map_or(Finding::IsNew, Finding::Differs)
}

fn passing(why: String) -> RoleError {
    RoleError::Store(store::Error::Unavailable(why))
}

fn by_hand(from: &str, why: &str) -> RoleError {
    RoleError::Settings(format!(
        "{from} holds the data of a nats-streaming-server, which cannot be imported as it is: {why}. `stanby import \
         --from {from} --dry-run` lists all that keeps it from being imported, and `stanby import --from {from}` takes \
         what else is needed; to leave the data behind, start without the former store (-store)"
    ))
}

fn role_error(error: Error, from: &str) -> RoleError {
    match error {
        Error::Busy(_) | Error::Ended(_) | Error::Former(store::Error::Unavailable(_)) => {
            passing(format!("{from} is not imported yet: {error}"))
        }
        Error::Store(store::Error::Unavailable(why)) => passing(why),
        Error::Nats(error) => RoleError::Nats(error),
        Error::Leadership(error) => RoleError::Leadership(error),
        Error::Store(error) => by_hand(from, &error.to_string()),
        Error::OfRaft(_) => RoleError::Settings(format!(
            "{from} cannot be imported at the start: {error}; to leave the data behind, start without the former store (-store)"
        )),
        Error::Former(_) | Error::Problems(_) | Error::NoRandom | Error::Reading(_) => {
            by_hand(from, &error.to_string())
        }
    }
}

/// For people who wait.
fn progress(update: ImportProgress) -> String {
    match update {
        ImportProgress::Total(total) => format!("{total} messages to read"),
        ImportProgress::Read {
            messages, total, ..
        } => format!("{messages} of {total} messages are read"),
        ImportProgress::Follows => "all that was there is read".to_owned(),
        ImportProgress::Hindered(why) => why,
        ImportProgress::Compares => "all is written; comparing it with what was read".to_owned(),
    }
}

fn log(imported: &Imported, from: &str) {
    for note in &imported.notes {
        tracing::warn!("import: {note}");
    }
    let messages: u64 = imported.channels.iter().map(|it| it.messages).sum();
    let durables: u64 = imported.channels.iter().map(|it| it.durables).sum();
    tracing::info!(
        from,
        channels = imported.channels.len(),
        messages,
        clients = imported.clients,
        durables,
        "the former store is imported; it was not changed, and is no longer needed"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_imported_once_and_another_one_never_on_top_of_it() {
        let noted = |fingerprints: &[&str]| Noted {
            source: "/data".to_owned(),
            fingerprints: fingerprints.iter().map(|&it| it.to_owned()).collect(),
            at: "2024-01-01 12:00".to_owned(),
        };
        assert_eq!(judge("a", Vec::new()), Finding::IsNew);
        assert_eq!(judge("a", vec![noted(&["a"])]), Finding::IsThere);
        // From several nodes of a cluster, or imported before another one.
        let several = vec![noted(&["c", "a"]), noted(&["b"])];
        assert_eq!(judge("a", several.clone()), Finding::IsThere);
        assert_eq!(judge("d", several), Finding::Differs(noted(&["b"])));
    }
}
