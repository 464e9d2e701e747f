//! What the last terms stored: asked when a takeover judges the requests that the node heard as a standby.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use tokio_postgres::Client;

use super::error::{Error, Fault};
use super::source::{Parameter, Source};
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
    source: &mut Source<'_>,
    places: &BTreeMap<ChannelId, LookBack>,
    wanted: &BTreeSet<Guid>,
    others: usize,
) -> Result<Stored, Fault> {
    let parameters = [
        Parameter::Numbers(places.keys().map(|channel| int8(channel.0)).collect()),
        Parameter::Numbers(places.values().map(|place| int8(place.after.0)).collect()),
        Parameter::Numbers(places.values().map(|place| place.since.0).collect()),
        Parameter::Numbers(places.values().map(|place| int8(place.floor.0)).collect()),
    ];
    let mut stored = Stored::default();
    let mut room = others;
    source
        .each(RECENT, &parameters, |row| {
            let channel: i64 = row.get("channel_id")?;
            let guid: &str = row.get("guid")?;
            let is_wanted = wanted.contains(guid);
            if !is_wanted && room == 0 {
                return Ok(());
            }
            room -= usize::from(!is_wanted);
            if let Some(guid) = Guid::parse(ByteString::from(guid)) {
                let channel = ChannelId(channel.cast_unsigned());
                stored.kept.push((channel, guid));
            }
            Ok(())
        })
        .await?;
    room = others;
    source
        .each(DROPPED, &[], |row| {
            let guid: &str = row.get("guid")?;
            let is_wanted = wanted.contains(guid);
            if !is_wanted && room == 0 {
                return Ok(());
            }
            room -= usize::from(!is_wanted);
            let name = ChannelName::parse(ByteString::from(row.get::<&str>("channel")?));
            let guid = Guid::parse(ByteString::from(guid));
            stored.dropped.extend(name.zip(guid));
            Ok(())
        })
        .await?;
    Ok(stored)
}

/// Those of the connections, by heartbeat inbox, that have ended lately.
pub(super) async fn closed(
    source: &mut Source<'_>,
    inboxes: &[String],
) -> Result<BTreeSet<Subject>, Fault> {
    let rows = source
        .all(CLOSED, &[Parameter::Texts(inboxes.to_vec())])
        .await?;
    let mut closed = BTreeSet::new();
    for row in &rows {
        let inbox: &str = row.get("heartbeat_inbox")?;
        closed.extend(Subject::parse(inbox.into()));
    }
    Ok(closed)
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
