//! What the last terms stored: asked when a takeover judges the requests that the node heard as a standby.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use tokio_postgres::Client;

use super::encryption::Opener;
use super::error::{Error, Fault};
use super::load;
use super::source::{Line, Parameter, Source};
use crate::config::database::{DatabaseUrl, Trouble};
use crate::core::heard::{LookBack, Stored};
use crate::core::ids::{ChannelId, ChannelName, ClientId, Guid, Subject};
use crate::core::stored::{Digest, StoredPublish};

/// A range of the primary key per channel. What to look for is compared here and not there: a plan that compares
/// every message with every publish takes longer than a takeover may, and tables that are new make Postgres choose
/// it. OFFSET leaves it no other than an index scan per channel.
///
/// Digests of what is short are made on the way: they cost less than the rows do.
const RECENT: &str = "WITH recent AS MATERIALIZED (
        SELECT channel_id, greatest(least(after, first_sequence_since(channel_id, since) - 1), floor) AS after
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
            AS places (channel_id, after, since, floor)
    )
    SELECT recent.channel_id, m.*
    FROM recent
    CROSS JOIN LATERAL (
        SELECT sequence, guid, client_id, octet_length(data) AS bytes, CASE
            WHEN encrypted OR octet_length(data) > $5 THEN NULL
            ELSE substr(sha256(convert_to(reply, 'UTF8') || decode('00', 'hex') || data), 1, 16)
        END AS content
        FROM messages
        WHERE channel_id = recent.channel_id AND sequence > recent.after
        OFFSET 0
    ) m";

/// What was encrypted comes as it is: only this process can tell what it says.
const CONTENTS: &str = "SELECT places.place, m.*
    FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS places (channel_id, sequence, place)
    CROSS JOIN LATERAL (
        SELECT channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, encrypted,
            CASE WHEN encrypted THEN data ELSE '' END AS data, CASE
            WHEN encrypted THEN NULL
            ELSE substr(sha256(convert_to(reply, 'UTF8') || decode('00', 'hex') || data), 1, 16)
        END AS content
        FROM messages
        WHERE channel_id = places.channel_id AND sequence = places.sequence
        OFFSET 0
    ) m";

const DROPPED: &str = "SELECT d.channel, p.guid, p.client_id, p.content
    FROM dropped_guids d, unnest(guids, client_ids, contents) AS p (guid, client_id, content)";

/// Publishes up to so many bytes are told apart from all others there, longer ones from those that are wanted.
const SHORT_BYTES: i32 = 1024;

/// So much data is read to tell longer ones apart: twice as much as a standby remembers by default. What is beyond is
/// recognised by client and GUID alone.
const CONTENT_BYTES_MAX: usize = 128 << 20;

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
    opener: Opener,
) -> Result<Stored, Fault> {
    let parameters = [
        Parameter::Numbers(places.keys().map(|channel| int8(channel.0)).collect()),
        Parameter::Numbers(places.values().map(|place| int8(place.after.0)).collect()),
        Parameter::Numbers(places.values().map(|place| place.since.0).collect()),
        Parameter::Numbers(places.values().map(|place| int8(place.floor.0)).collect()),
        Parameter::Size(SHORT_BYTES),
    ];
    let mut stored = Stored::default();
    let mut room = others;
    let mut long = Vec::new();
    let mut long_bytes = 0;
    source
        .each(RECENT, &parameters, |row| {
            let channel: i64 = row.get("channel_id")?;
            let guid: &str = row.get("guid")?;
            let is_wanted = wanted.contains(guid);
            if !is_wanted && room == 0 {
                return Ok(());
            }
            room -= usize::from(!is_wanted);
            if let Some(publish) = publish(&row, guid)? {
                let bytes = usize::try_from(row.get::<i32>("bytes")?).unwrap_or(0);
                let fits = long_bytes + bytes <= CONTENT_BYTES_MAX;
                if is_wanted && publish.content.is_none() && fits {
                    long_bytes += bytes;
                    let sequence: i64 = row.get("sequence")?;
                    long.push((stored.kept.len(), channel, sequence));
                }
                let channel = ChannelId(channel.cast_unsigned());
                stored.kept.push((channel, publish));
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
            stored.dropped.extend(name.zip(publish(&row, guid)?));
            Ok(())
        })
        .await?;
    // Last, because a damaged row ends the transaction.
    match tell_apart(source, &mut stored, &long, opener).await {
        // Whoever reads the message will tell.
        Err(fault) if fault.is_damage() => {}
        told => told?,
    }
    Ok(stored)
}

fn publish(row: &Line, guid: &str) -> Result<Option<StoredPublish>, Fault> {
    let client: Option<&str> = row.get("client_id")?;
    let guid = Guid::parse(ByteString::from(guid));
    let content = content(row)?;
    Ok(guid.map(|guid| StoredPublish {
        guid,
        client_id: client.and_then(|client| ClientId::parse(client.into())),
        content,
    }))
}

fn content(row: &Line) -> Result<Option<Digest>, Fault> {
    let content: Option<&[u8]> = row.get("content")?;
    let content = content.and_then(|content| content.try_into().ok());
    Ok(content.map(Digest::from_be_bytes))
}

/// Reads what the publishes say that stand at these places in `stored`, channels and sequences.
async fn tell_apart(
    source: &mut Source<'_>,
    stored: &mut Stored,
    long: &[(usize, i64, i64)],
    mut opener: Opener,
) -> Result<(), Fault> {
    if long.is_empty() {
        return Ok(());
    }
    let parameters = [
        Parameter::Numbers(long.iter().map(|&(_, channel, _)| channel).collect()),
        Parameter::Numbers(long.iter().map(|&(_, _, sequence)| sequence).collect()),
    ];
    source
        .each(CONTENTS, &parameters, |row| {
            let place: i64 = row.get("place")?;
            let place = usize::try_from(place - 1).ok().and_then(|at| long.get(at));
            let Some(&(at, channel, _)) = place else {
                return Ok(());
            };
            let channel = ChannelId(channel.cast_unsigned());
            let content = match content(&row)? {
                Some(content) => Some(content),
                None => match load::message(channel, &row, &mut opener)? {
                    Ok(message) => Some(digest(&message.reply, &message.data)),
                    Err(_unreadable) => None,
                },
            };
            if let Some((_, publish)) = stored.kept.get_mut(at) {
                publish.content = content;
            }
            Ok(())
        })
        .await
}

/// As the statements make it of what is stored.
pub fn digest(reply: &str, data: &[u8]) -> Digest {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(reply.as_bytes());
    context.update(&[0]);
    context.update(data);
    let mut first = [0; 16];
    for (byte, made) in first.iter_mut().zip(context.finish().as_ref()) {
        *byte = *made;
    }
    Digest::from_be_bytes(first)
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
