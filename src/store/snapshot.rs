//! Everything that a new term starts from, read as of one moment and checked: a term that starts from rows that
//! contradict each other would only find out later, and by then have acked on their strength.

use std::time::Duration;

use super::error::Fault;
use super::gone;
use super::policies;
use super::requests::{read_set, set_columns};
use super::rows::{Reading, parse_multirange};
use super::source::{Line, Source};
use super::sql_acks;
use crate::core::batch::{
    ACKS_PAGE, ACKS_PAGE_BYTES, AckedPage, ChannelRow, ClientRow, Counters, HOLDERS_PAGE,
    Heartbeat, Held, PositionRow, Progress, SubscriptionRow,
};
use crate::core::ids::{
    ChannelId, ChannelName, ClientId, ConnectionId, DurableName, PositionId, QueueName, Sequence,
    Subject, SubscriptionId,
};
use crate::core::snapshot::Snapshot;
use crate::core::time::Timestamp;

/// Within one transaction that sees one moment.
pub(super) async fn read(source: &mut Source<'_>) -> Result<Snapshot, Fault> {
    let mut snapshot = Snapshot::default();
    let used = read_counters(source, &mut snapshot).await?;
    read_channels(source, &mut snapshot).await?;
    read_clients(source, &mut snapshot).await?;
    read_positions(source, &mut snapshot).await?;
    read_acks(source, &mut snapshot).await?;
    read_holders(source, &mut snapshot).await?;
    read_subscriptions(source, &mut snapshot).await?;
    gone::read_into(source, &mut snapshot).await?;
    if used.has_acks {
        snapshot.sql_acks = sql_acks::all(source).await?;
    }
    if used.has_policies {
        snapshot.policies = policies::all(source).await?;
        snapshot.counts = policies::counts(source).await?;
    }
    Ok(snapshot)
}

/// What has to be read only where it was ever used: each read is a message to Postgres more that clients wait for.
struct Used {
    has_acks: bool,
    has_policies: bool,
}

async fn read_counters(source: &mut Source<'_>, snapshot: &mut Snapshot) -> Result<Used, Fault> {
    // A rehearsal prepares all reads.
    let mut used = Used {
        has_acks: true,
        has_policies: true,
    };
    let query = concat!(
        "SELECT last_channel_id, last_subscription_id, ",
        set_columns!(),
        ", EXISTS (SELECT FROM pending_acks) AS has_acks,
            EXISTS (SELECT FROM policies) OR EXISTS (SELECT FROM delivery_counts) AS has_policies
        FROM server_info"
    );
    if let Some(row) = source.all(query, &[]).await?.pop() {
        read_set(&row, snapshot)?;
        used.has_acks = row.get("has_acks")?;
        used.has_policies = row.get("has_policies")?;
        let row = Reading::new("server_info", &row, "1");
        snapshot.counters = Counters {
            channel: row.number("last_channel_id")?,
            subscription: row.number("last_subscription_id")?,
        };
    }
    Ok(used)
}

async fn read_channels(source: &mut Source<'_>, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let query = "SELECT channel_id, name, created_at_ns, deleting, first_sequence, last_sequence,
                last_published_at_ns, message_count, byte_count
         FROM channels ORDER BY channel_id";
    source
        .each(query, &[], |row| {
            let row = Reading::new("channels", &row, key(&row, "channel_id")?);
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
        })
        .await
}

async fn read_clients(source: &mut Source<'_>, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let query =
        "SELECT client_id, connection_id, heartbeat_inbox, protocol, ping_interval, ping_max_out,
                connected_at_ns, last_heartbeat_at_ns, missed_heartbeats
         FROM clients ORDER BY client_id";
    source
        .each(query, &[], |row| {
            let row = Reading::new("clients", &row, row.get::<&str>("client_id")?);
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
        })
        .await
}

async fn read_positions(source: &mut Source<'_>, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let query = "SELECT position_id, channel_id, durable_name, queue_group, last_sent, acked_floor,
                acked_above::text AS acked_above
         FROM positions ORDER BY position_id";
    source
        .each(query, &[], |row| {
            let row = Reading::new("positions", &row, key(&row, "position_id")?);
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
        })
        .await
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

async fn read_acks(source: &mut Source<'_>, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let query =
        "SELECT position_id, page, pages, bits FROM position_acks ORDER BY position_id, page";
    source
        .each(query, &[], |row| {
            let key = format!("{}, {}", key(&row, "position_id")?, key(&row, "page")?);
            let row = Reading::new("position_acks", &row, key);
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
        })
        .await
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

async fn read_holders(source: &mut Source<'_>, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let query = "SELECT position_id, page, members, held FROM position_holders";
    source
        .each(query, &[], |row| {
            let key = format!("{}, {}", key(&row, "position_id")?, key(&row, "page")?);
            let row = Reading::new("position_holders", &row, key);
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
            let held: Held = held.collect();
            let pages = snapshot.holders.entry(id).or_default();
            pages.insert(page, held);
            Ok(())
        })
        .await
}

async fn read_subscriptions(source: &mut Source<'_>, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let query = "SELECT subscription_id, position_id, client_id, inbox, ack_inbox, max_in_flight, ack_wait_ns,
                online, since_ns
         FROM subscriptions ORDER BY subscription_id";
    source
        .each(query, &[], |row| {
            let row = Reading::new("subscriptions", &row, key(&row, "subscription_id")?);
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
        })
        .await
}

fn key(row: &Line, column: &'static str) -> Result<i64, Fault> {
    row.get(column)
}
