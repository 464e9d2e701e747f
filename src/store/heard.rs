//! What the last terms stored: asked when a takeover judges the requests that the node heard as a standby.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row};
use tokio_postgres::Client;

use super::error::{Error, Fault};
use crate::config::database::{DatabaseUrl, Trouble};
use crate::core::heard::{LookBack, Stored};
use crate::core::ids::{ChannelId, ChannelName, Guid, Subject};

/// A range of the primary key per channel. What to look for is compared here and not there: a plan that compares
/// every message with every publish takes longer than a takeover may, and tables that are new make Postgres choose
/// it. OFFSET leaves it no other than an index scan per channel.
const RECENT: &str = "WITH recent AS MATERIALIZED (
        SELECT channel_id, greatest(least(after, first_sequence_since(channel_id, since) - 1), floor) AS after
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
            AS places (channel_id, after, since, floor)
    )
    SELECT recent.channel_id, m.guid
    FROM recent
    CROSS JOIN LATERAL (
        SELECT guid FROM messages
        WHERE channel_id = recent.channel_id AND sequence > recent.after
        OFFSET 0
    ) m";

const DROPPED: &str = "SELECT channel, unnest(guids) AS guid FROM dropped_guids";

const CLOSED: &str =
    "SELECT DISTINCT heartbeat_inbox FROM closed_connections WHERE heartbeat_inbox = ANY($1)";

/// Whatever a limit has left over: the channel is gone or has become quiet.
const FORGET: &str =
    "DELETE FROM dropped_guids WHERE dropped_at < clock_timestamp() - interval '1 hour'";

/// The publishes there, and those dropped lately: all that are `wanted`, and up to `others` more of each kind.
pub(super) async fn stored(
    connection: &mut PgConnection,
    places: &BTreeMap<ChannelId, LookBack>,
    wanted: &BTreeSet<Guid>,
    others: usize,
) -> Result<Stored, Fault> {
    let channels: Vec<i64> = places.keys().map(|channel| int8(channel.0)).collect();
    let after: Vec<i64> = places.values().map(|place| int8(place.after.0)).collect();
    let since: Vec<i64> = places.values().map(|place| place.since.0).collect();
    let floor: Vec<i64> = places.values().map(|place| int8(place.floor.0)).collect();
    let mut stored = Stored::default();
    let mut room = others;
    let mut rows = sqlx::query(RECENT)
        .bind(channels)
        .bind(after)
        .bind(since)
        .bind(floor)
        .fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let channel: i64 = row.try_get("channel_id")?;
        let guid: &str = row.try_get("guid")?;
        let is_wanted = wanted.contains(guid);
        if !is_wanted && room == 0 {
            continue;
        }
        room -= usize::from(!is_wanted);
        if let Some(guid) = Guid::parse(ByteString::from(guid)) {
            let channel = ChannelId(channel.cast_unsigned());
            stored.kept.push((channel, guid));
        }
    }
    drop(rows);
    room = others;
    let mut rows = sqlx::query(DROPPED).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let guid: &str = row.try_get("guid")?;
        let is_wanted = wanted.contains(guid);
        if !is_wanted && room == 0 {
            continue;
        }
        room -= usize::from(!is_wanted);
        let name = ChannelName::parse(ByteString::from(row.try_get::<&str, _>("channel")?));
        let guid = Guid::parse(ByteString::from(guid));
        stored.dropped.extend(name.zip(guid));
    }
    Ok(stored)
}

/// Those of the connections, by heartbeat inbox, that have ended lately.
pub(super) async fn closed(
    connection: &mut PgConnection,
    inboxes: &[&str],
) -> Result<BTreeSet<Subject>, Fault> {
    let closed = sqlx::query_scalar(CLOSED).bind(inboxes);
    let closed: Vec<String> = closed.fetch_all(connection).await?;
    let parsed = closed.into_iter().map(|inbox| Subject::parse(inbox.into()));
    Ok(parsed.flatten().collect())
}

/// Forgets what no standby remembers any more. On the leader session, once per term.
pub async fn forget_dropped(client: &Client, url: &DatabaseUrl) -> Result<(), Error> {
    let forgotten = client.execute(FORGET, &[]).await;
    forgotten
        .map(drop)
        .map_err(|error| Trouble::of_session(url, &error).into())
}

// What a bigint cannot hold is past every row.
fn int8(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
