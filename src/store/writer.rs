//! Applies a batch on the session it is given: one statement when only one part has rows or when the batch only
//! publishes, else one transaction whose statements all leave in one pipeline. Never COPY: no timeout of Postgres
//! ends a session that stopped in the middle of one.

mod channel_updates;
mod channels;
mod clients;
mod gone;
mod left_for_later;
mod lost;
mod messages;
mod outbox;
mod pages;
mod pieces;
mod pipeline;
mod policies;
mod positions;
mod requests;
mod subscriptions;
mod unreadable;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::{Client, Statement};

use super::encryption::Sealer;
use super::error::Error;
use super::migrate::NEWEST;
use super::refused;
use crate::clock::Clock;
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::core::batch::Batch;
use crate::core::ids::Epoch;
use crate::core::time::Instant;
use crate::core::upload::UploadWindow;
use channel_updates::ChannelUpdates;
use pipeline::{Pipeline, Transaction};

pub use left_for_later::LeftForLater;
pub(super) use messages::insert_into as insert_messages_into;

/// The statements, prepared on one session; of no use on another.
#[derive(Debug)]
pub struct Writer {
    url: DatabaseUrl,
    /// Encrypts payloads, where a term has one.
    sealer: Option<Sealer>,
    /// Whether a batch that is not written as a whole is always taken back.
    transaction: Transaction,
    counters: Statement,
    channels: channels::Statements,
    channel_updates: channel_updates::Statements,
    /// What of the channels is written later; never locked over an `await`.
    late: Mutex<ChannelUpdates>,
    messages: messages::Statements,
    pieces: pieces::Statements,
    clients: clients::Statements,
    positions: positions::Statements,
    pages: pages::Statements,
    subscriptions: subscriptions::Statements,
    unreadable: unreadable::Statements,
    lost: lost::Statements,
    gone: gone::Statements,
    outbox: outbox::Statements,
    policies: policies::Statements,
    requests: requests::Statements,
}

/// All statements go by primary key, from the rows of the batch to the rows of the table, whatever the planner thinks
/// of their numbers; and they are planned once. A hash join would read the whole table for each batch. (Without
/// `jit = off` the cost that a disabled scan adds would start the compiler.)
const PLANNING: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET jit = off; SET plan_cache_mode = force_generic_plan";

const COUNTERS: &str = "UPDATE server_info
    SET last_channel_id = greatest(last_channel_id, $1),
        last_subscription_id = greatest(last_subscription_id, $2)";

impl Writer {
    pub async fn prepare(client: &Client, url: &DatabaseUrl) -> Result<Self, Error> {
        Self::try_prepare(client, url)
            .await
            .map_err(|error| DatabaseError::of_session(url, &error).into())
    }

    async fn try_prepare(
        client: &Client,
        url: &DatabaseUrl,
    ) -> Result<Self, tokio_postgres::Error> {
        client.batch_execute(PLANNING).await?;
        // The tables refuse a server that is too old to read them.
        let statement = format!("SET stanby.schema_version = {NEWEST}");
        client.batch_execute(&statement).await?;
        Ok(Self {
            url: url.clone(),
            sealer: None,
            transaction: Transaction::Own,
            counters: client.prepare(COUNTERS).await?,
            channels: channels::Statements::prepare(client).await?,
            channel_updates: channel_updates::Statements::prepare(client).await?,
            late: Mutex::default(),
            messages: messages::Statements::prepare(client).await?,
            pieces: pieces::Statements::prepare(client).await?,
            clients: clients::Statements::prepare(client).await?,
            positions: positions::Statements::prepare(client).await?,
            pages: pages::Statements::prepare(client).await?,
            subscriptions: subscriptions::Statements::prepare(client).await?,
            unreadable: unreadable::Statements::prepare(client).await?,
            lost: lost::Statements::prepare(client).await?,
            gone: gone::Statements::prepare(client).await?,
            outbox: outbox::Statements::prepare(client).await?,
            policies: policies::Statements::prepare(client).await?,
            requests: requests::Statements::prepare(client).await?,
        })
    }

    /// From here on payloads are encrypted, or (`None`) not. To be called before the first batch of a term.
    pub fn seal_with(&mut self, sealer: Option<Sealer>) {
        self.sealer = sealer;
    }

    /// From here on nothing of a batch is committed before it is known to be written as a whole, which takes a message to
    /// Postgres more.
    pub fn verify_before_commit(&mut self) {
        self.transaction = Transaction::Verified;
    }

    /// From here on rows of `channels` may be written later, by [`Self::catch_up`], which is to be called when it is due. With what
    /// the last term has left for later.
    pub fn write_channels_later(&mut self, left: LeftForLater) {
        self.late().turn_on(left, Clock.now().monotonic);
    }

    fn late(&self) -> MutexGuard<'_, ChannelUpdates> {
        // A panic while it was held ends the term.
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When [`Self::catch_up`] has something to do.
    pub fn catch_up_due(&self) -> Option<Instant> {
        self.late().due()
    }

    /// Writes some rows of `channels` that are late, in a transaction of its own: where Postgres refuses one of them, no batch is to
    /// blame.
    pub async fn catch_up(&self, client: &Client, epoch: Epoch) -> Result<(), Error> {
        let (part, columns) = {
            let mut late = self.late();
            let part = late.part();
            let columns = channel_updates::Columns::of(&part, &late, epoch);
            (part, columns)
        };
        let channels = channels::Columns::of_rows(&part.rows);
        let mut pipeline = Pipeline::new(client);
        columns.begin(&mut pipeline, &self.channel_updates);
        if !columns.puts_off() {
            channels.add_to(&mut pipeline, &self.channels);
        }
        columns.end(&mut pipeline, &self.channel_updates);
        let written = pipeline.execute(Transaction::Verified).await;
        let now = Clock.now().monotonic;
        match written {
            Ok(()) => self.late().written(&part, now),
            Err(_) => self.late().refused(&part, now),
        }
        written.map_err(|failure| self.to_error(failure, Transaction::Verified))
    }

    /// All of the batch is committed, or nothing is; after an error the caller cannot know which when the
    /// connection is lost, and must end the term.
    pub async fn apply(&self, client: &Client, batch: &Batch, epoch: Epoch) -> Result<(), Error> {
        self.apply_in(client, batch, epoch, self.transaction)
            .await?;
        self.late().committed(batch, Clock.now().monotonic);
        Ok(())
    }

    /// The same for a batch of any size: what is more than the window allows goes in pieces, and `answered` is called for
    /// each answer on the way, with when its question was sent.
    pub async fn apply_in_pieces(
        &self,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
        window: &mut UploadWindow,
        answered: &(dyn Fn(Instant) + Send + Sync),
    ) -> Result<(), Error> {
        let data: usize = batch.messages.iter().map(|(_, it)| it.data.len()).sum();
        if data <= window.bytes() {
            let sent = Clock.now().monotonic;
            self.apply(client, batch, epoch).await?;
            // Counted as the core counts: a batch that is closed for its bytes is a large one, whatever its messages are.
            window.committed(batch.bytes, Clock.now().monotonic.since(sent));
            return Ok(());
        }
        let uploaded = self.upload(client, batch, epoch, window, answered).await;
        let ended = match &uploaded {
            Ok(()) => client.batch_execute("COMMIT").await,
            Err(_) if client.is_closed() => Ok(()),
            Err(_) => client.batch_execute("ROLLBACK").await,
        };
        let to_error = |failure| self.to_error(failure, Transaction::Verified);
        let failed = |error| Failure::Statement {
            what: "COMMIT",
            error,
        };
        uploaded.map_err(to_error)?;
        ended.map_err(failed).map_err(to_error)?;
        self.late().committed(batch, Clock.now().monotonic);
        Ok(())
    }

    async fn upload(
        &self,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
        window: &mut UploadWindow,
        answered: &(dyn Fn(Instant) + Send + Sync),
    ) -> Result<(), Failure> {
        let begun = client.batch_execute("BEGIN").await;
        begun.map_err(|error| Failure::Statement {
            what: "BEGIN",
            error,
        })?;
        let sealed = self.sealer.as_ref().map(|with| with.seal(&batch.messages));
        let messages = messages::Columns::of(batch, epoch, sealed.as_ref());
        self.pieces
            .upload(client, &messages, window, answered)
            .await?;
        self.execute(client, batch, epoch, Transaction::Callers, Some(&messages))
            .await
    }

    /// As part of a transaction that the caller has begun and will commit.
    pub(super) async fn apply_within(
        &self,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
    ) -> Result<(), Error> {
        self.apply_in(client, batch, epoch, Transaction::Callers)
            .await
    }

    async fn apply_in(
        &self,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
        transaction: Transaction,
    ) -> Result<(), Error> {
        let executed = self.execute(client, batch, epoch, transaction, None).await;
        executed.map_err(|failure| self.to_error(failure, transaction))
    }

    fn to_error(&self, failure: Failure, transaction: Transaction) -> Error {
        match failure {
            Failure::Statement { what, error } => {
                if let Some(refusal) = refused::refusal(what, &error) {
                    return Error::NotStored {
                        refusal: Box::new(refusal),
                        is_rolled_back: true,
                    };
                }
                let failure = DatabaseError::of_session(&self.url, &error);
                DatabaseError {
                    text: format!("{what}: {}", failure.text),
                    ..failure
                }
                .into()
            }
            Failure::Count {
                what,
                expected,
                found,
            } => Error::NotStored {
                refusal: Box::new(refused::miscount(what, expected, found)),
                is_rolled_back: transaction == Transaction::Verified,
            },
        }
    }

    async fn execute(
        &self,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
        transaction: Transaction,
        uploaded: Option<&messages::Columns<'_>>,
    ) -> Result<(), Failure> {
        let (channels, late) = channels::Columns::of(batch, &self.late(), epoch);
        let sealer = self.sealer.as_ref().filter(|_| uploaded.is_none());
        let sealed = sealer.map(|with| with.seal(&batch.messages));
        let messages = messages::Columns::of(batch, epoch, sealed.as_ref());
        let trims = messages::Trims::of(batch);
        let clients = clients::Columns::of(batch);
        let heartbeats = clients::Heartbeats::of(batch);
        let positions = positions::Columns::of(batch);
        let progress = positions::ProgressColumns::of(batch);
        let acks = pages::Acks::of(batch);
        let holders = pages::Holders::of(batch);
        let subscriptions = subscriptions::Columns::of(batch);
        let unreadable = unreadable::Columns::of(batch);
        let lost = lost::Columns::of(batch, epoch);
        let gone = gone::Columns::of(batch);
        let outbox = outbox::Columns::of(batch);
        let policies = policies::Columns::of(batch);
        let requests = requests::Columns::of(batch);
        let counters = batch
            .counters
            .map(|last| [int8(last.channel), int8(last.subscription)]);

        let mut pipeline = Pipeline::new(client);
        if let Some([channel, subscription]) = &counters {
            pipeline.add(
                &self.counters,
                vec![channel, subscription],
                "counters",
                Some(1),
            );
        }
        if let Some(uploaded) = uploaded {
            channels.add_to(&mut pipeline, &self.channels);
            late.add_to(&mut pipeline, &self.channel_updates);
            self.pieces.add_to(uploaded, &mut pipeline);
        } else if channels.only_put() && late.is_empty() && !messages.is_empty() {
            messages.add_to_with(&channels, &mut pipeline, &self.messages);
        } else if channels.is_empty() && !late.is_empty() && !messages.is_empty() {
            messages.add_to_appending(&late, &mut pipeline, &self.messages);
        } else {
            channels.add_to(&mut pipeline, &self.channels);
            late.add_to(&mut pipeline, &self.channel_updates);
            messages.add_to(&mut pipeline, &self.messages);
        }
        trims.add_to(&mut pipeline, &self.messages);
        clients.add_to(&mut pipeline, &self.clients);
        heartbeats.add_to(&mut pipeline, &self.clients);
        positions.add_to(&mut pipeline, &self.positions);
        progress.add_to(&mut pipeline, &self.positions);
        acks.add_to(&mut pipeline, &self.pages);
        holders.add_to(&mut pipeline, &self.pages);
        subscriptions.add_to(&mut pipeline, &self.subscriptions);
        unreadable.add_to(&mut pipeline, &self.unreadable);
        lost.add_to(&mut pipeline, &self.lost);
        gone.add_to(&mut pipeline, &self.gone);
        outbox.add_to(&mut pipeline, &self.outbox);
        policies.add_to(&mut pipeline, &self.policies);
        requests.add_to(&mut pipeline, &self.requests);
        pipeline.execute(transaction).await
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
