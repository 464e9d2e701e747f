//! Fills the tables of a nats-streaming-server on Postgres, in one transaction: all of it, or nothing.

use sqlx::{PgConnection, QueryBuilder};

use super::TABLES;
use super::connection::{Connection, FormerTables};
use crate::config::database::Trouble;
use crate::core::ids::{ChannelId, ChannelName};
use crate::former::return_way::{Connected, Stored, Subscribed};
use crate::store::error::Error;
use crate::store::load::int8;

#[derive(Debug)]
pub struct NewTables {
    connection: Connection,
    /// Of the last row of `SubsPending`.
    row: i64,
}

impl NewTables {
    /// Makes the tables that are not there. Fails where one of them holds anything.
    pub async fn begin(tables: &FormerTables) -> Result<Self, Error> {
        let mut connection = Connection::open(tables).await?;
        let holder = tables.holder();
        if !connection.tables(&["positions"]).await?.is_empty() {
            return Err(Error::Refused(format!(
                "{holder} holds the tables of stanby: name another one for those of nats-streaming-server (--to-schema)"
            )));
        }
        connection.execute("BEGIN").await?;
        connection.execute(CREATE).await?;
        let filled = connection.first(FILLED).await?;
        let filled = filled.map_or(Ok(0), |row| row.number(0))?;
        if filled != 0 {
            return Err(Error::Refused(format!(
                "{holder} holds the tables of nats-streaming-server, and they are not empty: empty all of them ({}), or \
                 name another schema (--to-schema)",
                TABLES.join(", ")
            )));
        }
        Ok(Self { connection, row: 0 })
    }

    pub async fn server(&mut self, cluster_id: &str, record: &[u8]) -> Result<(), Error> {
        let insert = sqlx::query(
            "INSERT INTO ServerInfo (uniquerow, id, proto, version) VALUES (1, $1, $2, 1)",
        );
        let insert = insert.bind(cluster_id).bind(record);
        let done = insert.execute(self.session()?).await;
        self.told(done.map(drop))
    }

    pub async fn clients(&mut self, clients: &[Connected]) -> Result<(), Error> {
        for client in clients {
            let insert =
                sqlx::query("INSERT INTO Clients (id, hbinbox, proto) VALUES ($1, $2, $3)");
            let insert = insert.bind(&client.id).bind(&client.heartbeat_inbox);
            let insert = insert.bind(&client.record);
            let done = insert.execute(self.session()?).await;
            self.told(done.map(drop))?;
        }
        Ok(())
    }

    /// A channel with its subscriptions, whose numbers are unique over all channels.
    pub async fn channel(
        &mut self,
        id: ChannelId,
        name: &ChannelName,
        subscriptions: &[Subscribed],
    ) -> Result<(), Error> {
        let channel = int4(id)?;
        let insert = sqlx::query("INSERT INTO Channels (id, name) VALUES ($1, $2)");
        let insert = insert.bind(channel).bind(name.as_str());
        let done = insert.execute(self.session()?).await;
        self.told(done.map(drop))?;
        for subscribed in subscriptions {
            let (number, last_sent) = (int8(subscribed.number), int8(subscribed.last_sent));
            let insert = sqlx::query(
                "INSERT INTO Subscriptions (id, subid, lastsent, proto) VALUES ($1, $2, $3, $4)",
            );
            let insert = insert.bind(channel).bind(number).bind(last_sent);
            let insert = insert.bind(&subscribed.record);
            let done = insert.execute(self.session()?).await;
            self.told(done.map(drop))?;
            if subscribed.pending.is_empty() {
                continue;
            }
            self.row += 1;
            let pending = subscribed.pending.iter().map(u64::to_string);
            let pending = format!("[{}]", pending.collect::<Vec<_>>().join(","));
            let insert = sqlx::query(
                "INSERT INTO SubsPending (subid, \"row\", lastsent, pending) VALUES ($1, $2, $3, $4)",
            );
            let insert = insert.bind(number).bind(self.row).bind(last_sent);
            let insert = insert.bind(pending.into_bytes());
            let done = insert.execute(self.session()?).await;
            self.told(done.map(drop))?;
        }
        Ok(())
    }

    /// Where the channel goes on, when none of its messages is left.
    pub async fn goes_on_after(&mut self, id: ChannelId, sequence: u64) -> Result<(), Error> {
        let update = sqlx::query("UPDATE Channels SET maxseq = $2 WHERE id = $1");
        let update = update.bind(int4(id)?).bind(int8(sequence));
        let done = update.execute(self.session()?).await;
        self.told(done.map(drop))
    }

    pub async fn messages(&mut self, id: ChannelId, page: &[Stored]) -> Result<(), Error> {
        let channel = int4(id)?;
        // No more parameters than a statement may have.
        for some in page.chunks(1000) {
            let mut insert =
                QueryBuilder::new("INSERT INTO Messages (id, seq, timestamp, size, data) ");
            insert.push_values(some, |mut row, message| {
                row.push_bind(channel)
                    .push_bind(int8(message.sequence))
                    .push_bind(message.timestamp)
                    .push_bind(i32::try_from(message.size).unwrap_or(i32::MAX))
                    .push_bind(&message.record);
            });
            let done = insert.build().execute(self.session()?).await;
            self.told(done.map(drop))?;
        }
        Ok(())
    }

    pub async fn finish(mut self) -> Result<(), Error> {
        self.connection.execute("COMMIT").await?;
        self.connection.close().await;
        Ok(())
    }

    /// Nothing is left of it.
    pub async fn give_up(self) {
        self.connection.close().await;
    }

    fn session(&mut self) -> Result<&mut PgConnection, Error> {
        let session = self.connection.postgres();
        session.ok_or_else(|| Error::Refused("only Postgres is exported to".to_owned()))
    }

    fn told<T>(&self, done: Result<T, sqlx::Error>) -> Result<T, Error> {
        done.map_err(|error| match self.connection.place() {
            FormerTables::Postgres { url, .. } => Trouble::of_pool(url, &error).into(),
            FormerTables::MySql(_) => Error::Failed(error.to_string()),
        })
    }
}

/// The former server's numbers of channels are small.
fn int4(id: ChannelId) -> Result<i32, Error> {
    i32::try_from(id.0).map_err(|_| {
        Error::Refused(format!(
            "channel number {id} is too large for the tables of nats-streaming-server"
        ))
    })
}

const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS ServerInfo (uniquerow INTEGER DEFAULT 1 PRIMARY KEY, id VARCHAR(1024), proto BYTEA,
        version INTEGER);
    CREATE TABLE IF NOT EXISTS Clients (id VARCHAR(1024) PRIMARY KEY, hbinbox TEXT, proto BYTEA);
    CREATE TABLE IF NOT EXISTS Channels (id INTEGER PRIMARY KEY, name VARCHAR(1024) NOT NULL, maxseq BIGINT DEFAULT 0,
        maxmsgs INTEGER DEFAULT 0, maxbytes BIGINT DEFAULT 0, maxage BIGINT DEFAULT 0, deleted BOOL DEFAULT FALSE);
    CREATE INDEX IF NOT EXISTS Idx_ChannelsName ON Channels (name);
    CREATE TABLE IF NOT EXISTS Messages (id INTEGER, seq BIGINT, timestamp BIGINT, size INTEGER, data BYTEA,
        CONSTRAINT PK_MsgKey PRIMARY KEY (id, seq));
    CREATE INDEX IF NOT EXISTS Idx_MsgsTimestamp ON Messages (timestamp);
    CREATE TABLE IF NOT EXISTS Subscriptions (id INTEGER, subid BIGINT, lastsent BIGINT DEFAULT 0, proto BYTEA,
        deleted BOOL DEFAULT FALSE, CONSTRAINT PK_SubKey PRIMARY KEY (id, subid));
    CREATE TABLE IF NOT EXISTS SubsPending (subid BIGINT, \"row\" BIGINT, seq BIGINT DEFAULT 0, lastsent BIGINT DEFAULT 0,
        pending BYTEA, acks BYTEA, CONSTRAINT PK_MsgPendingKey PRIMARY KEY (subid, \"row\"));
    CREATE INDEX IF NOT EXISTS Idx_SubsPendingSeq ON SubsPending (seq);
    CREATE TABLE IF NOT EXISTS StoreLock (id VARCHAR(30), tick BIGINT DEFAULT 0);
    LOCK TABLE ServerInfo, Clients, Channels, Messages, Subscriptions, SubsPending, StoreLock";

/// A lock that nobody holds is nothing.
const FILLED: &str = "SELECT CAST(count(*) AS BIGINT) FROM (
        (SELECT 1 FROM ServerInfo LIMIT 1) UNION ALL (SELECT 1 FROM Clients LIMIT 1)
        UNION ALL (SELECT 1 FROM Channels LIMIT 1) UNION ALL (SELECT 1 FROM Messages LIMIT 1)
        UNION ALL (SELECT 1 FROM Subscriptions LIMIT 1) UNION ALL (SELECT 1 FROM SubsPending LIMIT 1)
        UNION ALL (SELECT 1 FROM StoreLock WHERE coalesce(id, '') <> '' LIMIT 1)
    ) filled";
