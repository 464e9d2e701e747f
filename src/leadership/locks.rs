//! Other sessions' locks in the way of a commit: a forgotten transaction, `VACUUM FULL`, an index that is built. A commit waits
//! for them in slices, between which the lease is renewed: what a slice has tried is rolled back as a whole, and is tried again.
//! Who holds the locks is looked up and reported. One row that stays locked is no reason to keep everybody waiting: after
//! a while the commit counts as refused, and what it waits for is found and set aside. Where the messages or channels are locked as
//! a whole, or a table without which no term can begin, there is nothing else to do, and it waits on.

use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::cause::End;
use super::error::Error;
use super::leader::{Apply, Command};
use super::leader_task::Task;
use super::loss::Loss;
use crate::clock::Clock;
use crate::core::lease::Lease;
use crate::core::refusal::{Refusal, took_too_long, waits_for_others};
use crate::core::time::Instant;

/// Two slices and what is asked between them are to end well within a lease.
const SLICE_MAX: Duration = Duration::from_millis(500);

/// So long a commit waits for a row. Clients wait for 15 s and more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody has to look at a wait that is longer than this.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// While it is known that something is locked or slow, each attempt without it may take so long: everybody waits meanwhile.
const SHORT_SLICE: Duration = Duration::from_millis(100);
const SHORT_STATEMENT: Duration = Duration::from_secs(2);

/// What has not stood in the way for so long is gone.
const PASSED_AFTER: Duration = Duration::from_secs(30);

/// How long the leader session waits for one lock of somebody else.
pub(super) fn slice(lease: Lease) -> Duration {
    lease.renew_every().min(SLICE_MAX)
}

/// Whose locks, and when something was in the way last.
#[derive(Debug, Default)]
pub(super) struct InTheWay {
    last: Option<Instant>,
}

/// What follows from a refusal.
pub(super) enum Verdict {
    TryAgain,
    Refused(Refusal),
    /// The server wants to end its term meanwhile.
    End(End),
}

impl<A: Apply> Task<A> {
    /// Postgres refused a commit that began at `began`, and nothing of it is in the tables.
    pub(super) async fn judge(
        &mut self,
        mut refusal: Refusal,
        began: Instant,
    ) -> Result<Verdict, Loss> {
        let now = Clock.now().monotonic;
        if !waits_for_others(&refusal.sqlstate) {
            if took_too_long(&refusal.sqlstate) {
                self.hurry(now).await?;
            }
            return Ok(Verdict::Refused(refusal));
        }
        let found = self.who_is_in_the_way(&refusal.table).await?;
        if now.since(began) >= TOLD_AFTER {
            let blocker = format!("{}; {}", found.sentence, found.remedy);
            self.term.blocked(Some(blocker));
        }
        let is_known = self.in_the_way.last.is_some() || found.was_noted;
        let waits = found.locks_all || !is_known && now.since(began) < PATIENCE;
        if waits {
            return Ok(match self.meanwhile().await? {
                Some(end) => Verdict::End(end),
                None => Verdict::TryAgain,
            });
        }
        self.hurry(now).await?;
        refusal.reason = format!("{}: {}", refusal.reason, found.sentence);
        refusal.remedy = found.remedy;
        Ok(Verdict::Refused(refusal))
    }

    /// A commit got through.
    pub(super) async fn nothing_in_the_way(&mut self) -> Result<(), Loss> {
        self.term.blocked(None);
        let now = Clock.now().monotonic;
        if self
            .in_the_way
            .last
            .is_some_and(|last| now.since(last) > PASSED_AFTER)
        {
            self.in_the_way.last = None;
            let (lock, statement) = (slice(self.settings.lease), self.settings.statement_timeout);
            self.limit(lock, statement).await?;
        }
        Ok(())
    }

    /// What stood in the way is going to be looked for: each attempt at it keeps everybody waiting.
    async fn hurry(&mut self, now: Instant) -> Result<(), Loss> {
        if self.in_the_way.last.replace(now).is_none() {
            self.limit(SHORT_SLICE, SHORT_STATEMENT).await?;
        }
        Ok(())
    }

    async fn limit(&mut self, lock: Duration, statement: Duration) -> Result<(), Loss> {
        let set = format!(
            "SET lock_timeout = {}; SET statement_timeout = {}",
            lock.as_millis(),
            statement.as_millis()
        );
        let set = self.session.client.batch_execute(&set);
        Ok(self.session.call("setting timeouts", set).await?)
    }

    async fn who_is_in_the_way(&mut self, table: &str) -> Result<Found, Loss> {
        let sent = Clock.now().monotonic;
        let client = &self.session.client;
        let asked = async {
            let row = client
                .query_typed_opt(HOLDERS, &[(&table, Type::TEXT)])
                .await?;
            row.map(|row| Found::of(&row)).transpose()
        };
        let found = match self.session.call("looking who holds a lock", asked).await {
            Ok(found) => found,
            Err(Error::Unavailable(why)) => return Err(Error::Unavailable(why).into()),
            // Not every role may look.
            Err(_) if !client.is_closed() => None,
            Err(error) => return Err(error.into()),
        };
        self.proved(sent);
        Ok(found.unwrap_or_else(|| Found::nobody(table)))
    }

    /// What the server wants while its commit waits.
    async fn meanwhile(&mut self) -> Result<Option<End>, Loss> {
        loop {
            match self.requests.try_recv() {
                Ok(Command::Release(end)) => return Ok(Some(end)),
                Ok(Command::Record(record)) => self.record(&record).await?,
                Ok(Command::Refused(refusal)) => self.note_refusal(&refusal).await?,
                Ok(Command::Conditions(rows)) => self.show_conditions(&rows).await?,
                Ok(Command::Limits(rows)) => self.show_limits(&rows).await?,
                // One is under way, and there is never a second.
                Ok(Command::Commit(_)) | Err(TryRecvError::Disconnected) => {
                    return Err(Loss::GivenUp);
                }
                Err(TryRecvError::Empty) => return Ok(None),
            }
        }
    }
}

/// Who holds what a commit waits for.
struct Found {
    sentence: String,
    remedy: String,
    /// Nothing can be published, or no other term can begin, while it is held.
    locks_all: bool,
    /// A term before has found something like it.
    was_noted: bool,
}

/// Locks that writers wait for, or that come with rows that were changed or locked; those of the table in question first.
const HOLDERS: &str = "SELECT l.pid, coalesce(a.usename::text, p.owner::text, ''), coalesce(a.application_name, ''),
        coalesce(a.state, ''), 
        to_char(coalesce(a.xact_start, p.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC', p.gid,
        string_agg(DISTINCT c.relname || ' (' || l.mode || ')', ', '),
        -- Of all holders. What a takeover reads, only this mode keeps from being read.
        bool_or(bool_or(c.relname IN ('messages', 'channels') AND l.mode NOT IN ('RowShareLock', 'RowExclusiveLock')
            OR l.mode = 'AccessExclusiveLock' AND c.relname IN ('server_info', 'clients', 'positions', 'moved_positions', 'position_acks',
                'position_holders', 'subscriptions', 'paused_positions', 'gone_ranges', 'lost_ranges', 'dropped_guids',
                'closed_connections', 'unreadable_messages', 'pending_acks', 'policies', 'set_limits', 'delivery_counts',
                'deleted_channels', 'leadership', 'takeovers', 'term_keys', 'encryption_keys'))) OVER (),
        EXISTS (SELECT FROM refused_writes WHERE sqlstate IN ('55P03', '40P01')
            AND last_at > clock_timestamp() - interval '30 seconds')
    FROM pg_locks l
    JOIN pg_class c ON c.oid = l.relation AND c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN LATERAL (
        -- Until Postgres restarts it goes by the virtual number of the session that it was prepared on.
        SELECT p.gid, p.owner, p.prepared FROM pg_locks own JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
        WHERE l.pid IS NULL AND own.pid IS NULL AND own.virtualtransaction = l.virtualtransaction
    ) p ON true
    WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
    GROUP BY l.pid, a.usename, p.owner, a.application_name, a.state, a.xact_start, p.prepared, p.gid
    ORDER BY bool_or(c.relname = $1) DESC, coalesce(a.xact_start, p.prepared) NULLS LAST
    LIMIT 1";

impl Found {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let (role, application): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let state: String = row.try_get(3)?;
        let since: Option<String> = row.try_get(4)?;
        let since = since.unwrap_or_else(|| "an unknown time".to_owned());
        let what: String = row.try_get(6)?;
        let prepared: Option<String> = row.try_get(5)?;
        let (who, remedy) = match (prepared, row.try_get::<_, Option<i32>>(0)?) {
            (Some(name), _) => (
                format!("the prepared transaction {name:?} of role {role:?}"),
                format!(
                    "COMMIT PREPARED or ROLLBACK PREPARED '{}'",
                    name.replace('\'', "''")
                ),
            ),
            (None, Some(pid)) => (
                format!("session {pid} of role {role:?} (application {application:?}, {state})"),
                format!("end its transaction, or the session: SELECT pg_terminate_backend({pid})"),
            ),
            (None, None) => (
                "a prepared transaction".to_owned(),
                "look at pg_prepared_xacts, and ROLLBACK PREPARED it".to_owned(),
            ),
        };
        Ok(Self {
            sentence: format!(
                "another transaction holds a lock that a commit needs: {who}, open since {since}, holds {what}"
            ),
            remedy,
            locks_all: row.try_get(7)?,
            was_noted: row.try_get(8)?,
        })
    }

    /// It has gone meanwhile, or this role may not see it.
    fn nobody(table: &str) -> Self {
        Self {
            sentence: format!("another transaction held a lock on {table} that a commit needs"),
            remedy: "look at pg_locks and pg_stat_activity for who holds it".to_owned(),
            locks_all: false,
            was_noted: false,
        }
    }
}
