//! What is in the way of a commit: a full disk, which it waits out, for no other server would find room either; and other sessions' locks,
//! of a forgotten transaction, `VACUUM FULL`, an index that is built. A commit waits
//! for them in slices, between which the lease is renewed: what a slice has tried is rolled back as a whole, and is tried again.
//! Who holds the locks is looked up and reported. One row that stays locked is no reason to keep everybody waiting: after
//! a while the commit counts as refused, and what it waits for is found and set aside. Where the messages or channels are locked as
//! a whole, or a table without which no term can begin, there is nothing else to do, and it waits on.

use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::sleep;

use super::cause::End;
use super::error::Error;
use super::leader::{Apply, Command};
use super::leader_task::Task;
use super::loss::Loss;
use crate::clock::Clock;
use crate::core::lease::Lease;
use crate::core::refusal::{Refusal, took_too_long, waits_for_others};
use crate::core::time::Instant;
use crate::postgres::holders::{self, LockHolder};

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

/// A lock that nobody holds any more when it is looked at has gone that very moment. One that is never seen may be made up: a trigger
/// may raise what it likes.
const UNSEEN_MAX: u32 = 3;

/// Whose locks, and when something was in the way last.
#[derive(Debug, Default)]
pub(super) struct InTheWay {
    last: Option<Instant>,
    /// How often in a row nobody was found.
    unseen: u32,
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
        if refusal.is_out_of_room {
            let Refusal { reason, remedy, .. } = &refusal;
            let sentence =
                format!("a commit waits for room on the database's disk: {reason}; {remedy}");
            self.term.blocked(Some(sentence));
            sleep(slice(self.settings.lease)).await;
            return self.again().await;
        }
        if !waits_for_others(&refusal.sqlstate) {
            if took_too_long(&refusal.sqlstate) {
                self.hurry(now).await?;
            }
            return Ok(Verdict::Refused(refusal));
        }
        let found = self.who_is_in_the_way(&refusal.table).await?;
        if found.is_nobody() && self.in_the_way.unseen < UNSEEN_MAX {
            self.in_the_way.unseen += 1;
            return self.again().await;
        }
        let ((sentence, remedy), locks_all) = match &found {
            Found::Holder(holder) => {
                self.in_the_way.unseen = 0;
                let found = (holder.sentence("a commit"), holder.remedy.clone());
                (found, holder.locks_all)
            }
            Found::Nobody | Found::Unknown => (holders::nobody(&refusal.table, "a commit"), false),
        };
        if now.since(began) >= TOLD_AFTER {
            self.term.blocked(Some(format!("{sentence}; {remedy}")));
        }
        let waits = locks_all
            || now.since(began) < PATIENCE
                && self.in_the_way.last.is_none()
                && !self.was_noted().await?;
        if waits {
            return self.again().await;
        }
        self.hurry(now).await?;
        refusal.reason = format!("{}: {sentence}", refusal.reason);
        refusal.remedy = remedy;
        Ok(Verdict::Refused(refusal))
    }

    async fn again(&mut self) -> Result<Verdict, Loss> {
        Ok(match self.meanwhile().await? {
            Some(end) => Verdict::End(end),
            None => Verdict::TryAgain,
        })
    }

    /// A commit got through.
    pub(super) async fn nothing_in_the_way(&mut self) -> Result<(), Loss> {
        self.term.blocked(None);
        self.in_the_way.unseen = 0;
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
        Ok(self.session.set_timeouts(statement, lock).await?)
    }

    async fn who_is_in_the_way(&mut self, table: &str) -> Result<Found, Loss> {
        let sent = Clock.now().monotonic;
        let found = match self.session.lock_holder(&[table], false).await {
            Ok(Some(holder)) => Found::Holder(holder),
            Ok(None) => Found::Nobody,
            Err(Error::Unavailable(why)) => return Err(Error::Unavailable(why).into()),
            // Not every role may look.
            Err(_) if !self.session.client.is_closed() => Found::Unknown,
            Err(error) => return Err(error.into()),
        };
        self.proved(sent);
        Ok(found)
    }

    /// A term before has met something like it. Not where that cannot be read: this very table may be locked.
    async fn was_noted(&mut self) -> Result<bool, Loss> {
        let sent = Clock.now().monotonic;
        let client = &self.session.client;
        let asked = async {
            match client.query_typed_opt(WAS_NOTED, &[]).await {
                Err(error) if error.as_db_error().is_some() && !client.is_closed() => Ok(None),
                asked => asked,
            }
        };
        let row = self
            .session
            .call("looking what was refused before", asked)
            .await?;
        self.proved(sent);
        Ok(row.is_some_and(|row| row.try_get(0).unwrap_or_default()))
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
enum Found {
    Holder(LockHolder),
    Nobody,
    /// Postgres does not say.
    Unknown,
}

impl Found {
    fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }
}

const WAS_NOTED: &str =
    "SELECT EXISTS (SELECT FROM refused_writes WHERE sqlstate IN ('55P03', '40P01')
    AND last_at > clock_timestamp() - interval '30 seconds')";
