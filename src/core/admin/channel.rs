//! Channels: made, limited, emptied and deleted.

use super::arguments::{Arguments, one_of, unknown};
use super::limits::{changes, limit_facts};
use super::{Facts, RequestError, RequestRow, Stage, Step, Underway};
use crate::core::broker::Broker;
use crate::core::channels::{Channel, Emptying};
use crate::core::group::Group;
use crate::core::ids::{ChannelId, ChannelName, PositionId, Sequence, SubscriptionId};
use crate::core::load::LoadQuery;
use crate::core::loads::Purpose;
use crate::core::notice::Notice;
use crate::core::rejection::Rejection;
use crate::core::request::Durables;
use crate::core::time::Timestamp;

/// Subscriptions that are closed in one step.
const CLOSED_PER_STEP: usize = 256;

impl Broker {
    pub(super) fn find_channel(&self, name: &ChannelName) -> Result<ChannelId, RequestError> {
        self.ensure_served(name)?;
        self.channels.find(name.as_str()).ok_or_else(|| {
            let names = self.channels.names().keys();
            unknown("channel", name.as_str(), names.map(ChannelName::as_str))
        })
    }

    fn ensure_served(&self, name: &ChannelName) -> Result<(), RequestError> {
        let partition = self.settings.partition.as_ref();
        if partition.is_none_or(|partition| partition.contains(name)) {
            return Ok(());
        }
        Err(RequestError::new(
            format!("another group of servers serves channel {name}"),
            "Ask in the schema of that group.",
        ))
    }

    pub(super) fn create_channel(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let name = given.channel()?;
        let own = changes(given)?;
        given.finish()?;
        self.ensure_served(&name)?;
        let found = self.find_or_may_create(&name);
        let is_new = found
            .map_err(|rejection| not_created(&name, &rejection))?
            .is_none();
        let before = self.set_limits.get(&name).copied().unwrap_or_default();
        let configured = self.settings.limits.of(&name);
        if !is_new && own.or(before).over(configured) != before.over(configured) {
            // They may drop messages, which who creates a channel does not expect.
            return Err(RequestError::new(
                format!("channel {name} exists, with other limits"),
                "Change the limits of a channel that exists with channel limits.",
            ));
        }
        if is_new && row.dry_run {
            let own = own.or(before);
            let mut facts = limit_facts(&name, own, own.over(configured));
            facts.insert(1, ("created", true.into()));
            return Ok(Step::Done(facts));
        }
        let id = match self.find_or_create_channel(&name) {
            Ok(id) => id,
            Err(rejection) => return Err(not_created(&name, &rejection)),
        };
        let mut facts = self.limit_channel(id, own, false, row.dry_run);
        facts.insert(1, ("created", is_new.into()));
        Ok(Step::Done(facts))
    }

    pub(super) fn begin_purge(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        const ONE: &str = "before, before_time, keep and all";
        let name = given.channel()?;
        let before = given.sequence("before")?;
        let time = given.number("before_time")?;
        let keep = given.number("keep")?;
        let all = given.flag("all")?;
        given.finish()?;
        let id = self.find_channel(&name)?;
        let channel = self.channels.get(id).expect("the channel was just found");
        if let Some(through) = row.taken.and_then(|taken| taken.through) {
            // An earlier term began with it.
            return self.purge_through(row, id, through);
        }
        let last = channel.committed;
        let through = match (before, time, keep, all) {
            (Some(before), None, None, false)
                if before == Sequence::ZERO || before > last.next() =>
            {
                return Err(out_of_range(channel, before));
            }
            (Some(before), None, None, false) => before.previous(),
            (None, None, Some(keep), false) => channel.gone.before_last(last, keep),
            (None, None, None, true) => last,
            (None, Some(time), None, false) => {
                let time = Timestamp(time.cast_signed());
                let want = LoadQuery::FirstSince(time);
                self.loads.ask(id, want, Purpose::Request);
                return Ok(Step::Wait(Stage::Since(last)));
            }
            _ => return Err(one_of(ONE)),
        };
        self.purge_through(row, id, through)
    }

    /// Empties the channel up to there, as far as it is not yet.
    pub(super) fn purge_through(
        &mut self,
        row: &RequestRow,
        id: ChannelId,
        through: Sequence,
    ) -> Result<Step, RequestError> {
        let group = |position: &PositionId| self.groups.get(position);
        let Some(channel) = self.channels.get_mut(id) else {
            return Err(deleted_meanwhile());
        };
        if row.dry_run {
            let (first, count) = (channel.row.first_sequence, channel.row.message_count);
            let messages = channel.count(first, through.min(channel.committed));
            let bytes = u128::from(channel.row.byte_count) * u128::from(messages);
            let bytes = u64::try_from(bytes / u128::from(count.max(1))).unwrap_or(u64::MAX);
            let durables = channel.groups.iter().filter_map(group);
            let behind = durables.filter(|it| it.is_durable() && it.acked_floor() < through);
            let behind = if messages == 0 { 0 } else { behind.count() };
            return Ok(Step::Done(vec![
                ("channel", channel.row.name.as_str().into()),
                ("messages", messages.into()),
                ("bytes_estimated", bytes.into()),
                ("durables_that_have_not_acked_all", behind.into()),
            ]));
        }
        let before = row.taken.unwrap_or_default();
        channel.emptying = Some(Emptying {
            through: through.min(channel.committed),
            messages: before.messages,
            bytes: before.bytes,
        });
        self.enforce_limits(id);
        self.look_at_purge(row, id)
    }

    /// Limits have dropped some of what is to go.
    pub(in crate::core) fn note_emptying(&mut self, id: ChannelId) {
        let emptying = self.channels.get(id).and_then(|channel| channel.emptying);
        if let Some(it) = emptying {
            self.note_underway(Underway {
                through: Some(it.through),
                messages: it.messages,
                bytes: it.bytes,
            });
            self.request_may_go_on();
        }
    }

    pub(super) fn look_at_purge(
        &mut self,
        row: &RequestRow,
        id: ChannelId,
    ) -> Result<Step, RequestError> {
        let is_refused = self.withheld.limits.contains(&id);
        let Some(channel) = self.channels.get_mut(id) else {
            return Err(deleted_meanwhile());
        };
        let Some(emptying) = channel.emptying else {
            return self.purge_through(row, id, Sequence::ZERO);
        };
        if !emptying.is_done(channel) && !is_refused {
            return Ok(Step::Wait(Stage::Purge(id)));
        }
        channel.emptying = None;
        if !emptying.is_done(channel) {
            let Emptying { messages, .. } = emptying;
            return Err(RequestError::new(
                format!("Postgres refuses to drop messages; {messages} are dropped"),
                "The log of the server says why, and so does `stanby doctor`.",
            ));
        }
        Ok(Step::Done(vec![
            ("channel", channel.row.name.as_str().into()),
            ("messages", emptying.messages.into()),
            ("bytes", emptying.bytes.into()),
            ("first_sequence", channel.row.first_sequence.into()),
            ("last_sequence", channel.row.last_sequence.into()),
        ]))
    }

    pub(super) fn begin_delete(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let name = given.channel()?;
        let force = given.flag("force")?;
        given.finish()?;
        let id = self.find_channel(&name)?;
        let channel = self.channels.get(id).expect("the channel was just found");
        let groups = channel.groups.iter();
        let subscriptions: usize = groups
            .filter_map(|position| self.groups.get(position))
            .map(Group::subscriptions)
            .sum();
        if subscriptions > 0 && !force {
            let some = if subscriptions == 1 {
                "a subscription"
            } else {
                "subscriptions"
            };
            return Err(RequestError::new(
                format!("channel {name} has {some} ({subscriptions})"),
                "Close and remove them first, or force it: they end then, durables included.",
            ));
        }
        if row.dry_run {
            let mut facts = deletion(channel);
            facts.push(("subscriptions", subscriptions.into()));
            return Ok(Step::Done(facts));
        }
        self.go_on_deleting(row, id)
    }

    pub(super) fn go_on_deleting(
        &mut self,
        _row: &RequestRow,
        id: ChannelId,
    ) -> Result<Step, RequestError> {
        let Some(channel) = self.channels.get(id) else {
            return Err(deleted_meanwhile());
        };
        let positions = channel.groups.iter();
        let online = positions
            .filter_map(|position| Some((*position, self.groups.get(position)?)))
            .flat_map(|(position, group)| online_members(position, group));
        let online: Vec<_> = online.take(CLOSED_PER_STEP).collect();
        if !online.is_empty() {
            for (position, subscription) in online {
                self.remove_subscription(position, subscription, Durables::Forget);
            }
            return Ok(Step::GoOn(Stage::Delete(id)));
        }
        let facts = deletion(channel);
        let name = channel.row.name.clone();
        if self.set_limits.remove(&name).is_some() {
            self.commits.put_limits(name.clone(), None);
        }
        self.delete_channel(id, Notice::ChannelDeleted(name));
        Ok(Step::Done(facts))
    }
}

pub(super) fn online_members(
    position: PositionId,
    group: &Group,
) -> impl Iterator<Item = (PositionId, SubscriptionId)> {
    let members = group.members.iter().filter(|(_, member)| member.online);
    members.map(move |(&id, _)| (position, id))
}

fn deletion(channel: &Channel) -> Facts {
    vec![
        ("channel", channel.row.name.as_str().into()),
        ("messages", channel.row.message_count.into()),
        ("bytes", channel.row.byte_count.into()),
    ]
}

pub(super) fn deleted_meanwhile() -> RequestError {
    RequestError::new(
        "the channel was deleted meanwhile",
        "List the channels, and try again with one that exists.",
    )
}

/// The channel does not hold this sequence, nor is it its next one.
pub(super) fn out_of_range(channel: &Channel, sequence: Sequence) -> RequestError {
    let (first, last) = (channel.row.first_sequence, channel.committed);
    let error = format!("sequence {sequence} is not in channel {}", channel.row.name);
    if first > last {
        let next = last.next();
        return RequestError::new(
            error,
            format!("It holds no messages; its next one is {next}."),
        );
    }
    RequestError::new(error, format!("It holds {first} to {last}."))
}

fn not_created(name: &ChannelName, rejection: &Rejection) -> RequestError {
    if let Rejection::CaseClash { existing, .. } = rejection {
        return RequestError::new(
            format!("channel {name} differs from channel {existing} only in the case of letters"),
            "Choose another name.",
        );
    }
    RequestError::new(
        format!("channel {name} was not created: the maximum number of channels is reached"),
        "Raise --max-channels, or delete channels.",
    )
}
