//! The actives that announced themselves on NATS, and which of them serve the same cluster ID from other tables. Pure: times are
//! arguments. Who speaks and listens is [`super::presence`].
//!
//! Leadership does not depend on any of this: the lock decides between servers of one database. It is about those who
//! cannot meet at a lock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::commit_history::Sign;
use crate::core::database_identity::DatabaseIdentity;
use crate::core::lease::Lease;
use crate::core::time::Instant;
use crate::protocol::announcement::Announcement;

/// A cluster ID has a few servers. The rest is a flood.
const SERVERS_MAX: usize = 64;

/// An outage of Postgres may last for hours, and who announced itself before its end matters.
const KEPT_FOR: Duration = Duration::from_hours(24);

#[derive(Debug)]
pub(super) struct KnownActives {
    own_id: String,
    is_partitioned: bool,
    /// By server ID, this server included.
    known: BTreeMap<String, KnownActive>,
}

#[derive(Debug)]
struct KnownActive {
    announcement: Announcement,
    /// Its announcements have named the same tables ever since.
    first: Instant,
    last: Instant,
}

impl KnownActives {
    pub(super) fn new(own_id: String, is_partitioned: bool) -> Self {
        Self {
            own_id,
            is_partitioned,
            known: BTreeMap::new(),
        }
    }

    /// How often an active with this lease announces itself.
    pub(super) fn interval(lease: Duration) -> Duration {
        (lease / 2).min(Duration::from_secs(1))
    }

    pub(super) fn observe(&mut self, announcement: Announcement, now: Instant) {
        let is_new = !self.known.contains_key(&announcement.server_id);
        if is_new && self.known.len() >= SERVERS_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.last);
            if let Some(server_id) = oldest.map(|(server_id, _)| server_id.clone()) {
                self.known.remove(&server_id);
            }
        }
        let known = self.known.get(&announcement.server_id);
        let first = known
            .filter(|known| {
                known.announcement.identity == announcement.identity && known.is_live(now)
            })
            .map_or(now, |known| known.first);
        let known = KnownActive {
            first,
            last: now,
            announcement,
        };
        self.known
            .insert(known.announcement.server_id.clone(), known);
    }

    pub(super) fn forget_silent(&mut self, now: Instant) {
        self.known
            .retain(|_, known| now.since(known.last) < KEPT_FOR);
    }

    /// When another active of these tables last announced itself, or one of the primary that they were on before; and in the
    /// latest epoch in which one was.
    pub(super) fn last_peer(&self, here: &DatabaseIdentity) -> Option<Sign> {
        self.last_sign(|identity| identity.may_be_copy_of(here))
    }

    /// The same for a server that knows its tables by their name only.
    pub(super) fn last_peer_on(&self, tables: &str) -> Option<Sign> {
        self.last_sign(|identity| identity.tables() == tables)
    }

    fn last_sign(&self, is_of_here: impl Fn(&DatabaseIdentity) -> bool) -> Option<Sign> {
        let peers = self.known.values().filter(|known| {
            let Announcement {
                server_id,
                identity,
                ..
            } = &known.announcement;
            *server_id != self.own_id && is_of_here(identity)
        });
        let signs = peers.map(|known| Sign {
            received_at: known.last,
            epoch: known.announcement.epoch,
        });
        signs.reduce(|one, other| Sign {
            received_at: one.received_at.max(other.received_at),
            epoch: one.epoch.max(other.epoch),
        })
    }

    /// True when an active on these very tables has only just fallen silent: who follows it is no newcomer, whatever
    /// others say.
    pub(super) fn follows(&self, here: &DatabaseIdentity, now: Instant) -> bool {
        let mut known = self.known.values();
        known.any(|known| known.is_live(now) && !known.announcement.identity.is_other_than(here))
    }

    /// Another server that announced itself with other tables, and need not be there any more.
    pub(super) fn suspect(&self, here: &DatabaseIdentity, now: Instant) -> Option<&Announcement> {
        let mut elsewhere = self.elsewhere(here, now);
        elsewhere.next().map(|known| &known.announcement)
    }

    /// One that announced itself within its lease: it may be frozen, but it is active.
    pub(super) fn present(&self, here: &DatabaseIdentity, now: Instant) -> Option<&Announcement> {
        let mut elsewhere = self.elsewhere(here, now);
        let present = elsewhere.find(|known| known.is_within_lease(now));
        present.map(|known| &known.announcement)
    }

    /// One that announced itself since actives were asked; or, unless it may have lost its Postgres by a failover, within its
    /// lease.
    pub(super) fn in_the_way(
        &self,
        here: &DatabaseIdentity,
        asked_at: Instant,
        now: Instant,
    ) -> Option<&Announcement> {
        let is_in_the_way = |known: &&KnownActive| {
            let is_unrelated = !known.announcement.identity.may_be_copy_of(here);
            known.last >= asked_at || is_unrelated && known.is_within_lease(now)
        };
        let found = self.elsewhere(here, now).find(is_in_the_way);
        found.map(|known| &known.announcement)
    }

    /// Those that have gone on serving from other tables for so long, beside an active that serves from `here` since
    /// then, that they cannot be on their way out.
    pub(super) fn lasting(
        &self,
        here: &DatabaseIdentity,
        active_since: Instant,
        now: Instant,
    ) -> impl Iterator<Item = &Announcement> {
        self.elsewhere(here, now)
            .chain(self.twins(here, now))
            .filter(move |known| {
                let beside = known.last.since(known.first.max(active_since));
                beside > known.lease()
            })
            .map(|known| &known.announcement)
    }

    /// Who serves from what cannot be distinguished from these tables, in a term that this server's does not follow: a copy of the disk of
    /// Postgres is in use. What an active before this one has said may come late, and is of an earlier term.
    fn twins(&self, here: &DatabaseIdentity, now: Instant) -> impl Iterator<Item = &KnownActive> {
        let own = self.known.get(&self.own_id);
        let own = own.map(|own| own.announcement.epoch);
        self.known.values().filter(move |known| {
            let Announcement {
                server_id,
                identity,
                epoch,
                ..
            } = &known.announcement;
            let is_here = !identity.is_other_than(here) && known.is_live(now);
            is_here && *server_id != self.own_id && own.is_some_and(|own| *epoch >= own)
        })
    }

    fn elsewhere(
        &self,
        here: &DatabaseIdentity,
        now: Instant,
    ) -> impl Iterator<Item = &KnownActive> {
        let is_conflicting = move |known: &&KnownActive| {
            let Announcement {
                server_id,
                identity,
                is_partitioned,
                ..
            } = &known.announcement;
            let is_other = *server_id != self.own_id && identity.is_other_than(here);
            // Where both serve some channels, their lists decide; but nobody has a copy of his own list.
            let is_other_partition =
                self.is_partitioned && *is_partitioned && !identity.may_be_copy_of(here);
            is_other && !is_other_partition && known.is_live(now)
        };
        self.known.values().filter(is_conflicting)
    }
}

impl KnownActive {
    /// Strangers may claim what they like.
    fn lease(&self) -> Duration {
        self.announcement.lease.min(Lease::MAX)
    }

    fn is_within_lease(&self, now: Instant) -> bool {
        now.since(self.last) <= self.lease()
    }

    /// Two announcements may go missing, and Postgres may have to end its session first.
    fn is_live(&self, now: Instant) -> bool {
        now.since(self.last) < self.lease() * 2 + KnownActives::interval(self.lease()) * 2
    }
}

/// Why a server does not serve beside this one, or should not.
pub(super) fn describe_conflict(
    conflicting: &Announcement,
    cluster_id: &str,
    here: &DatabaseIdentity,
) -> String {
    let Announcement {
        server_id,
        host,
        epoch,
        identity,
        ..
    } = conflicting;
    if !identity.is_other_than(here) {
        return format!(
            "server {server_id:?} on host {host:?} is active in term {epoch} for the same cluster ID {cluster_id:?} with \
             other tables, which only look like this server's: {identity}; this server's are: {here}; clients would get two \
             answers: a copy of the disk of Postgres is in use (a snapshot, a clone, a restored backup): stop it, or give \
             its servers another --cluster-id"
        );
    }
    let remedy = if identity.may_be_copy_of(here) {
        "an old primary is still in use: stop that Postgres, or lead all servers to the new one"
    } else {
        "stop the servers that should not run, lead them to the same tables, or give them another --cluster-id"
    };
    format!(
        "server {server_id:?} on host {host:?} is active in term {epoch} for the same cluster ID {cluster_id:?} with \
         other tables: {identity}; this server's are: {here}; clients would get two answers: {remedy}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Epoch;

    const LEASE: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn identity(database_oid: u32, timeline: i32) -> DatabaseIdentity {
        DatabaseIdentity {
            system_identifier: Some(7),
            timeline: Some(timeline),
            database_oid,
            database: "stan".to_owned(),
            schema: "stanby".to_owned(),
            address: "db:5432".to_owned(),
        }
    }

    fn of(server_id: &str, identity: DatabaseIdentity) -> Announcement {
        Announcement {
            nats_server: String::new(),
            server_id: server_id.to_owned(),
            host: "h".to_owned(),
            is_partitioned: false,
            epoch: Epoch(1),
            lease: LEASE,
            identity,
        }
    }

    fn actives() -> KnownActives {
        KnownActives::new("own".to_owned(), false)
    }

    #[test]
    fn only_others_with_other_tables_are_rivals() {
        let mut actives = actives();
        let here = identity(1, 1);
        actives.observe(of("mate", here.clone()), at(0));
        actives.observe(of("own", identity(2, 1)), at(0));
        assert_eq!(actives.suspect(&here, at(1)), None);

        actives.observe(of("rival", identity(2, 1)), at(500));

        let found = actives.suspect(&here, at(600));
        assert_eq!(found.map(|found| &*found.server_id), Some("rival"));
    }

    #[test]
    fn groups_that_serve_some_channels_each_leave_each_other_alone() {
        let partitioned = |server_id, identity| Announcement {
            is_partitioned: true,
            ..of(server_id, identity)
        };
        let here = identity(1, 2);
        for (is_partitioned, conflicting, expected) in [
            (true, partitioned("neighbour", identity(2, 1)), false),
            (true, of("of all channels", identity(2, 1)), true),
            (false, partitioned("neighbour", identity(2, 1)), true),
            (
                true,
                partitioned("of the old primary", identity(1, 1)),
                true,
            ),
        ] {
            let mut actives = KnownActives::new("own".to_owned(), is_partitioned);
            actives.observe(conflicting, at(0));
            let found = actives.suspect(&here, at(1));
            assert_eq!(found.is_some(), expected, "{actives:?}");
        }
    }

    #[test]
    fn the_last_that_was_heard_of_the_same_tables_is_known_after_an_outage() {
        let mut actives = actives();
        actives.observe(of("mate", identity(1, 1)), at(1000));
        actives.observe(of("other", identity(2, 1)), at(2000));
        actives.observe(of("own", identity(1, 1)), at(3000));

        actives.forget_silent(at(3_600_000));

        let sign = Sign {
            received_at: at(1000),
            epoch: Epoch(1),
        };
        assert_eq!(actives.last_peer(&identity(1, 2)), Some(sign));
        let tables = identity(1, 2).tables();
        assert_eq!(actives.last_peer_on(&tables), Some(sign));
    }

    #[test]
    fn an_active_is_followed_on_its_own_tables_only_and_for_a_while() {
        let mut actives = actives();
        actives.observe(of("mate", identity(1, 1)), at(0));

        assert!(actives.follows(&identity(1, 1), at(4000)));
        assert!(!actives.follows(&identity(1, 1), at(7000)));
        // Postgres has failed over: what the old primary's active does is not known.
        assert!(!actives.follows(&identity(1, 2), at(100)));
        assert!(actives.suspect(&identity(1, 2), at(100)).is_some());
    }

    #[test]
    fn a_rival_is_in_the_way_for_its_lease_and_an_old_primary_s_when_it_answers() {
        let here = identity(1, 2);
        for (conflicting, expected) in [
            (identity(2, 1), [true, true, false]),
            (identity(1, 1), [true, false, false]),
        ] {
            let mut actives = actives();
            actives.observe(of("rival", conflicting), at(1000));
            let asked = [(1000, 1001), (1500, 1600), (3100, 3200)];
            let found = asked.map(|(asked_at, now)| {
                let found = actives.in_the_way(&here, at(asked_at), at(now));
                found.is_some()
            });
            assert_eq!(found, expected, "{actives:?}");
            assert!(actives.present(&here, at(3000)).is_some());
            assert!(actives.present(&here, at(3001)).is_none());
            assert!(actives.suspect(&here, at(3001)).is_some());
        }
    }

    #[test]
    fn who_goes_on_for_a_lease_beside_an_active_is_not_on_its_way_out() {
        let mut actives = actives();
        let here = identity(1, 2);
        let lasting = |actives: &KnownActives, now| actives.lasting(&here, at(1000), now).count();
        for (millis, expected) in [(0, 0), (1000, 0), (2000, 0), (3000, 0), (4000, 1)] {
            actives.observe(of("old", identity(1, 1)), at(millis));
            assert_eq!(lasting(&actives, at(millis)), expected, "at {millis}");
        }
        assert_eq!(lasting(&actives, at(11_000)), 0);

        // It was away meanwhile.
        actives.observe(of("old", identity(1, 1)), at(12_000));
        assert_eq!(lasting(&actives, at(12_000)), 0);
    }

    #[test]
    fn who_serves_from_a_copy_of_the_disk_is_told_from_an_active_that_was_followed() {
        for (epoch, expected) in [(1, 0), (2, 1), (3, 1)] {
            let mut actives = actives();
            let here = identity(1, 1);
            for millis in [1000, 2000, 3000, 4000] {
                let announced = |id, epoch| Announcement {
                    epoch: Epoch(epoch),
                    ..of(id, here.clone())
                };
                actives.observe(announced("own", 2), at(millis));
                actives.observe(announced("copy", epoch), at(millis));
            }
            let found: Vec<_> = actives.lasting(&here, at(1000), at(4000)).collect();
            assert_eq!(found.len(), expected, "{epoch}");
            for conflicting in found {
                let text = describe_conflict(conflicting, "orders", &here);
                assert!(text.contains("a copy of the disk"), "{text}");
            }
        }
    }

    #[test]
    fn a_flood_of_servers_takes_no_more_room_than_a_few() {
        let mut actives = actives();
        for number in 0..1000 {
            let mut stranger = of(&number.to_string(), identity(2, 1));
            stranger.lease = Duration::MAX;
            actives.observe(stranger, at(0));
        }
        assert_eq!(actives.known.len(), SERVERS_MAX);

        actives.observe(of("rival", identity(2, 1)), at(300_000));
        let found = actives.suspect(&identity(1, 1), at(300_000));
        assert_eq!(found.map(|found| &*found.server_id), Some("rival"));
        actives.forget_silent(at(90_000_000));
        assert_eq!(actives.known.len(), 0);
    }

    #[test]
    fn the_accusation_names_both_tables_and_the_remedy() {
        let text = describe_conflict(&of("rival", identity(2, 1)), "orders", &identity(1, 1));
        for part in [
            "server \"rival\" on host \"h\"",
            "cluster ID \"orders\"",
            "system identifier 7",
            "or give them another --cluster-id",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = describe_conflict(&of("old", identity(1, 1)), "orders", &identity(1, 2));
        assert!(text.contains("an old primary is still in use"), "{text}");
    }
}
