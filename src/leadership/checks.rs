//! Whether a database can be raced for at all: a writable primary, a version that ends silent sessions, and no
//! pooler in between. And how much a commit there is worth.

use std::fmt;

use tokio_util::task::TaskTracker;

use super::error::Error;
use super::session::{APPLICATION_PREFIX, Session, Settings};
use super::takeover::restore_row;
use crate::config::database::READ_ONLY;
use crate::postgres::pins::reset;
use crate::postgres::pooler;

/// The first version with `idle_session_timeout`.
const VERSION_MIN: i32 = 140_000;

/// Those that hold whatever a client may call a channel. With another one the first name that it lacks ends the term at
/// each commit, for as long as somebody asks for it.
const ENCODINGS: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// What a server says about its database when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// As `server_version` shows it.
    pub version: String,
    pub durability: Durability,
}

/// What an acked message survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    FsyncOff,
    FullPageWritesOff,
    Local,
    AsynchronousStandby,
    SynchronousStandby,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FsyncOff => {
                "none: fsync is off, a crash of the database's machine may lose acked messages"
            }
            Self::FullPageWritesOff => {
                "weak: full_page_writes is off, a crash of the database's machine may damage tables"
            }
            Self::Local => {
                "local: acked messages survive crashes, not the loss of the database's disk"
            }
            Self::AsynchronousStandby => {
                "asynchronous standby: a database failover may lose acked messages"
            }
            Self::SynchronousStandby => {
                "synchronous standby: acked messages survive a database failover"
            }
        })
    }
}

/// To be called once, when a server starts: opens two sessions and closes them again.
pub async fn check(settings: &Settings, tracker: &TaskTracker) -> Result<Facts, Error> {
    let session = Session::open(settings, tracker).await?;
    refuse_poolers(&session, settings, tracker).await?;
    session.pin(settings).await?;
    ensure_primary(&session).await?;
    refuse_other_groups(&session, settings).await?;
    session.arm(settings).await?;
    restore_row(&session).await?;
    facts(&session).await
}

/// What an import calls itself in the place of a server's group.
pub const IMPORT_GROUP: &str = "import";

/// Servers of two fault-tolerance groups on one schema would be one group: the one would take over for the other.
pub(super) async fn refuse_other_groups(
    session: &Session,
    settings: &Settings,
) -> Result<(), Error> {
    let own = settings.application_name();
    for other in contenders(session, settings).await? {
        let name = &other.name;
        if let (Some(group), Some(here)) = (group_of(name), group_of(&own))
            && group != here
            // It serves nobody, and goes when it is done.
            && ![group, here].contains(&IMPORT_GROUP)
        {
            return Err(Error::Refused(format!(
                "server {name} of ft group {group:?} uses schema {}, and this server is of group {here:?}: \
                 give servers of one pair the same --ft-group, and other pairs another --schema",
                settings.schema
            )));
        }
    }
    Ok(())
}

/// Who holds the lock or waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// The session's application name; empty where Postgres does not show it to this role.
    pub name: String,
    pub holds_lock: bool,
}

impl Contender {
    /// False for a stranger, who keeps servers from becoming active.
    pub fn is_server(&self) -> bool {
        self.name.starts_with(APPLICATION_PREFIX)
    }
}

pub(super) async fn contenders(
    session: &Session,
    settings: &Settings,
) -> Result<Vec<Contender>, Error> {
    let rows = session
        .call(
            "looking at the other servers",
            session.client.query(CONTENDERS, &[&settings.lock_key()]),
        )
        .await?;
    let contender = |row: &tokio_postgres::Row| Contender {
        name: row.get(0),
        holds_lock: row.get(1),
    };
    Ok(rows.iter().map(contender).collect())
}

/// A standby waits in slices, and holds a lock of its own between two of them, as view `standbys` knows.
const CONTENDERS: &str =
    "SELECT coalesce(a.application_name, ''), bool_or(k.objsubid = 1 AND k.granted)
    FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
    WHERE k.locktype = 'advisory' AND k.objsubid IN (1, 2)
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND k.classid::bigint = ($1::bigint >> 32) & 4294967295
        AND k.objid::bigint = $1::bigint & 4294967295
    GROUP BY k.pid, a.application_name ORDER BY 2 DESC, 1";

/// From the end, because cluster IDs may have slashes.
fn group_of(application_name: &str) -> Option<&str> {
    let name = application_name.strip_prefix(APPLICATION_PREFIX)?;
    name.rsplit('/').nth(1)
}

/// A lock that a read-only replica grants is worth nothing, so this is asked on every session.
pub(super) async fn ensure_primary(session: &Session) -> Result<(), Error> {
    let place = session.url.address();
    let row = session
        .call(
            "checking the server",
            session.client.query_one(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                    pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
                    current_setting('server_encoding')",
                &[],
            ),
        )
        .await?;
    let (number, version): (i32, &str) = (row.get(0), row.get(1));
    if number < VERSION_MIN {
        return Err(Error::Refused(format!(
            "Postgres at {place} has version {version}; at least 14 is needed"
        )));
    }
    if row.get(2) {
        // It may be promoted, or the way to it be led elsewhere.
        return Err(Error::Unavailable(format!(
            "Postgres at {place} is a replica; the database URL must lead to the primary"
        )));
    }
    if row.get(3) {
        // Managed ones set it while their disk is full.
        return Err(Error::Unavailable(format!(
            "Postgres at {place} is read-only ({READ_ONLY}), often because its disk is full; {}, or name another server in the \
             database URL",
            reset(&session.url, READ_ONLY)
        )));
    }
    let encoding: &str = row.get(4);
    if !ENCODINGS.contains(&encoding) {
        return Err(Error::Refused(format!(
            "database {:?} at {place} has encoding {encoding}, which lacks most of the characters that clients may use; \
             name one in the database URL that was made with ENCODING 'UTF8' TEMPLATE template0",
            session.url.database()
        )));
    }
    Ok(())
}

/// Behind a transaction pooler two servers would both be granted the lock: it gives the backend of a session that
/// is between two transactions to the next one who asks.
pub(super) async fn refuse_poolers(
    session: &Session,
    settings: &Settings,
    tracker: &TaskTracker,
) -> Result<(), Error> {
    let other = Session::open(settings, tracker).await?;
    other
        .call("probing for a pooler", other.client.batch_execute("BEGIN"))
        .await?;
    let others = other.ask_backend_pid().await?;
    let own = session.ask_backend_pid().await?;
    if own == session.backend_pid && others == other.backend_pid && own != others {
        return Ok(());
    }
    Err(Error::Refused(pooler::sentence(&settings.url)))
}

pub(super) async fn facts(session: &Session) -> Result<Facts, Error> {
    let row = session
        .call(
            "reading the server's settings",
            session.client.query_one(
                "SELECT current_setting('server_version'), current_setting('fsync'),
                    current_setting('full_page_writes'), current_setting('synchronous_standby_names'),
                    (SELECT count(*) FROM pg_stat_replication WHERE pid NOT IN (
                        SELECT active_pid FROM pg_replication_slots WHERE slot_type = 'logical' AND active_pid IS NOT NULL))",
                &[],
            ),
        )
        .await?;
    Ok(Facts {
        version: row.get(0),
        durability: durability(row.get(1), row.get(2), row.get(3), row.get(4)),
    })
}

fn durability(fsync: &str, full_page_writes: &str, synchronous: &str, replicas: i64) -> Durability {
    if fsync == "off" {
        Durability::FsyncOff
    } else if full_page_writes == "off" {
        Durability::FullPageWritesOff
    } else if !synchronous.is_empty() {
        Durability::SynchronousStandby
    } else if replicas > 0 {
        Durability::AsynchronousStandby
    } else {
        Durability::Local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_setting_decides_what_a_commit_is_worth() {
        for (fsync, pages, synchronous, replicas, expected) in [
            ("off", "on", "*", 1, Durability::FsyncOff),
            ("on", "off", "*", 1, Durability::FullPageWritesOff),
            ("on", "on", "*", 1, Durability::SynchronousStandby),
            ("on", "on", "", 1, Durability::AsynchronousStandby),
            ("on", "on", "", 0, Durability::Local),
        ] {
            assert_eq!(durability(fsync, pages, synchronous, replicas), expected);
        }
    }
}
