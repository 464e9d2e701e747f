//! How a term of the active ended, and what is reported of it.

use crate::core::attempts::EndKind;
use crate::core::refusal::Refusal;
use crate::leadership::{Cause, End, TermLost};
use crate::nats;

/// How a term ended.
#[derive(Debug)]
pub(in crate::node) enum TermEnd {
    TermLost(TermLost),
    /// NATS was out of reach for a lease: another node may be luckier.
    NatsLost,
    /// The NATS server fell silent, and a standby listens at another one: it has received what this server has not.
    NatsSilent,
    NatsFailed(nats::Error),
    /// Postgres refuses what is to be stored, and it cannot be taken back in this term.
    Refused(Box<Refusal>),
    /// An operator wants another node to be the active.
    SteppedDown,
    Shutdown,
}

impl TermEnd {
    /// For the history.
    pub(in crate::node) fn end(&self) -> End {
        match self {
            Self::TermLost(lost) => End::new(Cause::SessionLost, lost.why.clone()),
            Self::NatsLost => {
                let why = "NATS was out of reach for a lease, or took nothing for as long";
                End::new(Cause::NatsLost, why)
            }
            Self::NatsSilent => {
                let why = "the NATS server fell silent or shuts down, and a standby listens at another one";
                End::new(Cause::NatsLost, why)
            }
            Self::NatsFailed(error) => End::new(
                Cause::NatsLost,
                format!("the connection to NATS failed: {error}"),
            ),
            Self::Refused(refusal) => {
                let why = format!("{refusal}; {}", refusal.remedy);
                End::new(Cause::RefusedWrite, why)
            }
            Self::SteppedDown => End::new(Cause::SteppedDown, "an operator asked for it"),
            Self::Shutdown => End::new(Cause::Stopped, "its server was asked to stop"),
        }
    }

    /// When nobody wanted it, whether the next one would end alike.
    pub(in crate::node) fn kind(&self) -> Option<EndKind> {
        match self {
            Self::TermLost(lost) => Some(lost.kind),
            Self::NatsLost | Self::NatsSilent | Self::NatsFailed(_) => Some(EndKind::NatsLost),
            Self::Refused(_) => Some(EndKind::WriteRefused),
            Self::SteppedDown | Self::Shutdown => None,
        }
    }

    /// When nobody wanted it.
    pub(in crate::node) fn failure(&self) -> Option<End> {
        match self {
            Self::TermLost(_)
            | Self::NatsLost
            | Self::NatsSilent
            | Self::NatsFailed(_)
            | Self::Refused(_) => Some(self.end()),
            Self::SteppedDown | Self::Shutdown => None,
        }
    }

    pub(in crate::node) fn log(&self) {
        match self {
            Self::TermLost(why) => tracing::warn!("stepped down: {why}"),
            Self::NatsLost => {
                tracing::warn!("stepped down: NATS has been out of reach for a lease");
            }
            Self::NatsSilent => tracing::warn!(
                "stepped down: the NATS server fell silent or shuts down, and a standby listens at another one"
            ),
            Self::NatsFailed(error) => {
                let error: &dyn std::error::Error = error;
                tracing::warn!(error, "stepped down: the connection to NATS failed");
            }
            Self::Refused(refusal) => tracing::error!(
                remedy = refusal.remedy,
                "stepped down: {refusal}; the next term takes back what cannot be stored, and goes on with the rest"
            ),
            Self::SteppedDown => {
                tracing::info!("stepped down as an operator asked and released the lock");
            }
            Self::Shutdown => tracing::info!("stepped down and released the lock"),
        }
    }
}
