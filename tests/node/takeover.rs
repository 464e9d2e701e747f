//! The active ends, killed or asked to, while clients publish and receive: nobody but the standby notices.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;

use crate::pair::{Group, LIMIT, Pair, Says, Server};
use crate::stan::{Load, Published, StanClient, Subscription};
use crate::support::wait::wait_until;
use crate::watch::Watch;

pub(crate) const CHANNEL: &str = "orders";
/// Messages that each publisher has under way.
const WINDOW: usize = 32;
const LEASE: [&str; 2] = ["--lease", "1s"];

/// Applications of one group, at work since before a takeover.
pub(crate) struct Work {
    pub(crate) clients: Vec<StanClient>,
    pub(crate) load: Load,
    pub(crate) durable: Subscription,
    /// The members of a queue group.
    pub(crate) members: [Subscription; 2],
}

impl Work {
    pub(crate) async fn start(group: &Group) -> Self {
        let mut clients = Vec::new();
        let mut publishers = Vec::new();
        for name in ["publisher-1", "publisher-2", "publisher-3"] {
            let client = group.client(name).await;
            publishers.push(client.publisher(CHANNEL).await);
            clients.push(client);
        }
        let [first, second] = [
            group.client("reader-1").await,
            group.client("reader-2").await,
        ];
        let durable = first.subscribe(CHANNEL, "", "books").await.unwrap();
        let members = [
            first.subscribe(CHANNEL, "workers", "").await.unwrap(),
            second.subscribe(CHANNEL, "workers", "").await.unwrap(),
        ];
        clients.extend([first, second]);
        Self {
            clients,
            load: Load::start(publishers, WINDOW),
            durable,
            members,
        }
    }

    /// Waits until each publisher has so many more acks.
    pub(crate) async fn progress(&self, acks: u64) {
        let wanted = self.load.acked() + acks;
        wait_until(LIMIT, async || match self.load.acked() {
            acked if acked >= wanted => Ok(()),
            acked => Err(format!("{acked} of {wanted} acks")),
        })
        .await;
    }

    /// Waits until these servers could take over without a loss: a standby answers for what it hears, so what was sent
    /// before it listened must have its answer before the active may be killed. Each is asked itself: in the queue for
    /// the lock the session of a server that has just ended may still be counted.
    pub(crate) async fn progress_with_standbys(&self, standbys: &[&Server]) {
        for standby in standbys {
            wait_until(LIMIT, async || {
                let says = standby.says().await;
                let waits = says == Says::Standby;
                waits.then_some(()).ok_or_else(|| format!("{says:?}"))
            })
            .await;
        }
        self.progress(WINDOW as u64 + 1).await;
    }

    /// Ends the publishers, and asserts that nothing was lost, doubled or refused on the way.
    pub(crate) async fn finish(self, group: &Group) {
        let published = self.load.finish().await;
        assert_eq!(published.errors, [""; 0]);
        assert_eq!(published.acked.len(), published.sent.len(), "all are acked");
        let rows = group.tables().messages(CHANNEL).await;
        assert_stored_once(&published, &rows);

        let all: BTreeSet<u64> = (1..).take(rows.len()).collect();
        wait_until(LIMIT, async || {
            let group: BTreeSet<u64> = self
                .members
                .iter()
                .flat_map(Subscription::sequences)
                .collect();
            let missing = |got: &BTreeSet<u64>| all.difference(got).count();
            match (missing(&self.durable.sequences()), missing(&group)) {
                (0, 0) => Ok(()),
                missing => Err(format!("missing in durable and group: {missing:?}")),
            }
        })
        .await;
        for delivery in self.durable.received() {
            let row = &rows[usize::try_from(delivery.sequence).unwrap() - 1];
            assert_eq!(delivery.data, row.data, "#{}", delivery.sequence);
        }
        for client in &self.clients {
            assert_eq!(client.ping().await, Ok(()), "{} is known", client.id);
        }
    }
}

/// Everything sent is there, once, with its content, and nothing else; sequences have no holes; terms and times
/// never go back.
pub(crate) fn assert_stored_once(published: &Published, rows: &[crate::tables::Row]) {
    let mut places: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
    for row in rows {
        let place = (row.sequence, row.epoch);
        places.entry(&row.guid).or_default().push(place);
    }
    places.retain(|_, places| places.len() > 1);
    assert!(
        places.is_empty(),
        "stored twice, by sequence and epoch: {places:?}"
    );
    assert_eq!(rows.len(), published.sent.len());
    for (row, sequence) in rows.iter().zip(1..) {
        assert_eq!(row.sequence, sequence);
        assert_eq!(
            published.sent.get(&row.guid).map(|data| &data[..]),
            Some(&row.data[..]),
            "#{sequence}"
        );
    }
    assert!(rows.is_sorted_by_key(|row| row.epoch));
    assert!(rows.is_sorted_by_key(|row| row.published_at_ns));
}

/// Acceptance: 7, 127, 128, 147, 149.
#[tokio::test]
async fn a_killed_active_is_replaced_and_its_clients_lose_and_notice_nothing() {
    let Some(pair) = Pair::new(&LEASE).await else {
        return;
    };
    let watch = Watch::over(&[&pair.active, &pair.standby]);
    let work = Work::start(&pair.group).await;
    work.progress(300).await;
    let registered = pair.group.tables().clients().await;

    pair.active.kill().await;

    assert_eq!(pair.standby.wait_until_active().await, 2);
    work.progress(300).await;
    assert_eq!(pair.group.tables().clients().await, registered);
    work.finish(&pair.group).await;
    let reason = "session of the previous active ended".to_owned();
    assert_eq!(pair.group.tables().takeovers().await[1..], [(2, reason)]);
    let seen = watch.seen();
    assert_eq!(seen.contradictions, "");
    assert_eq!(seen.epochs, BTreeSet::from([1, 2]));
}

/// `timeout` signals a process and then its group, a terminal the group beside whoever passes signals on.
#[tokio::test]
async fn one_wish_to_stop_that_arrives_twice_is_no_order_to_hurry() {
    let Some(mut pair) = Pair::new(&LEASE).await else {
        return;
    };

    // Stopped, it finds both at once.
    pair.active.signal(Signal::SIGSTOP);
    pair.active.signal(Signal::SIGINT);
    pair.active.signal(Signal::SIGTERM);
    pair.active.signal(Signal::SIGCONT);

    let code = pair.active.end().await.code();
    assert!(matches!(code, Some(0 | 143)), "{code:?}");
    assert!(pair.active.log().contains("released the lock"));
}

/// Acceptance: 127, 137, 169.
#[tokio::test]
async fn an_active_that_is_told_to_stop_hands_over_and_exits_with_143() {
    let Some(mut pair) = Pair::new(&LEASE).await else {
        return;
    };
    let watch = Watch::over(&[&pair.active, &pair.standby]);
    let work = Work::start(&pair.group).await;
    work.progress(200).await;

    pair.active.signal(Signal::SIGTERM);

    assert_eq!(pair.active.end().await.code(), Some(143));
    assert_eq!(pair.standby.wait_until_active().await, 2);
    work.progress(200).await;
    work.finish(&pair.group).await;
    let reason = "released by the previous active".to_owned();
    assert_eq!(pair.group.tables().takeovers().await[1..], [(2, reason)]);
    assert_eq!(watch.seen().contradictions, "");
    assert!(pair.active.log().contains("released the lock"));
}

/// Acceptance: 130.
#[tokio::test]
async fn an_interrupt_ends_active_and_standby_with_0() {
    let Some(mut pair) = Pair::new(&LEASE).await else {
        return;
    };

    pair.standby.signal(Signal::SIGINT);
    assert_eq!(pair.standby.end().await.code(), Some(0));
    pair.active.signal(Signal::SIGINT);
    assert_eq!(pair.active.end().await.code(), Some(0));

    let released = "SELECT count(*) FROM stanby.leadership WHERE released_at IS NOT NULL";
    assert_eq!(pair.group.tables().number(released).await, 1);
}

/// Ended from outside, the session takes the lock along before the old active can know. For as long as it takes to
/// notice, two servers may say that they are active, so nobody watches here what they say: only one can commit.
#[tokio::test]
async fn a_killed_lock_session_costs_the_role_and_nothing_else() {
    let Some(mut pair) = Pair::new(&LEASE).await else {
        return;
    };
    let work = Work::start(&pair.group).await;
    work.progress(100).await;
    let tables = pair.group.tables();

    for takeovers in 2..5 {
        tables
            .execute("SELECT pg_terminate_backend(backend_pid) FROM stanby.leadership")
            .await;
        wait_until(LIMIT, async || match tables.takeovers().await.len() {
            found if found == takeovers => Ok(()),
            found => Err(format!("{found} of {takeovers} takeovers")),
        })
        .await;
        pair.roles().await;
        work.progress(100).await;
    }

    work.finish(&pair.group).await;
    assert!(pair.active.is_running() && pair.standby.is_running());
}
