//! Whether the holder of the lock still does anything: the second line, for one that Postgres' own timeouts do not end.
//! Pure: times are arguments, and of Postgres' clock only that it shows something else than before counts.

use std::time::Duration;

use tokio_postgres::Row;

use crate::core::time::Instant;

/// The session that holds the lock, as `pg_stat_activity` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: i32,
    /// Empty where Postgres does not tell this role.
    pub(super) name: String,
    /// With the pid, which session it is: pids are used again.
    pub(super) started: String,
    /// Whatever the session did last changes it. `None` while it is at work for its server, or where Postgres does not
    /// keep or tell it.
    doing: Option<String>,
    /// The one that it recorded; zero where it recorded none.
    pub(super) lease: Duration,
}

/// Timestamps are compared with themselves only: to Postgres' wall clock anything may happen.
pub(super) const HOLDER: &str =
    "SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.backend_start::text, ''),
        CASE WHEN a.state LIKE 'idle%' OR a.wait_event_type = 'Client' THEN
            concat_ws(' ', a.state, a.state_change, a.query_start, a.xact_start, a.wait_event) END,
        coalesce(l.lease_ms, 0)
    FROM pg_locks k
    JOIN pg_stat_activity a ON a.pid = k.pid
    CROSS JOIN leadership l
    WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND k.classid::bigint = ($1::bigint >> 32) & 4294967295
        AND k.objid::bigint = $1::bigint & 4294967295";

pub(super) const END_HOLDER: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid = $1 AND backend_start::text = $2 AND application_name = $3";

impl Holder {
    pub(super) fn of(row: &Row) -> Option<Self> {
        let lease: i32 = row.try_get(4).ok()?;
        Some(Self {
            pid: row.try_get(0).ok()?,
            name: row.try_get(1).ok()?,
            started: row.try_get(2).ok()?,
            doing: row.try_get(3).ok()?,
            lease: Duration::from_millis(lease.max(0).unsigned_abs().into()),
        })
    }
}

/// Looks at the holder that found the same.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Option<Unchanged>,
    /// Which session it was, also after it has gone.
    known: Option<i32>,
    changed: Option<Instant>,
}

#[derive(Debug)]
struct Unchanged {
    holder: Holder,
    since: Instant,
    looked: Instant,
    looks: u32,
}

/// Two looks may lie around one stop of Postgres or of this server, and say nothing about the holder.
const LOOKS_MIN: u32 = 3;

impl Watch {
    /// True when it has done nothing for two leases by this server's clock: its own, or `lease` where that is longer.
    /// `every`: how far apart looks are when nothing keeps this server or Postgres from them. After a longer pause the
    /// time counts from zero, because then everybody may have stood still, the holder with good reason.
    pub(super) fn is_frozen(
        &mut self,
        holder: &Holder,
        lease: Duration,
        every: Duration,
        now: Instant,
    ) -> bool {
        if self
            .known
            .replace(holder.pid)
            .is_some_and(|pid| pid != holder.pid)
        {
            self.changed = Some(now);
        }
        let known = self.last.take().filter(|before| {
            before.holder == *holder
                && holder.doing.is_some()
                && now.since(before.looked) <= every + every / 2 + Duration::from_millis(250)
        });
        let seen = match known {
            Some(before) => Unchanged {
                looked: now,
                looks: before.looks + 1,
                ..before
            },
            None => Unchanged {
                holder: holder.clone(),
                since: now,
                looked: now,
                looks: 1,
            },
        };
        let limit = lease.max(holder.lease) * 2;
        let is_frozen = seen.looks >= LOOKS_MIN && now.since(seen.since) > limit;
        self.last = Some(seen);
        is_frozen
    }

    /// Nobody holds the lock, or nobody knows.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// When the lock was last found in other hands: it was free before.
    pub(super) fn changed(&self) -> Option<Instant> {
        self.changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn holder(doing: Option<&str>) -> Holder {
        Holder {
            pid: 7,
            name: "stanby/c/g/a".to_owned(),
            started: "2026".to_owned(),
            doing: doing.map(str::to_owned),
            lease: Duration::from_secs(2),
        }
    }

    /// When it is found to be frozen.
    fn frozen(looks: &[(u64, Option<&str>)]) -> Option<u64> {
        let mut watch = Watch::default();
        let found = looks
            .iter()
            .find(|(millis, doing)| watch.is_frozen(&holder(*doing), EVERY, EVERY, at(*millis)));
        found.map(|(millis, _)| *millis)
    }

    #[test]
    fn a_holder_that_does_nothing_for_two_leases_is_frozen_whatever_postgres_clock_shows() {
        let still = Some("idle 12:00");
        let looks = [(0, still), (2000, still), (4001, still), (6000, still)];
        assert_eq!(frozen(&looks), Some(4001));
        // Its clock went back by an hour, which is a change: the holder was there.
        let back = Some("idle 11:00");
        let looks = [
            (0, still),
            (2000, still),
            (4001, back),
            (6002, back),
            (8003, back),
        ];
        assert_eq!(frozen(&looks), Some(8003));
    }

    #[test]
    fn one_that_works_or_cannot_be_seen_is_never_frozen() {
        let shown = ["idle 1", "idle 2", "idle 3", "idle 4", "idle 5"];
        let looks: Vec<_> = (0..5).map(|n| (n as u64 * 2000, Some(shown[n]))).collect();
        assert_eq!(frozen(&looks), None);
        let looks: Vec<_> = (0..9).map(|n| (n * 2000, None)).collect();
        assert_eq!(frozen(&looks), None);
    }

    #[test]
    fn a_pause_of_postgres_or_of_this_server_is_not_the_holders() {
        let still = Some("idle 12:00");
        // Everything stood still for a minute; the holder's next renewal is on its way.
        let looks = [(0, still), (60_000, still), (62_000, Some("idle 12:01"))];
        assert_eq!(frozen(&looks), None);
        // It does not come: two leases from then on.
        let looks = [
            (0, still),
            (60_000, still),
            (62_000, still),
            (64_001, still),
        ];
        assert_eq!(frozen(&looks), Some(64_001));
        // A shorter one, again and again, that is renewed after.
        let looks = [(0, still), (3200, still), (5000, Some("idle 12:05"))];
        assert_eq!(frozen(&looks), None);
    }
}
