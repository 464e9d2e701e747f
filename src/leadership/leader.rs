//! The active's side: one task owns the leader session. It commits what it is handed, one batch at a time, and renews
//! the lease when there is nothing to commit. Anything unexpected ends the term; nothing is tried again.

use std::fmt::Display;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use tokio_util::task::TaskTracker;

use super::cause::{Cause, End};
use super::error::{Error, TermLost};
use super::session::{Session, Settings};
use super::step_down;
use super::takeover::Takeover;
use super::term::Term;
use crate::core::ids::Epoch;
use crate::core::refusal::Refusal;
use crate::core::time::{Instant, Timestamp};
use crate::node::clock::Clock;

/// What writes a batch. The store's writer is one; this module knows neither.
pub trait Apply: Send + 'static {
    type Batch: Send + Sync + 'static;
    type Error: Display + Send;

    /// Commits all of the batch or nothing, and has had an answer from the session when it returns `Ok`.
    fn apply(
        &mut self,
        client: &Client,
        batch: &Self::Batch,
        epoch: Epoch,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The same for a batch that may take longer than a lease to send: the term is told of every answer on the way.
    fn apply_in_pieces(
        &mut self,
        client: &Client,
        batch: &Self::Batch,
        term: &Term,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.apply(client, batch, term.epoch())
    }

    /// What a term that ends during a commit has learned of it, as the end of a sentence.
    fn lesson(&self) -> Option<String> {
        None
    }

    /// What Postgres will never store, when the error says so, and whether it is certain that nothing of the batch is in
    /// the tables. The term goes on only when it is.
    fn refusal(error: &Self::Error) -> Option<(&Refusal, bool)> {
        let _ = error;
        None
    }
}

/// Something short to be read on the leader session, between two commits: it has nothing else to read with. It bounds its
/// statements itself, and ends the transaction that it begins.
pub type Errand = Box<dyn for<'c> FnOnce(&'c Client) -> BoxFuture<'c, ()> + Send>;

/// Hands errands to the leader session, which takes them one at a time.
#[derive(Clone, Debug)]
pub struct Errands(mpsc::Sender<Errand>);

impl Errands {
    /// Waits until the session has taken it. An errand that is dropped instead was not done: the term has ended.
    pub async fn run(&self, errand: Errand) {
        // Whoever waits for what it brings sees that it is gone.
        drop(self.0.send(errand).await);
    }
}

/// All statements of an errand together may take so many times what one call may.
const ERRAND_CALLS: u32 = 6;

/// The core hands out one batch at a time; the rest is for the odd command beside it.
const COMMANDS_MAX: usize = 4;

/// Every so many renewals the lock itself is looked at, not only the session.
const RENEWALS_PER_LOCK_CHECK: u32 = 10;

/// A server that shuts down must not hang on a database that does not answer.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// A session that holds the lock and has recorded its term. The lease is not renewed before `start`.
#[derive(Debug)]
pub struct Granted {
    session: Session,
    settings: Settings,
    tracker: TaskTracker,
    term: Term,
    takeover: Takeover,
}

impl Granted {
    pub(super) fn new(
        session: Session,
        settings: Settings,
        tracker: TaskTracker,
        term: Term,
        takeover: Takeover,
    ) -> Self {
        Self {
            session,
            settings,
            tracker,
            term,
            takeover,
        }
    }

    /// For preparing what `start` is given, on the session that will use it.
    pub fn client(&self) -> &Client {
        &self.session.client
    }

    pub fn term(&self) -> &Term {
        &self.term
    }

    pub fn takeover(&self) -> &Takeover {
        &self.takeover
    }

    pub fn start<A: Apply>(self, apply: A) -> Leader<A::Batch> {
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let (reports, committed) = mpsc::channel(COMMANDS_MAX);
        let (errands, asked) = mpsc::channel(1);
        let task = Task {
            session: self.session,
            settings: self.settings,
            term: self.term.clone(),
            apply,
            requests,
            errands: asked,
            reports,
            renewals: 0,
        };
        self.tracker.spawn(task.run());
        Leader {
            term: self.term,
            takeover: self.takeover,
            commands,
            errands: Errands(errands),
            committed,
        }
    }
}

/// Dropping it ends the term at once, without a word to the database; `release` does it in order.
#[derive(Debug)]
pub struct Leader<B> {
    term: Term,
    takeover: Takeover,
    commands: mpsc::Sender<Command<B>>,
    errands: Errands,
    committed: mpsc::Receiver<Done<B>>,
}

#[derive(Debug)]
enum Command<B> {
    Commit(B),
    Record(Record),
    Refused(Refusal),
    Conditions(Vec<ConditionRow>),
    Release(End),
}

/// Something that is wrong with the active, for who looks at the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionRow {
    pub kind: &'static str,
    pub reason: String,
    pub since: Timestamp,
}

/// What is known of a takeover only later: what is `None` stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// From the lock to the restored state.
    pub load_time: Option<Duration>,
    /// From the lock to the first commit.
    pub first_ack: Option<Duration>,
    /// From the last sign of the active before to the first commit.
    pub silence: Option<Duration>,
    /// Requests that were heard as a standby and answered because nobody had.
    pub answered_from_memory: Option<u64>,
    /// Why the term before ended, as its active told in the meantime.
    pub end: Option<End>,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Done<B> {
    Committed(Committed<B>),
    /// Nothing of it is in the tables, nor will it ever be. The term goes on.
    Refused(Refusal),
}

/// A batch that is in the tables, and that nobody else was active before or while it was committed.
#[derive(Debug)]
pub struct Committed<B> {
    pub batch: B,
    pub took: Duration,
}

impl<B> Leader<B> {
    pub fn term(&self) -> &Term {
        &self.term
    }

    pub fn takeover(&self) -> &Takeover {
        &self.takeover
    }

    /// For reads that find no other way.
    pub fn errands(&self) -> Errands {
        self.errands.clone()
    }

    /// Hands in the next batch, after the last one was reported by `committed`.
    pub fn submit(&self, batch: B) -> Result<(), TermLost> {
        self.command(Command::Commit(batch))
    }

    /// What became of the next batch. May be dropped and called again.
    pub async fn done(&mut self) -> Result<Done<B>, TermLost> {
        match self.committed.recv().await {
            Some(done) => Ok(done),
            None => Err(self.term.lost().await),
        }
    }

    /// The next batch that is committed, for who cannot take one back. May be dropped and called again.
    pub async fn committed(&mut self) -> Result<Committed<B>, TermLost> {
        match self.done().await? {
            Done::Committed(committed) => Ok(committed),
            Done::Refused(refusal) => Err(TermLost(refusal.to_string())),
        }
    }

    /// Completes the history of takeovers with what is known only later.
    pub fn record(&self, record: Record) -> Result<(), TermLost> {
        self.command(Command::Record(record))
    }

    /// Tells people, and the next term, what cannot be stored. When there is no room beside what is to be committed, that
    /// it was so once more is not counted.
    pub fn note_refusal(&self, refusal: Refusal) {
        if self.commands.capacity() > 1 {
            self.command(Command::Refused(refusal)).ok();
        }
    }

    /// Replaces what the tables say is wrong with the active. False when there is no room beside what is to be
    /// committed: try again later.
    pub fn show_conditions(&self, conditions: Vec<ConditionRow>) -> Result<bool, TermLost> {
        if self.commands.capacity() < COMMANDS_MAX {
            return Ok(false);
        }
        self.command(Command::Conditions(conditions))?;
        Ok(true)
    }

    /// Gives the lock to the next standby, after what was submitted; waits until it is gone. Behind a commit that hangs
    /// it does not wait for long: that one's end is the end of the session.
    pub async fn release(self) {
        self.release_because(End::new(Cause::Stopped, "its server was told to end"))
            .await;
    }

    /// The same, with the reason.
    pub async fn release_because(mut self, end: End) {
        // When the queue is full or closed, dropping the handle does it less politely.
        if self.command(Command::Release(end)).is_ok() {
            // The task's end closes the channel, after the lock and the session are gone.
            let gone = async { while self.committed.recv().await.is_some() {} };
            if timeout(RELEASE_LIMIT, gone).await.is_err() {
                tracing::warn!(
                    "Postgres does not answer: the lock is given up as soon as it has ended the commit under way, or \
                     found out that this server has gone"
                );
            }
        }
    }

    fn command(&self, command: Command<B>) -> Result<(), TermLost> {
        self.commands
            .try_send(command)
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => {
                    TermLost("more was submitted than can be committed at once".to_owned())
                }
                mpsc::error::TrySendError::Closed(_) => {
                    TermLost("the leader session is closed".to_owned())
                }
            })
    }
}

struct Task<A: Apply> {
    session: Session,
    settings: Settings,
    term: Term,
    apply: A,
    requests: mpsc::Receiver<Command<A::Batch>>,
    errands: mpsc::Receiver<Errand>,
    reports: mpsc::Sender<Done<A::Batch>>,
    renewals: u32,
}

/// A task that panics ends its term like any other, before its session is closed: the active would wait for the end of the
/// term for ever.
struct Ended(Term);

impl Drop for Ended {
    fn drop(&mut self) {
        // Whoever ended in order has given a reason before.
        let reason = "the task of the leader session panicked";
        self.0.finish(TermLost(reason.to_owned()));
    }
}

impl<A: Apply> Task<A> {
    async fn run(mut self) {
        let _ended = Ended(self.term.clone());
        let reason = match self.serve().await {
            Ok(end) => self.release(end).await,
            Err(reason) => reason,
        };
        // Nobody may act any more before the lock can be somebody else's.
        self.term.finish(TermLost(reason));
        drop(self.session);
        drop(self.reports);
    }

    /// Returns when the lock is to be given up, and with a reason when it is lost.
    async fn serve(&mut self) -> Result<End, String> {
        // Preparing may have taken a while.
        self.renew().await?;
        let secret = self.listen().await?;
        loop {
            // Each turn asks Postgres something, so each begins a new wait.
            tokio::select! {
                biased;
                () = self.session.closed() => return Err(self.session.why_closed()),
                command = self.requests.recv() => match command {
                    Some(Command::Commit(batch)) => self.commit(batch).await?,
                    Some(Command::Record(record)) => self.record(&record).await?,
                    Some(Command::Refused(refusal)) => self.note_refusal(&refusal).await?,
                    Some(Command::Conditions(rows)) => self.show_conditions(&rows).await?,
                    Some(Command::Release(end)) => return Ok(end),
                    None => return Err("the server gave it up".to_owned()),
                },
                Some(errand) = self.errands.recv() => self.run_errand(errand).await?,
                Some(payload) = self.session.notified.recv() => {
                    let (key, epoch) = (self.settings.lock_key(), self.term.epoch());
                    if step_down::is_request(&payload, key, epoch, &secret) {
                        self.term.ask_to_end();
                    }
                    self.renew().await?;
                }
                () = sleep(self.settings.lease.renew_every()) => {
                    if let Some(silence) = self.term.stuck(Clock.now().monotonic) {
                        let millis = silence.as_millis();
                        let why = format!(
                            "the active has not gone round for {millis} ms, something holds it up"
                        );
                        return Ok(End::new(Cause::Stuck, why));
                    }
                    self.renew().await?;
                }
            }
        }
    }

    /// To those who ask the active to step down; what they have to know.
    async fn listen(&mut self) -> Result<Vec<u8>, String> {
        let listen = step_down::listen(self.settings.lock_key());
        let client = &self.session.client;
        let heard = async {
            client.batch_execute(&listen).await?;
            client.query_one_scalar(step_down::SECRET, &[]).await
        };
        let what = "listening for requests to step down";
        let heard = self.session.call(what, heard).await;
        heard.map_err(|error| error.to_string())
    }

    async fn commit(&mut self, batch: A::Batch) -> Result<(), String> {
        let sent = Clock.now().monotonic;
        let limit = self.settings.call_limit() * 2;
        let applied = {
            let client = &self.session.client;
            let mut applied = pin!(self.apply.apply_in_pieces(client, &batch, &self.term));
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
            Ok(Ok(())) => self.proved(sent),
            Ok(Err(_)) if self.session.client.is_closed() => {
                self.session.closed().await;
                let lesson = self.apply.lesson().unwrap_or_default();
                let why = self.session.why_closed();
                return Err(format!("during a commit{lesson}: {why}"));
            }
            Ok(Err(error)) => match A::refusal(&error) {
                Some((refusal, true)) => {
                    self.proved(sent);
                    return self.report(Done::Refused(refusal.clone()));
                }
                Some((refusal, false)) => {
                    // The next term will take care.
                    self.note_refusal(refusal).await?;
                    return Err(format!("a commit failed: {error}"));
                }
                None => return Err(format!("a commit failed: {error}")),
            },
            Err(_) => return Err(format!("a commit took longer than {limit:?}")),
        }
        let done = Clock.now().monotonic;
        if !self.term.is_trusted(done) {
            // It is in the tables, but its answer came too late to prove that nobody else is active by now.
            self.renew().await?;
        }
        self.report(Done::Committed(Committed {
            batch,
            took: done.since(sent),
        }))
    }

    /// Only `Leader` receives, and it submits no more than fits.
    fn report(&self, done: Done<A::Batch>) -> Result<(), String> {
        self.reports
            .try_send(done)
            .map_err(|_| "nobody waits for commits".to_owned())
    }

    async fn run_errand(&mut self, errand: Errand) -> Result<(), String> {
        let sent = Clock.now().monotonic;
        let limit = self.settings.call_limit() * ERRAND_CALLS;
        if timeout(limit, errand(&self.session.client)).await.is_err() {
            return Err(format!(
                "a read on the leader session took longer than {limit:?}"
            ));
        }
        if self.session.client.is_closed() {
            self.session.closed().await;
            return Err(format!("during a read: {}", self.session.why_closed()));
        }
        self.proved(sent);
        Ok(())
    }

    /// The session answered to what was sent at `sent`.
    fn proved(&self, sent: Instant) {
        if let Some(unproved) = self.term.extend(sent, Clock.now().monotonic) {
            tracing::warn!(
                unproved_ms = unproved.as_millis(),
                lease_ms = self.settings.lease.duration().as_millis(),
                "Postgres proved the lock only after more than half a lease; when it takes a whole one, the \
                 term is lost: is this machine, the network or Postgres overloaded?"
            );
        }
    }

    async fn renew(&mut self) -> Result<(), String> {
        let sent = Clock.now().monotonic;
        let key = self.settings.lock_key();
        let looks_at_lock = self.renewals.is_multiple_of(RENEWALS_PER_LOCK_CHECK);
        self.renewals = self.renewals.wrapping_add(1);
        let client = &self.session.client;
        let limit = self.settings.lease.duration();
        let renewal = async {
            if looks_at_lock {
                client
                    .query_one_scalar(HOLDS_LOCK, &[&key, &self.session.backend_pid])
                    .await
            } else {
                client
                    .query_one_scalar(IS_SAME, &[&self.session.backend_pid])
                    .await
            }
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
            Ok(false) => Err(
                "the session no longer holds the lock; is there a pooler between the \
                              server and Postgres?"
                    .to_owned(),
            ),
            Err(Error::Unavailable(why) | Error::Refused(why)) => {
                Err(format!("a renewal failed: {why}"))
            }
        }
    }

    async fn record(&mut self, record: &Record) -> Result<(), String> {
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

    async fn note_refusal(&mut self, refusal: &Refusal) -> Result<(), String> {
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
    ) -> Result<(), String> {
        let sent = Clock.now().monotonic;
        let client = &self.session.client;
        let noted = async {
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
        let noted = self.session.call(what, noted).await;
        noted.map_err(|error| error.to_string())?;
        self.proved(sent);
        Ok(())
    }

    async fn show_conditions(&mut self, rows: &[ConditionRow]) -> Result<(), String> {
        let sent = Clock.now().monotonic;
        let kinds: Vec<&str> = rows.iter().map(|row| row.kind).collect();
        let reasons: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
        let since: Vec<SystemTime> = rows.iter().map(|row| system_time(row.since)).collect();
        let client = &self.session.client;
        let server_id = &self.settings.server_id;
        let shown = async {
            let shown = client
                .execute(SHOW_CONDITIONS, &[&kinds, &reasons, &since, server_id])
                .await;
            match shown {
                // Refused: nothing was written, and the session goes on. It is no reason to end a term.
                Err(error) if error.as_db_error().is_some() && !client.is_closed() => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "conditions cannot be noted in the tables");
                    Ok(())
                }
                shown => shown.map(drop),
            }
        };
        let shown = self.session.call("noting conditions", shown).await;
        shown.map_err(|error| error.to_string())?;
        self.proved(sent);
        Ok(())
    }

    /// The standby in the queue has the lock before this returns.
    async fn release(&mut self, end: End) -> String {
        let client = &self.session.client;
        let key = self.settings.lock_key();
        let epoch = self.term.epoch().0.cast_signed();
        let why = format!("the lock was given up: {}", end.detail);
        let term = &self.term;
        let release = async {
            client
                .execute(RELEASE, &[&epoch, &end.cause, &end.detail])
                .await?;
            // From here on somebody else may be active.
            term.finish(TermLost(why.clone()));
            client
                .query_one("SELECT pg_advisory_unlock($1)", &[&key])
                .await
        };
        match self
            .session
            .call_within(RELEASE_LIMIT, "giving up the lock", release)
            .await
        {
            Ok(_) => why,
            Err(error) => format!("the lock was given up by closing the session: {error}"),
        }
    }
}

const IS_SAME: &str = "SELECT pg_backend_pid() = $1";

const HOLDS_LOCK: &str = "SELECT pg_backend_pid() = $2 AND EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid = $2
            AND classid::bigint = ($1::bigint >> 32) & 4294967295
            AND objid::bigint = $1::bigint & 4294967295)";

const COMPLETE: &str = "UPDATE takeovers SET
        load_time = coalesce(make_interval(secs => $2::float8), load_time),
        first_ack = coalesce(make_interval(secs => $3::float8), first_ack),
        silence = coalesce(make_interval(secs => $4::float8), silence),
        answered_from_memory = coalesce($5, answered_from_memory),
        cause = coalesce($6, cause), detail = coalesce($7, detail)
    WHERE epoch = $1";

const NOTE_REFUSAL: &str = "WITH forgotten AS (
        DELETE FROM refused_writes WHERE last_at < clock_timestamp() - interval '30 days'
    )
    INSERT INTO refused_writes (place, sqlstate, rule, reason, remedy, server_id, requests)
    VALUES ($1, $2, $3, $4, $5, $6, 1)
    ON CONFLICT (place, sqlstate, rule) DO UPDATE SET
        reason = EXCLUDED.reason, remedy = EXCLUDED.remedy, server_id = EXCLUDED.server_id,
        requests = refused_writes.requests + 1, last_at = EXCLUDED.last_at";

const SHOW_CONDITIONS: &str = "WITH passed AS (
        DELETE FROM conditions WHERE kind <> ALL ($1)
    )
    INSERT INTO conditions (kind, reason, since, server_id)
    SELECT kind, reason, since, $4 FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS now (kind, reason, since)
    ON CONFLICT (kind) DO UPDATE SET
        reason = EXCLUDED.reason, since = EXCLUDED.since, server_id = EXCLUDED.server_id";

fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + time.since(Timestamp(0))
}

const RELEASE: &str = "UPDATE leadership SET released_at = clock_timestamp(), end_epoch = $1, end_cause = $2, end_detail = $3
    WHERE epoch = $1";
