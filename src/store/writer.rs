//! Applies a batch on the session it is given: one statement when only one part has rows or when the batch only
//! publishes, else one transaction whose statements all leave in one flight. Never COPY: no timeout of Postgres
//! ends a session that stopped in the middle of one.

mod channels;
mod clients;
mod flight;
mod messages;
mod positions;
mod subscriptions;

use tokio_postgres::{Client, Statement};

use super::error::Error;
use crate::config::database::{DatabaseUrl, Trouble};
use crate::core::batch::{Batch, Counters};
use crate::core::ids::Epoch;
use flight::Flight;

/// The statements, prepared on one session; of no use on another.
#[derive(Debug)]
pub struct Writer {
    url: DatabaseUrl,
    counters: Statement,
    publish: Statement,
    channels_delete: Statement,
    channels_put: Statement,
    messages_insert: Statement,
    messages_trim: Statement,
    clients_delete: Statement,
    clients_put: Statement,
    heartbeats_set: Statement,
    positions_delete: Statement,
    positions_put: Statement,
    progress_set: Statement,
    subscriptions_delete: Statement,
    subscriptions_put: Statement,
}

/// All statements go by primary key, whatever the planner thinks of the tables' sizes; and they are planned once.
/// (Without `jit = off` the cost that a disabled scan adds would start the compiler.)
const PLANNING: &str =
    "SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan";

const COUNTERS: &str = "UPDATE server_info
    SET last_channel_id = greatest(last_channel_id, $1),
        last_subscription_id = greatest(last_subscription_id, $2)";

impl Writer {
    pub async fn prepare(client: &Client, url: &DatabaseUrl) -> Result<Self, Error> {
        Self::try_prepare(client, url)
            .await
            .map_err(|error| Trouble::of_session(url, &error).into())
    }

    async fn try_prepare(
        client: &Client,
        url: &DatabaseUrl,
    ) -> Result<Self, tokio_postgres::Error> {
        client.batch_execute(PLANNING).await?;
        Ok(Self {
            url: url.clone(),
            counters: client.prepare(COUNTERS).await?,
            publish: client.prepare(&messages::publish()).await?,
            channels_delete: client.prepare(channels::DELETE).await?,
            channels_put: client.prepare(channels::PUT).await?,
            messages_insert: client.prepare(messages::INSERT).await?,
            messages_trim: client.prepare(messages::TRIM).await?,
            clients_delete: client.prepare(clients::DELETE).await?,
            clients_put: client.prepare(clients::PUT).await?,
            heartbeats_set: client.prepare(clients::SET_HEARTBEATS).await?,
            positions_delete: client.prepare(positions::DELETE).await?,
            positions_put: client.prepare(positions::PUT).await?,
            progress_set: client.prepare(positions::SET_PROGRESS).await?,
            subscriptions_delete: client.prepare(subscriptions::DELETE).await?,
            subscriptions_put: client.prepare(subscriptions::PUT).await?,
        })
    }

    /// All of the batch is committed, or nothing is; after an error the caller cannot know which when the
    /// connection is lost, and must end the term.
    pub async fn apply(&self, client: &Client, batch: &Batch, epoch: Epoch) -> Result<(), Error> {
        self.fly(client, batch, epoch).await.map_err(|failure| match failure {
            Failure::Statement { what, error } => {
                let trouble = Trouble::of_session(&self.url, &error);
                Trouble { text: format!("{what}: {}", trouble.text), ..trouble }.into()
            }
            Failure::Count { what, expected, found } => Error::Failed(format!(
                "{what}: {found} rows instead of {expected} were written; somebody else changed the tables"
            )),
        })
    }

    async fn fly(&self, client: &Client, batch: &Batch, epoch: Epoch) -> Result<(), Failure> {
        let channels = channels::Columns::of(batch);
        let messages = messages::Columns::of(batch, epoch);
        let trims = messages::Trims::of(batch);
        let clients = clients::Columns::of(batch);
        let heartbeats = clients::Heartbeats::of(batch);
        let positions = positions::Columns::of(batch);
        let progress = positions::ProgressColumns::of(batch);
        let subscriptions = subscriptions::Columns::of(batch);
        let counters = batch.counters.unwrap_or_default();
        let Counters {
            channel,
            subscription,
        } = counters;
        let counters = [int8(channel), int8(subscription)];

        let mut flight = Flight::new(client);
        if batch.counters.is_some() {
            flight.add(
                &self.counters,
                vec![&counters[0], &counters[1]],
                "counters",
                Some(1),
            );
        }
        if !channels.deleted.is_empty() {
            // Before the others: a new channel may have the name of a deleted one.
            flight.add(
                &self.channels_delete,
                vec![&channels.deleted],
                "channels deleted",
                None,
            );
        }
        if channels.deleted.is_empty() && channels.len() > 0 && messages.len() > 0 {
            let mut columns = messages.parameters();
            columns.extend(channels.parameters());
            flight.add(&self.publish, columns, "messages", Some(messages.len()));
        } else {
            if channels.len() > 0 {
                let columns = channels.parameters();
                flight.add(
                    &self.channels_put,
                    columns,
                    "channels",
                    Some(channels.len()),
                );
            }
            if messages.len() > 0 {
                let columns = messages.parameters();
                flight.add(
                    &self.messages_insert,
                    columns,
                    "messages",
                    Some(messages.len()),
                );
            }
        }
        if !trims.is_empty() {
            flight.add(
                &self.messages_trim,
                trims.parameters(),
                "messages trimmed",
                None,
            );
        }
        if !clients.deleted.is_empty() {
            flight.add(
                &self.clients_delete,
                vec![&clients.deleted],
                "clients deleted",
                None,
            );
        }
        if clients.len() > 0 {
            flight.add(
                &self.clients_put,
                clients.parameters(),
                "clients",
                Some(clients.len()),
            );
        }
        if !heartbeats.is_empty() {
            // Of a client that somebody deleted by hand: nothing is lost with it.
            flight.add(
                &self.heartbeats_set,
                heartbeats.parameters(),
                "heartbeats",
                None,
            );
        }
        if !positions.deleted.is_empty() {
            flight.add(
                &self.positions_delete,
                vec![&positions.deleted],
                "positions deleted",
                None,
            );
        }
        if positions.len() > 0 {
            let columns = positions.parameters();
            flight.add(
                &self.positions_put,
                columns,
                "positions",
                Some(positions.len()),
            );
        }
        if progress.len() > 0 {
            let columns = progress.parameters();
            flight.add(
                &self.progress_set,
                columns,
                "progress",
                Some(progress.len()),
            );
        }
        if !subscriptions.deleted.is_empty() {
            let deleted = vec![&subscriptions.deleted as _];
            flight.add(
                &self.subscriptions_delete,
                deleted,
                "subscriptions deleted",
                None,
            );
        }
        if subscriptions.len() > 0 {
            let columns = subscriptions.parameters();
            let rows = Some(subscriptions.len());
            flight.add(&self.subscriptions_put, columns, "subscriptions", rows);
        }
        flight.land().await
    }
}

#[derive(Debug)]
enum Failure {
    Statement {
        what: &'static str,
        error: tokio_postgres::Error,
    },
    Count {
        what: &'static str,
        expected: usize,
        found: u64,
    },
}

// Ids and sequences count from 1, one by one: none comes near the end of a bigint. What a client may choose freely
// (a start sequence) is as far away from every row after it was cut to the highest bigint.
fn int8(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
