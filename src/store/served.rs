//! Which channels the active serves, where several groups share a cluster ID: for those who look at the tables.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::Error;
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::core::limits::ChannelPattern;
use crate::core::partition::Partition;

/// On the leader session, once per term. `None`: all channels.
pub async fn record(
    client: &Client,
    url: &DatabaseUrl,
    served: Option<&Partition>,
) -> Result<(), Error> {
    let served: Option<Vec<&str>> = served.map(|partition| {
        let entries = partition.entries().iter();
        entries.map(ChannelPattern::as_str).collect()
    });
    let recorded = client
        .execute_typed(
            "UPDATE leadership SET serves = $1 WHERE serves IS DISTINCT FROM $1",
            &[(&served, Type::TEXT_ARRAY)],
        )
        .await;
    recorded
        .map(drop)
        .map_err(|error| DatabaseError::of_session(url, &error).into())
}
