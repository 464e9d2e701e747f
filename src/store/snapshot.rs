//! Everything that a new term starts from, read as of one moment and checked: a term that starts from rows that
//! contradict each other would only find out later, and by then have acked on their strength.

use std::time::Duration;

use super::error::Fault;
use super::fence::{self, Fence, WrongServer};
use super::gone;
use super::policies;
use super::proven::ProvenRead;
use super::requests::{read_set, set_columns};
use super::rows::{Reading, parse_multirange};
use super::source::{Line, Source};
use super::sql_acks;
use crate::core::batch::{
    ACKS_PAGE, ACKS_PAGE_BYTES, AckedPage, ChannelRow, ClientRow, Counters, HOLDERS_PAGE,
    Heartbeat, PageHolders, PositionRow, Progress, SubscriptionRow,
};
use crate::core::ids::{
    ChannelId, ChannelName, ClientId, ConnectionId, DurableName, PositionId, QueueName, Sequence,
    Subject, SubscriptionId,
};
use crate::core::snapshot::Snapshot;
use crate::core::time::Timestamp;

/// A statement, and what becomes of a row of it.
type Part = (&'static str, fn(&Line, &mut Snapshot) -> Result<(), Fault>);

/// In this order: rows are checked against those that came before.
const PARTS: [Part; 11] = [
    (COUNTERS, counters),
    (CHANNELS, channel),
    (CLIENTS, client),
    (POSITIONS, position),
    (ACKS, acks),
    (HOLDERS, holders),
    (SUBSCRIPTIONS, subscription),
    (gone::ALL, gone::take),
    (sql_acks::ALL, sql_acks::take),
    (policies::POLICIES, policies::take),
    (policies::COUNTS, policies::take_count),
];

/// Within one transaction that sees one moment.
pub(super) async fn read(source: &mut Source<'_>) -> Result<Snapshot, Fault> {
    let mut snapshot = Snapshot::default();
    let statements = PARTS.map(|(statement, _)| statement);
    source
        .each_of(&statements, |index, line| {
            PARTS[index].1(&line, &mut snapshot)
        })
        .await?;
    gone::count(source, &mut snapshot).await?;
    Ok(snapshot)
}

/// All of it, in one message to Postgres with the begin of the transaction and the proof.
pub(super) struct Whole;

impl ProvenRead for Whole {
    type Found = Snapshot;

    const WHAT: &'static str = "reading the snapshot";
    const BEGINS: bool = true;

    async fn read(
        &self,
        source: &mut Source<'_>,
        fence: Fence,
    ) -> Result<Result<Snapshot, WrongServer>, Fault> {
        let before = [fence::BEGIN, fence::PROOF];
        let statements = PARTS.map(|(statement, _)| statement);
        let statements = [&before[..], &statements[..]].concat();
        let mut snapshot = Snapshot::default();
        let mut proof = None;
        source
            .each_of(&statements, |index, line| {
                match (index.checked_sub(before.len()), &proof) {
                    (None, _) => proof = Some(fence.judge_whole(&line)?),
                    (Some(part), Some(Ok(()))) => PARTS[part].1(&line, &mut snapshot)?,
                    // What another server has is of no interest.
                    (Some(_), _) => {}
                }
                Ok(())
            })
            .await?;
        match proof {
            Some(Ok(())) => {}
            Some(Err(wrong_server)) => return Ok(Err(wrong_server)),
            None => return Err(sqlx::Error::RowNotFound.into()),
        }
        gone::count(source, &mut snapshot).await?;
        Ok(Ok(snapshot))
    }
}

const COUNTERS: &str = concat!(
    "SELECT last_channel_id, last_subscription_id, ",
    set_columns!(),
    " FROM server_info"
);

fn counters(row: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    read_set(row, snapshot)?;
    let row = Reading::new("server_info", row, "1");
    snapshot.counters = Counters {
        channel: row.number("last_channel_id")?,
        subscription: row.number("last_subscription_id")?,
    };
    Ok(())
}

const CHANNELS: &str =
    "SELECT channel_id, name, created_at_ns, deleting, first_sequence, last_sequence,
           last_published_at_ns, message_count, byte_count
    FROM current_channels ORDER BY channel_id";

fn channel(row: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let row = Reading::new("channels", row, key(row, "channel_id")?);
    let id = ChannelId(row.number("channel_id")?);
    let channel = ChannelRow {
        name: row.text("name", ChannelName::parse)?,
        created_at: Timestamp(row.get("created_at_ns")?),
        deleting: row.get("deleting")?,
        first_sequence: row.sequence("first_sequence")?,
        last_sequence: row.sequence("last_sequence")?,
        last_published_at: Timestamp(row.get("last_published_at_ns")?),
        message_count: row.number("message_count")?,
        byte_count: row.number("byte_count")?,
    };
    if id.0 > snapshot.counters.channel {
        return Err(row.corrupt("its id is above server_info.last_channel_id"));
    }
    snapshot.channels.insert(id, channel);
    Ok(())
}

const CLIENTS: &str =
    "SELECT client_id, connection_id, heartbeat_inbox, protocol, ping_interval, ping_max_out,
           connected_at_ns, last_heartbeat_at_ns, missed_heartbeats
    FROM clients ORDER BY client_id";

fn client(row: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let row = Reading::new("clients", row, row.get::<&str>("client_id")?);
    let id = row.text("client_id", ClientId::parse)?;
    let client = ClientRow {
        connection_id: ConnectionId(row.get::<Vec<u8>>("connection_id")?.into()),
        heartbeat_inbox: row.text("heartbeat_inbox", Subject::parse)?,
        protocol: row.get("protocol")?,
        ping_interval: row.get("ping_interval")?,
        ping_max_out: row.get("ping_max_out")?,
        connected_at: Timestamp(row.get("connected_at_ns")?),
        heartbeat: Heartbeat {
            last_at: Timestamp(row.get("last_heartbeat_at_ns")?),
            missed: row.number("missed_heartbeats")?,
        },
    };
    snapshot.clients.insert(id, client);
    Ok(())
}

const POSITIONS: &str =
    "SELECT position_id, channel_id, durable_name, queue_group, last_sent, acked_floor,
           acked_above::text AS acked_above
    FROM positions ORDER BY position_id";

fn position(row: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let row = Reading::new("positions", row, key(row, "position_id")?);
    let id = PositionId(row.number("position_id")?);
    let acked_above = parse_multirange(row.get("acked_above")?)
        .ok_or_else(|| row.corrupt("column acked_above is not a set of bounded ranges"))?;
    let progress = Progress {
        last_sent: row.sequence("last_sent")?,
        acked_floor: row.sequence("acked_floor")?,
        acked_above,
    };
    check_progress(&row, &progress)?;
    let position = PositionRow {
        channel: ChannelId(row.number("channel_id")?),
        durable_name: row.optional_text("durable_name", DurableName::parse)?,
        queue_group: row.optional_text("queue_group", QueueName::parse)?,
        progress,
    };
    if id.0 > snapshot.counters.subscription {
        return Err(row.corrupt("its id is above server_info.last_subscription_id"));
    }
    if !snapshot.channels.contains_key(&position.channel) {
        return Err(row.corrupt(format!("there is no channel {}", position.channel)));
    }
    snapshot.positions.insert(id, position);
    Ok(())
}

fn check_progress(row: &Reading<'_>, progress: &Progress) -> Result<(), Fault> {
    if progress.acked_floor > progress.last_sent {
        return Err(row.corrupt("acked_floor is above last_sent"));
    }
    let first = progress.acked_above.iter().next();
    let last = progress.acked_above.iter().last();
    if first.is_some_and(|(first, _)| first <= progress.acked_floor)
        || last.is_some_and(|(_, last)| last > progress.last_sent)
    {
        return Err(row.corrupt("acked_above does not lie between acked_floor and last_sent"));
    }
    Ok(())
}

const ACKS: &str =
    "SELECT position_id, page, pages, bits FROM position_acks ORDER BY position_id, page";

fn acks(row: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let key = format!("{}, {}", key(row, "position_id")?, key(row, "page")?);
    let row = Reading::new("position_acks", row, key);
    let id = PositionId(row.number("position_id")?);
    let bits: Option<Vec<u8>> = row.get("bits")?;
    let page = AckedPage {
        page: row.number("page")?,
        pages: row.number("pages")?,
        bits: bits.map(Into::into),
    };
    check_page(&row, &page)?;
    let pages = snapshot.pages.entry(id).or_default();
    let Some(position) = snapshot.positions.get_mut(&id) else {
        pages.insert(page.page, page.pages);
        return Ok(());
    };
    let progress = &mut position.progress;
    if pages.is_empty() && !progress.acked_above.is_empty() {
        return Err(row.corrupt(format!(
            "acked_above of position {id} has to be empty where there are pages"
        )));
    }
    for (first, last) in page.ranges() {
        if last > progress.last_sent {
            return Err(row.corrupt("it goes beyond last_sent of its position"));
        }
        let first = first.max(progress.acked_floor.next());
        progress.acked_above.push(first, last);
    }
    pages.insert(page.page, page.pages);
    Ok(())
}

fn check_page(row: &Reading<'_>, page: &AckedPage) -> Result<(), Fault> {
    let is_sound = match &page.bits {
        Some(bits) => page.pages == 1 && bits.len() == ACKS_PAGE_BYTES,
        None => page.pages > 0,
    };
    // Both are bigint.
    let end = page.page.saturating_add(page.pages);
    if is_sound && end <= i64::MAX.unsigned_abs() / ACKS_PAGE {
        Ok(())
    } else {
        Err(row.corrupt(format!(
            "it is no page: bits are {ACKS_PAGE_BYTES} bytes, or NULL where all of several pages is acked"
        )))
    }
}

const HOLDERS: &str = "SELECT position_id, page, members, held FROM position_holders";

fn holders(row: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let key = format!("{}, {}", key(row, "position_id")?, key(row, "page")?);
    let row = Reading::new("position_holders", row, key);
    let id = PositionId(row.number("position_id")?);
    let page: u64 = row.number("page")?;
    let members: Vec<i64> = row.get("members")?;
    let held: Vec<u8> = row.get("held")?;
    if held.len() as u64 > HOLDERS_PAGE || page > i64::MAX.unsigned_abs() / HOLDERS_PAGE {
        return Err(row.corrupt("it is no page"));
    }
    let first = page.saturating_mul(HOLDERS_PAGE);
    let held = (first..).zip(held).filter_map(|(sequence, place)| {
        // 0 is nobody.
        let place = usize::from(place).checked_sub(1)?;
        let holder = members.get(place)?.cast_unsigned();
        Some((Sequence(sequence), SubscriptionId(holder)))
    });
    let held: PageHolders = held.collect();
    let pages = snapshot.holders.entry(id).or_default();
    pages.insert(page, held);
    Ok(())
}

const SUBSCRIPTIONS: &str =
    "SELECT subscription_id, position_id, client_id, inbox, ack_inbox, max_in_flight, ack_wait_ns,
           online, since_ns
    FROM subscriptions ORDER BY subscription_id";

fn subscription(row: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let row = Reading::new("subscriptions", row, key(row, "subscription_id")?);
    let id = SubscriptionId(row.number("subscription_id")?);
    let subscription = SubscriptionRow {
        position: PositionId(row.number("position_id")?),
        client_id: row.text("client_id", ClientId::parse)?,
        inbox: row.text("inbox", Subject::parse)?,
        ack_inbox: row.text("ack_inbox", Subject::parse)?,
        max_in_flight: row.number("max_in_flight")?,
        ack_wait: Duration::from_nanos(row.number("ack_wait_ns")?),
        online: row.get("online")?,
        since: Timestamp(row.get("since_ns")?),
    };
    if id.0 > snapshot.counters.subscription {
        return Err(row.corrupt("its id is above server_info.last_subscription_id"));
    }
    if !snapshot.positions.contains_key(&subscription.position) {
        return Err(row.corrupt(format!("there is no position {}", subscription.position)));
    }
    snapshot.subscriptions.insert(id, subscription);
    Ok(())
}

fn key(row: &Line, column: &'static str) -> Result<i64, Fault> {
    row.get(column)
}
