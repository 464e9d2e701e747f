//! Limits of a channel that an operator sets, and what they would drop.

use std::time::Duration;

use super::arguments::Arguments;
use super::channel::deleted_meanwhile;
use super::{Fact, Facts, RequestError, RequestRow, Stage, Step};
use crate::core::broker::Broker;
use crate::core::channel_limits::{ChannelLimits, Overrides};
use crate::core::group::Group;
use crate::core::ids::{ChannelId, ChannelName, Sequence};
use crate::core::load::LoadQuery;
use crate::core::loads::Purpose;
use crate::core::time::Timestamp;

impl Broker {
    pub(super) fn change_limits(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let name = given.channel()?;
        let reset = given.flag("reset")?;
        let own = changes(given)?;
        given.finish()?;
        let id = self.find_channel(&name)?;
        if row.dry_run {
            let own = self.own_limits(&name, own, reset);
            let limits = own.over(self.settings.limits.of(&name));
            let channel = self.channels.get(id).expect("the channel was just found");
            if let Some(age) = limits.age.filter(|_| limits.age != channel.limits.age) {
                // What would be too old, a read has to tell.
                let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
                let since = Timestamp(self.now.wall.0.saturating_sub(age));
                let committed = channel.committed;
                let want = LoadQuery::FirstSince(since);
                self.loads.ask(id, want, Purpose::Request);
                return Ok(Step::Wait(Stage::Since(committed)));
            }
        }
        self.limits_since(row, given, id, Sequence::ZERO)
    }

    /// Messages up to `expired` are older than the limit of age would allow.
    pub(super) fn limits_since(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        id: ChannelId,
        expired: Sequence,
    ) -> Result<Step, RequestError> {
        let (own, reset) = (changes(given)?, given.flag("reset")?);
        let name = self.channels.get(id).ok_or_else(deleted_meanwhile)?;
        let name = name.row.name.clone();
        let dropped = row.dry_run.then(|| {
            let own = self.own_limits(&name, own, reset);
            self.dropped_by(id, own.over(self.settings.limits.of(&name)), expired)
        });
        let mut facts = self.limit_channel(id, own, reset, row.dry_run);
        if let Some((messages, bytes)) = dropped {
            facts.extend([
                ("drops_messages", messages.into()),
                ("drops_bytes_estimated", bytes.into()),
            ]);
        }
        Ok(Step::Done(facts))
    }

    fn own_limits(&self, name: &ChannelName, changes: Overrides, reset: bool) -> Overrides {
        let before = self.set_limits.get(name).copied().unwrap_or_default();
        changes.or(if reset { Overrides::default() } else { before })
    }

    /// Messages that the limits would drop at once, and bytes: of these the share of so many messages. The newest message stays,
    /// except for age, and what a policy keeps.
    fn dropped_by(&self, id: ChannelId, limits: ChannelLimits, expired: Sequence) -> (u64, u64) {
        let Some(channel) = self.channels.get(id) else {
            return (0, 0);
        };
        let (row, full) = (&channel.row, channel.full);
        let (count, bytes) = (row.message_count, row.byte_count);
        let size = (bytes / count.max(1)).max(1);
        let of_messages = limits.messages.map_or(0, |max| count.saturating_sub(max));
        let of_bytes = limits.bytes.map_or(0, |max| bytes.saturating_sub(max));
        let crowded = if full.rejects && !full.keeps_unacked {
            0
        } else {
            of_messages
                .max(of_bytes.div_ceil(size))
                .min(count.saturating_sub(1))
        };
        let mut messages = crowded.max(channel.count(row.first_sequence, expired));
        if full.keeps_unacked {
            let groups = channel.groups.iter();
            let groups = groups.filter_map(|position| self.groups.get(position));
            let durables = groups.filter(|group| group.is_durable());
            let acked = durables.map(Group::acked_floor).min();
            let acked = acked.unwrap_or(row.last_sequence);
            messages = messages.min(channel.count(row.first_sequence, acked));
        }
        (messages, size * messages)
    }

    /// Says which limits hold then, and where each comes from.
    pub(super) fn limit_channel(
        &mut self,
        id: ChannelId,
        changes: Overrides,
        reset: bool,
        dry_run: bool,
    ) -> Facts {
        let Some(channel) = self.channels.get(id) else {
            return Facts::new();
        };
        let name = channel.row.name.clone();
        let before = self.set_limits.get(&name).copied().unwrap_or_default();
        let own = self.own_limits(&name, changes, reset);
        let limits = own.over(self.settings.limits.of(&name));
        if own != before && !dry_run {
            let is_set = own != Overrides::default();
            if is_set {
                self.set_limits.insert(name.clone(), own);
            } else {
                self.set_limits.remove(&name);
            }
            self.commits.put_limits(name.clone(), is_set.then_some(own));
            if let Some(channel) = self.channels.get_mut(id) {
                channel.limits = limits;
            }
            self.enforce_limits(id);
            self.check_inactivity(id);
        }
        limit_facts(&name, own, limits)
    }

    /// The limits that hold for a channel: what operators have set in the tables takes precedence over the configuration.
    pub(in crate::core) fn limits_of(&self, name: &ChannelName) -> ChannelLimits {
        let configured = self.settings.limits.of(name);
        let own = self.set_limits.get(name);
        own.map_or(configured, |own| own.over(configured))
    }
}

/// What is to be set; 0 is unlimited.
pub(super) fn changes(given: &mut Arguments<'_>) -> Result<Overrides, RequestError> {
    let limit = |number: Option<u64>| number.map(|number| (number > 0).then_some(number));
    let time = |number: Option<u64>| limit(number).map(|time| time.map(Duration::from_nanos));
    let subscriptions = limit(given.number("max_subscriptions")?);
    Ok(Overrides {
        subscriptions: subscriptions
            .map(|max| max.map(|max| usize::try_from(max).unwrap_or(usize::MAX))),
        messages: limit(given.number("max_msgs")?),
        bytes: limit(given.number("max_bytes")?),
        age: time(given.number("max_age")?),
        inactivity: time(given.number("max_inactivity")?),
    })
}

pub(super) fn limit_facts(name: &ChannelName, own: Overrides, limits: ChannelLimits) -> Facts {
    let from = |is_set: bool| Fact::from(if is_set { "table" } else { "configuration" });
    let number = |limit: Option<u64>| limit.map_or("unlimited".into(), Fact::from);
    let time = |limit: Option<Duration>| {
        limit.map_or("unlimited".into(), |limit| Fact::Text(format!("{limit:?}")))
    };
    vec![
        ("channel", name.as_str().into()),
        (
            "max_subscriptions",
            number(limits.subscriptions.map(|it| it as u64)),
        ),
        ("max_subscriptions_from", from(own.subscriptions.is_some())),
        ("max_msgs", number(limits.messages)),
        ("max_msgs_from", from(own.messages.is_some())),
        ("max_bytes", number(limits.bytes)),
        ("max_bytes_from", from(own.bytes.is_some())),
        ("max_age", time(limits.age)),
        ("max_age_from", from(own.age.is_some())),
        ("max_inactivity", time(limits.inactivity)),
        ("max_inactivity_from", from(own.inactivity.is_some())),
    ]
}
