//! The active's side: one task owns the leader session. It commits what it is handed, one batch at a time, and renews
//! the lease when there is nothing to commit. Anything unexpected ends the term; nothing is tried again.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::cause::{Cause, End};
use super::error::TermLost;
use super::history::Unnoted;
use super::leader_task::Task;
use super::locks::InTheWay;
use super::recorded::release;
use super::session::{Session, Settings};
use super::session_read::SessionReads;
use super::takeover::{Begun, Takeover};
use super::term::Term;
use crate::core::attempts::EndKind;
use crate::core::ids::Epoch;
use crate::core::refusal::Refusal;
use crate::core::time::{Instant, Timestamp};

/// What writes a batch. The store's writer is one; this module knows neither.
pub trait Apply: Send + 'static {
    type Batch: Send + Sync + 'static;
    type Error: std::error::Error + Send + Sync + 'static;

    /// Commits all of the batch or nothing, and has had an answer from the session when it returns `Ok`.
    fn apply(
        &mut self,
        client: &Client,
        batch: &Self::Batch,
        epoch: Epoch,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The same for a batch that may take longer than a lease to send: the term learns of every answer on the way.
    fn apply_in_pieces(
        &mut self,
        client: &Client,
        batch: &Self::Batch,
        term: &Term,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.apply(client, batch, term.epoch())
    }

    /// When `catch_up` is to be called: what batches have left for later is due then.
    fn catch_up_due(&self) -> Option<Instant> {
        None
    }

    /// Writes a part of that, beside the batches. What is refused is tried again later.
    fn catch_up(
        &mut self,
        client: &Client,
        epoch: Epoch,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (client, epoch);
        async { Ok(()) }
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

    /// Whether the next commit would fail for the same cause.
    fn kind(error: &Self::Error) -> EndKind {
        let _ = error;
        EndKind::WriteRefused
    }
}

/// The core hands out one batch at a time; the rest is for the odd command beside it.
const COMMANDS_MAX: usize = 4;

/// A server that shuts down must not hang on a database that does not answer.
pub(super) const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// A session that holds the lock and has recorded its term. The lease is not renewed before `start`.
#[derive(Debug)]
pub struct Granted {
    session: Session,
    settings: Settings,
    tracker: TaskTracker,
    term: Term,
    takeover: Takeover,
    unnoted: Option<Unnoted>,
}

impl Granted {
    pub(super) fn new(
        session: Session,
        settings: Settings,
        tracker: TaskTracker,
        begun: Begun,
    ) -> Self {
        let Begun {
            takeover,
            unnoted,
            sent,
        } = begun;
        let term = Term::new(takeover.epoch, settings.lease, sent);
        let lacks = unnoted.as_ref().map(|row| row.sentence(term.epoch()));
        term.history_lacks(lacks);
        Self {
            session,
            settings,
            tracker,
            term,
            takeover,
            unnoted,
        }
    }

    /// Gives the lock up before the term serves, and records why.
    pub async fn give_up(self, end: End) {
        let (key, epoch) = (self.settings.lock_key(), self.term.epoch());
        if let Err(error) = release(&self.session, key, epoch, &end, || ()).await {
            tracing::debug!(%error, "the lock is given up by closing the session");
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
        let (session_reads, asked) = mpsc::channel(1);
        let task = Task {
            session: self.session,
            settings: self.settings,
            term: self.term.clone(),
            apply,
            requests,
            session_reads: asked,
            reports,
            renewals: 0,
            in_the_way: InTheWay::default(),
            unnoted: self.unnoted,
            is_behind: false,
        };
        self.tracker.spawn(task.run());
        Leader {
            term: self.term,
            takeover: self.takeover,
            commands,
            session_reads: SessionReads::new(session_reads),
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
    session_reads: SessionReads,
    committed: mpsc::Receiver<Done<B>>,
}

#[derive(Debug)]
pub(super) enum Command<B> {
    Commit(B),
    Record(Record),
    Refused(Refusal),
    Conditions(Vec<ConditionRow>),
    Limits(Vec<LimitRow>),
    Release(End),
}

/// Something that is wrong with the active, for who looks at the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionRow {
    pub kind: &'static str,
    pub reason: String,
    pub since: Timestamp,
}

/// Limits of channels that the configuration says, for who looks at the tables; `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRow {
    /// A name, or a pattern.
    pub channels: String,
    pub subscriptions: Option<i64>,
    pub messages: Option<i64>,
    pub bytes: Option<i64>,
    /// In nanoseconds.
    pub age: Option<i64>,
    pub inactivity: Option<i64>,
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
    /// Requests that were received as a standby and answered because nobody had.
    pub answered_from_memory: Option<u64>,
    /// Why the term before ended, as its active recorded in the meantime.
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
    pub sent: Instant,
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
    pub fn session_reads(&self) -> SessionReads {
        self.session_reads.clone()
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
            Done::Refused(refusal) => {
                Err(TermLost::new(EndKind::WriteRefused, refusal.to_string()))
            }
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

    /// Replaces what the tables say of configured limits, from the widest to the narrowest. False as above.
    pub fn show_limits(&self, limits: Vec<LimitRow>) -> Result<bool, TermLost> {
        if self.commands.capacity() < COMMANDS_MAX {
            return Ok(false);
        }
        self.command(Command::Limits(limits))?;
        Ok(true)
    }

    /// Gives the lock to the next standby, after what was submitted; waits until it is gone. Behind a commit that hangs
    /// it does not wait for long: that one's end is the end of the session.
    pub async fn release(self) {
        self.release_because(End::new(Cause::Stopped, "its server was asked to stop"))
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
                    let why = "more was submitted than can be committed at once";
                    TermLost::new(EndKind::Own, why)
                }
                mpsc::error::TrySendError::Closed(_) => {
                    TermLost::new(EndKind::DatabaseLost, "the leader session is closed")
                }
            })
    }
}
