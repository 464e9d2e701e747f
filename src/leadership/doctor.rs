//! What a person wants to know about a database before a server is started on it: each question of `checks`, whatever
//! the answers to the others, and those that a server does not ask. Takes no lock and changes nothing.

use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::checks::{self, Contender, Facts};
use super::error::Error;
use super::session::{Session, Settings};
use crate::clock::Clock;
use crate::postgres::holders::LockHolder;

/// The answers, each of which may be missing for itself.
#[derive(Debug)]
pub struct Diagnosis {
    /// A writable server of a version that will do.
    pub primary: Result<(), Error>,
    /// Every server of this schema is of this fault-tolerance group.
    pub group: Result<(), Error>,
    /// What a leader session sets for itself sticks.
    pub settings: Result<(), Error>,
    pub facts: Result<Facts, Error>,
    pub link: Result<Link, Error>,
    /// What keeps a standby from ending the session of an active that is frozen: servers of this role do not see each other's sessions.
    pub blindness: Result<Option<Blindness>, Error>,
    /// The holder of the lock comes first.
    pub contenders: Result<Vec<Contender>, Error>,
    /// Who keeps every server from becoming active, by a lock on its tables.
    pub lock_holder: Result<Option<LockHolder>, Error>,
}

/// Servers log in as one role, and act as another one that may not see the sessions of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blindness {
    pub logs_in_as: String,
    pub acts_as: String,
    /// A statement of a superuser.
    pub remedy: String,
}

/// The way to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Version and cipher of TLS.
    pub tls: Option<String>,
    pub round_trip: Duration,
    /// How much the clock there is ahead of the one here, in milliseconds, as exact as half a round trip.
    pub clock_ahead_ms: i64,
    /// Connections that the database would still take from this role.
    pub free_connections: i64,
    /// What has to be done for more.
    pub more_connections: String,
}

/// Behind a pooler that is an error, because then no other answer is worth anything.
pub async fn diagnose(settings: &Settings, tracker: &TaskTracker) -> Result<Diagnosis, Error> {
    let session = Session::open(settings, tracker).await?;
    checks::refuse_poolers(&session, settings, tracker).await?;
    let pinned = session.pin(settings).await;
    Ok(Diagnosis {
        primary: checks::ensure_primary(&session).await,
        group: checks::refuse_other_groups(&session, settings).await,
        facts: checks::facts(&session).await,
        link: link(&session).await,
        blindness: blindness(&session).await,
        contenders: checks::contenders(&session, settings).await,
        lock_holder: session.lock_holder(&[], true).await,
        // From then on Postgres ends the session when it is silent for a lease.
        settings: match pinned {
            Ok(()) => session.arm(settings).await,
            Err(error) => Err(error),
        },
    })
}

async fn blindness(session: &Session) -> Result<Option<Blindness>, Error> {
    let asked = session.client.query_opt(BLINDNESS, &[]);
    let row = session
        .call("asking whose sessions are seen", asked)
        .await?;
    Ok(row.map(|row| Blindness {
        logs_in_as: row.get(0),
        acts_as: row.get(1),
        remedy: row.get(2),
    }))
}

/// The setting `role` makes a role act as another one.
const BLINDNESS: &str = "SELECT session_user::text, current_user::text,
        format('GRANT pg_read_all_stats, pg_signal_backend TO %I', current_user)
    WHERE NOT pg_has_role(session_user, 'USAGE')
        AND NOT (pg_has_role('pg_read_all_stats', 'USAGE') AND pg_has_role('pg_signal_backend', 'USAGE'))";

async fn link(session: &Session) -> Result<Link, Error> {
    let what = "asking for the time";
    let time = session.call(what, session.client.prepare(TIME)).await?;
    let before = Clock.now();
    let row = session
        .call(what, session.client.query_one(&time, &[]))
        .await?;
    let after = Clock.now();
    let round_trip = after.monotonic.since(before.monotonic);
    let there: i64 = row.get(0);
    let here = before.wall.0 / NANOS_PER_MILLI
        + i64::try_from(round_trip.as_millis() / 2).unwrap_or(i64::MAX);
    let row = session
        .call(
            "asking for the connection's state",
            session.client.query_one(STATE, &[]),
        )
        .await?;
    Ok(Link {
        tls: row.get(0),
        round_trip,
        clock_ahead_ms: there.saturating_sub(here),
        free_connections: row.get(1),
        more_connections: row.get(2),
    })
}

const NANOS_PER_MILLI: i64 = 1_000_000;

const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The smallest of the limits that hold for this role counts. Connections are counted by the one view that hides nothing from
/// ordinary roles; limits of a database or role do not hold for superusers.
const STATE: &str = "SELECT
        (SELECT version || ', ' || cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl),
        free, more
    FROM (
        SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                - coalesce(current_setting('reserved_connections', true)::bigint, 0)
                - (SELECT coalesce(sum(numbackends), 0)::bigint FROM pg_stat_database) AS free,
            'raise max_connections' AS more
        UNION ALL
        SELECT d.datconnlimit - s.numbackends, format('raise the limit (ALTER DATABASE %I CONNECTION LIMIT ...)', d.datname)
        FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid
        WHERE d.datname = current_database() AND d.datconnlimit >= 0 AND current_setting('is_superuser') = 'off'
        UNION ALL
        SELECT r.rolconnlimit - (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid),
            format('raise the limit (ALTER ROLE %I CONNECTION LIMIT ...)', r.rolname)
        FROM pg_roles r
        WHERE r.rolname = session_user AND r.rolconnlimit >= 0 AND current_setting('is_superuser') = 'off'
    ) AS limits
    ORDER BY free LIMIT 1";
