//! The task that owns the leader session: commits, session reads, renewals, one after the other.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::{ToSql, Type};

use super::cause::{Cause, End};
use super::error::TermLost;
use super::history::Unnoted;
use super::leader::{Apply, Command, Committed, ConditionRow, Done, LimitRow, Record};
use super::locks::{InTheWay, Verdict, slice};
use super::loss::Loss;
use super::recorded::release;
use super::session::{Session, Settings};
use super::session_read::SessionRead;
use super::statements::{
    COMPLETE, HOLDS_LOCK, IS_SAME, NOTE_REFUSAL, SHOW_CONDITIONS, SHOW_LIMITS,
};
use super::step_down;
use super::term::Term;
use crate::clock::Clock;
use crate::core::attempts::EndKind;
use crate::core::refusal::Refusal;
use crate::core::time::{Instant, Timestamp};

/// All statements of a session read together may take so many times what one call may.
const ERRAND_CALLS: u32 = 6;

/// What the tables notify when somebody has noted that messages are gone (`migrations/0021_gone_ranges.sql`).
const GONE: &str = "gone";

/// The payload of a notification of `publish` (migrations/0050).
const OUTBOX: &str = "outbox";
const POLICIES: &str = "policies";

/// Every so many renewals the lock itself is looked at, not only the session.
const RENEWALS_PER_LOCK_CHECK: u32 = 10;

pub(super) struct Task<A: Apply> {
    pub(super) session: Session,
    pub(super) settings: Settings,
    pub(super) term: Term,
    pub(super) apply: A,
    pub(super) requests: mpsc::Receiver<Command<A::Batch>>,
    pub(super) session_reads: mpsc::Receiver<SessionRead>,
    pub(super) reports: mpsc::Sender<Done<A::Batch>>,
    pub(super) renewals: u32,
    pub(super) in_the_way: InTheWay,
    /// What the history lacks of this term.
    pub(super) unnoted: Option<Unnoted>,
    /// The last rows of channels that were late could not be written.
    pub(super) is_behind: bool,
}

/// A task that panics ends its term like any other, before its session is closed: the active would wait for the end of the
/// term for ever.
struct FinishesTermOnDrop(Term);

impl Drop for FinishesTermOnDrop {
    fn drop(&mut self) {
        // An orderly end has given its reason before.
        let reason = "the task of the leader session panicked";
        self.0.finish(TermLost::new(EndKind::Own, reason));
    }
}

impl<A: Apply> Task<A> {
    pub(super) async fn run(mut self) {
        let _finishes = FinishesTermOnDrop(self.term.clone());
        let lost = match self.serve().await {
            Ok(end) => TermLost::new(EndKind::Own, self.release(end).await),
            Err(loss) => TermLost::from(loss),
        };
        // Nobody may act any more before the lock can be somebody else's.
        self.term.finish(lost);
        drop(self.session);
        drop(self.reports);
    }

    /// Returns when the lock is to be given up, and with a reason when it is lost.
    async fn serve(&mut self) -> Result<End, Loss> {
        // Preparing may have taken a while.
        self.renew().await?;
        let secret = self.listen().await?;
        // What was in its way may have gone.
        self.complete_history().await?;
        // What was noted since the snapshot was not reported.
        self.term.note_gone();
        self.term.note_outbox();
        self.term.note_policies();
        loop {
            // A batch may always be there: so this goes between two of them.
            let until_due = self.until_catch_up();
            if until_due == Some(Duration::ZERO) {
                self.catch_up().await?;
            }
            // Each turn asks Postgres something, so each begins a new wait.
            tokio::select! {
                biased;
                () = self.session.closed() => return Err(Loss::Closed(self.session.why_closed())),
                command = self.requests.recv() => match command {
                    Some(Command::Commit(batch)) => {
                        if let Some(end) = self.commit(batch).await? {
                            return Ok(end);
                        }
                    }
                    Some(Command::Record(record)) => self.record(&record).await?,
                    Some(Command::Refused(refusal)) => self.note_refusal(&refusal).await?,
                    Some(Command::Conditions(rows)) => self.show_conditions(&rows).await?,
                    Some(Command::Limits(rows)) => self.show_limits(&rows).await?,
                    Some(Command::Release(end)) => return Ok(end),
                    None => return Err(Loss::GivenUp),
                },
                Some(read) = self.session_reads.recv() => self.run_session_read(read).await?,
                Some(payload) = self.session.notified.recv() => {
                    let (key, epoch) = (self.settings.lock_key(), self.term.epoch());
                    if payload == GONE {
                        self.term.note_gone();
                    } else if payload == OUTBOX {
                        self.term.note_outbox();
                    } else if payload == POLICIES {
                        self.term.note_policies();
                    } else if step_down::is_request(&payload, key, epoch, &secret) {
                        self.term.ask_to_end();
                    }
                    self.renew().await?;
                }
                () = sleep(until_due.unwrap_or_default()), if until_due.is_some() => {}
                () = sleep(self.settings.lease.renew_every()) => {
                    if let Some(silence) = self.term.stalled_for(Clock.now().monotonic) {
                        let millis = silence.as_millis();
                        let why = format!(
                            "the active has made no progress for {millis} ms, something blocks it"
                        );
                        return Ok(End::new(Cause::Stuck, why));
                    }
                    self.renew().await?;
                    if self.renewals.is_multiple_of(RENEWALS_PER_LOCK_CHECK) {
                        self.ensure_recorded().await?;
                        self.complete_history().await?;
                    }
                }
            }
        }
    }

    /// To those who ask the active to step down, and to those who note that messages are gone or publish in SQL; what the first have to know.
    async fn listen(&mut self) -> Result<Vec<u8>, Loss> {
        let listen = step_down::listen(self.settings.lock_key());
        let slice = slice(self.settings.lease).as_millis();
        let listen = format!(
            "{listen}; LISTEN stanby_gone; LISTEN stanby_outbox; LISTEN stanby_policies; SET lock_timeout = {slice}"
        );
        let client = &self.session.client;
        let listening = async {
            // Together: the first batch waits for this.
            let listen = client.batch_execute(&listen);
            let secret = client.query_typed_one(step_down::SECRET, &[]);
            let ((), row) = tokio::try_join!(listen, secret)?;
            row.try_get(0)
        };
        let what = "listening for requests to step down";
        Ok(self.session.call(what, listening).await?)
    }

    /// `Some` when the server wants to end its term while the commit waits for others.
    async fn commit(&mut self, batch: A::Batch) -> Result<Option<End>, Loss> {
        let began = Clock.now().monotonic;
        let (sent, applied) = loop {
            let sent = Clock.now().monotonic;
            let applied = self.apply(&batch).await?;
            let refusal = applied.as_ref().err().and_then(A::refusal);
            let Some((refusal, true)) = refusal else {
                break (sent, applied);
            };
            let refusal = refusal.clone();
            self.proved(sent);
            match self.judge(refusal, began).await? {
                Verdict::TryAgain => {}
                Verdict::End(end) => return Ok(Some(end)),
                Verdict::Refused(refusal) => {
                    self.report(Done::Refused(refusal))?;
                    return Ok(None);
                }
            }
        };
        match applied {
            Ok(()) => self.proved(sent),
            Err(error) => {
                if let Some((refusal, _)) = A::refusal(&error) {
                    // The next term will take care.
                    self.note_refusal(refusal).await?;
                }
                return Err(Loss::commit(A::kind(&error), error));
            }
        }
        self.nothing_in_the_way().await?;
        let done = Clock.now().monotonic;
        if !self.term.is_trusted(done) {
            // It is in the tables, but its answer came too late to prove that nobody else is active by now.
            self.renew().await?;
        }
        self.report(Done::Committed(Committed {
            batch,
            sent,
            took: done.since(sent),
        }))?;
        Ok(None)
    }

    /// The answer of the session, or why there will be none.
    async fn apply(&mut self, batch: &A::Batch) -> Result<Result<(), A::Error>, Loss> {
        let limit = self.settings.call_limit() * 2;
        let applied = {
            let client = &self.session.client;
            let mut applied = pin!(self.apply.apply_in_pieces(client, batch, &self.term));
            loop {
                let proved = self.term.trusted_until();
                match timeout(limit, &mut applied).await {
                    // An answer on the way begins a new wait.
                    Err(_) if self.term.trusted_until() > proved => {}
                    applied => break applied,
                }
            }
        };
        match applied {
            Ok(Err(_)) if self.session.client.is_closed() => {
                self.session.closed().await;
                let lesson = self.apply.lesson().unwrap_or_default();
                let why = self.session.why_closed();
                Err(Loss::ClosedDuringCommit { lesson, why })
            }
            Ok(applied) => Ok(applied),
            Err(_) => Err(Loss::CommitTooLong(limit)),
        }
    }

    /// Only `Leader` receives, and it submits no more than fits.
    fn report(&self, done: Done<A::Batch>) -> Result<(), Loss> {
        self.reports.try_send(done).map_err(|_| Loss::NobodyWaits)
    }

    async fn run_session_read(&mut self, read: SessionRead) -> Result<(), Loss> {
        let sent = Clock.now().monotonic;
        let limit = self.settings.call_limit() * ERRAND_CALLS;
        if timeout(limit, read(&self.session.client)).await.is_err() {
            return Err(Loss::ReadTooLong(limit));
        }
        if self.session.client.is_closed() {
            self.session.closed().await;
            return Err(Loss::ClosedDuringRead(self.session.why_closed()));
        }
        self.proved(sent);
        // Reads come here when they fail elsewhere.
        self.ensure_recorded().await
    }

    /// The session answered to what was sent at `sent`.
    pub(super) fn proved(&self, sent: Instant) {
        if let Some(unproved) = self.term.extend(sent, Clock.now().monotonic) {
            tracing::warn!(
                unproved_ms = unproved.as_millis(),
                lease_ms = self.settings.lease.duration().as_millis(),
                "Postgres proved the lock only after more than half a lease; when it takes a whole one, the \
                 term is lost: is this machine, the network or Postgres overloaded?"
            );
        }
    }

    async fn renew(&mut self) -> Result<(), Loss> {
        let sent = Clock.now().monotonic;
        let key = self.settings.lock_key();
        let looks_at_lock = self.renewals.is_multiple_of(RENEWALS_PER_LOCK_CHECK);
        self.renewals = self.renewals.wrapping_add(1);
        let client = &self.session.client;
        let limit = self.settings.lease.duration();
        let renewal = async {
            // In one message: what is prepared first is a second one.
            let pid: (&(dyn ToSql + Sync), _) = (&self.session.backend_pid, Type::INT4);
            let row = if looks_at_lock {
                client
                    .query_typed_one(HOLDS_LOCK, &[(&key, Type::INT8), pid])
                    .await?
            } else {
                client.query_typed_one(IS_SAME, &[pid]).await?
            };
            row.try_get(0)
        };
        let renewed = self
            .session
            .call_within(limit, "renewing the lease", renewal)
            .await;
        match renewed {
            Ok(true) => {
                self.proved(sent);
                Ok(())
            }
            Ok(false) => Err(Loss::LockLost),
            Err(why) => Err(Loss::Renewal(why)),
        }
    }

    pub(super) async fn record(&mut self, record: &Record) -> Result<(), Loss> {
        let epoch = self.term.epoch().0.cast_signed();
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let answered = record.answered_from_memory.map(u64::cast_signed);
        let end = record.end.as_ref();
        let (load_time, first_ack) = (seconds(record.load_time), seconds(record.first_ack));
        let silence = seconds(record.silence);
        let cause = end.map(|end| &end.cause);
        let detail = end.map(|end| &end.detail);
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &epoch, &load_time, &first_ack, &silence, &answered, &cause, &detail,
        ];
        self.note("the takeover", COMPLETE, &parameters).await
    }

    pub(super) async fn note_refusal(&mut self, refusal: &Refusal) -> Result<(), Loss> {
        let server_id = self.settings.server_id.clone();
        let Refusal {
            table,
            sqlstate,
            rule,
            reason,
            remedy,
            ..
        } = refusal;
        let parameters: [&(dyn ToSql + Sync); 6] =
            [table, sqlstate, rule, reason, remedy, &server_id];
        self.note("what is refused", NOTE_REFUSAL, &parameters)
            .await
    }

    /// For people: that Postgres refuses it is no reason to end a term.
    async fn note(
        &mut self,
        what: &str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Loss> {
        let sent = Clock.now().monotonic;
        let client = &self.session.client;
        let listening = async {
            match client.execute(statement, parameters).await {
                // Nothing was written, and the session goes on.
                Err(error) if error.as_db_error().is_some() && !client.is_closed() => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "{what} cannot be noted in the tables");
                    Ok(())
                }
                noted => noted.map(drop),
            }
        };
        self.session.call(what, listening).await?;
        self.proved(sent);
        Ok(())
    }

    pub(super) async fn show_conditions(&mut self, rows: &[ConditionRow]) -> Result<(), Loss> {
        let kinds: Vec<&str> = rows.iter().map(|row| row.kind).collect();
        let reasons: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
        let since: Vec<SystemTime> = rows.iter().map(|row| system_time(row.since)).collect();
        let server_id = self.settings.server_id.clone();
        self.show(
            "conditions",
            SHOW_CONDITIONS,
            &[&kinds, &reasons, &since, &server_id],
        )
        .await
    }

    pub(super) async fn show_limits(&mut self, rows: &[LimitRow]) -> Result<(), Loss> {
        let column = |limit: fn(&LimitRow) -> Option<i64>| rows.iter().map(limit).collect();
        let channels: Vec<&str> = rows.iter().map(|row| row.channels.as_str()).collect();
        let limits: [Vec<Option<i64>>; 5] = [
            column(|row| row.subscriptions),
            column(|row| row.messages),
            column(|row| row.bytes),
            column(|row| row.age),
            column(|row| row.inactivity),
        ];
        let [subscriptions, messages, bytes, age, inactivity] = &limits;
        self.show(
            "limits",
            SHOW_LIMITS,
            &[&channels, subscriptions, messages, bytes, age, inactivity],
        )
        .await
    }

    /// For who looks at the tables.
    async fn show(
        &mut self,
        what: &str,
        statement: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Loss> {
        let sent = Clock.now().monotonic;
        let client = &self.session.client;
        let shown = async {
            match client.execute(statement, parameters).await {
                // Refused: nothing was written, and the session goes on. It is no reason to end a term.
                Err(error) if error.as_db_error().is_some() && !client.is_closed() => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "{what} cannot be noted in the tables");
                    Ok(())
                }
                shown => shown.map(drop),
            }
        };
        self.session.call("noting for the tables", shown).await?;
        self.proved(sent);
        Ok(())
    }

    /// The standby in the queue has the lock before this returns.
    async fn release(&mut self, end: End) -> String {
        let why = format!("the lock was given up: {}", end.detail);
        let (key, epoch) = (self.settings.lock_key(), self.term.epoch());
        // From here on somebody else may be active.
        let is_over = || self.term.finish(TermLost::new(EndKind::Own, why.clone()));
        match release(&self.session, key, epoch, &end, is_over).await {
            Ok(()) => why,
            Err(error) => format!("the lock was given up by closing the session: {error}"),
        }
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + time.since(Timestamp(0))
}
