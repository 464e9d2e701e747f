//! A channel that is read from a former server that runs, and how far it has come.

use super::order::Order;
use crate::core::ids::ChannelName;
use crate::core::time::Instant;
use crate::former::encryption::ChannelKeys;
use crate::former::messages::Totals;

/// So much of each channel may be on its way.
const IN_FLIGHT_BYTES: u64 = 2 << 20;
const IN_FLIGHT_MAX: u64 = 2048;

pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) keys: ChannelKeys,
    pub(super) order: Order,
    pub(super) totals: Totals,
    /// As the last look has shown it.
    pub(super) shown_last: u64,
    /// Somebody has published to it, and no page has shown it yet.
    pub(super) is_news: bool,
    pub(super) max_in_flight: i32,
    pub(super) subscribed: Option<Subscribed>,
}

pub(super) struct Subscribed {
    pub(super) number: u64,
    pub(super) at: Instant,
    /// `None` before the answer.
    pub(super) ack_inbox: Option<String>,
    /// What has overtaken the answer.
    pub(super) owed: Vec<u64>,
}

impl Channel {
    /// All that the last look has shown is here.
    pub(super) fn is_level(&self) -> bool {
        self.order.due() > self.shown_last
    }

    /// Somebody published to it at the end, and nothing has come.
    pub(super) fn is_silent(&self) -> bool {
        self.is_news && self.totals.count == 0
    }

    /// The server has not even answered to the subscription.
    pub(super) fn is_unknown(&self) -> bool {
        let is_answered = self
            .subscribed
            .as_ref()
            .is_some_and(|it| it.ack_inbox.is_some());
        self.is_silent() && !is_answered
    }
}

pub(super) fn in_flight(bytes: u64, messages: u64) -> i32 {
    let size = (bytes / messages.max(1)).max(1);
    let fits = (IN_FLIGHT_BYTES / size).clamp(1, IN_FLIGHT_MAX);
    i32::try_from(fits).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_are_few_on_their_way() {
        assert_eq!(in_flight(0, 0), 2048);
        assert_eq!(in_flight(256 * 1000, 1000), 2048);
        assert_eq!(in_flight(10 << 20, 10), 2);
        assert_eq!(in_flight(80 << 20, 10), 1);
    }
}
