//! The actives that were heard on NATS, and which of them serve the same cluster ID from other tables. Pure: times are
//! arguments. Who speaks and listens is [`super::announcer`].
//!
//! Leadership does not depend on any of this: the lock decides between servers of one database. It is about those who
//! cannot meet at a lock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::place::Place;
use crate::core::time::Instant;
use crate::protocol::announcement::Announcement;

/// Of one group there are two or three. The rest is a flood.
const SERVERS_MAX: usize = 64;

/// Longer than the longest lease: strangers may claim what they like.
const LEASE_MAX: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Rivals {
    own_id: String,
    group: String,
    /// By server ID, this server included.
    heard: BTreeMap<String, Heard>,
    last_other: Option<Instant>,
}

#[derive(Debug)]
struct Heard {
    announcement: Announcement,
    /// It has been heard from the same tables ever since.
    first: Instant,
    last: Instant,
}

impl Rivals {
    pub(super) fn new(own_id: String, group: String) -> Self {
        Self {
            own_id,
            group,
            heard: BTreeMap::new(),
            last_other: None,
        }
    }

    /// How often an active with this lease lets itself be heard.
    pub(super) fn interval(lease: Duration) -> Duration {
        (lease / 2).min(Duration::from_secs(1))
    }

    pub(super) fn hear(&mut self, announcement: Announcement, now: Instant) {
        if announcement.group != self.group {
            return;
        }
        if announcement.server_id != self.own_id {
            self.last_other = Some(now);
        }
        let is_new = !self.heard.contains_key(&announcement.server_id);
        if is_new && self.heard.len() >= SERVERS_MAX {
            return;
        }
        let known = self.heard.get(&announcement.server_id);
        let first = known
            .filter(|known| known.announcement.place == announcement.place && known.is_live(now))
            .map_or(now, |known| known.first);
        let heard = Heard {
            first,
            last: now,
            announcement,
        };
        self.heard
            .insert(heard.announcement.server_id.clone(), heard);
    }

    pub(super) fn forget_silent(&mut self, now: Instant) {
        self.heard.retain(|_, heard| heard.is_live(now));
    }

    /// When another active of the group was heard last.
    pub(super) fn last_other(&self) -> Option<Instant> {
        self.last_other
    }

    /// True when an active on these very tables has only just fallen silent: who follows it is no newcomer, whatever
    /// others say.
    pub(super) fn follows(&self, here: &Place, now: Instant) -> bool {
        let mut heard = self.heard.values();
        heard.any(|heard| heard.is_live(now) && !heard.announcement.place.is_other_than(here))
    }

    /// Another server that was heard from other tables, at `since` or later.
    pub(super) fn rival(
        &self,
        here: &Place,
        since: Instant,
        now: Instant,
    ) -> Option<&Announcement> {
        self.elsewhere(here, now)
            .find(|heard| heard.last >= since)
            .map(|heard| &heard.announcement)
    }

    /// Those that have gone on serving from other tables for so long, beside an active that serves from `here` since
    /// then, that they cannot be on their way out.
    pub(super) fn lasting(
        &self,
        here: &Place,
        active_since: Instant,
        now: Instant,
    ) -> impl Iterator<Item = &Announcement> {
        self.elsewhere(here, now)
            .filter(move |heard| {
                let beside = heard.last.since(heard.first.max(active_since));
                beside > heard.lease()
            })
            .map(|heard| &heard.announcement)
    }

    fn elsewhere(&self, here: &Place, now: Instant) -> impl Iterator<Item = &Heard> {
        let is_rival = move |heard: &&Heard| {
            let Announcement {
                server_id, place, ..
            } = &heard.announcement;
            *server_id != self.own_id && place.is_other_than(here) && heard.is_live(now)
        };
        self.heard.values().filter(is_rival)
    }
}

impl Heard {
    fn lease(&self) -> Duration {
        self.announcement.lease.min(LEASE_MAX)
    }

    /// Two announcements may go missing, and Postgres may have to end its session first.
    fn is_live(&self, now: Instant) -> bool {
        now.since(self.last) < self.lease() * 2 + Rivals::interval(self.lease()) * 2
    }
}

/// Why a server does not serve beside this one, or should not.
pub(super) fn accusation(rival: &Announcement, cluster_id: &str, here: &Place) -> String {
    let Announcement {
        server_id,
        host,
        epoch,
        place,
        ..
    } = rival;
    let remedy = if is_old_primary(place, here) {
        "an old primary is still in use: stop that Postgres, or lead all servers to the new one"
    } else {
        "stop the servers that should not run, lead them to the same tables, or give them another --cluster-id"
    };
    format!(
        "server {server_id:?} on host {host:?} is active in term {epoch} for the same cluster ID {cluster_id:?} with \
         other tables: {place}; this server's are: {here}; clients would get two answers: {remedy}"
    )
}

fn is_old_primary(there: &Place, here: &Place) -> bool {
    let timeless = Place {
        timeline: here.timeline,
        ..there.clone()
    };
    !timeless.is_other_than(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Epoch;

    const LEASE: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn place(database_oid: u32, timeline: i32) -> Place {
        Place {
            system_identifier: Some(7),
            timeline: Some(timeline),
            database_oid,
            database: "stan".to_owned(),
            schema: "stanby".to_owned(),
            address: "db:5432".to_owned(),
        }
    }

    fn of(server_id: &str, place: Place) -> Announcement {
        Announcement {
            server_id: server_id.to_owned(),
            host: "h".to_owned(),
            group: "default".to_owned(),
            epoch: Epoch(1),
            lease: LEASE,
            place,
        }
    }

    fn rivals() -> Rivals {
        Rivals::new("own".to_owned(), "default".to_owned())
    }

    #[test]
    fn only_others_with_other_tables_are_rivals() {
        let mut rivals = rivals();
        let here = place(1, 1);
        rivals.hear(of("mate", here.clone()), at(0));
        rivals.hear(of("own", place(2, 1)), at(0));
        let mut of_other_group = of("stranger", place(2, 1));
        of_other_group.group = "other".to_owned();
        rivals.hear(of_other_group, at(0));
        assert_eq!(rivals.rival(&here, at(0), at(1)), None);

        rivals.hear(of("rival", place(2, 1)), at(500));

        let found = rivals.rival(&here, at(500), at(600));
        assert_eq!(found.map(|found| &*found.server_id), Some("rival"));
        assert_eq!(rivals.rival(&here, at(501), at(600)), None);
    }

    #[test]
    fn an_active_is_followed_on_its_own_tables_only_and_for_a_while() {
        let mut rivals = rivals();
        rivals.hear(of("mate", place(1, 1)), at(0));

        assert!(rivals.follows(&place(1, 1), at(4000)));
        assert!(!rivals.follows(&place(1, 1), at(7000)));
        // Postgres has failed over: what the old primary's active does is not known.
        assert!(!rivals.follows(&place(1, 2), at(100)));
        assert!(rivals.rival(&place(1, 2), at(0), at(100)).is_some());
    }

    #[test]
    fn who_goes_on_for_a_lease_beside_an_active_is_not_on_its_way_out() {
        let mut rivals = rivals();
        let here = place(1, 2);
        let lasting = |rivals: &Rivals, now| rivals.lasting(&here, at(1000), now).count();
        for (millis, expected) in [(0, 0), (1000, 0), (2000, 0), (3000, 0), (4000, 1)] {
            rivals.hear(of("old", place(1, 1)), at(millis));
            assert_eq!(lasting(&rivals, at(millis)), expected, "at {millis}");
        }
        assert_eq!(lasting(&rivals, at(11_000)), 0);

        // It was away meanwhile.
        rivals.hear(of("old", place(1, 1)), at(12_000));
        assert_eq!(lasting(&rivals, at(12_000)), 0);
    }

    #[test]
    fn a_flood_of_servers_takes_no_more_room_than_a_few() {
        let mut rivals = rivals();
        for number in 0..1000 {
            let mut stranger = of(&number.to_string(), place(2, 1));
            stranger.lease = Duration::MAX;
            rivals.hear(stranger, at(0));
        }
        assert_eq!(rivals.heard.len(), SERVERS_MAX);

        rivals.forget_silent(at(300_000));
        assert_eq!(rivals.heard.len(), 0);
    }

    #[test]
    fn the_accusation_names_both_tables_and_the_remedy() {
        let text = accusation(&of("rival", place(2, 1)), "orders", &place(1, 1));
        for part in [
            "server \"rival\" on host \"h\"",
            "cluster ID \"orders\"",
            "system identifier 7",
            "or give them another --cluster-id",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = accusation(&of("old", place(1, 1)), "orders", &place(1, 2));
        assert!(text.contains("an old primary is still in use"), "{text}");
    }
}
