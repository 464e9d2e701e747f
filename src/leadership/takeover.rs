//! The first write of a term: the epoch, who is active now, and whether this is still the database that the tables
//! were last written on.

use std::time::Duration;

use tokio_postgres::{Row, Statement};

use super::cause::{Cause, End, Seen};
use super::error::Error;
use super::session::{Session, Settings};
use crate::config::database::DatabaseError;
use crate::core::database_identity::DatabaseIdentity;
use crate::core::ids::Epoch;

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
    record: Statement,
}

impl Statements {
    pub(super) async fn prepare(session: &Session) -> Result<Self, Error> {
        let what = "preparing the takeover";
        Ok(Self {
            last: session.call(what, session.client.prepare(LAST)).await?,
            record: session.call(what, session.client.prepare(RECORD)).await?,
        })
    }

    async fn read_last(&self, session: &Session) -> Result<Row, Error> {
        let read = session.client.query_opt(&self.last, &[]);
        let row = session.call("reading the last term", read).await?;
        row.ok_or_else(|| {
            Error::Unavailable(
                "table leadership has no row: somebody deleted it; it is written again".to_owned(),
            )
        })
    }
}

pub(super) async fn take_over(
    session: &Session,
    statements: &Statements,
    settings: &Settings,
    identity: DatabaseIdentity,
    lock_wait: Duration,
    epoch_known: Epoch,
    seen: Seen,
) -> Result<Takeover, Error> {
    let here = Origin {
        system_identifier: identity.system_identifier,
        timeline: identity.timeline,
    };
    // Together: clients wait for each message to Postgres. While it waited for the lock, statements had no limit.
    let (limited, last) = tokio::join!(
        session.set_statement_timeout(settings.statement_timeout),
        statements.read_last(session),
    );
    limited?;
    let last = last?;
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
    let last_end = last.get::<_, Option<String>>(6).zip(last.get(7));
    let end = match (&previous, was_released, last_end) {
        (None, _, _) => End::new(Cause::FirstStart, "no server had served from these tables"),
        (Some(_), true, Some((cause, detail))) => End { cause, detail },
        (Some(_), true, None) => End::new(Cause::Stopped, "its server gave the lock up"),
        (Some(_), false, _) => Seen {
            has_failed_over: timeline_advanced.is_some(),
            ..seen
        }
        .end(settings.lease.duration()),
    };
    let reason = match (&previous, was_released) {
        (None, _) => Reason::FirstStart,
        (Some(_), true) => Reason::Released,
        (Some(_), false) => Reason::Lost,
    };
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let recorded = session
        .call(
            "recording the takeover",
            session.client.query_opt_scalar(
                &statements.record,
                &[
                    &last_epoch,
                    &settings.server_id,
                    &host.unwrap_or_default(),
                    &i32::try_from(std::process::id()).unwrap_or_default(),
                    &i32::try_from(settings.lease.duration().as_millis()).unwrap_or(i32::MAX),
                    &settings.lock_key(),
                    &here.system_identifier.or(then.system_identifier),
                    &here.timeline.or(then.timeline),
                    &previous,
                    &reason.as_str(),
                    &lock_wait.as_secs_f64(),
                    &epoch_known.0.cast_signed(),
                    &timeline_advanced.map(|(before, _)| before),
                    &timeline_advanced.map(|(_, after)| after),
                    &end.cause,
                    &end.detail,
                ],
            ),
        )
        .await;
    let Some(epoch): Option<i64> = recorded? else {
        return Err(Error::Unavailable(
            "another session changed table leadership during the takeover".to_owned(),
        ));
    };
    Ok(Takeover {
        epoch: Epoch(epoch.cast_unsigned()),
        identity,
        last_epoch: Epoch(last_epoch.cast_unsigned()),
        previous,
        reason,
        end,
        lock_wait,
        timeline_advanced,
        failed_over: timeline_advanced.is_some() || last.get::<_, bool>(5),
    })
}

/// A failover of Postgres is dealt with when a term that knew of it has committed its first batch.
const LAST: &str =
    "SELECT epoch, holder, released_at IS NOT NULL, system_identifier, timeline,
        EXISTS (
            SELECT FROM takeovers t
            WHERE t.timeline_after IS NOT NULL AND NOT EXISTS (
                SELECT FROM takeovers done WHERE done.epoch >= t.epoch AND done.first_ack IS NOT NULL
            )
        ),
        CASE WHEN end_epoch = epoch THEN end_cause END, CASE WHEN end_epoch = epoch THEN end_detail END
    FROM leadership";

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
    )
    INSERT INTO takeovers
        (epoch, from_holder, to_holder, reason, lock_wait, timeline_before, timeline_after, cause, detail)
    SELECT epoch, $9, $2, $10, make_interval(secs => $11), $13::int4, $14::int4, $15, $16 FROM term
    RETURNING epoch";

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
