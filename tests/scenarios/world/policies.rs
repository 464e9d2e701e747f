//! What operators set: `policy orders max=2 backoff=1s,5s dead-letter=dead`, instead of what was set before for the same.

use std::time::Duration;

use stanby::core::Event;
use stanby::core::ids::ChannelName;
use stanby::core::limits::ChannelPattern;
use stanby::core::policy::{Delivery, Full, Poison, Policy};

use super::World;
use crate::script::{Line, duration};

impl World {
    pub(super) fn set_policy(&mut self, line: &mut Line) -> Result<(), String> {
        let channels = line.word(1)?.to_owned();
        let max = line.take("max").map(|text| text.parse::<u32>());
        let max = max.transpose().map_err(|_| "max is a number")?;
        let backoff = line.take("backoff").unwrap_or_default();
        let backoff = backoff.split(',').filter(|text| !text.is_empty());
        let backoff: Result<Vec<Duration>, String> = backoff.map(duration).collect();
        let header = line.take("header").is_some();
        let dead_letter = line.take("dead-letter");
        let poison = match dead_letter {
            Some(channel) => Poison::DeadLetter {
                channel: ChannelName::parse(channel.into()).ok_or("that is no channel")?,
                header,
            },
            None if line.take("pauses").is_some() => Poison::Pause,
            None => Poison::PassOver,
        };
        let mut policies = self.store.policies.clone();
        let channels = ChannelPattern::parse(channels.into()).ok_or("that is no channel")?;
        let (durable, queue_group) = (line.take("durable"), line.take("queue"));
        let policy = Policy {
            id: policies.len() as u64 + 1,
            channels,
            durable: durable.map(Into::into),
            queue_group: queue_group.map(Into::into),
            delivery: Delivery {
                max,
                backoff: backoff?,
                poison,
            },
            full: Full {
                rejects: line.take("rejects").is_some(),
                keeps_unacked: line.take("keeps").is_some(),
            },
        };
        let of = |policy: &Policy| {
            (
                policy.channels.as_str().to_owned(),
                policy.durable.clone(),
                policy.queue_group.clone(),
            )
        };
        policies.retain(|other| of(other) != of(&policy));
        policies.push(policy);
        self.store.policies = policies;
        self.policies_noted();
        Ok(())
    }

    pub(super) fn policies_noted(&mut self) {
        let now = self.now();
        self.broker().handle(Event::PoliciesNoted, now);
    }

    /// What the tables tell of counts and of dead letters.
    pub(super) fn tries(&self) -> Vec<String> {
        let snapshot = self.store.snapshot();
        let counts = snapshot.counts.iter().map(|((_, sequence), count)| {
            let awaited = count.is_awaited.then_some("and is waited for");
            let more = [&*count.reason, awaited.unwrap_or_default()].join(" ");
            format!(
                "#{sequence} was delivered {} times {}",
                count.deliveries,
                more.trim()
            )
        });
        let letters = self.store.dead_letters.iter();
        let letters = letters.map(|(_, sequence, letter)| {
            format!(
                "dead letter #{sequence}: {} #{} after {} deliveries {}",
                letter.origin, letter.sequence, letter.deliveries, letter.reason
            )
        });
        let dropped = self.store.dropped_unacked.iter();
        let dropped = dropped.map(|(id, count)| format!("channel {id} dropped {count} unacked"));
        let lines = counts.chain(letters).chain(dropped);
        lines.map(|line| line.trim_end().to_owned()).collect()
    }
}
