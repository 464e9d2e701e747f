//! The end of a channel, as `stanby sub` found it when it began.

use std::time::Duration;

use super::{SubscribeArgs, Subscription};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::protocol::client::Delivery;

/// Nothing that is there is delivered later than this after the last message.
const QUIET: Duration = Duration::from_secs(3);

/// A takeover may be under way.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// Where the channel ended when the command began.
pub(super) enum End {
    NotAsked,
    /// The last message is to come.
    Asked(Box<Subscription>),
    At(u64),
}

impl End {
    pub(super) async fn next(&mut self) -> Result<Delivery, Failure> {
        match self {
            Self::Asked(subscription) => subscription.next().await,
            Self::NotAsked | Self::At(_) => std::future::pending().await,
        }
    }

    pub(super) fn is_reached(&self, printed: Option<u64>, from: Option<u64>) -> bool {
        match self {
            Self::At(end) => {
                printed.is_some_and(|printed| printed >= *end)
                    || from.is_some_and(|from| from > *end)
            }
            Self::NotAsked | Self::Asked(_) => false,
        }
    }

    /// How long nothing has to come until it is taken that nothing will: an empty channel has no last message, and of what a
    /// durable or a queue group has acked nothing comes. Else the end does come, unless a limit drops it.
    pub(super) fn patience(&self, args: &SubscribeArgs) -> Duration {
        let is_shared = !args.durable.is_empty() || !args.queue.is_empty();
        match self {
            Self::At(_) if !is_shared && args.since.is_none() && !args.new_only => END_PATIENCE,
            Self::NotAsked | Self::Asked(_) | Self::At(_) => QUIET,
        }
    }

    pub(super) fn tell_gap(&self, printed: Option<u64>) {
        if let (Self::At(end), Some(printed)) = (self, printed) {
            output::note(&format!(
                "nothing came after message {printed}, though {end} was the last one: others have it, or it was dropped"
            ));
        }
    }
}
