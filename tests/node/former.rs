//! The tables of a nats-streaming-server, as its script makes them and as it fills them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use bytes::Bytes;
use prost::Message as _;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stanby::protocol::Subjects;
use stanby::protocol::pb::MsgProto;
use stanby::protocol::subjects::Prefixes;

const TABLES: &str = "
    CREATE TABLE ServerInfo (uniquerow INTEGER DEFAULT 1, id VARCHAR(1024), proto BYTEA, version INTEGER,
        PRIMARY KEY (uniquerow));
    CREATE TABLE Clients (id VARCHAR(1024), hbinbox TEXT, proto BYTEA, PRIMARY KEY (id));
    CREATE TABLE Channels (id INTEGER, name VARCHAR(1024) NOT NULL, maxseq BIGINT DEFAULT 0,
        maxmsgs INTEGER DEFAULT 0, maxbytes BIGINT DEFAULT 0, maxage BIGINT DEFAULT 0,
        deleted BOOL DEFAULT FALSE, PRIMARY KEY (id));
    CREATE INDEX Idx_ChannelsName ON Channels (name(256));
    CREATE TABLE Messages (id INTEGER, seq BIGINT, timestamp BIGINT, size INTEGER, data BYTEA,
        CONSTRAINT PK_MsgKey PRIMARY KEY (id, seq));
    CREATE INDEX Idx_MsgsTimestamp ON Messages (timestamp);
    CREATE TABLE Subscriptions (id INTEGER, subid BIGINT, lastsent BIGINT DEFAULT 0, proto BYTEA,
        deleted BOOL DEFAULT FALSE, CONSTRAINT PK_SubKey PRIMARY KEY (id, subid));
    CREATE TABLE SubsPending (subid BIGINT, row BIGINT, seq BIGINT DEFAULT 0, lastsent BIGINT DEFAULT 0,
        pending BYTEA, acks BYTEA, CONSTRAINT PK_MsgPendingKey PRIMARY KEY (subid, row));
    CREATE INDEX Idx_SubsPendingSeq ON SubsPending (seq);
    CREATE TABLE StoreLock (id VARCHAR(30), tick BIGINT DEFAULT 0);";

/// What it encrypts with.
#[derive(Clone, Copy)]
pub(crate) enum Cipher {
    Aes,
    ChaCha,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ServerInfo {
    #[prost(string, tag = "1")]
    pub(crate) cluster_id: String,
    #[prost(string, tag = "2")]
    pub(crate) discovery: String,
    #[prost(string, tag = "3")]
    pub(crate) publish: String,
    #[prost(string, tag = "4")]
    pub(crate) subscribe: String,
    #[prost(string, tag = "5")]
    pub(crate) unsubscribe: String,
    #[prost(string, tag = "6")]
    pub(crate) close: String,
    #[prost(string, tag = "7")]
    pub(crate) sub_close: String,
    #[prost(string, tag = "8")]
    pub(crate) acks: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClientInfo {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) heartbeat_inbox: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) connection_id: Vec<u8>,
    #[prost(int32, tag = "4")]
    pub(crate) protocol: i32,
    #[prost(int32, tag = "5")]
    pub(crate) ping_interval: i32,
    #[prost(int32, tag = "6")]
    pub(crate) ping_max_out: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubState {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) client_id: String,
    #[prost(string, tag = "3")]
    pub(crate) queue_group: String,
    #[prost(string, tag = "4")]
    pub(crate) inbox: String,
    #[prost(string, tag = "5")]
    pub(crate) ack_inbox: String,
    #[prost(int32, tag = "6")]
    pub(crate) max_in_flight: i32,
    #[prost(int32, tag = "7")]
    pub(crate) ack_wait_seconds: i32,
    #[prost(string, tag = "8")]
    pub(crate) durable_name: String,
    #[prost(uint64, tag = "9")]
    pub(crate) last_sent: u64,
    #[prost(bool, tag = "10")]
    pub(crate) is_durable: bool,
    #[prost(bool, tag = "11")]
    pub(crate) is_closed: bool,
}

impl SubState {
    pub(crate) fn of(id: u64, client_id: &str) -> Self {
        Self {
            id,
            client_id: client_id.to_owned(),
            inbox: format!("_INBOX.former.{id}"),
            ack_inbox: format!("_INBOX.former.acks.{id}"),
            max_in_flight: 64,
            ack_wait_seconds: 1,
            ..Self::default()
        }
    }

    pub(crate) fn durable(self, name: &str) -> Self {
        Self {
            durable_name: name.to_owned(),
            is_durable: true,
            ..self
        }
    }

    pub(crate) fn durable_queue(self, names: &str) -> Self {
        Self {
            queue_group: names.to_owned(),
            is_durable: true,
            ..self
        }
    }
}

/// In schema `public` of a test's database.
pub(crate) struct FormerTables {
    connection: PgConnection,
}

impl FormerTables {
    /// As after the first start of a server.
    pub(crate) async fn new(url: &str, cluster_id: &str) -> Self {
        let mut tables = Self::connect(url).await;
        tables.execute(TABLES).await;
        tables.server_info(&server_info(cluster_id), 1).await;
        tables
    }

    /// As a real server left them, which is said in that file. Its cluster ID is that of `Group::over`.
    pub(crate) async fn real(url: &str) -> Self {
        let mut tables = Self::connect(url).await;
        tables.execute(TABLES).await;
        tables.execute(include_str!("former-store.sql")).await;
        tables
    }

    /// Another session.
    pub(crate) async fn connect(url: &str) -> Self {
        let connection = PgConnection::connect(url).await.unwrap();
        Self { connection }
    }

    pub(crate) async fn execute(&mut self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    /// In place of the row that is there.
    pub(crate) async fn server_info(&mut self, info: &ServerInfo, version: i32) {
        sqlx::query(
            "INSERT INTO ServerInfo (id, proto, version) VALUES ($1, $2, $3)
             ON CONFLICT (uniquerow) DO UPDATE SET id = $1, proto = $2, version = $3",
        )
        .bind(&info.cluster_id)
        .bind(info.encode_to_vec())
        .bind(version)
        .execute(&mut self.connection)
        .await
        .unwrap();
    }

    pub(crate) async fn client(&mut self, info: &ClientInfo) {
        sqlx::query("INSERT INTO Clients (id, hbinbox, proto) VALUES ($1, $2, $3)")
            .bind(&info.id)
            .bind(&info.heartbeat_inbox)
            .bind(info.encode_to_vec())
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    pub(crate) async fn channel(&mut self, id: i32, name: &str, max_sequence: i64) {
        sqlx::query("INSERT INTO Channels (id, name, maxseq) VALUES ($1, $2, $3)")
            .bind(id)
            .bind(name)
            .bind(max_sequence)
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    pub(crate) async fn message(&mut self, id: i32, channel: &str, sequence: u64, data: &[u8]) {
        let message = MsgProto {
            sequence,
            subject: Bytes::copy_from_slice(channel.as_bytes()),
            data: Bytes::copy_from_slice(data),
            timestamp: timestamp(sequence),
            ..MsgProto::default()
        };
        sqlx::query(
            "INSERT INTO Messages (id, seq, timestamp, size, data) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(sequence.cast_signed())
        .bind(message.timestamp)
        .bind(i32::try_from(data.len()).unwrap())
        .bind(message.encode_to_vec())
        .execute(&mut self.connection)
        .await
        .unwrap();
    }

    pub(crate) async fn subscription(&mut self, channel: i32, last_sent: i64, state: &SubState) {
        sqlx::query(
            "INSERT INTO Subscriptions (id, subid, lastsent, proto) VALUES ($1, $2, $3, $4)",
        )
        .bind(channel)
        .bind(state.id.cast_signed())
        .bind(last_sent)
        .bind(state.encode_to_vec())
        .execute(&mut self.connection)
        .await
        .unwrap();
    }

    /// A row as a server without caching writes it.
    pub(crate) async fn pending(&mut self, subscription: i64, row: i64, sequence: i64) {
        sqlx::query("INSERT INTO SubsPending (subid, row, seq) VALUES ($1, $2, $3)")
            .bind(subscription)
            .bind(row)
            .bind(sequence)
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    /// A row as a server with caching writes it.
    pub(crate) async fn pending_cached(
        &mut self,
        (subscription, row): (i64, i64),
        last_sent: i64,
        pending: Option<&str>,
        acks: Option<&str>,
    ) {
        sqlx::query(
            "INSERT INTO SubsPending (subid, row, lastsent, pending, acks) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(subscription)
        .bind(row)
        .bind(last_sent)
        .bind(pending.map(str::as_bytes))
        .bind(acks.map(str::as_bytes))
        .execute(&mut self.connection)
        .await
        .unwrap();
    }

    /// All rows, to be compared.
    pub(crate) async fn fingerprint(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for table in [
            "ServerInfo",
            "Clients",
            "Channels",
            "Messages",
            "Subscriptions",
            "SubsPending",
            "StoreLock",
        ] {
            let rows = format!("SELECT t::text FROM public.{table} t ORDER BY 1");
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(rows))
                .fetch_all(&mut self.connection)
                .await
                .unwrap();
            all.extend(rows);
        }
        all
    }
}

/// What a server tells its clients.
pub(crate) fn server_info(cluster_id: &str) -> ServerInfo {
    let subjects = Subjects::new(cluster_id, &Prefixes::default()).unwrap();
    ServerInfo {
        cluster_id: cluster_id.to_owned(),
        discovery: subjects.discover().to_string(),
        publish: subjects.publish_prefix().to_string(),
        subscribe: subjects.subscribe().to_string(),
        unsubscribe: subjects.unsubscribe().to_string(),
        close: subjects.close_client().to_string(),
        sub_close: subjects.close_subscription().to_string(),
        acks: format!("_STAN.ack.{cluster_id}"),
    }
}

/// Long ago, and a second after the message before.
pub(crate) fn timestamp(sequence: u64) -> i64 {
    1_600_000_000_000_000_000 + sequence.cast_signed() * 1_000_000_000
}

/// A payload as a server with that key stores it.
pub(crate) fn encrypted(
    key: &str,
    cipher: Cipher,
    channel: &str,
    sequence: u64,
    data: &str,
) -> Vec<u8> {
    let mut hashed = vec![0; 33 + channel.len()];
    hashed.extend(digest(&SHA256, key.as_bytes()).as_ref());
    hashed.extend(format!(".{channel}").as_bytes());
    let key = digest(&SHA256, &hashed);
    let (code, algorithm) = match cipher {
        Cipher::Aes => (1, &AES_256_GCM),
        Cipher::ChaCha => (2, &CHACHA20_POLY1305),
    };
    let mut nonce = [7; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    let mut body = data.as_bytes().to_vec();
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut body)
        .unwrap();
    [&[code][..], &nonce, &body].concat()
}
