//! Durables and queue groups: found by what they are called, set to another place, paused, and removed.

use super::arguments::{Arguments, one_of, unknown};
use super::channel::{deleted_meanwhile, online_members, out_of_range};
use super::{Facts, RequestError, RequestRow, Stage, Step};
use crate::core::broker::Broker;
use crate::core::channels::Channel;
use crate::core::group::Group;
use crate::core::ids::{ChannelId, ClientId, DurableName, PositionId, QueueName, Sequence};
use crate::core::load::LoadQuery;
use crate::core::loads::Purpose;
use crate::core::request::Durables;
use crate::core::time::Timestamp;

/// Members that are closed in one step.
const CLOSED_PER_STEP: usize = 256;

/// How many of several with one name are listed.
const LISTED_MAX: usize = 5;

/// A position that is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) channel: ChannelId,
    pub(super) position: PositionId,
}

impl Broker {
    /// By channel and what it is called: a durable's name, a queue group's, a client's, as much as it takes to tell it
    /// from others. A durable's name that is empty, beside a queue group's: the group has none.
    pub(super) fn find_position(&self, given: &mut Arguments<'_>) -> Result<Found, RequestError> {
        let name = given.channel()?;
        let durable = given.text("durable");
        let queue_group = given.text("queue_group");
        let has_no_durable = durable == Some("") && queue_group.is_some();
        let durable = durable.filter(|_| !has_no_durable);
        let client_id = given.text("client_id");
        let id = self.find_channel(&name)?;
        let channel = self.channels.get(id).expect("the channel was just found");
        if durable.is_none() && queue_group.is_none() {
            return Err(RequestError::new(
                "neither a durable nor a queue group is named",
                "Give durable, queue_group or both.",
            ));
        }
        let groups = channel.groups.iter();
        let groups = groups.filter_map(|position| Some((*position, self.groups.get(position)?)));
        let fits = |(_, group): &(PositionId, &Group)| {
            durable.is_none_or(|name| durable_name(group) == Some(name))
                && !(has_no_durable && durable_name(group).is_some())
                && queue_group.is_none_or(|name| queue_name(group) == Some(name))
                && client_id.is_none_or(|client| has_member(group, client))
        };
        let found: Vec<_> = groups.clone().filter(fits).collect();
        match found.as_slice() {
            [(position, _)] => Ok(Found {
                channel: id,
                position: *position,
            }),
            [] => {
                let named = groups.clone().map(|(_, group)| group);
                Err(match (durable, queue_group) {
                    (Some(name), _) if !named.clone().any(|it| durable_name(it) == Some(name)) => {
                        unknown("durable", name, named.filter_map(durable_name))
                    }
                    (_, Some(name)) if !named.clone().any(|it| queue_name(it) == Some(name)) => {
                        unknown("queue group", name, named.filter_map(queue_name))
                    }
                    _ => RequestError::new(
                        "no subscription of the channel has all of these names",
                        format!("There are: {}.", listed(named)),
                    ),
                })
            }
            several => Err(RequestError::new(
                format!("{} subscriptions have this name", several.len()),
                format!(
                    "Say which by client_id, queue_group or durable: {}.",
                    listed(several.iter().map(|(_, group)| *group))
                ),
            )),
        }
    }

    pub(super) fn begin_seek(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let found = self.find_position(given)?;
        let to = given.text("to");
        let sequence = given.sequence("sequence")?;
        let time = given.number("time")?;
        given.finish()?;
        let channel = self.channels.get(found.channel);
        let channel = channel.ok_or_else(deleted_meanwhile)?;
        let (first, last) = (channel.row.first_sequence, channel.committed);
        let next = match (to, sequence, time) {
            (Some("first"), None, None) => first,
            (Some("last"), None, None) => last.max(first),
            (Some("new"), None, None) => last.next(),
            (Some(number), None, None) => match number.parse().map(Sequence) {
                Ok(next) => in_range(channel, next)?,
                Err(_) => {
                    return Err(RequestError::new(
                        format!("{:?} is no place in a channel", super::shortened(number)),
                        "It is first, last, new or a sequence.",
                    ));
                }
            },
            (None, Some(next), None) => in_range(channel, next)?,
            (None, None, Some(time)) => {
                let want = LoadQuery::FirstSince(Timestamp(time.cast_signed()));
                self.loads.ask(found.channel, want, Purpose::Request);
                return Ok(Step::Wait(Stage::Since(last)));
            }
            _ => return Err(one_of("to, sequence and time")),
        };
        self.seek(row, found, next)
    }

    /// The read has shown where the time begins; `None`: after all that there was.
    pub(super) fn seek_since(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        asked: ChannelId,
        first: Option<Sequence>,
    ) -> Result<Step, RequestError> {
        // It may have ended since, and the channel may be another one.
        let found = self.find_position(given)?;
        if found.channel != asked {
            return Err(deleted_meanwhile());
        }
        let channel = self.channels.get(found.channel);
        let channel = channel.ok_or_else(deleted_meanwhile)?;
        let next = first.unwrap_or(channel.committed.next());
        self.seek(row, found, next.max(channel.row.first_sequence))
    }

    fn seek(
        &mut self,
        row: &RequestRow,
        found: Found,
        next: Sequence,
    ) -> Result<Step, RequestError> {
        let Found { channel, position } = found;
        self.ensure_written(position)?;
        let group = self.groups.get(&position).ok_or_else(ended_meanwhile)?;
        let channel = self.channels.get(channel).ok_or_else(deleted_meanwhile)?;
        let mut facts = describe(group);
        let next_before = group.last_sent.next();
        let first_unacked = group.in_flight.keys().next().copied();
        let in_flight = group.in_flight.range(..next);
        let in_flight = in_flight.filter(|(sequence, _)| channel.holds(**sequence));
        let passed_over = in_flight.count() as u64 + channel.count(next_before, next.previous());
        facts.extend([
            ("from_sequence", next_before.into()),
            ("passed_over", passed_over.into()),
            ("first_unacked", first_unacked.unwrap_or(next_before).into()),
            ("to_sequence", next.into()),
            ("messages", channel.count(next, channel.committed).into()),
            ("in_flight_before", group.in_flight.len().into()),
            ("members", online_members(position, group).count().into()),
        ]);
        if !row.dry_run {
            self.move_position(found, next.previous());
        }
        Ok(Step::Done(facts))
    }

    /// What comes after this sequence is delivered next, whatever was delivered before. Nothing is in flight any more.
    fn move_position(&mut self, found: Found, after: Sequence) {
        let Found { channel, position } = found;
        self.drop_page(position);
        self.drop_fetched(position);
        self.waiting_for_unseen.remove(&position);
        let group = self.groups.get_mut(&position).expect("it was just found");
        let members: Vec<_> = group.members.keys().copied().collect();
        self.usage.in_flight -= group.in_flight.len();
        self.usage.early_acks -= group.early_acks();
        group.begin_after(after);
        group.reset_attempts();
        for member in members {
            // They are sent again, or are not wanted any more.
            self.commits.deliveries.forget(member);
        }
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.acked_by_all = Sequence::ZERO;
            channel.slowest = None;
        }
        self.resume_held_back();
        self.note_progress(position);
        self.commits.put_moved(position);
        self.commits.move_after_commit(position);
    }

    /// Fails where Postgres refuses the progress of the position: what is changed of it would not be stored.
    pub(super) fn ensure_written(&self, position: PositionId) -> Result<(), RequestError> {
        if !self.withheld.withholds(position) {
            return Ok(());
        }
        Err(RequestError::new(
            "Postgres refuses to store the progress of this subscription",
            "The log of the server says why, and so does `stanby doctor`.",
        ))
    }

    pub(super) fn pause(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        pauses: bool,
    ) -> Result<Step, RequestError> {
        let Found { position, .. } = self.find_position(given)?;
        given.finish()?;
        let group = self.groups.get_mut(&position).ok_or_else(ended_meanwhile)?;
        if !group.is_durable() {
            return Err(RequestError::new(
                "a queue group without a durable name cannot be paused",
                "It ends with its last member; pause durables.",
            ));
        }
        let mut facts = describe(group);
        facts.extend([
            ("paused", pauses.into()),
            ("was_paused", group.paused.into()),
        ]);
        if !row.dry_run && group.paused != pauses {
            group.paused = pauses;
            self.commits.put_paused(position, pauses);
            if pauses {
                self.drop_page(position);
                self.drop_fetched(position);
            } else {
                group.moving += 1;
                self.commits.move_after_commit(position);
                self.commits.wake_after_commit(position);
            }
        }
        Ok(Step::Done(facts))
    }

    pub(super) fn begin_remove(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let Found { position, .. } = self.find_position(given)?;
        let force = given.flag("force")?;
        given.finish()?;
        let group = self.groups.get(&position).ok_or_else(ended_meanwhile)?;
        let members = online_members(position, group).count();
        if members > 0 && !force {
            return Err(RequestError::new(
                format!("{members} of its members are connected"),
                "Close them first, or force it: their subscriptions end then.",
            ));
        }
        if row.dry_run {
            return Ok(Step::Done(removal(position, group)));
        }
        Ok(self.go_on_removing(position))
    }

    pub(super) fn go_on_removing(&mut self, position: PositionId) -> Step {
        let Some(group) = self.groups.get(&position) else {
            return Step::Done(vec![("removed", true.into())]);
        };
        let facts = removal(position, group);
        let members: Vec<_> = group.members.keys().copied().collect();
        if members.len() > CLOSED_PER_STEP {
            for member in members.into_iter().take(CLOSED_PER_STEP) {
                self.remove_subscription(position, member, Durables::Forget);
            }
            return Step::GoOn(Stage::Remove(position));
        }
        for member in members {
            self.remove_subscription(position, member, Durables::Forget);
        }
        // A durable queue group lives without members.
        self.remove_group(position);
        Step::Done(facts)
    }
}

fn removal(position: PositionId, group: &Group) -> Facts {
    let mut facts = describe(group);
    facts.extend([
        ("members", online_members(position, group).count().into()),
        ("in_flight", group.in_flight.len().into()),
    ]);
    facts
}

/// What it is called.
pub(super) fn describe(group: &Group) -> Facts {
    let mut facts = Facts::new();
    facts.extend(durable_name(group).map(|name| ("durable", name.into())));
    facts.extend(queue_name(group).map(|name| ("queue_group", name.into())));
    if !group.is_queue() {
        let owner = group.members.values().next();
        facts.extend(owner.map(|owner| ("client_id", owner.client_id.as_str().into())));
    }
    facts
}

/// One that the channel holds, or its next one.
fn in_range(channel: &Channel, next: Sequence) -> Result<Sequence, RequestError> {
    let (first, last) = (channel.row.first_sequence, channel.committed);
    if next < first || next > last.next() {
        return Err(out_of_range(channel, next));
    }
    Ok(next)
}

pub(super) fn ended_meanwhile() -> RequestError {
    RequestError::new(
        "the subscription has ended meanwhile",
        "List the durables, and try again with one that exists.",
    )
}

fn durable_name(group: &Group) -> Option<&str> {
    group.durable_name.as_ref().map(DurableName::as_str)
}

fn queue_name(group: &Group) -> Option<&str> {
    group.queue_group.as_ref().map(QueueName::as_str)
}

fn has_member(group: &Group, client: &str) -> bool {
    let mut members = group.members.values();
    members.any(|member| member.client_id.as_str() == client)
}

fn listed<'a>(groups: impl Iterator<Item = &'a Group>) -> String {
    let name = |group: &Group| {
        let durable = durable_name(group).map(|name| format!("durable {name}"));
        let durable = durable.or_else(|| group.is_queue().then(|| "durable \"\"".to_owned()));
        let queue = queue_name(group).map(|name| format!("queue group {name}"));
        let owner = group.members.values().next().filter(|_| !group.is_queue());
        let owner = owner.map(|owner| format!("of client {}", ClientId::as_str(&owner.client_id)));
        let parts: Vec<String> = [queue, durable, owner].into_iter().flatten().collect();
        parts.join(" ")
    };
    let names: Vec<String> = groups.take(LISTED_MAX).map(name).collect();
    names.join("; ")
}
