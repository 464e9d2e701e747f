//! What clients were given when they connected: read at the start of each term, written once by the first.

use tokio_postgres::Client;

use super::error::{Error, Fault};
use super::source::Source;
use crate::config::database::{DatabaseError, DatabaseUrl};

/// What the tables say holds, not what the configuration says: clients keep using the subjects they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    pub cluster_id: String,
    pub discover_prefix: String,
    pub publish_prefix: String,
    pub subscribe_subject: String,
    pub unsubscribe_subject: String,
    pub close_subscription_subject: String,
    pub close_subject: String,
    /// The prefix of new ack inboxes; subscriptions keep the ones they have.
    pub ack_prefix: String,
}

impl ServerInfo {
    /// Takes what is stored, or stores `proposed` when nothing is; of what is stored, the ack prefix follows the
    /// configuration. To be called on the leader session, before the snapshot is read.
    pub async fn read_or_create(
        client: &Client,
        url: &DatabaseUrl,
        proposed: &Self,
    ) -> Result<Self, Error> {
        let stored = Self::exchange(client, proposed)
            .await
            .map_err(|error| Error::from(DatabaseError::of_session(url, &error)))?;
        stored.ensure_cluster_id(&proposed.cluster_id)?;
        Ok(stored)
    }

    /// `None` before the first term.
    pub(super) async fn read(source: &mut Source<'_>) -> Result<Option<Self>, Fault> {
        let row = source.all(SELECT, &[]).await?.pop();
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Self {
            cluster_id: row.get("cluster_id")?,
            discover_prefix: row.get("discover_prefix")?,
            publish_prefix: row.get("publish_prefix")?,
            subscribe_subject: row.get("subscribe_subject")?,
            unsubscribe_subject: row.get("unsubscribe_subject")?,
            close_subscription_subject: row.get("close_subscription_subject")?,
            close_subject: row.get("close_subject")?,
            ack_prefix: row.get("ack_prefix")?,
        }))
    }

    /// Fails when the tables are another cluster's.
    pub fn ensure_cluster_id(&self, cluster_id: &str) -> Result<(), Error> {
        if self.cluster_id == cluster_id {
            return Ok(());
        }
        Err(Error::OtherCluster(format!(
            "cluster ID {cluster_id:?} does not match recovered value of {:?}; start with the recovered \
             one, or name another schema or database",
            self.cluster_id
        )))
    }

    async fn exchange(client: &Client, proposed: &Self) -> Result<Self, tokio_postgres::Error> {
        if let Some(row) = client.query_typed_opt(SELECT, &[]).await? {
            let stored = Self::from_row(&row)?;
            if stored.ack_prefix == proposed.ack_prefix || stored.cluster_id != proposed.cluster_id
            {
                return Ok(stored);
            }
        }
        Self::write(client, proposed).await
    }

    async fn write(client: &Client, proposed: &Self) -> Result<Self, tokio_postgres::Error> {
        // Where somebody deleted the row, the numbers in use are the best guess at those given out.
        let created = client
            .query_opt(
                "INSERT INTO server_info (cluster_id, discover_prefix, publish_prefix,
                    subscribe_subject, unsubscribe_subject, close_subscription_subject,
                    close_subject, ack_prefix, last_channel_id, last_subscription_id)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8,
                    coalesce((SELECT max(channel_id) FROM channels), 0),
                    greatest((SELECT max(position_id) FROM positions),
                        (SELECT max(subscription_id) FROM subscriptions), 0))
                 ON CONFLICT DO NOTHING RETURNING last_channel_id",
                &[
                    &proposed.cluster_id,
                    &proposed.discover_prefix,
                    &proposed.publish_prefix,
                    &proposed.subscribe_subject,
                    &proposed.unsubscribe_subject,
                    &proposed.close_subscription_subject,
                    &proposed.close_subject,
                    &proposed.ack_prefix,
                ],
            )
            .await?;
        if let Some(row) = created
            && row.try_get::<_, i64>(0)? > 0
        {
            tracing::warn!(
                "the server's own row was missing beside those of channels; it is written again"
            );
        }
        client
            .execute(
                "UPDATE server_info SET ack_prefix = $1 WHERE ack_prefix <> $1 AND cluster_id = $2",
                &[&proposed.ack_prefix, &proposed.cluster_id],
            )
            .await?;
        let row = client.query_one(SELECT, &[]).await?;
        Self::from_row(&row)
    }

    fn from_row(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            cluster_id: row.try_get(0)?,
            discover_prefix: row.try_get(1)?,
            publish_prefix: row.try_get(2)?,
            subscribe_subject: row.try_get(3)?,
            unsubscribe_subject: row.try_get(4)?,
            close_subscription_subject: row.try_get(5)?,
            close_subject: row.try_get(6)?,
            ack_prefix: row.try_get(7)?,
        })
    }
}

const SELECT: &str = "SELECT cluster_id, discover_prefix, publish_prefix, subscribe_subject,
        unsubscribe_subject, close_subscription_subject, close_subject, ack_prefix
    FROM server_info";
