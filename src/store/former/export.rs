//! Fills the tables of a nats-streaming-server, on Postgres or on `MySQL`, in one transaction: all of it, or nothing. `MySQL` keeps
//! the empty tables where it fails.

use super::connection::{Cell, Connection, FormerTables};
use super::{TABLES, VERSION};
use crate::core::ids::{ChannelId, ChannelName};
use crate::former::return_way::{Connected, Stored, Subscribed};
use crate::store::error::Error;
use crate::store::load::int8;

#[derive(Debug)]
pub struct NewTables {
    connection: Connection,
    /// The number of the last row of `SubsPending`.
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
        match tables {
            FormerTables::Postgres { .. } => {
                connection.execute("BEGIN").await?;
                connection.execute(CREATE).await?;
            }
            // It commits whatever makes a table.
            FormerTables::MySql(_) => {
                connection.execute(CREATE_IN_MYSQL).await?;
                connection.execute("START TRANSACTION").await?;
            }
        }
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
        let row = vec![
            Cell::Number(1),
            Cell::Text(cluster_id),
            Cell::Bytes(record),
            Cell::Number(VERSION),
        ];
        let columns = "ServerInfo (uniquerow, id, proto, version)";
        self.connection.insert(columns, &[row]).await
    }

    pub async fn clients(&mut self, clients: &[Connected]) -> Result<(), Error> {
        let rows = clients.iter().map(|client| {
            vec![
                Cell::Text(&client.id),
                Cell::Text(&client.heartbeat_inbox),
                Cell::Bytes(&client.record),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let columns = "Clients (id, hbinbox, proto)";
        self.connection.insert(columns, &rows).await
    }

    /// A channel with its subscriptions, whose numbers are unique over all channels.
    pub async fn channel(
        &mut self,
        id: ChannelId,
        name: &ChannelName,
        subscriptions: &[Subscribed],
    ) -> Result<(), Error> {
        let channel = number(id)?;
        let row = vec![Cell::Number(channel), Cell::Text(name.as_str())];
        self.connection
            .insert("Channels (id, name)", &[row])
            .await?;
        let rows = subscriptions.iter().map(|subscribed| {
            vec![
                Cell::Number(channel),
                Cell::Number(int8(subscribed.number)),
                Cell::Number(int8(subscribed.last_sent)),
                Cell::Bytes(&subscribed.record),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let columns = "Subscriptions (id, subid, lastsent, proto)";
        self.connection.insert(columns, &rows).await?;
        for subscribed in subscriptions.iter().filter(|it| !it.pending.is_empty()) {
            self.row += 1;
            let pending = subscribed.pending.iter().map(u64::to_string);
            let pending = format!("[{}]", pending.collect::<Vec<_>>().join(","));
            let row = vec![
                Cell::Number(int8(subscribed.number)),
                Cell::Number(self.row),
                Cell::Number(int8(subscribed.last_sent)),
                Cell::Bytes(pending.as_bytes()),
            ];
            let columns = "SubsPending (subid, \"row\", lastsent, pending)";
            self.connection.insert(columns, &[row]).await?;
        }
        Ok(())
    }

    /// Where the channel goes on, when none of its messages is left.
    pub async fn goes_on_after(&mut self, id: ChannelId, sequence: u64) -> Result<(), Error> {
        let (channel, sequence) = (number(id)?, int8(sequence));
        let update = format!("UPDATE Channels SET maxseq = {sequence} WHERE id = {channel}");
        self.connection.execute(&update).await
    }

    pub async fn messages(&mut self, id: ChannelId, page: &[Stored]) -> Result<(), Error> {
        let channel = number(id)?;
        let rows = page.iter().map(|message| {
            vec![
                Cell::Number(channel),
                Cell::Number(int8(message.sequence)),
                Cell::Number(message.timestamp),
                // That of the record. A limit never drops a message that has none.
                Cell::Number(i64::try_from(message.record.len()).unwrap_or(i64::MAX)),
                Cell::Bytes(&message.record),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let columns = "Messages (id, seq, timestamp, size, data)";
        self.connection.insert(columns, &rows).await
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
}

/// The former server's numbers of channels are small.
fn number(id: ChannelId) -> Result<i64, Error> {
    i32::try_from(id.0).map(i64::from).map_err(|_| {
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

/// With room for payloads above 64 KiB. Names may differ in case alone, and be of any language, whatever the database's default is; what is
/// indexed of them fits into the 767 bytes that `MySQL` 5.6 and `MariaDB` 10.1 take. Client IDs are of ASCII.
const CREATE_IN_MYSQL: &str = "
    CREATE TABLE IF NOT EXISTS ServerInfo (uniquerow INTEGER DEFAULT 1, id VARCHAR(1024), proto BLOB, version INTEGER,
        PRIMARY KEY (uniquerow)) ENGINE=InnoDB;
    CREATE TABLE IF NOT EXISTS Clients (id VARCHAR(1024) CHARACTER SET ascii COLLATE ascii_bin, hbinbox TEXT, proto BLOB,
        PRIMARY KEY (id(256))) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
    CREATE TABLE IF NOT EXISTS Channels (id INTEGER, name VARCHAR(1024) NOT NULL, maxseq BIGINT UNSIGNED DEFAULT 0,
        maxmsgs INTEGER DEFAULT 0, maxbytes BIGINT DEFAULT 0, maxage BIGINT DEFAULT 0, deleted BOOL DEFAULT FALSE,
        PRIMARY KEY (id), INDEX Idx_ChannelsName (name(191)))
        ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
    CREATE TABLE IF NOT EXISTS Messages (id INTEGER, seq BIGINT UNSIGNED, timestamp BIGINT, size INTEGER, data LONGBLOB,
        CONSTRAINT PK_MsgKey PRIMARY KEY (id, seq), INDEX Idx_MsgsTimestamp (timestamp)) ENGINE=InnoDB;
    CREATE TABLE IF NOT EXISTS Subscriptions (id INTEGER, subid BIGINT UNSIGNED, lastsent BIGINT UNSIGNED DEFAULT 0,
        proto BLOB, deleted BOOL DEFAULT FALSE, CONSTRAINT PK_SubKey PRIMARY KEY (id, subid)) ENGINE=InnoDB;
    CREATE TABLE IF NOT EXISTS SubsPending (subid BIGINT UNSIGNED, `row` BIGINT UNSIGNED, seq BIGINT UNSIGNED DEFAULT 0,
        lastsent BIGINT UNSIGNED DEFAULT 0, pending LONGBLOB, acks LONGBLOB,
        CONSTRAINT PK_MsgPendingKey PRIMARY KEY (subid, `row`), INDEX Idx_SubsPendingSeq (seq)) ENGINE=InnoDB;
    CREATE TABLE IF NOT EXISTS StoreLock (id VARCHAR(30), tick BIGINT UNSIGNED DEFAULT 0) ENGINE=InnoDB";

/// A lock that nobody holds is nothing.
const FILLED: &str = "SELECT CAST(count(*) AS BIGINT) FROM (
        (SELECT 1 FROM ServerInfo LIMIT 1) UNION ALL (SELECT 1 FROM Clients LIMIT 1)
        UNION ALL (SELECT 1 FROM Channels LIMIT 1) UNION ALL (SELECT 1 FROM Messages LIMIT 1)
        UNION ALL (SELECT 1 FROM Subscriptions LIMIT 1) UNION ALL (SELECT 1 FROM SubsPending LIMIT 1)
        UNION ALL (SELECT 1 FROM StoreLock WHERE coalesce(id, '') <> '' LIMIT 1)
    ) filled";
