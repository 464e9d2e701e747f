//! Servers of the figures' own: a Postgres that syncs to disk as in production, and a nats-server.

use sqlx::{Connection, PgConnection};
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::{nats, postgres};

use crate::own_postgres;
use crate::pair::{Pair, Settings};

pub(crate) struct Ground {
    postgres: postgres::Postgres,
    nats: nats::NatsServer,
    // Dropped after the servers: the guardian waits for them, and removes the directory.
    _guardian: Guardian,
    _directory: Directory,
}

impl Ground {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = Directory::temporary("stanby-figures")?;
        let guardian = Guardian::start(Some(directory.root()))?;
        let options = postgres::Options::default();
        Ok(Self {
            postgres: postgres::Postgres::start(&directory, &options, &guardian).await?,
            nats: nats::NatsServer::start(&directory, &nats::Options::default(), &guardian).await?,
            _guardian: guardian,
            _directory: directory,
        })
    }

    pub(crate) fn nats_url(&self) -> String {
        self.nats.url()
    }

    pub(crate) fn database_url(&self, name: &str) -> String {
        self.postgres.url_of(name)
    }

    /// Refuses a Postgres that does not sync each commit to disk: its figures would mean nothing.
    pub(crate) async fn settings(&self) -> anyhow::Result<String> {
        own_postgres::settings(&self.postgres, &["wal_sync_method"]).await
    }

    /// How many messages the tables of a pair hold.
    pub(crate) async fn stored(&self, name: &str) -> anyhow::Result<i64> {
        let mut connection = PgConnection::connect(&self.postgres.url_of(name)).await?;
        let count = sqlx::query_scalar("SELECT count(*) FROM stanby.messages")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(count)
    }

    /// Puts rows behind the servers' back, in a channel that they do not know.
    pub(crate) async fn fill(&self, name: &str, from: u64, to: u64) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.postgres.url_of(name)).await?;
        let statement = format!(
            "INSERT INTO stanby.messages
                 (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data)
             SELECT 1000000, n, 1600000000000000000, 1, 'figures', lpad(n::text, 22, '0'), '',
                 decode(repeat(md5(n::text), 8), 'hex')
             FROM generate_series({from} + 1, {to}) AS n"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
        sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// What the tables of a pair take.
    pub(crate) async fn sizes(&self, name: &str) -> anyhow::Result<Sizes> {
        let mut connection = PgConnection::connect(&self.postgres.url_of(name)).await?;
        let row: (f64, f64, f64, i64, i64, i64) = sqlx::query_as(
            "SELECT pg_table_size('stanby.messages')::float8, pg_indexes_size('stanby.messages')::float8,
                    pg_total_relation_size('stanby.channels')::float8,
                    (SELECT count(*) FROM stanby.messages), coalesce(n_dead_tup, 0),
                    (SELECT coalesce(sum(last_sequence), 0)::int8 FROM stanby.channels)
             FROM pg_stat_user_tables WHERE relid = 'stanby.messages'::regclass",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        let (table, index, channels, live, dead, published) = row;
        Ok(Sizes {
            table,
            index,
            channels,
            live,
            dead,
            published,
        })
    }

    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<String> {
        own_postgres::database(&self.postgres, name).await
    }

    /// Two servers on a database of their own. The cluster ID is its name.
    pub(crate) async fn pair(&self, name: &str) -> anyhow::Result<Pair> {
        self.pair_with(name, &[]).await
    }

    pub(crate) async fn pair_with(&self, name: &str, more: &[&str]) -> anyhow::Result<Pair> {
        let settings = Settings {
            database_url: self.database(name).await?,
            nats_url: self.nats.url(),
            cluster_id: name.to_owned(),
            more: more.iter().map(|flag| String::from(*flag)).collect(),
        };
        Ok(Pair::start(settings).await)
    }
}

/// Bytes, and rows.
pub(crate) struct Sizes {
    pub(crate) table: f64,
    pub(crate) index: f64,
    pub(crate) channels: f64,
    pub(crate) live: i64,
    pub(crate) dead: i64,
    pub(crate) published: i64,
}
