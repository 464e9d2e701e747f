//! What tells this group of servers from others with the same cluster ID: a number of its own, and the channels that it
//! serves.

use sqlx::PgConnection;
use tokio_postgres::Client;

use super::error::{Error, Fault};
use crate::config::database::{DatabaseUrl, Trouble};
use crate::core::limits::ChannelPattern;
use crate::core::partition::Partition;

/// There as soon as there are tables.
pub(super) async fn id(connection: &mut PgConnection) -> Result<String, Fault> {
    let id = sqlx::query_scalar("SELECT group_id::text FROM leadership");
    Ok(id.fetch_one(connection).await?)
}

/// For those who look at the tables. On the leader session, once per term.
pub async fn record_served(
    client: &Client,
    url: &DatabaseUrl,
    served: Option<&Partition>,
) -> Result<(), Error> {
    let served: Option<Vec<&str>> = served.map(|partition| {
        let entries = partition.entries().iter();
        entries.map(ChannelPattern::as_str).collect()
    });
    let recorded = client
        .execute(
            "UPDATE leadership SET serves = $1 WHERE serves IS DISTINCT FROM $1",
            &[&served],
        )
        .await;
    recorded
        .map(drop)
        .map_err(|error| Trouble::of_session(url, &error).into())
}
