//! What operators ask of single things: channels, durables, messages, clients, takeovers. Everything is read from the views
//! that people read, so that a command and a query say the same.

mod acked;
mod audit;
mod channels;
mod clients;
mod dead_letters;
mod durables;
mod growth;
mod hours;
mod lists;
mod servers;
mod statements;
mod takeovers;

use std::time::Duration;

use serde::de::DeserializeOwned;
use sqlx::AssertSqlSafe;
use tokio::time::timeout;

use super::error::Fault;
use super::status;

pub use acked::Taker;
pub use audit::{Asked, DeadGroup, RefusedGroup, UnreadableGroup};
pub use channels::{Channel, ChannelDetails, Publisher};
pub use clients::{Client, Subscription};
pub use dead_letters::{DeadLetter, DeadLetterFilter};
pub use durables::{Behind, Durable, InFlight, Policy};
pub use growth::Growth;
pub use hours::Hour;
pub use lists::{Condition, Overview, Part};
pub use servers::ServerSettings;
pub use statements::{STATEMENTS, Statement};
pub use takeovers::{LostRange, Takeover};

pub use super::error::Error;
pub use super::pool::Store;
pub use super::status::{Active, Roles, Standby};

/// A time as ISO 8601 text in UTC, to the millisecond.
macro_rules! iso {
    ($column:literal) => {
        concat!(
            "to_char(",
            $column,
            " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        )
    };
}

/// A length of time in seconds.
macro_rules! seconds {
    ($column:literal) => {
        concat!("round(extract(epoch FROM ", $column, "), 3)::float8")
    };
}

use {iso, seconds};

/// Lists longer than this are cut.
pub const ROWS_MAX: i64 = 10_000;

/// What a query is given.
#[derive(Clone, Copy, Debug)]
enum Argument<'a> {
    Text(&'a str),
    Number(i64),
}

impl Store {
    /// The rows of a query, by the names of its columns.
    async fn query_view<T: DeserializeOwned>(
        &self,
        query: &'static str,
        given: &[Argument<'_>],
    ) -> Result<Vec<T>, Error> {
        let mut pooled = self.checkout().await?;
        let work = async {
            status::ensure_tables(pooled.connection(), self.schema()).await?;
            let query = format!("SELECT to_jsonb(q)::text FROM ({query}) q LIMIT {ROWS_MAX}");
            let mut query = sqlx::query_scalar::<_, String>(AssertSqlSafe(query));
            for given in given {
                query = match given {
                    Argument::Text(text) => query.bind(*text),
                    Argument::Number(number) => query.bind(*number),
                };
            }
            let rows = query.fetch_all(pooled.connection()).await?;
            let rows = rows.iter().map(|row| serde_json::from_str(row));
            let rows: Result<Vec<T>, _> = rows.collect();
            rows.map_err(|error| {
                Fault::from(Error::Failed(format!("a view has other columns: {error}")))
            })
        };
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, work).await;
        pooled.checkin(done, "reading the views")
    }
}
