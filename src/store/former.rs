//! Reads the tables of nats-streaming-server, on Postgres or on `MySQL`, as of one moment, and changes nothing in them. What
//! the rows mean is [`crate::former`]'s; `import.rs` writes what becomes of them.

mod connection;
mod export;

use std::collections::BTreeMap;

use futures_util::{Stream, TryStreamExt as _};

use self::connection::Connection;
pub use self::connection::FormerTables;
pub use self::export::NewTables;
use super::error::Error;
use super::load::int8;
use crate::core::ids::{ChannelId, ChannelName, SubscriptionId};
use crate::former::Problems;
use crate::former::pending::PendingRow;
use crate::former::records::{Client, ServerInfo, Subscription};

/// As that server's script makes them, unquoted.
const TABLES: [&str; 7] = [
    "serverinfo",
    "clients",
    "channels",
    "messages",
    "subscriptions",
    "subspending",
    "storelock",
];

/// The only one that there is.
const VERSION: i64 = 1;

/// A connection to the former database.
#[derive(Debug)]
pub struct FormerStore {
    connection: Connection,
}

/// Who holds the former servers' lock. A holder that runs counts it up each second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreLock {
    /// Empty when nobody does.
    pub owner: String,
    pub tick: i64,
}

/// What the former server knew of a channel.
#[derive(Clone, Debug)]
pub struct FormerChannel {
    pub name: ChannelName,
    pub max_sequence: u64,
    pub extent: Extent,
}

/// The messages of a channel, as the database counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub count: u64,
    pub first: u64,
    pub last: u64,
}

impl FormerStore {
    pub async fn open(tables: &FormerTables) -> Result<Self, Error> {
        let mut connection = Connection::open(tables).await?;
        match missing_table(&mut connection).await? {
            Some(table) => Err(tables.lacks(table)),
            None => Ok(Self { connection }),
        }
    }

    /// Whether a former server has ever run on tables there.
    pub async fn is_there(tables: &FormerTables) -> Result<bool, Error> {
        let mut connection = Connection::open(tables).await?;
        let is_there = missing_table(&mut connection).await?.is_none()
            && server_info(&mut connection).await?.is_some();
        connection.close().await;
        Ok(is_there)
    }

    /// The last sequence of each channel that has messages, by its name; empty where there are no tables of that cluster.
    pub async fn last_of_channels(
        tables: &FormerTables,
        cluster_id: &str,
    ) -> Result<BTreeMap<String, u64>, Error> {
        let mut connection = Connection::open(tables).await?;
        let mut last = BTreeMap::new();
        if missing_table(&mut connection).await?.is_none()
            && let Some((id, ..)) = server_info(&mut connection).await?
            && id == cluster_id
        {
            let mut rows = connection.rows(CHANNELS, &[]);
            while let Some(row) = rows.try_next().await? {
                let sequence = row.unsigned(5)?;
                if sequence > 0 {
                    last.insert(row.text(1)?.to_owned(), sequence);
                }
            }
        }
        connection.close().await;
        Ok(last)
    }

    pub async fn store_lock(&mut self) -> Result<StoreLock, Error> {
        let row = self
            .connection
            .first("SELECT id, CAST(coalesce(tick, 0) AS BIGINT) FROM StoreLock LIMIT 1")
            .await?;
        let Some(row) = row else {
            return Ok(StoreLock::default());
        };
        Ok(StoreLock {
            owner: row.text(0)?.to_owned(),
            tick: row.number(1)?,
        })
    }

    /// From here on everything is read as of one moment.
    pub async fn begin(&mut self) -> Result<(), Error> {
        self.connection.begin().await
    }

    pub async fn end(&mut self) -> Result<(), Error> {
        self.connection.execute("COMMIT").await
    }

    /// Fails unless they are the tables of that cluster, in the form that is known.
    pub async fn server_info(&mut self, cluster_id: &str) -> Result<ServerInfo, Error> {
        let read = server_info(&mut self.connection).await?;
        let holder = self.connection.place().holder();
        let refused = |why: String| Error::Refused(format!("{holder}: {why}"));
        let Some((id, version, record)) = read else {
            return Err(refused(
                "table ServerInfo has no row, so no server has ever run on these tables, or it was deleted; start \
                 nats-streaming-server on them once, which writes it, and stop it again"
                    .to_owned(),
            ));
        };
        if version != VERSION {
            return Err(refused(format!(
                "table ServerInfo says version {version} of the tables, and only version {VERSION} is known"
            )));
        }
        let info = ServerInfo::decode(&record)
            .map_err(|why| refused(format!("the row of table ServerInfo cannot be read: {why}")))?;
        for id_or_record in [&id, &info.cluster_id] {
            if id_or_record != cluster_id {
                return Err(refused(format!(
                    "the tables are those of cluster ID {id_or_record:?}, and {cluster_id:?} was asked for; give \
                     --cluster-id {id_or_record}"
                )));
            }
        }
        Ok(info)
    }

    pub async fn clients(&mut self, problems: &mut Problems) -> Result<Vec<Client>, Error> {
        let rows = "SELECT id, hbinbox, proto FROM Clients ORDER BY id";
        let mut rows = self.connection.rows(rows, &[]);
        let mut clients = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let id = row.text(0)?;
            match Client::decode(id, row.text(1)?, row.bytes(2)?) {
                Ok(client) => clients.push(client),
                Err(why) => problems.add(format!("client {id:?}: {why}")),
            }
        }
        Ok(clients)
    }

    /// Those that are not deleted.
    pub async fn channels(
        &mut self,
        problems: &mut Problems,
    ) -> Result<BTreeMap<ChannelId, FormerChannel>, Error> {
        let mut rows = self.connection.rows(CHANNELS, &[]);
        let mut channels = BTreeMap::new();
        let mut names: BTreeMap<ChannelName, u64> = BTreeMap::new();
        while let Some(row) = rows.try_next().await? {
            let id = row.unsigned(0)?;
            let name = row.text(1)?;
            let Some(name) = ChannelName::parse(name.into()) else {
                problems.add(format!("channel {id}: {name:?} is not a name of a channel"));
                continue;
            };
            if let Some(other) = names.insert(name.clone(), id) {
                problems.add(format!(
                    "channel {id}: there is another one, {other}, named {name:?}; set \"deleted\" of the one that nobody \
                     needs"
                ));
            }
            let channel = FormerChannel {
                name,
                max_sequence: row.unsigned(2)?,
                extent: Extent {
                    count: row.unsigned(3)?,
                    first: row.unsigned(4)?,
                    last: row.unsigned(5)?,
                },
            };
            channels.insert(ChannelId(id), channel);
        }
        Ok(channels)
    }

    /// Those that are not deleted, with what they were sent, in the order of their numbers.
    pub async fn subscriptions(
        &mut self,
        problems: &mut Problems,
    ) -> Result<Vec<Subscription>, Error> {
        let mut subscriptions = BTreeMap::new();
        {
            let mut rows = self.connection.rows(SUBSCRIPTIONS, &[]);
            while let Some(row) = rows.try_next().await? {
                let (channel, id) = (ChannelId(row.unsigned(0)?), row.unsigned(1)?);
                let (last_sent, record) = (row.unsigned(2)?, row.bytes(3)?);
                match Subscription::decode(channel, SubscriptionId(id), last_sent, record) {
                    Ok(subscription) => {
                        subscriptions.insert(id, subscription);
                    }
                    Err(why) => {
                        problems.add(format!("subscription {id} of channel {channel}: {why}"));
                    }
                }
            }
        }
        let mut rows = self.connection.rows(PENDING, &[]);
        while let Some(row) = rows.try_next().await? {
            let (id, number) = (row.number(0)?, row.number(1)?);
            let subscription = u64::try_from(id).ok();
            let Some(subscription) = subscription.and_then(|id| subscriptions.get_mut(&id)) else {
                // The subscription is gone.
                continue;
            };
            let added = subscription.pending.add(&PendingRow {
                sequence: row.unsigned(2)?,
                last_sent: row.unsigned(3)?,
                pending: row.bytes_or_none(4)?,
                acks: row.bytes_or_none(5)?,
            });
            if let Err(why) = added {
                problems.add(format!(
                    "subscription {id}, row {number} of SubsPending: {why}"
                ));
            }
        }
        Ok(subscriptions.into_values().collect())
    }

    /// The highest number of a channel and of a subscription, deleted ones included.
    pub async fn last_numbers(&mut self) -> Result<(u64, u64), Error> {
        let row = self.connection.first(LAST_NUMBERS).await?;
        let row = row.ok_or_else(|| Error::Failed("a maximum has no row".to_owned()))?;
        Ok((row.unsigned(0)?, row.unsigned(1)?))
    }

    /// Sequences and records of a channel's messages behind a sequence, in order.
    pub fn messages(
        &mut self,
        channel: ChannelId,
        after: u64,
    ) -> impl Stream<Item = Result<(i64, Vec<u8>), Error>> + use<'_> {
        let rows = self
            .connection
            .rows(MESSAGES, &[int8(channel.0), int8(after)]);
        rows.and_then(async |row| Ok((row.number(0)?, row.bytes(1)?.to_vec())))
    }

    /// The last sequence of each channel at this moment, deleted ones included.
    pub async fn last_sequences(&mut self) -> Result<BTreeMap<ChannelId, u64>, Error> {
        let mut rows = self.connection.rows(LAST_SEQUENCES, &[]);
        let mut last = BTreeMap::new();
        while let Some(row) = rows.try_next().await? {
            last.insert(ChannelId(row.unsigned(0)?), row.unsigned(1)?);
        }
        Ok(last)
    }

    pub async fn close(self) {
        self.connection.close().await;
    }
}

const MESSAGES: &str =
    "SELECT CAST(seq AS BIGINT), data FROM Messages WHERE id = $1 AND seq > $2 ORDER BY seq";

const CHANNELS: &str = "SELECT CAST(c.id AS BIGINT), c.name, CAST(coalesce(c.maxseq, 0) AS BIGINT),
        CAST(coalesce(m.count, 0) AS BIGINT), CAST(coalesce(m.first, 0) AS BIGINT),
        CAST(coalesce(m.last, 0) AS BIGINT)
    FROM Channels c
    LEFT JOIN (
        SELECT id, count(*) AS count, min(seq) AS first, max(seq) AS last FROM Messages GROUP BY id
    ) m ON m.id = c.id
    WHERE coalesce(c.deleted, false) = false ORDER BY c.id";

const SUBSCRIPTIONS: &str = "SELECT CAST(s.id AS BIGINT), CAST(s.subid AS BIGINT),
        CAST(coalesce(s.lastsent, 0) AS BIGINT), s.proto
    FROM Subscriptions s JOIN Channels c ON c.id = s.id
    WHERE coalesce(s.deleted, false) = false AND coalesce(c.deleted, false) = false ORDER BY s.subid";

/// The former server did not ask for an order, and after a while rows lie in another one.
const PENDING: &str =
    "SELECT CAST(subid AS BIGINT), CAST(\"row\" AS BIGINT), CAST(coalesce(seq, 0) AS BIGINT),
        CAST(coalesce(lastsent, 0) AS BIGINT), pending, acks
    FROM SubsPending ORDER BY subid, \"row\"";

const LAST_NUMBERS: &str = "SELECT CAST((SELECT coalesce(max(id), 0) FROM Channels) AS BIGINT),
        CAST((SELECT coalesce(max(subid), 0) FROM Subscriptions) AS BIGINT)";

const LAST_SEQUENCES: &str = "SELECT CAST(c.id AS BIGINT),
        CAST(coalesce((SELECT max(m.seq) FROM Messages m WHERE m.id = c.id), 0) AS BIGINT)
    FROM Channels c";

const SERVER_INFO: &str = "SELECT id, CAST(coalesce(version, 0) AS BIGINT), proto FROM ServerInfo
    WHERE uniquerow = 1";

async fn missing_table(connection: &mut Connection) -> Result<Option<&'static str>, Error> {
    let there = connection.tables(&TABLES).await?;
    let is_missing = |table: &&str| !there.iter().any(|there| there == table);
    Ok(TABLES.into_iter().find(|table| is_missing(table)))
}

async fn server_info(connection: &mut Connection) -> Result<Option<(String, i64, Vec<u8>)>, Error> {
    let Some(row) = connection.first(SERVER_INFO).await? else {
        return Ok(None);
    };
    let id = row.text(0)?.to_owned();
    Ok(Some((id, row.number(1)?, row.bytes(2)?.to_vec())))
}
