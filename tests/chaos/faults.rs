//! What may go wrong, and how it is done to a world. Each fault begins in a settled world and leaves everything as it
//! found it; what may be missed meanwhile is written down as an excuse.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::needs::Needs;
use crate::proxy::Link;
use crate::rng::Rng;
use crate::support::copy::Kind;
use crate::world::{Shape, World};
use crate::{
    database_faults, nats_faults, network_faults, process_faults, read_faults, refusal_faults,
};

macro_rules! faults {
    ($($fault:ident $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($fault,)*
        }

        impl Fault {
            pub(crate) const ALL: &[Self] = &[$(Self::$fault,)*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)*
                }
            }
        }
    };
}

faults! {
    KillActive "kill-active",
    KillTwoActives "kill-two-actives",
    KillAll "kill-all",
    KillStandby "kill-standby",
    StopActive "stop-active",
    FreezeBriefly "freeze-briefly",
    FreezeLong "freeze-long",
    FreezeQuiet "freeze-quiet",
    EndLockSession "end-lock-session",
    EndLockSessionMidCommit "end-lock-session-mid-commit",
    SlowCommit "slow-commit",
    KillBackend "kill-backend",
    RestartPostgres "restart-postgres",
    CrashPostgres "crash-postgres",
    KillPostmaster "kill-postmaster",
    LeadStandbyToReplica "lead-standby-to-replica",
    PromoteSynchronous "promote-synchronous",
    PromoteAsynchronous "promote-asynchronous",
    FillDisk "fill-disk",
    CutActiveFromPostgres "cut-active-from-postgres",
    ResetActiveFromPostgres "reset-active-from-postgres",
    SlowActiveToPostgres "slow-active-to-postgres",
    CutStandbyFromPostgres "cut-standby-from-postgres",
    CutActiveFromNats "cut-active-from-nats",
    ResetActiveFromNats "reset-active-from-nats",
    CutStandbyFromNats "cut-standby-from-nats",
    RestartNats "restart-nats",
    KillNats "kill-nats",
    JumpClock "jump-clock",
    BlockLogs "block-logs",
    RefuseRows "refuse-rows",
    HideRows "hide-rows",
    ChangeRoleSettings "change-role-settings",
    JumpClockOfPostgres "jump-clock-of-postgres",
    LeadReadsToReplica "lead-reads-to-replica",
    LeadReadsToOldPrimary "lead-reads-to-old-primary",
    FreezeReaders "freeze-readers",
    FreezeLockSession "freeze-lock-session",
    SlowUpload "slow-upload",
    CutWordsToPostgres "cut-words-to-postgres",
    CutAnswersOfPostgres "cut-answers-of-postgres",
    CutWordsToNats "cut-words-to-nats",
    CutRequestsFromNats "cut-requests-from-nats",
    FreezeNats "freeze-nats",
    CutRoutes "cut-routes",
    LameDuck "lame-duck",
}

impl Fault {
    /// The world that it needs; `PAIR` where any will do.
    pub(crate) fn shape(self) -> Shape {
        Shape {
            servers: if self == Self::KillTwoActives { 3 } else { 2 },
            needs: self.needs(),
            ..Shape::PAIR
        }
    }

    pub(crate) fn needs(self) -> Needs {
        let needs = [
            (Needs::SMALL_DISK, &[Self::FillDisk][..]),
            (Needs::FALSE_CLOCKS, &[Self::JumpClock]),
            (Needs::LOG_PIPES, &[Self::BlockLogs]),
            (
                Needs::PLAIN_ROLE,
                &[Self::HideRows, Self::ChangeRoleSettings],
            ),
            (Needs::FALSE_CLOCK_OF_POSTGRES, &[Self::JumpClockOfPostgres]),
            (
                Needs::TWO_NATS,
                &[Self::FreezeNats, Self::CutRoutes, Self::LameDuck],
            ),
        ];
        let mut needed = needs.into_iter().filter(|(_, by)| by.contains(&self));
        needed.next().map_or(Needs::NONE, |(needs, _)| needs)
    }

    /// Whether the world is as before afterwards: a Postgres has one replica at most, and once.
    pub(crate) fn is_repeatable(self) -> bool {
        !matches!(
            self,
            Self::LeadStandbyToReplica | Self::PromoteSynchronous | Self::PromoteAsynchronous
        )
    }

    /// Does it, and returns when its cause has gone; the world may still have to recover.
    pub(crate) async fn happen(self, world: &mut World, rng: &mut Rng) {
        match self {
            Self::KillActive => process_faults::end_active(world, Signal::SIGKILL).await,
            Self::StopActive => process_faults::end_active(world, Signal::SIGTERM).await,
            Self::KillTwoActives => process_faults::kill_two_actives(world).await,
            Self::KillAll => process_faults::kill_all(world).await,
            Self::KillStandby => process_faults::kill_standby(world, rng).await,
            Self::FreezeBriefly => process_faults::freeze_briefly(world, rng).await,
            Self::FreezeLong => process_faults::freeze_long(world, rng).await,
            Self::FreezeQuiet => process_faults::freeze_quiet(world).await,
            Self::JumpClock => process_faults::jump_clocks(world, rng).await,
            Self::EndLockSession => database_faults::end_lock_session(world).await,
            Self::EndLockSessionMidCommit => {
                database_faults::end_lock_session_mid_commit(world, rng).await;
            }
            Self::SlowCommit => database_faults::slow_commit(world, rng).await,
            Self::KillBackend => database_faults::kill_backend(world).await,
            Self::RestartPostgres => database_faults::restart(world, Signal::SIGINT, rng).await,
            Self::CrashPostgres => database_faults::restart(world, Signal::SIGQUIT, rng).await,
            Self::KillPostmaster => database_faults::restart(world, Signal::SIGKILL, rng).await,
            Self::LeadStandbyToReplica => {
                database_faults::lead_standby_to_replica(world, rng).await;
            }
            Self::PromoteSynchronous => database_faults::promote(world, true).await,
            Self::PromoteAsynchronous => database_faults::promote(world, false).await,
            Self::FillDisk => database_faults::fill_disk(world, rng).await,
            Self::CutActiveFromPostgres => {
                network_faults::cut_active_from_postgres(world, Link::Silent, rng).await;
            }
            Self::ResetActiveFromPostgres => {
                network_faults::cut_active_from_postgres(world, Link::Reset, rng).await;
            }
            Self::SlowActiveToPostgres => network_faults::slow_to_postgres(world, rng).await,
            Self::CutStandbyFromPostgres => {
                network_faults::cut_standby_from_postgres(world, rng).await;
            }
            Self::CutActiveFromNats => {
                network_faults::cut_active_from_nats(world, Link::Silent).await;
            }
            Self::ResetActiveFromNats => {
                network_faults::cut_active_from_nats(world, Link::Reset).await;
            }
            Self::CutStandbyFromNats => network_faults::cut_standby_from_nats(world, rng).await,
            Self::RestartNats => network_faults::restart_nats(world, Signal::SIGTERM, rng).await,
            Self::BlockLogs => process_faults::block_logs(world, rng).await,
            Self::RefuseRows => refusal_faults::refuse_rows(world, rng).await,
            Self::HideRows => refusal_faults::hide_rows(world, rng).await,
            Self::ChangeRoleSettings => database_faults::change_role_settings(world, rng).await,
            Self::JumpClockOfPostgres => database_faults::jump_clock(world, rng).await,
            Self::LeadReadsToReplica => {
                read_faults::lead_reads_astray(world, Kind::Lagging, rng).await;
            }
            Self::LeadReadsToOldPrimary => {
                read_faults::lead_reads_astray(world, Kind::Separate, rng).await;
            }
            Self::FreezeReaders => read_faults::freeze_readers(world, rng).await,
            Self::FreezeLockSession => read_faults::freeze_lock_session(world, rng).await,
            Self::SlowUpload => network_faults::slow_upload(world, rng).await,
            Self::CutWordsToPostgres => {
                network_faults::cut_active_from_postgres(world, Link::SilentThere, rng).await;
            }
            Self::CutAnswersOfPostgres => {
                network_faults::cut_active_from_postgres(world, Link::SilentBack, rng).await;
            }
            Self::CutWordsToNats => {
                network_faults::cut_active_from_nats(world, Link::SilentThere).await;
            }
            Self::CutRequestsFromNats => {
                network_faults::cut_active_from_nats(world, Link::SilentBack).await;
            }
            Self::FreezeNats => nats_faults::freeze_nats(world, rng).await,
            Self::CutRoutes => nats_faults::cut_routes(world, rng).await,
            Self::LameDuck => nats_faults::lame_duck(world).await,
            Self::KillNats => network_faults::restart_nats(world, Signal::SIGKILL, rng).await,
        }
    }
}

/// Lets a fault happen and the world recover, and notes how long publishers waited after its end.
pub(crate) async fn strike(world: &mut World, fault: Fault, rng: &mut Rng) {
    let quiet = rng.millis(50, 400);
    world.hold(quiet).await;
    fault.happen(world, rng).await;
    let ended = world.now();
    let waited = world.recover(ended).await;
    world.end_excuse();
    world.settle().await;
    eprintln!("    {:<28} acks again after {waited:?}", fault.name());
    world
        .history
        .recoveries
        .push((fault.name().to_owned(), waited));
}

/// A standby, any of them.
pub(crate) async fn a_standby(world: &mut World, rng: &mut Rng) -> usize {
    let active = world.active().await;
    let standbys: Vec<_> = (0..world.members.len())
        .filter(|&member| member != active)
        .collect();
    rng.pick(&standbys)
}

/// In thousandths of the lease.
pub(crate) fn of_lease(rng: &mut Rng, low: u32, high: u32) -> Duration {
    let lease = crate::world::LEASE;
    rng.millis(
        u64::try_from((lease * low / 1000).as_millis()).unwrap_or(u64::MAX),
        u64::try_from((lease * high / 1000).as_millis()).unwrap_or(u64::MAX),
    )
}
