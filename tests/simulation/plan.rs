//! What a seed decides before its run begins: sizes, limits, delays and how much goes wrong.

use std::time::Duration;

use stanby::core::limits::{ChannelLimits, Heartbeats, Limits, Settings};
use stanby::core::shadow::ShadowLimits;

use stanby::core::lease::Lease;

use crate::rng::Rng;
use crate::swarm::{Kind, Swarm};

/// Breaks one rule of the world, to show that a checker notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The node believes in a commit when it sends it.
    ReleaseBeforeCommit,
    /// The node acts without asking whether it is still trusted.
    SkipTrustWindow,
    /// The database applies what arrives on a session that it has ended.
    CommitOnEndedSession,
    /// The database forgets a message row that it has confirmed.
    LoseRows,
    /// A new term reads everything in flight as acked.
    ForgetInFlight,
    /// A new term does not know which members of a queue group hold what is in flight.
    ForgetHolders,
    /// A new term does not know what is acked in SQL and not carried out.
    ForgetSqlAcks,
    /// Reads leave out a message that exists.
    HideRowsFromReads,
    /// The node drops the answers to its heartbeats.
    IgnorePongs,
    /// Deliveries overtake what was sent before them.
    DeliverBeforeReplies,
    /// The node sees every ack as if it were not there.
    IgnoreAcks,
    /// A new term takes nothing that its node received as a standby for done.
    ReplayEverything,
    /// The database keeps no GUIDs of what limits drop.
    ForgetDropped,
    /// A term that ends takes the requests along that it has in its hands.
    ForgetUnanswered,
    /// A new term knows nothing of what was stored last and its node has not received.
    ForgetLateCopies,
    /// Nodes do not know what was committed.
    ForgetCommits,
    /// The node takes what it reads for its own tables, wherever it was read.
    BelieveEveryRead,
    /// The node sends a batch in one piece, whatever the link carries.
    UploadAtOnce,
    /// The node gives no answer to pings.
    IgnorePings,
    /// A term that follows one which Postgres refused something takes as little care.
    TakeNoCare,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) clients: usize,
    pub(crate) channels: usize,
    pub(crate) settings: Settings,
    /// How long faults happen.
    pub(crate) chaos: Duration,
    /// Idle time after which the database ends the session that holds the lock.
    pub(crate) lease: Duration,
    /// What nodes remember of requests.
    pub(crate) shadow: Option<ShadowLimits>,
    /// Milliseconds: from, to.
    pub(crate) commit_time: (u64, u64),
    pub(crate) read_time: (u64, u64),
    pub(crate) network_time: (u64, u64),
    /// Of a thousand.
    pub(crate) commit_failures: u64,
    pub(crate) lost_replies: u64,
    pub(crate) late_statements: u64,
    pub(crate) read_failures: u64,
    /// Milliseconds between faults from outside: from, to.
    pub(crate) fault_pause: (u64, u64),
    /// How far the replica is behind that a failover makes the primary.
    pub(crate) replica_lag: Option<Duration>,
    /// At first every commit waits for the replica.
    pub(crate) synchronous: bool,
    pub(crate) swarm: Swarm,
    /// Two NATS servers in a cluster; else there is one.
    pub(crate) two_nats: bool,
    /// Some messages are so large that a narrow link takes long for them.
    pub(crate) large_messages: bool,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng, sabotage: Option<Sabotage>) -> Self {
        let often = rng.pick(&[0, 0, 2, 10]);
        let lease = Duration::from_secs(1);
        let shadow = rng
            .pick(&[None, Some(1_500), Some(5_000)])
            .map(|age| ShadowLimits {
                age: Duration::from_millis(age),
                needed: Duration::from_millis(age),
                bytes: rng.pick(&[64 << 20, 20_000]),
            });
        let mut settings = settings(rng);
        settings.limits.duplicate_window = replay_window(shadow, lease) * 2;
        let mut plan = Self {
            nodes: rng.pick(&[2, 2, 2, 3]),
            clients: clients(rng),
            channels: rng.index(3) + 1,
            settings,
            chaos: rng.millis(8_000, 25_000),
            lease,
            shadow,
            commit_time: rng.pick(&[(1, 3), (1, 20), (5, 150)]),
            read_time: rng.pick(&[(1, 3), (1, 60), (20, 400)]),
            network_time: rng.pick(&[(1, 1), (1, 5), (1, 60)]),
            commit_failures: often,
            lost_replies: rng.pick(&[0, 2, 10]),
            late_statements: rng.pick(&[0, 2, 10]),
            read_failures: rng.pick(&[0, 10, 100]),
            fault_pause: rng.pick(&[(200, 1_500), (1_000, 4_000), (2_000, 8_000)]),
            replica_lag: rng
                .pick(&[None, None, Some(0), Some(100), Some(1_500)])
                .map(Duration::from_millis),
            synchronous: false,
            swarm: Swarm::new(rng),
            two_nats: rng.chance(300),
            large_messages: rng.chance(150),
            sabotage,
        };
        if sabotage == Some(Sabotage::UploadAtOnce) {
            // Nothing else would show it.
            plan.swarm = Swarm::of(Kind::NarrowLink);
            plan.large_messages = true;
        }
        plan.synchronous = plan.replica_lag.is_some() && rng.chance(400);
        if plan.synchronous {
            // A standby needs seconds to believe in it.
            plan.fault_pause = (2_000, 8_000);
        }
        plan
    }

    pub(crate) fn server_lease(&self) -> Lease {
        Lease::new(self.lease).expect("the lease is within its bounds")
    }

    /// As a server has it.
    pub(crate) fn replay_window(&self) -> Duration {
        replay_window(self.shadow, self.lease)
    }

    /// What clients ask for is committed as fast as it comes, even when all of them ask at once.
    pub(crate) fn keeps_up(&self) -> bool {
        let limits = &self.settings.limits;
        let is_small = limits.batch_messages < 1_000 || limits.batch_bytes < 1 << 20;
        self.commit_time.1 <= 3 || !is_small
    }

    pub(crate) fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }
}

/// A few, and now and then many.
fn clients(rng: &mut Rng) -> usize {
    if rng.chance(20) {
        rng.index(40) + 10
    } else {
        rng.index(4) + 2
    }
}

fn replay_window(shadow: Option<ShadowLimits>, lease: Duration) -> Duration {
    let remembered = shadow.map_or(Duration::ZERO, |shadow| shadow.age);
    remembered.max(lease * 2) + Duration::from_secs(1)
}

fn settings(rng: &mut Rng) -> Settings {
    let heartbeats = Heartbeats {
        interval: rng.millis(700, 3_000),
        timeout: rng.millis(200, 900),
        fail_count: rng.pick(&[0, 1, 2, 5]),
        duplicate_timeout: rng.millis(150, 500),
    };
    let channel = ChannelLimits {
        subscriptions: rng.pick(&[None, Some(1000)]),
        messages: rng.pick(&[None, None, None, Some(2), Some(20), Some(100)]),
        bytes: rng.pick(&[None, None, None, Some(300), Some(5_000)]),
        age: rng
            .pick(&[None, None, None, Some(3_000)])
            .map(Duration::from_millis),
        inactivity: rng
            .pick(&[None, None, Some(2_500)])
            .map(Duration::from_millis),
    };
    let mut limits = Limits {
        channels: Some(100),
        channel,
        batch_messages: rng.pick(&[2, 20, 8192]),
        batch_bytes: rng.pick(&[200, 8 << 20]),
        tail_bytes: rng.pick(&[0, 600, 3_000, 20_000, 1 << 20]),
        page_messages: rng.pick(&[1, 3, 10, 1024]),
        page_bytes: rng.pick(&[1, 200, 1 << 20]),
        loads: rng.pick(&[1, 2, 16]),
        trim_step: rng.pick(&[1, 3, 5000]),
        progress_delay: rng.millis(1, 200),
        load_retry: rng.millis(5, 300),
        ..Limits::default()
    };
    // Drawn along with the tail: a number of its own would make other worlds of the seeds.
    limits.paged_bytes = limits.tail_bytes;
    limits.window_bytes = limits.tail_bytes.max(1);
    Settings {
        heartbeats,
        limits,
        replace_durables: false,
        ack_prefix: "ack".into(),
        partition: None,
    }
}
