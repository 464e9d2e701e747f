//! The first write of a term: the epoch, who is active now, and whether this is still the database that the tables
//! were last written on.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Row, Statement};

use super::cause::{Cause, End, Seen};
use super::error::Error;
use super::history::{self, First, Unnoted, Written};
use super::locks::slice;
use super::session::{Session, Settings};
use crate::config::database::DatabaseError;
use crate::core::database_identity::DatabaseIdentity;
use crate::core::ids::Epoch;
use crate::core::time::Instant;
use crate::postgres::holders;

/// How a term began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    pub epoch: Epoch,
    pub identity: DatabaseIdentity,
    /// The last term that the tables knew of.
    pub last_epoch: Epoch,
    /// Server ID of the active before; `None` at the first start.
    pub previous: Option<String>,
    pub reason: Reason,
    /// Why the term before ended.
    pub end: End,
    pub lock_wait: Duration,
    /// From and to, when Postgres itself has failed over since the last term: what was acked then may be missing.
    pub timeline_advanced: Option<(i32, i32)>,
    /// The same, or a term before this one found it so and ended before it had committed anything.
    pub failed_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    FirstStart,
    /// The active before gave the lock up by itself.
    Released,
    /// Its session ended, for whatever reason.
    Lost,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstStart => "first start",
            Self::Released => "released by the previous active",
            Self::Lost => "session of the previous active ended",
        }
    }
}

/// On which Postgres the tables were last written. Not every platform reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Origin {
    system_identifier: Option<i64>,
    timeline: Option<i32>,
}

/// Prepared before the wait for the lock.
#[derive(Debug)]
pub(super) struct Statements {
    last: Statement,
    history: history::Statements,
}

impl Statements {
    pub(super) async fn prepare(session: &Session) -> Result<Self, Error> {
        let what = "preparing the takeover";
        Ok(Self {
            last: session.call(what, session.client.prepare(LAST)).await?,
            history: history::Statements::prepare(session).await?,
        })
    }

    /// `None` while somebody holds a lock on what a takeover reads.
    async fn read_last(&self, session: &Session) -> Result<Option<Row>, Error> {
        let read = session.client.query_opt(&self.last, &[]);
        let Some(row) = session
            .call_unless_locked("reading the last term", read)
            .await?
        else {
            return Ok(None);
        };
        row.map(Some).ok_or_else(|| {
            Error::Unavailable(
                "table leadership has no row: somebody deleted it; it is written again".to_owned(),
            )
        })
    }
}

/// Whether all that a term reads first can be read: a term that begins and then has to wait for it serves nobody.
async fn is_readable(session: &Session) -> Result<bool, Error> {
    let touch = holders::touch_all();
    let touched = async {
        match session.client.batch_execute(&touch).await {
            // What is missing is named by who needs it.
            Err(error)
                if error.as_db_error().is_some()
                    && error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) =>
            {
                Ok(())
            }
            touched => touched,
        }
    };
    let touched = session.call_unless_locked("looking for locks", touched);
    Ok(touched.await?.is_some())
}

/// What the first write of a term starts from.
pub(super) struct Circumstances {
    pub(super) identity: DatabaseIdentity,
    pub(super) lock_wait: Duration,
    pub(super) epoch_known: Epoch,
    pub(super) seen: Seen,
}

/// The first write of a term is done.
pub(super) struct Begun {
    pub(super) takeover: Takeover,
    /// What the history lacks of it.
    pub(super) unnoted: Option<Unnoted>,
    /// When that write was sent.
    pub(super) sent: Instant,
}

/// Called with whose lock it waits for, each time that it looks.
pub type ReportHolder<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Somebody holds a lock that this takeover needs, and whoever else became the candidate would wait for it, too. Returns after a
/// slice of time, which the statement that was tried has taken.
async fn tell_holder(
    session: &Session,
    tables: &[&str],
    report: ReportHolder<'_>,
) -> Result<(), Error> {
    let holder = match session.lock_holder(tables, false).await {
        Ok(holder) => holder,
        Err(error) if session.client.is_closed() => return Err(error),
        Err(_) => None,
    };
    report(holder.map_or_else(
        || {
            let (sentence, remedy) = holders::nobody("what it reads", "a takeover");
            format!("{sentence}; {remedy}")
        },
        |holder| holder.keeps_takeovers_out(),
    ));
    Ok(())
}

pub(super) async fn take_over(
    session: &Session,
    statements: &Statements,
    settings: &Settings,
    circumstances: Circumstances,
    report: ReportHolder<'_>,
) -> Result<Begun, Error> {
    let Circumstances {
        identity,
        lock_wait,
        epoch_known,
        seen,
    } = circumstances;
    let here = Origin {
        system_identifier: identity.system_identifier,
        timeline: identity.timeline,
    };
    let (last, before) = loop {
        // Together: clients wait for each message to Postgres. While it waited for the lock, statements had no limit.
        let (limited, last, before, is_readable) = tokio::join!(
            session.set_timeouts(settings.statement_timeout, slice(settings.lease)),
            statements.read_last(session),
            statements.history.read(session),
            is_readable(session),
        );
        limited?;
        if let (Some(last), true) = (last?, is_readable?) {
            break (last, before?);
        }
        tell_holder(session, &[], report).await?;
    };
    let (last_epoch, previous, was_released): (i64, Option<String>, bool) =
        (last.get(0), last.get(1), last.get(2));
    let then = Origin {
        system_identifier: last.get(3),
        timeline: last.get(4),
    };
    let timeline_advanced = compare(then, here).map_err(|why| {
        Error::Refused(format!(
            "Postgres at {}: {why}; if it is right nevertheless, say so with: UPDATE \"{}\".leadership \
             SET system_identifier = NULL, timeline = NULL",
            settings.url.address(),
            settings.schema
        ))
    })?;
    let last_end = last.get::<_, Option<String>>(5).zip(last.get(6));
    let end = match (&previous, was_released, last_end) {
        (None, _, _) => End::new(Cause::FirstStart, "no server had served from these tables"),
        (Some(_), true, Some((cause, detail))) => End { cause, detail },
        (Some(_), true, None) => End::new(Cause::Stopped, "its server gave the lock up"),
        (Some(_), false, _) => Seen {
            has_failed_over: timeline_advanced.is_some(),
            never_served: before.never_served,
            ..seen
        }
        .end(settings.lease.duration()),
    };
    let reason = match (&previous, was_released) {
        (None, _) => Reason::FirstStart,
        (Some(_), true) => Reason::Released,
        (Some(_), false) => Reason::Lost,
    };
    let first = First {
        last_epoch,
        epoch_known: epoch_known.0.cast_signed(),
        server_id: &settings.server_id,
        lease: settings.lease.duration(),
        lock_key: settings.lock_key(),
        system_identifier: here.system_identifier.or(then.system_identifier),
        timeline: here.timeline.or(then.timeline),
        timeline_advanced,
        previous: previous.as_deref(),
        reason,
        lock_wait,
        end: &end,
    };
    let Written {
        epoch,
        unnoted,
        sent,
    } = loop {
        let written = statements.history.write(session, &first).await;
        if let Some(written) = written? {
            break written;
        }
        // A trigger writes what is late of the channels first.
        tell_holder(session, &["leadership", "channels"], report).await?;
    };
    let Some(epoch) = epoch else {
        return Err(Error::Unavailable(
            "another session changed table leadership during the takeover, or a trigger or rule on it dropped the change"
                .to_owned(),
        ));
    };
    let takeover = Takeover {
        epoch: Epoch(epoch.cast_unsigned()),
        identity,
        last_epoch: Epoch(last_epoch.cast_unsigned()),
        previous,
        reason,
        end,
        lock_wait,
        timeline_advanced,
        failed_over: timeline_advanced.is_some() || before.failed_over,
    };
    Ok(Begun {
        takeover,
        unnoted,
        sent,
    })
}

const LAST: &str = "SELECT epoch, holder, released_at IS NOT NULL, system_identifier, timeline,
        CASE WHEN end_epoch = epoch THEN end_cause END, CASE WHEN end_epoch = epoch THEN end_detail END
    FROM leadership";

/// Writes the only row of the table again where somebody has deleted it, with the number of the last term that is known. To be
/// called before anything is read of it.
pub(super) async fn restore_row(session: &Session) -> Result<(), Error> {
    match session.client.execute_typed(RESTORE, &[]).await {
        Ok(0) => Ok(()),
        Ok(_) => {
            tracing::warn!(
                "table leadership had no row, which somebody must have deleted; it is written again from what the others \
                 say: leave that table to the servers"
            );
            Ok(())
        }
        // The next read of it says what is wrong; before the first start there is no such table.
        Err(error) if error.as_db_error().is_some() && !session.client.is_closed() => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "table leadership is left as it is"
            );
            Ok(())
        }
        Err(error) => Err(DatabaseError::of_session(&session.url, &error).into()),
    }
}

/// Numbers of terms never go back. Messages are looked at only where nothing else is left.
const RESTORE: &str = "INSERT INTO leadership (epoch)
    SELECT coalesce((SELECT max(epoch) FROM takeovers), (SELECT max(epoch) FROM messages), 0)
    WHERE NOT EXISTS (SELECT FROM leadership)
    ON CONFLICT DO NOTHING";

/// The tables belong to another Postgres than the one that the session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum WrongServer {
    #[error(
        "the tables were written on another Postgres cluster (system identifier {then}, here {here}): this is a restored copy or \
         the wrong server"
    )]
    OtherCluster { then: i64, here: i64 },
    #[error(
        "its timeline {here} is older than the {then} that the tables were last written on: this is the old primary"
    )]
    OldPrimary { then: i32, here: i32 },
}

/// The timelines from and to when Postgres has failed over.
fn compare(then: Origin, here: Origin) -> Result<Option<(i32, i32)>, WrongServer> {
    if let (Some(then), Some(here)) = (then.system_identifier, here.system_identifier)
        && then != here
    {
        return Err(WrongServer::OtherCluster { then, here });
    }
    match (then.timeline, here.timeline) {
        (Some(then), Some(here)) if here < then => Err(WrongServer::OldPrimary { then, here }),
        (Some(then), Some(here)) if here > then => Ok(Some((then, here))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(system_identifier: i64, timeline: i32) -> Origin {
        Origin {
            system_identifier: Some(system_identifier),
            timeline: Some(timeline),
        }
    }

    #[test]
    fn only_the_same_cluster_on_the_same_or_a_later_timeline_is_taken_over() {
        assert_eq!(compare(origin(7, 2), origin(7, 2)), Ok(None));
        assert_eq!(compare(origin(7, 2), origin(7, 4)), Ok(Some((2, 4))));
        let old = WrongServer::OldPrimary { then: 2, here: 1 };
        assert_eq!(compare(origin(7, 2), origin(7, 1)), Err(old));
        let other = WrongServer::OtherCluster { then: 7, here: 8 };
        assert_eq!(compare(origin(7, 2), origin(8, 2)), Err(other));
    }

    #[test]
    fn what_a_platform_does_not_tell_is_not_compared() {
        let silent = Origin::default();
        assert_eq!(compare(origin(7, 2), silent), Ok(None));
        assert_eq!(compare(silent, origin(7, 2)), Ok(None));
    }
}
