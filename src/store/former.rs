//! Reads the tables of nats-streaming-server, as of one moment, and changes nothing in them. What the rows mean is
//! [`crate::former`]'s; `import.rs` writes what becomes of them.

use std::collections::BTreeMap;

use futures_util::{Stream, TryStreamExt};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};
use tokio::time::timeout;

use super::error::{Error, Fault};
use super::load::int8;
use super::reader::quoted;
use crate::config::database::{DatabaseUrl, Trouble};
use crate::core::ids::{ChannelId, ChannelName, SubscriptionId};
use crate::former::Problems;
use crate::former::pending::PendingRow;
use crate::former::records::{Client, ServerInfo, Subscription};
use crate::postgres::bridge::Bridge;
use crate::postgres::find;

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
    connection: PgConnection,
    /// Carries the connection.
    _bridge: Bridge,
    url: DatabaseUrl,
    schema: String,
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
    pub async fn open(url: &DatabaseUrl, schema: &str) -> Result<Self, Error> {
        let mut store = Self::connect(url, schema).await?;
        let missing = missing_table(&mut store.connection, schema).await;
        if let Some(table) = store.told(missing)? {
            return Err(Error::Refused(format!(
                "database {} has no table {schema}.{table}: these are not the tables of nats-streaming-server; name \
                 the right database with --from and their schema with --from-schema",
                url.database()
            )));
        }
        Ok(store)
    }

    /// Whether a former server has ever run on tables there.
    pub async fn is_there(url: &DatabaseUrl, schema: &str) -> Result<bool, Error> {
        let mut store = Self::connect(url, schema).await?;
        let looked = async {
            let connection = &mut store.connection;
            if missing_table(connection, schema).await?.is_some() {
                return Ok(false);
            }
            Ok(server_info(connection).await?.is_some())
        };
        let looked = looked.await;
        let is_there = store.told(looked);
        store.close().await;
        is_there
    }

    async fn connect(url: &DatabaseUrl, schema: &str) -> Result<Self, Error> {
        drop(find::connect(url, &|_| ()).await?);
        let bridge = Bridge::open(url);
        let options = bridge.options().application_name("stanby/import");
        let connection = timeout(url.connect_timeout(), options.connect()).await;
        let connection = connection.map_err(|_| Trouble::of_timeout(url, "connecting"))?;
        let mut store = Self {
            connection: connection.map_err(|error| Trouble::of_pool(url, &error))?,
            _bridge: bridge,
            url: url.clone(),
            schema: schema.to_owned(),
        };
        // Between two reads it may be silent for as long as writing takes.
        let settings = format!(
            "SET search_path = {}; SET statement_timeout = 0; SET lock_timeout = '10s'; SET jit = off;
             SET idle_in_transaction_session_timeout = 0",
            quoted(schema)
        );
        let set = store.connection.execute(AssertSqlSafe(settings)).await;
        store.told(set.map_err(Fault::from))?;
        Ok(store)
    }

    pub async fn store_lock(&mut self) -> Result<StoreLock, Error> {
        let lock = store_lock(&mut self.connection).await;
        self.told(lock)
    }

    /// From here on everything is read as of one moment.
    pub async fn begin(&mut self) -> Result<(), Error> {
        let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        let begun = self.connection.execute(begin).await;
        self.told(begun.map(drop).map_err(Fault::from))
    }

    pub async fn end(&mut self) -> Result<(), Error> {
        let ended = self.connection.execute("COMMIT").await;
        self.told(ended.map(drop).map_err(Fault::from))
    }

    /// Fails unless they are the tables of that cluster, in the form that is known.
    pub async fn server_info(&mut self, cluster_id: &str) -> Result<ServerInfo, Error> {
        let read = server_info(&mut self.connection).await;
        let refused = |why: String| Error::Refused(format!("schema {}: {why}", self.schema));
        let Some((id, version, record)) = self.told(read)? else {
            return Err(refused(
                "table ServerInfo has no row, so no server has ever run on these tables, or somebody deleted it; start \
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
        for told in [&id, &info.cluster_id] {
            if told != cluster_id {
                return Err(refused(format!(
                    "the tables are those of cluster ID {told:?}, and {cluster_id:?} was asked for; give the former \
                     with --cluster-id"
                )));
            }
        }
        Ok(info)
    }

    pub async fn clients(&mut self, problems: &mut Problems) -> Result<Vec<Client>, Error> {
        let clients = clients(&mut self.connection, problems).await;
        self.told(clients)
    }

    /// Those that are not deleted.
    pub async fn channels(
        &mut self,
        problems: &mut Problems,
    ) -> Result<BTreeMap<ChannelId, FormerChannel>, Error> {
        let channels = channels(&mut self.connection, problems).await;
        self.told(channels)
    }

    /// Those that are not deleted, with what they were sent, in the order of their numbers.
    pub async fn subscriptions(
        &mut self,
        problems: &mut Problems,
    ) -> Result<Vec<Subscription>, Error> {
        let subscriptions = subscriptions(&mut self.connection, problems).await;
        self.told(subscriptions)
    }

    /// The highest number of a channel and of a subscription, deleted ones included.
    pub async fn last_numbers(&mut self) -> Result<(u64, u64), Error> {
        let numbers = last_numbers(&mut self.connection).await;
        self.told(numbers)
    }

    /// Sequences and records of a channel's messages, in order.
    pub fn messages(
        &mut self,
        channel: ChannelId,
    ) -> impl Stream<Item = Result<(i64, Vec<u8>), Error>> + use<'_> {
        let Self {
            connection, url, ..
        } = self;
        sqlx::query_as::<_, (i64, Vec<u8>)>(MESSAGES)
            .bind(int8(channel.0))
            .fetch(connection)
            .map_err(|error| Error::from(Trouble::of_pool(url, &error)))
    }

    /// The last sequence of each channel at this moment, deleted ones included.
    pub async fn last_sequences(&mut self) -> Result<BTreeMap<ChannelId, u64>, Error> {
        let last = last_sequences(&mut self.connection).await;
        self.told(last)
    }

    pub async fn close(self) {
        // It has nothing to lose.
        self.connection.close().await.ok();
    }

    fn told<T>(&self, done: Result<T, Fault>) -> Result<T, Error> {
        done.map_err(|fault| fault.told(&self.url))
    }
}

const MESSAGES: &str =
    "SELECT seq::int8, coalesce(data, '') FROM messages WHERE id = $1 ORDER BY seq";

async fn missing_table(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Option<&'static str>, Fault> {
    let there: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = ANY ($2)",
    )
    .bind(schema)
    .bind(TABLES.as_slice())
    .fetch_all(connection)
    .await?;
    let is_missing = |table: &&str| !there.iter().any(|there| there == table);
    Ok(TABLES.into_iter().find(|table| is_missing(table)))
}

async fn store_lock(connection: &mut PgConnection) -> Result<StoreLock, Fault> {
    let row =
        sqlx::query("SELECT coalesce(id, ''), coalesce(tick, 0)::int8 FROM storelock LIMIT 1")
            .fetch_optional(connection)
            .await?;
    let Some(row) = row else {
        return Ok(StoreLock::default());
    };
    Ok(StoreLock {
        owner: row.try_get(0)?,
        tick: row.try_get(1)?,
    })
}

async fn server_info(
    connection: &mut PgConnection,
) -> Result<Option<(String, i64, Vec<u8>)>, Fault> {
    let row = sqlx::query_as(
        "SELECT coalesce(id, ''), coalesce(version, 0)::int8, coalesce(proto, '')
         FROM serverinfo WHERE uniquerow = 1",
    );
    Ok(row.fetch_optional(connection).await?)
}

async fn clients(
    connection: &mut PgConnection,
    problems: &mut Problems,
) -> Result<Vec<Client>, Fault> {
    let mut rows = sqlx::query(
        "SELECT id::text, coalesce(hbinbox, ''), coalesce(proto, '') FROM clients ORDER BY id",
    )
    .fetch(connection);
    let mut clients = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let (id, inbox, record): (&str, &str, &[u8]) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        match Client::decode(id, inbox, record) {
            Ok(client) => clients.push(client),
            Err(why) => problems.add(format!("client {id:?}: {why}")),
        }
    }
    Ok(clients)
}

async fn channels(
    connection: &mut PgConnection,
    problems: &mut Problems,
) -> Result<BTreeMap<ChannelId, FormerChannel>, Fault> {
    let mut rows = sqlx::query(
        "SELECT c.id::int8, c.name::text, coalesce(c.maxseq, 0)::int8,
                m.count, coalesce(m.first, 0)::int8, coalesce(m.last, 0)::int8
         FROM channels c
         CROSS JOIN LATERAL (
             SELECT count(*) AS count, min(seq) AS first, max(seq) AS last FROM messages WHERE id = c.id
         ) m
         WHERE coalesce(c.deleted, false) = false ORDER BY c.id",
    )
    .fetch(connection);
    let mut channels = BTreeMap::new();
    let mut names: BTreeMap<ChannelName, u64> = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        let id = unsigned(&row, 0)?;
        let name: &str = row.try_get(1)?;
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
            max_sequence: unsigned(&row, 2)?,
            extent: Extent {
                count: unsigned(&row, 3)?,
                first: unsigned(&row, 4)?,
                last: unsigned(&row, 5)?,
            },
        };
        channels.insert(ChannelId(id), channel);
    }
    Ok(channels)
}

async fn subscriptions(
    connection: &mut PgConnection,
    problems: &mut Problems,
) -> Result<Vec<Subscription>, Fault> {
    let mut subscriptions = BTreeMap::new();
    {
        let mut rows = sqlx::query(
            "SELECT s.id::int8, s.subid::int8, coalesce(s.lastsent, 0)::int8, coalesce(s.proto, '')
             FROM subscriptions s JOIN channels c ON c.id = s.id
             WHERE coalesce(s.deleted, false) = false AND coalesce(c.deleted, false) = false
             ORDER BY s.subid",
        )
        .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            let (channel, id) = (ChannelId(unsigned(&row, 0)?), unsigned(&row, 1)?);
            let record: &[u8] = row.try_get(3)?;
            let read =
                Subscription::decode(channel, SubscriptionId(id), unsigned(&row, 2)?, record);
            match read {
                Ok(subscription) => {
                    subscriptions.insert(id, subscription);
                }
                Err(why) => {
                    problems.add(format!("subscription {id} of channel {channel}: {why}"));
                }
            }
        }
    }
    // The former server did not ask for an order, and after a while rows lie in another one.
    let mut rows = sqlx::query(
        "SELECT subid::int8, \"row\"::int8, coalesce(seq, 0)::int8, coalesce(lastsent, 0)::int8, pending, acks
         FROM subspending ORDER BY subid, \"row\"",
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let (id, number): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let subscription = u64::try_from(id).ok();
        let Some(subscription) = subscription.and_then(|id| subscriptions.get_mut(&id)) else {
            // Of a subscription that is gone.
            continue;
        };
        let added = subscription.pending.add(&PendingRow {
            sequence: unsigned(&row, 2)?,
            last_sent: unsigned(&row, 3)?,
            pending: row.try_get(4)?,
            acks: row.try_get(5)?,
        });
        if let Err(why) = added {
            problems.add(format!(
                "subscription {id}, row {number} of SubsPending: {why}"
            ));
        }
    }
    Ok(subscriptions.into_values().collect())
}

async fn last_numbers(connection: &mut PgConnection) -> Result<(u64, u64), Fault> {
    let row = sqlx::query(
        "SELECT (SELECT coalesce(max(id), 0) FROM channels)::int8,
                (SELECT coalesce(max(subid), 0) FROM subscriptions)::int8",
    );
    let row = row.fetch_one(connection).await?;
    Ok((unsigned(&row, 0)?, unsigned(&row, 1)?))
}

async fn last_sequences(connection: &mut PgConnection) -> Result<BTreeMap<ChannelId, u64>, Fault> {
    let rows = sqlx::query(
        "SELECT c.id::int8, coalesce((SELECT max(m.seq) FROM messages m WHERE m.id = c.id), 0)::int8
         FROM channels c",
    );
    let rows = rows.fetch_all(connection).await?;
    let last = rows
        .iter()
        .map(|row| Ok((ChannelId(unsigned(row, 0)?), unsigned(row, 1)?)));
    last.collect()
}

/// The former server stores unsigned numbers in signed columns.
fn unsigned(row: &PgRow, column: usize) -> Result<u64, Fault> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| {
        let name = sqlx::Column::name(&row.columns()[column]).to_owned();
        let why = format!("a number in column {name:?} of the former tables is {number}");
        Error::Refused(why).into()
    })
}
