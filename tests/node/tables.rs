//! What the tables hold, read as an operator would.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};

pub(crate) struct Tables {
    url: String,
    schema: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) sequence: i64,
    pub(crate) epoch: i64,
    pub(crate) published_at_ns: i64,
    pub(crate) client_id: String,
    pub(crate) guid: String,
    pub(crate) data: Vec<u8>,
}

impl Row {
    fn of(row: &PgRow) -> Self {
        Self {
            sequence: row.get("sequence"),
            epoch: row.get("epoch"),
            published_at_ns: row.get("published_at_ns"),
            client_id: row.get("client_id"),
            guid: row.get("guid"),
            data: row.get("data"),
        }
    }
}

impl Tables {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            schema: "stanby".to_owned(),
        }
    }

    pub(crate) fn in_schema(self, schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            ..self
        }
    }

    /// A channel's messages by sequence.
    pub(crate) async fn messages(&self, channel: &str) -> Vec<Row> {
        let rows = sqlx::query(
            "SELECT m.sequence, m.epoch, m.published_at_ns, m.client_id, m.guid, m.data
             FROM messages m JOIN channels c USING (channel_id)
             WHERE c.name = $1 ORDER BY m.sequence",
        )
        .bind(channel)
        .fetch_all(&mut self.connect().await.unwrap())
        .await
        .unwrap();
        rows.iter().map(Row::of).collect()
    }

    /// Registered clients with their connection IDs.
    pub(crate) async fn clients(&self) -> Vec<(String, String)> {
        sqlx::query_as(
            "SELECT client_id, convert_from(connection_id, 'UTF8') FROM clients ORDER BY client_id",
        )
        .fetch_all(&mut self.connect().await.unwrap())
        .await
        .unwrap()
    }

    /// The reason of each term, from the first on.
    pub(crate) async fn takeovers(&self) -> Vec<(i64, String)> {
        sqlx::query_as("SELECT epoch, reason FROM takeovers ORDER BY epoch")
            .fetch_all(&mut self.connect().await.unwrap())
            .await
            .unwrap()
    }

    /// Servers in the queue for the lock at this moment.
    pub(crate) async fn standbys(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM standbys")
            .fetch_one(&mut self.connect().await?)
            .await
    }

    pub(crate) async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&mut self.connect().await.unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn texts(&self, query: &'static str) -> Vec<String> {
        sqlx::query_scalar(query)
            .fetch_all(&mut self.connect().await.unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn execute(&self, statements: impl Into<String>) {
        sqlx::raw_sql(AssertSqlSafe(statements.into()))
            .execute(&mut self.connect().await.unwrap())
            .await
            .unwrap();
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = PgConnection::connect(&self.url).await?;
        sqlx::query("SELECT set_config('search_path', $1, false)")
            .bind(&self.schema)
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }
}
