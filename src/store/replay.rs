//! What the last terms stored: asked when a takeover judges the requests that the node received as a standby.

use std::collections::BTreeSet;

use bytestring::ByteString;
use tokio_postgres::Client;

use super::encryption::Opener;
use super::error::{Error, Fault};
use super::fence::{Fence, WrongServer, proof};
use super::load;
use super::proven::ProvenRead;
use super::source::{Line, Parameter, Source};
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::core::dedup::{Digest, StoredPublish};
use crate::core::ids::{ChannelId, ChannelName, ClientId, Guid, Subject};
use crate::core::replay::Stored;
use crate::core::takeover::FindPublishes;

/// A range of the primary key per channel. What to look for is compared here and not there: a plan that compares
/// every message with every publish takes longer than a takeover may, and tables that are new make Postgres choose
/// it. OFFSET leaves it no other than an index scan per channel.
///
/// Digests of what is short are made on the way: they cost less than the rows do.
///
/// What limits have dropped comes with it. Of what was received, by number: no clock is asked. Of what may yet come, and of
/// channels that are gone, by time. There may be an hour of it, so both are ranges of an index: the second end, and OFFSET,
/// make Postgres choose one also where it knows nothing about the table.
///
/// So does the proof of whose tables these are: clients wait for each message to Postgres.
const STORED: &str = concat!(
    "WITH places AS MATERIALIZED (
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
            AS places (channel_id, after, since, floor)
    ), recent AS MATERIALIZED (
        SELECT channel_id, greatest(least(after, first_sequence_since(channel_id, since) - 1), floor) AS after
        FROM places
    ), dropped AS (
        SELECT d.channel, d.guids, d.client_ids, d.contents
        FROM places CROSS JOIN LATERAL (
            SELECT * FROM dropped_guids WHERE channel_id = places.channel_id AND through > places.after OFFSET 0
        ) d
        UNION ALL
        SELECT d.channel, d.guids, d.client_ids, d.contents
        FROM dropped_guids d LEFT JOIN places ON places.channel_id = d.channel_id
        WHERE d.dropped_at BETWEEN statement_timestamp() - $6::bigint * interval '1 ms' AND 'infinity'
            AND d.through > coalesce(places.floor, 0) AND d.through <= coalesce(places.after, d.through)
    )
    SELECT recent.channel_id, NULL::text AS channel, m.*,
           NULL::bigint AS started_at, NULL::boolean AS is_replica, NULL::bigint AS epoch, NULL::text AS address,
           NULL::text AS misplaced
    FROM recent
    CROSS JOIN LATERAL (
        SELECT sequence, guid, client_id, octet_length(data) AS bytes, CASE
            WHEN encrypted OR octet_length(data) > $5 THEN NULL
            ELSE substr(sha256(convert_to(reply, 'UTF8') || decode('00', 'hex') || data), 1, 16)
        END AS content
        FROM messages
        WHERE channel_id = recent.channel_id AND sequence > recent.after
        OFFSET 0
    ) m
    UNION ALL
    SELECT NULL, d.channel, NULL, p.guid, p.client_id, NULL, p.content, NULL, NULL, NULL, NULL, NULL
    FROM dropped d, unnest(guids, client_ids, contents) AS p (guid, client_id, content)
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, proof.*
    FROM (",
    proof!(),
    ") proof"
);

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

/// Publishes up to so many bytes are distinguished from all others there, longer ones from those that are wanted.
const SHORT_BYTES: i32 = 1024;

/// So much data is read to distinguish longer ones: twice as much as a standby keeps by default. What is beyond is
/// recognised by client and GUID alone.
const CONTENT_BYTES_MAX: usize = 128 << 20;

const CLOSED: &str = concat!(
    "SELECT closed.heartbeat_inbox, proof.*
    FROM (",
    proof!(),
    ") proof
    LEFT JOIN (SELECT DISTINCT heartbeat_inbox FROM closed_connections WHERE heartbeat_inbox = ANY($1)) closed ON true"
);

/// Whatever a limit has left over: the channel is gone or has become quiet.
const FORGET: &str = "DELETE FROM dropped_guids
    WHERE dropped_at BETWEEN '-infinity' AND statement_timestamp() - interval '1 hour'";

/// What was found of publishes, and where those stand that only their content distinguishes.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) stored: Stored,
    /// Places in `stored.kept`, channels and sequences.
    long: Vec<(usize, i64, i64)>,
}

impl Found {
    pub(super) fn is_told_apart(&self) -> bool {
        self.long.is_empty()
    }
}

impl ProvenRead for &FindPublishes {
    type Found = Found;

    const WHAT: &'static str = "looking for publishes";
    const BEGINS: bool = false;

    async fn read(
        &self,
        source: &mut Source<'_>,
        fence: Fence,
    ) -> Result<Result<Found, WrongServer>, Fault> {
        let (found, line) = look_for(self, source).await?;
        Ok(fence.judge_whole(&line)?.map(|()| found))
    }
}

/// With the line of the proof.
pub(super) async fn look_for(
    look: &FindPublishes,
    source: &mut Source<'_>,
) -> Result<(Found, Line), Fault> {
    let FindPublishes {
        ranges,
        guids: wanted,
        dropped_within,
        others_max,
    } = look;
    let parameters = [
        Parameter::Numbers(ranges.keys().map(|channel| int8(channel.0)).collect()),
        Parameter::Numbers(ranges.values().map(|range| int8(range.after.0)).collect()),
        Parameter::Numbers(ranges.values().map(|range| range.since.0).collect()),
        Parameter::Numbers(ranges.values().map(|range| int8(range.floor.0)).collect()),
        Parameter::Size(SHORT_BYTES),
        Parameter::Number(i64::try_from(dropped_within.as_millis()).unwrap_or(i64::MAX)),
    ];
    let mut found = Found::default();
    let mut proof = None;
    let mut long_bytes = 0;
    let (mut kept_room, mut dropped_room) = (*others_max, *others_max);
    source
        .each(STORED, &parameters, |row| {
            let Some(guid) = row.get::<Option<&str>>("guid")? else {
                proof = Some(row);
                return Ok(());
            };
            let channel: Option<i64> = row.get("channel_id")?;
            let room = if channel.is_some() {
                &mut kept_room
            } else {
                &mut dropped_room
            };
            let is_wanted = wanted.contains(guid);
            if !is_wanted && *room == 0 {
                return Ok(());
            }
            *room -= usize::from(!is_wanted);
            let Some(publish) = publish(&row, guid)? else {
                return Ok(());
            };
            let Found { stored, long } = &mut found;
            let Some(channel) = channel else {
                let name = ChannelName::parse(ByteString::from(row.get::<&str>("channel")?));
                stored.dropped.extend(name.map(|name| (name, publish)));
                return Ok(());
            };
            let bytes = usize::try_from(row.get::<i32>("bytes")?).unwrap_or(0);
            let fits = long_bytes + bytes <= CONTENT_BYTES_MAX;
            if is_wanted && publish.content.is_none() && fits {
                long_bytes += bytes;
                long.push((stored.kept.len(), channel, row.get("sequence")?));
            }
            let channel = ChannelId(channel.cast_unsigned());
            stored.kept.push((channel, publish));
            Ok(())
        })
        .await?;
    let proof = proof.ok_or(sqlx::Error::RowNotFound)?;
    Ok((found, proof))
}

/// Prepares what the others here read.
pub(super) async fn rehearse(source: &mut Source<'_>) -> Result<(), Fault> {
    for statement in [STORED, CONTENTS, CLOSED] {
        source.all(statement, &[]).await?;
    }
    Ok(())
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

/// Reads the content of publishes that only this distinguishes, in a transaction of its own: a damaged row ends it, and then
/// whoever reads the message will tell.
pub(super) async fn tell_apart(
    source: &mut Source<'_>,
    found: &mut Found,
    mut opener: Opener,
) -> Result<(), Fault> {
    let Found { stored, long } = found;
    let parameters = [
        Parameter::Numbers(long.iter().map(|&(_, channel, _)| channel).collect()),
        Parameter::Numbers(long.iter().map(|&(_, _, sequence)| sequence).collect()),
    ];
    let read = source
        .each(CONTENTS, &parameters, |row| {
            let range: i64 = row.get("place")?;
            let range = usize::try_from(range - 1).ok().and_then(|at| long.get(at));
            let Some(&(at, channel, _)) = range else {
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
        .await;
    match read {
        Err(fault) if fault.is_damage() => Ok(()),
        read => read,
    }
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed<'a>(pub(super) &'a [String]);

impl ProvenRead for Closed<'_> {
    type Found = BTreeSet<Subject>;

    const WHAT: &'static str = "looking for closed connections";
    const BEGINS: bool = false;

    async fn read(
        &self,
        source: &mut Source<'_>,
        fence: Fence,
    ) -> Result<Result<Self::Found, WrongServer>, Fault> {
        let (closed, line) = closed(self.0, source).await?;
        Ok(fence.judge_whole(&line)?.map(|()| closed))
    }
}

/// With the line of the proof.
pub(super) async fn closed(
    inboxes: &[String],
    source: &mut Source<'_>,
) -> Result<(BTreeSet<Subject>, Line), Fault> {
    let inboxes = Parameter::Texts(inboxes.to_vec());
    let mut rows = source.all(CLOSED, &[inboxes]).await?;
    let mut closed = BTreeSet::new();
    for row in &rows {
        let inbox: Option<&str> = row.get("heartbeat_inbox")?;
        closed.extend(inbox.and_then(|inbox| Subject::parse(inbox.into())));
    }
    let proof = rows.pop().ok_or(sqlx::Error::RowNotFound)?;
    Ok((closed, proof))
}

/// Deletes what no standby keeps any more. On the leader session, once per term.
pub async fn forget_dropped(client: &Client, url: &DatabaseUrl) -> Result<(), Error> {
    let forgotten = client.execute_typed(FORGET, &[]).await;
    forgotten
        .map(drop)
        .map_err(|error| DatabaseError::of_session(url, &error).into())
}

// What a bigint cannot hold is past every row.
fn int8(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
