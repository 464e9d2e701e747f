//! Policies, and how often messages were delivered.

use std::time::Duration;

use bytestring::ByteString;

use super::error::Fault;
use super::rows::Reading;
use super::source::{Line, Source};
use crate::core::ids::{ChannelName, PositionId};
use crate::core::limits::ChannelPattern;
use crate::core::policy::{Count, Delivery, Full, Poison, Policy};
use crate::core::snapshot::Snapshot;

pub(super) const POLICIES: &str = "SELECT policy_id, channel, durable, queue_group, max_deliveries, poison, dead_letter, dead_letter_header,
        when_full = 'reject' AS rejects, keep_until_acked,
        ARRAY(SELECT (extract(epoch FROM pause) * 1000000)::bigint FROM unnest(backoff) WITH ORDINALITY AS b (pause, n) ORDER BY n)
            AS backoff
    FROM policies ORDER BY policy_id";

pub(super) const COUNTS: &str =
    "SELECT position_id, sequence, deliveries, reason, given_up, coalesce(awaited_since = last_at, false) AS awaited
    FROM delivery_counts";

pub(super) async fn all(source: &mut Source<'_>) -> Result<Vec<Policy>, Fault> {
    let mut policies = Vec::new();
    source
        .each(POLICIES, &[], |line| {
            policies.push(policy(&line)?);
            Ok(())
        })
        .await?;
    Ok(policies)
}

pub(super) fn take(line: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    snapshot.policies.push(policy(line)?);
    Ok(())
}

/// The constraints of the table leave no row that cannot be read.
fn policy(line: &Line) -> Result<Policy, Fault> {
    let id: i64 = line.get("policy_id")?;
    let row = Reading::new("policies", line, id);
    let name = |name: ByteString| Some(name);
    let dead_letter = row.optional_text("dead_letter", ChannelName::parse)?;
    let poison = match (row.get::<&str>("poison")?, dead_letter) {
        (_, Some(channel)) => Poison::DeadLetter {
            channel,
            header: row.get("dead_letter_header")?,
        },
        ("pause", None) => Poison::Pause,
        (_, None) => Poison::PassOver,
    };
    let backoff: Vec<i64> = row.get("backoff")?;
    let backoff = backoff.into_iter().map(i64::unsigned_abs);
    let max: Option<i32> = row.get("max_deliveries")?;
    Ok(Policy {
        id: row.number("policy_id")?,
        channels: row.text("channel", ChannelPattern::parse)?,
        durable: row.optional_text("durable", name)?,
        queue_group: row.optional_text("queue_group", name)?,
        delivery: Delivery {
            max: max.map(i32::unsigned_abs),
            backoff: backoff.map(Duration::from_micros).collect(),
            poison,
        },
        full: Full {
            rejects: row.get("rejects")?,
            keeps_unacked: row.get("keep_until_acked")?,
        },
    })
}

pub(super) fn take_count(line: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let position: i64 = line.get("position_id")?;
    let row = Reading::new("delivery_counts", line, position);
    let key = (
        PositionId(row.number("position_id")?),
        row.sequence("sequence")?,
    );
    let count = Count {
        deliveries: row.number("deliveries")?,
        reason: ByteString::from(row.get::<&str>("reason")?),
        is_given_up: row.get("given_up")?,
        is_awaited: row.get("awaited")?,
    };
    snapshot.counts.insert(key, count);
    Ok(())
}
