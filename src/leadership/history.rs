//! The table `takeovers`: what became of terms, for people and for the next term. It is written with the first write of a term
//! where that goes, and no term is lost for it: whoever locks it, or adds a trigger, rule or policy that fails, takes the history away
//! and not the service.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::cause::End;
use super::error::Error;
use super::leader::Apply;
use super::leader_task::Task;
use super::loss::Loss;
use super::session::Session;
use super::takeover::Reason;
use crate::clock::Clock;
use crate::config::database::DatabaseError;
use crate::core::ids::Epoch;
use crate::core::refusal;
use crate::core::time::Instant;
use crate::postgres::room;

/// What is known of the terms before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// A failover of Postgres is dealt with when a term that knew of it has committed its first batch.
    pub(super) failed_over: bool,
    /// The last term ended before it served.
    pub(super) never_served: bool,
}

/// Where it cannot be read, a failover may have gone without notice.
const UNKNOWN: Before = Before {
    failed_over: true,
    never_served: false,
};

const BEFORE: &str = "SELECT EXISTS (
            SELECT FROM takeovers t
            WHERE t.timeline_after IS NOT NULL AND NOT EXISTS (
                SELECT FROM takeovers done WHERE done.epoch >= t.epoch AND done.first_ack IS NOT NULL
            )
        ),
        EXISTS (SELECT FROM takeovers t JOIN leadership l USING (epoch)
            WHERE t.load_time IS NULL AND t.first_ack IS NULL AND l.released_at IS NULL)";

/// One statement, so that no half of it is ever there.
const RECORD: &str = "WITH term AS (
        UPDATE leadership
        SET epoch = greatest(epoch, $12, (SELECT max(epoch) FROM takeovers)) + 1, holder = $2, host = $3, pid = $4,
            since = clock_timestamp(), lease_ms = $5, lock_key = $6, backend_pid = pg_backend_pid(),
            system_identifier = $7, timeline = $8, released_at = NULL
        WHERE epoch = $1
        RETURNING epoch
    ), forgotten AS (
        DELETE FROM takeovers WHERE epoch <= $1 - 1000
    ), noted AS (
        INSERT INTO takeovers
            (epoch, from_holder, to_holder, reason, lock_wait, timeline_before, timeline_after, cause, detail)
        SELECT epoch, $9, $2, $10, make_interval(secs => $11), $13::int4, $14::int4, $15, $16 FROM term
        RETURNING epoch
    )
    SELECT epoch, EXISTS (SELECT FROM noted) FROM term";

/// The same without the history. The timeline stays as it was: that Postgres has failed over is found again by the next term.
const ALONE: &str = "UPDATE leadership
    SET epoch = greatest(epoch, $7) + 1, holder = $2, host = $3, pid = $4,
        since = clock_timestamp(), lease_ms = $5, lock_key = $6, backend_pid = pg_backend_pid(), released_at = NULL
    WHERE epoch = $1
    RETURNING epoch";

/// A row that could not be written with the first write of its term.
const NOTE: &str =
    "INSERT INTO takeovers (epoch, from_holder, to_holder, reason, lock_wait, cause, detail, at)
    SELECT $1, $2, $3, $4, make_interval(secs => $5), $6, $7, since FROM leadership
    ON CONFLICT DO NOTHING";

/// Prepared before the wait for the lock.
#[derive(Debug)]
pub(super) struct Statements {
    before: Statement,
    record: Statement,
    alone: Statement,
}

/// What the first write of a term says.
#[derive(Debug)]
pub(super) struct First<'a> {
    pub(super) last_epoch: i64,
    pub(super) epoch_known: i64,
    pub(super) server_id: &'a str,
    pub(super) lease: Duration,
    pub(super) lock_key: i64,
    pub(super) system_identifier: Option<i64>,
    pub(super) timeline: Option<i32>,
    pub(super) timeline_advanced: Option<(i32, i32)>,
    pub(super) previous: Option<&'a str>,
    pub(super) reason: Reason,
    pub(super) lock_wait: Duration,
    pub(super) end: &'a End,
}

/// The first write of a term is done.
#[derive(Debug)]
pub(super) struct Written {
    /// `None`: somebody else has changed the row of leadership.
    pub(super) epoch: Option<i64>,
    pub(super) unnoted: Option<Unnoted>,
    /// When the statement was sent.
    pub(super) sent: Instant,
}

/// What the history lacks of this term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unnoted {
    previous: Option<String>,
    server_id: String,
    reason: Reason,
    lock_wait: Duration,
    end: End,
    pub(super) why: Why,
}

/// Why a row is not there, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    text: String,
    /// It is not about the table, and the text says what is to be done.
    is_out_of_room: bool,
}

/// What Postgres answers to a statement that need not go.
type Tried<T> = Result<T, Why>;

impl Statements {
    pub(super) async fn prepare(session: &Session) -> Result<Self, Error> {
        let prepare =
            |statement| session.call("preparing the takeover", prepare(session, statement));
        Ok(Self {
            before: prepare(BEFORE).await?,
            record: prepare(RECORD).await?,
            alone: prepare(ALONE).await?,
        })
    }

    /// Never fails for what is wrong with the table.
    pub(super) async fn read(&self, session: &Session) -> Result<Before, Error> {
        let read = session.client.query_one(&self.before, &[]);
        let read = tried(session, read);
        match session
            .call("reading the history of takeovers", read)
            .await?
        {
            Ok(row) => Ok(Before {
                failed_over: row.get(0),
                never_served: row.get(1),
            }),
            Err(Why { text: why, .. }) => {
                tracing::warn!(why, "the history of takeovers cannot be read");
                Ok(UNKNOWN)
            }
        }
    }

    /// `None` while somebody holds a lock on the row of leadership, or on its table.
    pub(super) async fn write(
        &self,
        session: &Session,
        first: &First<'_>,
    ) -> Result<Option<Written>, Error> {
        let what = "recording the takeover";
        let sent = Clock.now().monotonic;
        let whole = tried(session, self.write_whole(session, first));
        let why = match session.call(what, whole).await? {
            Ok(row) => {
                let epoch = row.as_ref().map(|row| row.get(0));
                let is_noted = row.is_none_or(|row| row.get(1));
                let unnoted = (!is_noted).then(|| {
                    first.unnoted(Why {
                        text: "a trigger or rule drops it".to_owned(),
                        is_out_of_room: false,
                    })
                });
                return Ok(Some(Written {
                    epoch,
                    unnoted,
                    sent,
                }));
            }
            Err(why) => why,
        };
        let sent = Clock.now().monotonic;
        let alone = async {
            match self.write_alone(session, first).await {
                Err(error) if is_refusal(&error) => {
                    Ok(Err(DatabaseError::of_session(&session.url, &error).text))
                }
                answered => answered.map(Ok),
            }
        };
        let row = match session.call_unless_locked(what, alone).await? {
            Some(Ok(row)) => row,
            Some(Err(why)) => {
                return Err(Error::Refused(format!(
                    "{why}; without its row of table leadership no server becomes active: look for triggers, rules, policies and \
                     constraints on it and on channels, and for rights that were revoked (stanby doctor names them)"
                )));
            }
            None => return Ok(None),
        };
        Ok(Some(Written {
            epoch: row.map(|row| row.get(0)),
            unnoted: Some(first.unnoted(why)),
            sent,
        }))
    }

    async fn write_whole(
        &self,
        session: &Session,
        first: &First<'_>,
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        let parameters: [&(dyn ToSql + Sync); 16] = [
            &first.last_epoch,
            &first.server_id,
            &host(),
            &pid(),
            &millis(first.lease),
            &first.lock_key,
            &first.system_identifier,
            &first.timeline,
            &first.previous,
            &first.reason.as_str(),
            &first.lock_wait.as_secs_f64(),
            &first.epoch_known,
            &first.timeline_advanced.map(|(before, _)| before),
            &first.timeline_advanced.map(|(_, after)| after),
            &first.end.cause,
            &first.end.detail,
        ];
        session.client.query_opt(&self.record, &parameters).await
    }

    async fn write_alone(
        &self,
        session: &Session,
        first: &First<'_>,
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &first.last_epoch,
            &first.server_id,
            &host(),
            &pid(),
            &millis(first.lease),
            &first.lock_key,
            &first.epoch_known,
        ];
        session.client.query_opt(&self.alone, &parameters).await
    }
}

async fn prepare(
    session: &Session,
    statement: &'static str,
) -> Result<Statement, tokio_postgres::Error> {
    session.client.prepare(statement).await
}

/// What Postgres refuses is a sentence, where the session goes on.
async fn tried<T>(
    session: &Session,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<Tried<T>, tokio_postgres::Error> {
    match call.await {
        Err(error) if error.as_db_error().is_some() && !session.client.is_closed() => {
            Ok(Err(Why {
                text: DatabaseError::of_session(&session.url, &error).text,
                is_out_of_room: error.as_db_error().is_some_and(room::is_out),
            }))
        }
        answered => answered.map(Ok),
    }
}

/// Whether it is the same the next time, until somebody changes something.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_some_and(|code| !refusal::passes(code.code()))
}

fn host() -> String {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    host.unwrap_or_default()
}

fn pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or_default()
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

impl First<'_> {
    fn unnoted(&self, why: Why) -> Unnoted {
        Unnoted {
            previous: self.previous.map(str::to_owned),
            server_id: self.server_id.to_owned(),
            reason: self.reason,
            lock_wait: self.lock_wait,
            end: self.end.clone(),
            why,
        }
    }
}

impl Unnoted {
    /// For people, with the remedy.
    pub(super) fn sentence(&self, epoch: Epoch) -> String {
        let remedy = if self.why.is_out_of_room {
            "it is tried again"
        } else {
            "look for triggers, rules, policies, constraints and locks on table takeovers, and for rights that were revoked \
             (stanby doctor names them)"
        };
        format!(
            "table takeovers does not take the row of term {epoch}, which is served all the same: {}; {remedy}",
            self.why.text
        )
    }
}

impl<A: Apply> Task<A> {
    /// Tries again what the history lacks of this term. For people and the next term: that it does not go ends no term.
    pub(super) async fn complete_history(&mut self) -> Result<(), Loss> {
        let Some(row) = &mut self.unnoted else {
            return Ok(());
        };
        let sent = Clock.now().monotonic;
        let epoch = self.term.epoch();
        let number = epoch.0.cast_signed();
        let (reason, lock_wait) = (row.reason.as_str(), row.lock_wait.as_secs_f64());
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &number,
            &row.previous,
            &row.server_id,
            &reason,
            &lock_wait,
            &row.end.cause,
            &row.end.detail,
        ];
        let noted = self.session.client.execute(NOTE, &parameters);
        let noted = tried(&self.session, noted);
        match self.session.call("completing the history", noted).await? {
            Ok(1..) => self.unnoted = None,
            Ok(0) => {}
            Err(why) => row.why = why,
        }
        let lacks = self.unnoted.as_ref().map(|row| row.sentence(epoch));
        self.term.history_lacks(lacks);
        self.proved(sent);
        Ok(())
    }
}
