//! What the active notes of its configuration, for who looks at the tables.

use super::Active;
use crate::core::limits::ChannelLimits;
use crate::leadership::{LimitRow, TermLost};

impl Active<'_> {
    /// In the tables, at the beginning of the term and when they have changed.
    pub(super) fn show_limits(&mut self) -> Result<(), TermLost> {
        if self.limits_are_shown {
            return Ok(());
        }
        let configured = self.limits.borrow().configured();
        let rows = configured
            .into_iter()
            .map(|(channels, limits)| row(channels, limits));
        self.limits_are_shown = self.leader.show_limits(rows.collect())?;
        Ok(())
    }
}

fn row(channels: String, limits: ChannelLimits) -> LimitRow {
    let number = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
    let time = |limit: std::time::Duration| i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
    LimitRow {
        channels,
        subscriptions: limits.subscriptions.map(|limit| number(limit as u64)),
        messages: limits.messages.map(number),
        bytes: limits.bytes.map(number),
        age: limits.age.map(time),
        inactivity: limits.inactivity.map(time),
    }
}
