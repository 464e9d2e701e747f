//! Lists in pages, for stores with very many channels, durables and clients: only the rows that a page shows are looked at
//! closely. What they are sorted by is known without a look at messages.

use serde::{Deserialize, Serialize};

use super::{Argument, Channel, Client, Durable, iso, seconds};
use crate::store::{Error, Store};

/// Which part of a list.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// What has this in one of its names; empty: everything.
    pub filter: &'a str,
    /// `name`, or one of the list's own words.
    pub sort: &'a str,
    pub offset: i64,
    /// Rows; one more is read than is shown, which shows that there are more.
    pub limit: i64,
}

impl Part<'_> {
    pub(super) fn given(&self) -> [Argument<'_>; 4] {
        [
            Argument::Text(self.filter),
            Argument::Text(self.sort),
            Argument::Number(self.limit),
            Argument::Number(self.offset),
        ]
    }
}

/// What stands in a sentence about everything.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Overview {
    pub cluster_id: Option<String>,
    pub clients: u64,
    pub channels: u64,
    pub subscriptions: u64,
    pub durables: u64,
    pub messages: u64,
    pub bytes: u64,
    /// Clients that have missed heartbeats.
    pub unresponsive: u64,
    pub paused: u64,
    /// Published in SQL, and not stored yet; at most 1,000 are counted, and so with the next ones.
    pub outbox: u64,
    pub refused: u64,
    pub unreadable: u64,
    /// Requests of operators that no server has answered.
    pub open_requests: u64,
}

/// What is wrong with the active, or was with the last one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Condition {
    pub kind: String,
    pub reason: String,
    pub since: Option<String>,
}

const CHANNEL_PAGE: &str = concat!(
    "WITH picked AS MATERIALIZED (
        SELECT c.channel_id FROM channels c
        LEFT JOIN (
            SELECT p.channel_id, min(p.acked_floor) AS floor FROM positions p WHERE $2 = 'lag' GROUP BY 1
        ) p USING (channel_id)
        WHERE CASE $2 WHEN 'one' THEN c.name = $1 AND NOT c.deleting ELSE $1 = '' OR position(lower($1) IN lower(c.name)) > 0 END
        ORDER BY CASE $2 WHEN 'messages' THEN c.message_count WHEN 'bytes' THEN c.byte_count
            WHEN 'published' THEN c.last_published_at_ns
            WHEN 'lag' THEN coalesce(c.last_sequence - greatest(p.floor, c.first_sequence - 1), 0) END DESC NULLS LAST,
            c.name, c.channel_id
        LIMIT $3 OFFSET $4
    )
    SELECT c.channel_id, c.name AS channel, CASE WHEN c.deleting THEN 'deleting' ELSE 'open' END AS status,
        c.first_sequence, c.last_sequence, c.message_count AS messages, c.byte_count AS bytes,
        coalesce(n.subscriptions, 0) AS subscriptions, coalesce(s.lag, 0) AS lag, coalesce(s.behind_seconds, 0) AS behind_seconds, ",
    iso!("wall_time(nullif(c.last_published_at_ns, 0))"),
    " AS last_published_at, ",
    iso!("wall_time(c.created_at_ns)"),
    " AS created_at
    FROM channels c
    LEFT JOIN (
        SELECT p.channel_id, max(p.lag) AS lag, ",
    seconds!("max(p.behind)"),
    " AS behind_seconds
        FROM position_status p WHERE p.channel_id = ANY (ARRAY(SELECT channel_id FROM picked)) GROUP BY 1
    ) s USING (channel_id)
    LEFT JOIN (
        SELECT p.channel_id, count(*) AS subscriptions FROM positions p JOIN subscriptions USING (position_id)
        WHERE p.channel_id = ANY (ARRAY(SELECT channel_id FROM picked)) GROUP BY 1
    ) n USING (channel_id)
    WHERE c.channel_id = ANY (ARRAY(SELECT channel_id FROM picked))
    ORDER BY CASE $2 WHEN 'messages' THEN c.message_count WHEN 'bytes' THEN c.byte_count
        WHEN 'published' THEN c.last_published_at_ns WHEN 'lag' THEN s.lag END DESC NULLS LAST, c.name, c.channel_id"
);

/// The rows of the positions that the first part has picked: durables, and queue groups that have no durable name.
macro_rules! durables_picked {
    () => {
        concat!(
            "SELECT channel, coalesce(durable_name, '') AS durable, queue_group, clients, members, status, lag, unsent, in_flight,
                max_in_flight, ",
            seconds!("behind"),
            " AS behind_seconds, oldest_unacked, ",
            iso!("oldest_unacked_at"),
            " AS oldest_unacked_at, last_sent, acked_floor, ",
            iso!("paused_since"),
            " AS paused_since, paused_for, why
            FROM position_status WHERE position_id = ANY (ARRAY(SELECT position_id FROM picked))
            ORDER BY "
        )
    };
}

const DURABLE_PAGE: &str = concat!(
    "WITH picked AS MATERIALIZED (
        SELECT p.position_id FROM positions p JOIN channels c USING (channel_id)
        WHERE coalesce(p.durable_name, p.queue_group) IS NOT NULL AND ($1 = '' OR position(lower($1) IN lower(c.name)) > 0
            OR position(lower($1) IN lower(p.durable_name)) > 0 OR position(lower($1) IN lower(p.queue_group)) > 0
            OR p.position_id IN (SELECT position_id FROM subscriptions WHERE position(lower($1) IN lower(client_id)) > 0))
        ORDER BY CASE WHEN $2 = 'lag' THEN c.last_sequence - greatest(p.acked_floor, c.first_sequence - 1) END DESC NULLS LAST,
            CASE WHEN $2 = 'channel' THEN c.name END, p.durable_name, c.name, p.position_id
        LIMIT $3 OFFSET $4
    ) ",
    durables_picked!(),
    "CASE WHEN $2 = 'lag' THEN lag END DESC NULLS LAST, CASE WHEN $2 = 'channel' THEN channel END,
        durable_name, channel, position_id"
);

const DURABLES_OF_CHANNEL: &str = concat!(
    "WITH picked AS MATERIALIZED (
        SELECT p.position_id FROM positions p JOIN channels c USING (channel_id)
        WHERE coalesce(p.durable_name, p.queue_group) IS NOT NULL AND c.name = $1 AND NOT c.deleting
            AND ($2 = '' OR p.durable_name = $2) AND ($3 = '' OR p.queue_group = $3)
        ORDER BY p.acked_floor, p.durable_name, p.position_id LIMIT $4
    ) ",
    durables_picked!(),
    "lag DESC, durable_name, queue_group"
);

const CLIENT_PAGE: &str = concat!(
    "SELECT client_id, status, ",
    iso!("connected_at"),
    " AS connected_at, ",
    iso!("last_heartbeat_at"),
    " AS last_heartbeat_at, missed_heartbeats, subscriptions, protocol
    FROM client_status WHERE $1 = '' OR position(lower($1) IN lower(client_id)) > 0
    ORDER BY CASE $2 WHEN 'missed' THEN missed_heartbeats WHEN 'subscriptions' THEN subscriptions END DESC NULLS LAST, client_id
    LIMIT $3 OFFSET $4"
);

const OVERVIEW: &str =
    "SELECT k.cluster_id, k.clients, k.subscriptions, k.durables, h.channels, h.messages, h.bytes,
        (SELECT count(*) FROM client_status WHERE missed_heartbeats > 0) AS unresponsive,
        (SELECT count(*) FROM paused_durables) AS paused,
        (SELECT count(*) FROM (SELECT FROM outbox_status LIMIT 1000) q) AS outbox,
        (SELECT count(*) FROM (SELECT FROM refused_publishes LIMIT 1000) q) AS refused,
        (SELECT count(*) FROM (SELECT FROM unreadable_messages LIMIT 1000) q) AS unreadable,
        (SELECT count(*) FROM admin_requests WHERE finished_at IS NULL) AS open_requests
    FROM cluster k, (
        SELECT count(*) AS channels, coalesce(sum(message_count), 0)::bigint AS messages,
            coalesce(sum(byte_count), 0)::bigint AS bytes
        FROM channels WHERE NOT deleting
    ) h";

#[derive(Deserialize)]
struct Published {
    published: u64,
}

const PUBLISHED: &str = "SELECT coalesce(sum(last_sequence), 0)::bigint AS published FROM channels";

const CONDITIONS: &str = concat!(
    "SELECT kind, reason, ",
    iso!("since"),
    " AS since FROM conditions ORDER BY kind"
);

impl Store {
    /// Sorted by `name`, `messages`, `bytes`, `published` or `lag`.
    pub async fn channel_page(&self, part: Part<'_>) -> Result<Vec<Channel>, Error> {
        self.query_view(CHANNEL_PAGE, &part.given()).await
    }

    /// The one of this name.
    pub async fn channel_named(&self, name: &str) -> Result<Option<Channel>, Error> {
        let one = Part {
            filter: name,
            sort: "one",
            offset: 0,
            limit: 1,
        };
        Ok(self.channel_page(one).await?.pop())
    }

    /// Sorted by `name`, `channel` or `lag`. Which rows have the largest lag is found by what lies above the acked floor;
    /// what is acked above it does not count against them once they are shown.
    pub async fn durable_page(&self, part: Part<'_>) -> Result<Vec<Durable>, Error> {
        self.query_view(DURABLE_PAGE, &part.given()).await
    }

    /// Those of a channel, or the ones of this name, or this queue group; those that are furthest behind, up to `count`.
    pub async fn durables_of(
        &self,
        channel: &str,
        durable: &str,
        queue_group: &str,
        count: i64,
    ) -> Result<Vec<Durable>, Error> {
        let given = [
            Argument::Text(channel),
            Argument::Text(durable),
            Argument::Text(queue_group),
            Argument::Number(count),
        ];
        self.query_view(DURABLES_OF_CHANNEL, &given).await
    }

    /// Sorted by `name`, `missed` or `subscriptions`.
    pub async fn client_page(&self, part: Part<'_>) -> Result<Vec<Client>, Error> {
        self.query_view(CLIENT_PAGE, &part.given()).await
    }

    pub async fn overview(&self) -> Result<Overview, Error> {
        let rows = self.query_view(OVERVIEW, &[]).await?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// The sum of the last sequences of all channels: what grows with each publish.
    pub async fn published(&self) -> Result<u64, Error> {
        let rows: Vec<Published> = self.query_view(PUBLISHED, &[]).await?;
        Ok(rows.first().map_or(0, |row| row.published))
    }

    pub async fn conditions(&self) -> Result<Vec<Condition>, Error> {
        self.query_view(CONDITIONS, &[]).await
    }
}
