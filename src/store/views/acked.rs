//! Who has acked a message, and who has it.

use serde::{Deserialize, Serialize};

use super::Argument;
use crate::store::{Error, Store};

/// A durable or a subscription, and how it stands with one message.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Taker {
    pub durable: Option<String>,
    pub queue_group: Option<String>,
    pub clients: Option<String>,
    /// `acked`, `in flight` or `unsent`.
    pub state: String,
    /// Who has it in flight.
    pub holder: Option<String>,
}

const TAKERS: &str = "WITH picked AS MATERIALIZED (
        SELECT p.position_id, c.name FROM positions p JOIN channels c USING (channel_id)
        WHERE c.name = $1 AND NOT c.deleting ORDER BY p.acked_floor, p.position_id LIMIT $3
    )
    SELECT p.durable_name AS durable, p.queue_group, s.clients,
        CASE WHEN p.last_sent < $2 THEN 'unsent' WHEN f.sequence IS NOT NULL THEN 'in flight' ELSE 'acked' END AS state,
        f.client_id AS holder
    FROM picked JOIN positions p USING (position_id)
    LEFT JOIN (
        SELECT position_id, string_agg(client_id, ', ' ORDER BY client_id) AS clients FROM subscriptions
        WHERE position_id = ANY (ARRAY(SELECT position_id FROM picked)) GROUP BY 1
    ) s USING (position_id)
    LEFT JOIN (
        SELECT position_id, sequence, client_id FROM in_flight WHERE channel = $1 AND sequence = $2
    ) f USING (position_id)
    ORDER BY 4 DESC, 1, 2, 3";

impl Store {
    /// Up to `count`, those that are furthest behind.
    pub async fn takers(
        &self,
        channel: &str,
        sequence: u64,
        count: i64,
    ) -> Result<Vec<Taker>, Error> {
        let given = [
            Argument::Text(channel),
            Argument::Number(i64::try_from(sequence).unwrap_or(i64::MAX)),
            Argument::Number(count),
        ];
        self.query_view(TAKERS, &given).await
    }
}
