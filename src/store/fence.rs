//! Whose tables a read saw. A name with two addresses, a balancer or a failover may lead a new connection to a replica
//! that lags, to the old primary, or to a copy; what such a one lacks must not be taken for gone. So each read proves, in
//! the transaction that reads, that it is on the very Postgres process that the lock is held on or waited for, and that
//! this one knows of the term.
//!
//! The start time of the process distinguishes it from every other: also from a physical copy, whose system identifier,
//! timeline and epoch are the same, and on platforms that show none of these. A commit that this process has answered is
//! seen by every transaction that begins on it afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::error::{Error, Fault};
use super::source::{Line, Source};
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::core::ids::Epoch;

/// Begins a transaction that sees one moment and changes nothing.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

const STARTED_AT: &str =
    "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started_at";

/// The columns that [`Fence::judge`] looks at.
macro_rules! proof_columns {
    () => {
        "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started_at,
        pg_is_in_recovery() AS is_replica, (SELECT epoch FROM leadership) AS epoch,
        coalesce(host(inet_server_addr()) || ':' || inet_server_port(), '') AS address"
    };
}
pub(super) use proof_columns;

/// Where one of these is a view, or has children, somebody has moved rows to where they may not be seen: without an error,
/// and so without a sign.
macro_rules! misplaced {
    () => {
        "SELECT relname::text AS name FROM pg_class
            WHERE oid IN ('messages'::regclass, 'channels'::regclass, 'clients'::regclass, 'positions'::regclass,
                    'subscriptions'::regclass)
                AND (relkind <> 'r' OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = pg_class.oid))
            ORDER BY relname LIMIT 1"
    };
}
pub(super) use misplaced;

const MISPLACED: &str = misplaced!();

/// A statement of one row: whose tables these are, and whether all rows are in them.
macro_rules! proof {
    () => {
        concat!(
            "SELECT ",
            $crate::store::fence::proof_columns!(),
            ", (",
            $crate::store::fence::misplaced!(),
            ") AS misplaced"
        )
    };
}
pub(super) use proof;

/// The first statement of the transaction: what it sees, all later ones see. One, because every read waits for it.
pub(super) const PROOF: &str = proof!();

/// Fails where what is read may not be all that there is.
pub(super) async fn ensure_plain_tables(source: &mut Source<'_>) -> Result<(), Fault> {
    match source.all(MISPLACED, &[]).await?.pop() {
        Some(row) => Err(rows_elsewhere(row.get("name")?)),
        None => Ok(()),
    }
}

fn rows_elsewhere(name: &str) -> Fault {
    let why = format!(
        "{name} is a view, is partitioned or has children: rows may be where they are not seen, and nothing is taken for \
         gone; make it one plain table again"
    );
    Error::Unavailable(why).into()
}

/// Somebody deleted it.
pub(super) const NO_ROW: &str = "table leadership has no row: somebody deleted it, and the next takeover writes it again; \
    leave that table to the servers";

/// What a read has to prove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fence {
    /// The epoch of the term; `None` while the node is not active.
    epoch: Option<Epoch>,
    /// When the Postgres process started that the lock is held on or waited for, in microseconds since 1970; `None`
    /// before the node has asked for the lock.
    started_at: Option<i64>,
}

impl Fence {
    /// The inner error says what the transaction sees instead.
    pub(super) async fn prove(
        self,
        source: &mut Source<'_>,
    ) -> Result<Result<(), WrongServer>, Fault> {
        let line = source.one(PROOF, &[]).await?;
        self.judge_whole(&line)
    }

    /// What [`PROOF`] shows: whose tables these are, and that all rows are in them.
    pub(super) fn judge_whole(self, line: &Line) -> Result<Result<(), WrongServer>, Fault> {
        if let Err(wrong_server) = self.judge(line)? {
            return Ok(Err(wrong_server));
        }
        match line.get("misplaced")? {
            Some(name) => Err(rows_elsewhere(name)),
            None => Ok(Ok(())),
        }
    }

    /// What these columns prove.
    pub(super) fn judge(self, line: &Line) -> Result<Result<(), WrongServer>, Fault> {
        let address = line.get::<&str>("address")?;
        let wrong_server = |why| {
            Ok(Err(WrongServer {
                address: address.to_owned(),
                why,
            }))
        };
        if line.get("is_replica")? {
            return wrong_server(Why::Replica);
        }
        let started_at: i64 = line.get("started_at")?;
        if self.started_at.is_some_and(|known| known != started_at) {
            return wrong_server(Why::OtherServer);
        }
        let Some(epoch) = line.get::<Option<i64>>("epoch")? else {
            return Err(Error::Unavailable(NO_ROW.to_owned()).into());
        };
        let epoch = Epoch(epoch.cast_unsigned());
        match self.epoch {
            Some(expected) if expected != epoch => wrong_server(Why::OtherTerm(epoch, expected)),
            _ => Ok(Ok(())),
        }
    }
}

/// Where a connection led instead, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongServer {
    /// As that server knows itself; empty for a Unix socket.
    address: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    Replica,
    OtherServer,
    OtherTerm(Epoch, Epoch),
}

impl fmt::Display for WrongServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.address.is_empty() {
            write!(f, "{}, ", self.address)?;
        }
        match self.why {
            Why::Replica => f.write_str("a replica"),
            Why::OtherServer => f.write_str(
                "another Postgres than the one that the lock is held on (an old primary, or a copy)",
            ),
            Why::OtherTerm(found, expected) => {
                write!(f, "tables that know of term {found} and not of {expected}")
            }
        }
    }
}

/// For how long after the last connection that led to a wrong server it is still reported.
const REPORTED_FOR: Duration = Duration::from_secs(30);

/// A pool that gave no connection is left alone for so long.
const REST: Duration = Duration::from_secs(1);

/// What failed and was not tried again for so long is not wanted any more.
const ASKED_WITHIN: Duration = Duration::from_secs(15);

/// How reads go; all clones of a store share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    fence: Fence,
    /// Which Postgres process the last fence was around, whether or not it was lifted since.
    last_started_at: Option<i64>,
    /// Connections that are older than this are not used any more: they lead to a Postgres that was the right one before.
    moved_at: Option<Instant>,
    wrong_server: Option<(String, Instant)>,
    wrong_server_total: u64,
    failing: Option<Failing>,
    /// By what they are for: other reads go, and say nothing about these.
    failing_for: BTreeMap<&'static str, Failing>,
    failed_total: u64,
}

#[derive(Clone, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    why: String,
}

/// How reads go, for those who tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Where connections led that were not used, in a sentence; reported for half a minute.
    pub wrong_server: Option<String>,
    pub wrong_server_total: u64,
    /// For how long no read has succeeded, and why the last one did not.
    pub failing: Option<(Duration, String)>,
    /// What is read in vain for longest, for how long, and why.
    pub failing_for: Option<(&'static str, Duration, String)>,
    pub failed_total: u64,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held left values that are each true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fence(&self) -> Fence {
        self.state().fence
    }

    /// From here on reads prove that they are on the same server as `client`, and know of the term.
    pub(super) async fn close(
        &self,
        client: &Client,
        url: &DatabaseUrl,
        epoch: Option<Epoch>,
    ) -> Result<(), Error> {
        let row = client.query_typed_one(STARTED_AT, &[]).await;
        let row = row.map_err(|error| Error::from(DatabaseError::of_session(url, &error)))?;
        let started_at: i64 = row.get("started_at");
        self.close_around(started_at, epoch);
        Ok(())
    }

    fn close_around(&self, started_at: i64, epoch: Option<Epoch>) {
        let mut state = self.state();
        // A connection leads to one process for as long as it lives, and each read proves which one. So connections that
        // were opened for this process are good, and a takeover does not wait for new ones.
        if state.last_started_at.replace(started_at) != Some(started_at) {
            state.moved_at = Some(Instant::now());
        }
        state.fence = Fence {
            epoch,
            started_at: Some(started_at),
        };
    }

    pub(super) fn open(&self) {
        self.state().fence = Fence::default();
    }

    /// A connection of that age was opened before the primary moved: it may lead to where it was then.
    pub(super) fn outdates(&self, age: Duration) -> bool {
        let moved_at = self.state().moved_at;
        moved_at.is_some_and(|at| at.elapsed() <= age)
    }

    pub(super) fn note_wrong_server(
        &self,
        url: &DatabaseUrl,
        wrong_server: &WrongServer,
    ) -> String {
        if let Why::OtherTerm(found, expected) = wrong_server.why
            && found > expected
        {
            // It is the same Postgres: this term is over, and the connection is all right.
            return format!("another server has become active: {wrong_server}");
        }
        let sentence = format!(
            "a connection for reading at {} led to {wrong_server}: nothing that it shows is used; lead the name, balancer, proxy \
             or Service of the database URL to the primary alone",
            url.address()
        );
        let mut state = self.state();
        state.wrong_server = Some((sentence.clone(), Instant::now()));
        state.wrong_server_total += 1;
        sentence
    }

    pub(super) fn failed(&self, error: &Error) {
        let now = Instant::now();
        let why = error.to_string();
        let mut state = self.state();
        state.failed_total += 1;
        let since = state.failing.as_ref().map_or(now, |failing| failing.since);
        state.failing = Some(Failing {
            since,
            last: now,
            why,
        });
    }

    pub(super) fn succeeded_at(&self, what: &'static str) {
        let mut state = self.state();
        state.failing = None;
        state.failing_for.remove(what);
    }

    pub(super) fn failed_at(&self, what: &'static str, error: &Error) {
        self.failed(error);
        let now = Instant::now();
        let why = error.to_string();
        let mut state = self.state();
        let failing = state.failing_for.entry(what).or_insert(Failing {
            since: now,
            last: now,
            why: String::new(),
        });
        if failing.last.elapsed() >= ASKED_WITHIN {
            failing.since = now;
        }
        (failing.last, failing.why) = (now, why);
    }

    /// Why the pool gave no connection a moment ago: it would be asked in vain.
    pub(super) fn rests(&self) -> Option<String> {
        let state = self.state();
        let failing = state.failing.as_ref()?;
        (failing.last.elapsed() < REST).then(|| failing.why.clone())
    }

    pub(super) fn reads(&self) -> Reads {
        let state = self.state();
        let wrong_server = state.wrong_server.as_ref();
        let wrong_server = wrong_server.filter(|(_, at)| at.elapsed() < REPORTED_FOR);
        let failing = state.failing.as_ref();
        let asked = state.failing_for.iter();
        let asked = asked.filter(|(_, it)| it.last.elapsed() < ASKED_WITHIN);
        let longest = asked.max_by_key(|(_, it)| it.since.elapsed());
        Reads {
            wrong_server: wrong_server.map(|(sentence, _)| sentence.clone()),
            wrong_server_total: state.wrong_server_total,
            failing: failing.map(|it| (it.since.elapsed(), it.why.clone())),
            failing_for: longest.map(|(what, it)| (*what, it.since.elapsed(), it.why.clone())),
            failed_total: state.failed_total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether connections that are open now are still used afterwards.
    fn keeps(gate: &Gate, then: impl FnOnce(&Gate)) -> bool {
        gate.state().moved_at = None;
        then(gate);
        gate.state().moved_at.is_none()
    }

    #[test]
    fn who_is_not_active_any_more_does_not_accuse_the_balancer() {
        let (gate, url) = (Gate::default(), "postgres://a/b".parse().unwrap());
        let wrong_server = |found, expected| WrongServer {
            address: String::new(),
            why: Why::OtherTerm(Epoch(found), Epoch(expected)),
        };
        let over = gate.note_wrong_server(&url, &wrong_server(2, 1));
        assert!(
            over.starts_with("another server has become active"),
            "{over}"
        );
        assert_eq!(gate.reads(), Reads::default());

        gate.note_wrong_server(&url, &wrong_server(1, 2));
        assert_eq!(gate.reads().wrong_server_total, 1);
    }

    #[test]
    fn a_read_that_fails_is_told_until_the_same_read_succeeds() {
        let gate = Gate::default();
        let refused = Error::Refused("no".to_owned());
        gate.failed_at("reading the outbox", &refused);
        gate.succeeded_at("asking");
        let Reads {
            failing,
            failing_for,
            ..
        } = gate.reads();
        assert_eq!(failing, None);
        let (what, _, why) = failing_for.unwrap();
        assert_eq!((what, why.as_str()), ("reading the outbox", "no"));
        gate.succeeded_at("reading the outbox");
        assert_eq!(gate.reads().failing_for, None);
    }

    #[test]
    fn a_term_on_the_same_postgres_keeps_connections_and_one_on_another_does_not() {
        let gate = Gate::default();
        assert!(!keeps(&gate, |gate| gate.close_around(1, None)));
        assert!(keeps(&gate, |gate| gate.close_around(1, Some(Epoch(7)))));
        assert!(!keeps(&gate, |gate| gate.close_around(2, Some(Epoch(8)))));
    }

    #[test]
    fn a_fence_that_was_lifted_between_forgets_no_postgres() {
        let gate = Gate::default();
        gate.close_around(1, Some(Epoch(7)));
        assert!(keeps(&gate, |gate| {
            gate.open();
            gate.close_around(1, None);
        }));
        assert!(!keeps(&gate, |gate| {
            gate.open();
            gate.close_around(2, None);
        }));
    }
}
