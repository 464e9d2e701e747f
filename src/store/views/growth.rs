//! How full channels are, and how they grew in the last day: for a list, so that nothing is counted.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Argument, Channel, seconds};
use crate::core::ids::ChannelId;
use crate::store::{Error, Store};

/// Bars of the last day.
const HOURS: usize = 24;

const HOUR_SECONDS: f64 = 3600.0;

/// How a channel grew.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Growth {
    channel_id: u64,
    /// How much of the limit is taken; `None`: there is none.
    pub max_msgs_percent: Option<f64>,
    pub max_bytes_percent: Option<f64>,
    /// Age of the oldest message.
    pub oldest_seconds: Option<f64>,
    /// Until the limit of messages or bytes, at the rate of the last hour.
    pub seconds_to_full: Option<f64>,
    /// Some messages of the last day, evenly spread among them: sequence, and age in seconds. The oldest first.
    ages: Vec<(u64, f64)>,
}

/// 32 messages of the last day are looked up by the primary key, however many there are.
const GROWTH: &str = concat!(
    "SELECT c.channel_id, u.max_msgs_percent, u.max_bytes_percent, ",
    seconds!("clock_timestamp() - u.oldest_at"),
    " AS oldest_seconds, ",
    seconds!("u.time_to_full"),
    " AS seconds_to_full, coalesce(g.ages, '[]') AS ages
    FROM channel_usage u
    JOIN channels c ON c.name = u.channel AND NOT c.deleting
    CROSS JOIN LATERAL (SELECT sequence_at(c.channel_id, clock_timestamp() - interval '1 day') AS first) d
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_array(m.sequence, round(extract(epoch FROM clock_timestamp() - wall_time(m.published_at_ns)), 3))
                         ORDER BY m.sequence) AS ages
        FROM (
            SELECT DISTINCT d.first + (c.last_sequence - d.first) * step / 31 AS sequence FROM generate_series(0, 31) step
            WHERE d.first <= c.last_sequence
        ) wanted
        CROSS JOIN LATERAL (
            SELECT m.sequence, m.published_at_ns FROM messages m
            WHERE m.channel_id = c.channel_id AND m.sequence >= wanted.sequence ORDER BY m.sequence LIMIT 1
        ) m
    ) g
    WHERE u.channel = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)))"
);

impl Growth {
    /// About how many messages came in each of the last 24 hours, the oldest first. Between two messages that were looked up
    /// the others are taken to have come evenly.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is for a picture; what lies outside of the day saturates into its first or last hour"
    )]
    pub fn per_hour(&self) -> [f64; HOURS] {
        let mut hours = [0.0; HOURS];
        let mut add = |age: f64, messages: f64| {
            let back = (age / HOUR_SECONDS).max(0.0) as usize;
            let at = HOURS - 1 - back.min(HOURS - 1);
            if let Some(hour) = hours.get_mut(at) {
                *hour += messages;
            }
        };
        if let Some((_, age)) = self.ages.first() {
            add(*age, 1.0);
        }
        for pair in self.ages.windows(2) {
            let [(before, from), (after, to)] = pair else {
                continue;
            };
            let messages = after.saturating_sub(*before) as f64;
            let length = from - to;
            if length <= 0.0 {
                add(*to, messages);
                continue;
            }
            let mut upper = *from;
            while upper > *to {
                // To the beginning of the next hour.
                let edge = ((upper / HOUR_SECONDS).ceil() - 1.0) * HOUR_SECONDS;
                let lower = edge.max(*to);
                add(lower, messages * (upper - lower) / length);
                upper = lower;
            }
        }
        hours
    }
}

impl Store {
    /// Looks at channels that are not being deleted.
    pub async fn growth(
        &self,
        channels: impl Iterator<Item = &Channel>,
    ) -> Result<BTreeMap<ChannelId, Growth>, Error> {
        let names: Vec<&str> = channels.map(|it| it.channel.as_str()).collect();
        let names = serde_json::Value::from(names).to_string();
        let rows: Vec<Growth> = self.query_view(GROWTH, &[Argument::Text(&names)]).await?;
        let rows = rows.into_iter().map(|row| (ChannelId(row.channel_id), row));
        Ok(rows.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hours with messages, by how long ago they were.
    fn per_hour(ages: &[(u64, f64)]) -> String {
        let growth = Growth {
            ages: ages.to_vec(),
            ..Growth::default()
        };
        let hours = growth.per_hour();
        let hours = (0..HOURS).zip(hours.iter().rev());
        let hours = hours.filter(|(_, messages)| **messages > 0.0);
        let hours = hours.map(|(back, messages)| format!("{back}h: {messages:.1}"));
        hours.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn messages_between_two_that_were_looked_up_are_spread_over_the_hours_between() {
        let hours = per_hour(&[(11, 3.0 * 3600.0), (41, 0.0)]);
        assert_eq!(hours, "0h: 10.0, 1h: 10.0, 2h: 10.0, 3h: 1.0");
        // All at once; of the future; of two days ago; none.
        assert_eq!(per_hour(&[(1, 60.0), (100, 60.0)]), "0h: 100.0");
        assert_eq!(per_hour(&[(1, 10.0), (2, -10.0)]), "0h: 2.0");
        assert_eq!(per_hour(&[(1, 172_800.0)]), "23h: 1.0");
        assert_eq!(per_hour(&[]), "");
    }
}
