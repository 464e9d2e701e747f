//! Channels of which `channel_updates` is newer than `channels` when a term begins: a row was locked or refused when the term was claimed.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Row};

use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::core::batch::ChannelRow;
use crate::core::ids::{ChannelId, ChannelName, Sequence};
use crate::core::time::Timestamp;
use crate::store::error::Error;

/// Most terms find nothing, which costs one look at an empty table.
const LEFT: &str = "SELECT channel_id, name, created_at_ns, deleting, first_sequence, last_sequence, last_published_at_ns,
        message_count, byte_count
    FROM current_channels
    WHERE EXISTS (SELECT FROM channel_updates) AND channel_id IN (SELECT unnest(channel_id) FROM channel_updates)";

#[derive(Debug, Default)]
pub struct LeftForLater(pub(super) BTreeMap<ChannelId, ChannelRow>);

impl LeftForLater {
    /// On the leader session, between the claim and the first batch.
    ///
    /// # Errors
    ///
    /// What Postgres says, and a row that no server has written.
    pub async fn read(client: &Client, url: &DatabaseUrl) -> Result<Self, Error> {
        let rows = client.query_typed(LEFT, &[]).await;
        let rows = rows.map_err(|error| DatabaseError::of_session(url, &error))?;
        let rows: Result<_, _> = rows.iter().map(channel).collect();
        rows.map(Self)
    }
}

fn channel(row: &Row) -> Result<(ChannelId, ChannelRow), Error> {
    let id: i64 = row.get("channel_id");
    let corrupt = |column: &str| Error::Corrupt {
        table: "channels",
        row: id.to_string(),
        why: format!("column {column} holds what no server writes"),
    };
    let number = |column| u64::try_from(row.get::<_, i64>(column)).map_err(|_| corrupt(column));
    let name = row.get::<_, String>("name");
    let channel = ChannelRow {
        name: ChannelName::parse(name.into()).ok_or_else(|| corrupt("name"))?,
        created_at: Timestamp(row.get("created_at_ns")),
        deleting: row.get("deleting"),
        first_sequence: Sequence(number("first_sequence")?),
        last_sequence: Sequence(number("last_sequence")?),
        last_published_at: Timestamp(row.get("last_published_at_ns")),
        message_count: number("message_count")?,
        byte_count: number("byte_count")?,
    };
    Ok((ChannelId(number("channel_id")?), channel))
}
