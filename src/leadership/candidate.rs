//! A standby in the queue for the lock.
//!
//! It waits on the server, so that it is granted the lock the moment the holder's session ends, but in slices: a
//! session that waits without end would keep vacuum from cleaning up for as long as it waits.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::cause::Seen;
use super::checks::ensure_primary;
use super::error::Error;
use super::holder::{END_HOLDER, HOLDER, Holder, Watch};
use super::identity;
use super::leader::Granted;
use super::locks::slice;
use super::session::{APPLICATION_PREFIX, Session, Settings};
use super::takeover::{Circumstances, ReportHolder, Statements, restore_row, take_over};
use crate::clock::Clock;
use crate::core::database_identity::DatabaseIdentity;
use crate::core::ids::Epoch;
use crate::core::time::Instant;

/// A slice is at most this long, and never longer than the lease.
const SLICE_MAX: Duration = Duration::from_secs(5);

/// A slice that Postgres does not end within so much more than it is long has been lost to a wall clock that was set
/// back, by which Postgres counts, or to the network: a new session's slices count from zero.
const SLICE_LATE_MIN: Duration = Duration::from_secs(3);

/// What view `standbys` knows a standby by between two slices, too: the number of the lock among those of two parts.
const QUEUE: &str = "SELECT pg_try_advisory_lock_shared(
    ($1::bigint >> 32)::integer, (($1::bigint << 32) >> 32)::integer)";

/// Dropping it, at any point, leaves the queue: the session is closed, and with it goes the lock if it was granted
/// at that very moment.
#[derive(Debug)]
pub struct Candidate {
    session: Session,
    statements: Statements,
    identity: DatabaseIdentity,
    settings: Settings,
    tracker: TaskTracker,
    since: Instant,
    /// When the request was sent that the lock was granted to.
    granted: Option<Instant>,
    holder: Watch,
    has_warned: bool,
    seen: Seen,
}

impl Candidate {
    /// Opens the session that will hold the lock. `wait` must follow within the lease.
    pub async fn open(settings: &Settings, tracker: &TaskTracker) -> Result<Self, Error> {
        let session = Session::open(settings, tracker).await?;
        session.pin(settings).await?;
        ensure_primary(&session).await?;
        session.arm(settings).await?;
        restore_row(&session).await?;
        let identity = identity::read(&session, settings).await?;
        let statements = Statements::prepare(&session).await?;
        Ok(Self {
            session,
            statements,
            identity,
            settings: settings.clone(),
            tracker: tracker.clone(),
            since: Clock.now().monotonic,
            granted: None,
            holder: Watch::default(),
            has_warned: false,
            seen: Seen::default(),
        })
    }

    /// For what a term on this session will need: prepared before the wait, it costs the takeover nothing.
    pub fn client(&self) -> &Client {
        &self.session.client
    }

    /// Which tables the lock guards.
    pub fn identity(&self) -> &DatabaseIdentity {
        &self.identity
    }

    /// For the history: when the former active last announced itself, and how often it was to.
    /// `free_since`: when the lock was free before, for a takeover that failed.
    pub fn last_sign_at(
        &mut self,
        at: Option<Instant>,
        sign_every: Duration,
        free_since: Option<Instant>,
    ) {
        let granted = self.granted.unwrap_or_default();
        let changed = self.holder.changed();
        // What another active has sent since is of its own term.
        let free = |at: Instant| {
            let earlier = [free_since, changed].into_iter().flatten();
            let earlier = earlier.filter(|free| *free >= at);
            earlier.min().unwrap_or(granted)
        };
        self.seen.silence = at.map(|at| free(at).since(at));
        self.seen.sign_every = sign_every;
    }

    /// Returns when this session holds the lock. After an error or when the future was dropped, the candidate is of
    /// no use any more: the lock may be granted to a request that nobody waits for.
    pub async fn wait(&mut self) -> Result<(), Error> {
        let locks = slice(self.settings.lease);
        let slice = self.settings.lease.duration().min(SLICE_MAX);
        self.session.set_timeouts(Duration::ZERO, locks).await?;
        self.queue().await?;
        loop {
            let sent = Clock.now().monotonic;
            if self.wait_slice(slice).await? {
                self.granted = Some(sent);
                return Ok(());
            }
            self.look_at_holder(slice).await?;
        }
    }

    /// The first write of the term, on the session that holds the lock: it proves that the lock was granted by a primary.
    /// The term's number is higher than `epoch_known`, whatever the tables say: they may have forgotten the last ones. Locks of
    /// others are waited for, in slices, and `report` whose they are: another candidate would have to wait for them, too.
    pub async fn take_over(
        self,
        epoch_known: Epoch,
        report: ReportHolder<'_>,
    ) -> Result<Granted, Error> {
        let Some(granted) = self.granted else {
            return Err(Error::Unavailable("the lock was not waited for".to_owned()));
        };
        let circumstances = Circumstances {
            identity: self.identity,
            lock_wait: granted.since(self.since),
            epoch_known,
            seen: self.seen,
        };
        let (session, statements) = (&self.session, &self.statements);
        let begun = take_over(session, statements, &self.settings, circumstances, report);
        let begun = Box::pin(begun).await?;
        Ok(Granted::new(
            self.session,
            self.settings,
            self.tracker,
            begun,
        ))
    }

    async fn queue(&self) -> Result<(), Error> {
        let key = self.settings.lock_key();
        let client = &self.session.client;
        let queue = async { client.execute(QUEUE, &[&key]).await };
        self.session.call("queueing for the lock", queue).await?;
        Ok(())
    }

    async fn wait_slice(&self, slice: Duration) -> Result<bool, Error> {
        let key = self.settings.lock_key();
        let millis = i32::try_from(slice.as_millis()).unwrap_or(i32::MAX);
        let limit = slice + slice.max(SLICE_LATE_MIN);
        let client = &self.session.client;
        let wait = async {
            client
                .query_one_scalar("SELECT wait_for_lock($1, $2)", &[&key, &millis])
                .await
        };
        self.session
            .call_within(limit, "waiting for the lock", wait)
            .await
    }

    /// The second line, for a holder that Postgres' own timeouts do not end: one that stopped while it was sending or
    /// receiving, whose timeouts did not stick, or whose Postgres counts them by a wall clock that was set back.
    async fn look_at_holder(&mut self, every: Duration) -> Result<(), Error> {
        let client = &self.session.client;
        let key = self.settings.lock_key();
        let asked = async { client.query_opt(HOLDER, &[&key]).await };
        let found = self
            .session
            .call_unless_locked("looking at the holder", asked);
        // Who locks the table of the leadership keeps this server from looking, and from nothing else yet.
        let found = found.await?.flatten();
        let Some(holder) = found.as_ref().and_then(Holder::of) else {
            self.holder.forget();
            return Ok(());
        };
        if !holder.name.starts_with(APPLICATION_PREFIX) {
            if !self.has_warned {
                self.has_warned = true;
                tracing::warn!(
                    holder.name = holder.name,
                    holder.pid = holder.pid,
                    "the lock is held by a session that is not a server of ours, or of another role; \
                     end it, or give the servers one role, or roles with pg_read_all_stats and pg_signal_backend"
                );
            }
            return Ok(());
        }
        let (lease, now) = (self.settings.lease.duration(), Clock.now().monotonic);
        if !self.holder.is_frozen(&holder, lease, every, now) {
            return Ok(());
        }
        tracing::warn!(
            holder.name = holder.name,
            holder.pid = holder.pid,
            "the holder of the lock has been silent for more than two leases; its session is ended"
        );
        let end = async {
            client
                .execute(END_HOLDER, &[&holder.pid, &holder.started, &holder.name])
                .await
        };
        match self.session.call("ending the holder's session", end).await {
            Ok(_) => {
                self.seen.has_ended_holder = true;
                Ok(())
            }
            // Another role's session: its own timeouts have to do.
            Err(Error::Refused(why)) => {
                tracing::warn!(why, "the holder's session cannot be ended");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
