//! What is read from the tables, each call under a limit.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::additions::{self, Addition};
use super::encryption::{self, Keyring, Sealer};
use super::error::Error;
use super::fence::Reads;
use super::imports::Noted;
use super::oldest::{self, Oldest};
use super::on_session::KeysAndTerms;
use super::pool::Store;
use super::rights::{self, MissingRight};
use super::server_info::ServerInfo;
use super::source::Source;
use super::unlogged::{self, Unlogged};
use super::version::SchemaVersion;
use super::{
    ack_secret, high_water_marks, holders, import, imports, load, migrate, outbox, replay,
    requests, snapshot, status, vacuum,
};
use crate::core::commit_history::HighWaterMarks;
use crate::core::ids::{ChannelId, Epoch, LoadId, Subject};
use crate::core::load::{Load, LoadQuery, Loaded};
use crate::core::replay::Stored;
use crate::core::snapshot::Snapshot;
use crate::core::takeover::FindPublishes;
use crate::core::time::Timestamp;
use crate::core::vacuum::Dead;
use crate::postgres::holders::LockHolder;

/// A snapshot is a handful of statements; more time than this and a takeover is better tried again.
const SNAPSHOT_STATEMENTS: u32 = 6;

/// Migrations may rewrite a table.
const MIGRATION_LIMIT: Duration = Duration::from_mins(10);

/// Tables may have hundreds of millions of rows.
const VACUUM_LIMIT: Duration = Duration::from_hours(1);

impl Store {
    /// From here on everything that is read proves that it is on the same Postgres as `client`, and (for a term) knows of
    /// the epoch. Connections that were opened while another Postgres was the right one are not used any more.
    pub async fn fence(&self, client: &Client, epoch: Option<Epoch>) -> Result<(), Error> {
        self.gate.close(client, &self.url, epoch).await
    }

    /// The node has no session any more that shows which Postgres is the right one: what is read is only not to come from
    /// a replica.
    pub fn lift_fence(&self) {
        self.gate.open();
    }

    /// Where the tables are.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// How reading goes.
    pub fn reads(&self) -> Reads {
        self.gate.reads()
    }

    /// Encrypted messages are read with these keys, and new ones written.
    #[must_use]
    pub fn with_keys(mut self, keyring: Keyring) -> Self {
        self.keyring = keyring;
        self
    }

    /// Brings the schema to this server's version. Any number of servers may do it at once.
    pub async fn migrate(&self) -> Result<(), Error> {
        let mut pooled = self.checkout().await?;
        // Its timeouts are of no use to anybody else.
        pooled.close_on_drop();
        let done = timeout(
            MIGRATION_LIMIT,
            migrate::migrate(pooled.connection(), &self.schema),
        )
        .await;
        pooled.checkin(done, "migration")
    }

    /// Which version the tables have. Fails where the role may not even look.
    pub async fn version(&self) -> Result<SchemaVersion, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(
            limit,
            SchemaVersion::read(pooled.connection(), &self.schema),
        )
        .await;
        pooled.checkin(done, "reading the version of the tables")
    }

    /// What the role may not do and would have to.
    pub async fn lacking(&self) -> Result<Vec<MissingRight>, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, rights::lacking(pooled.connection(), &self.schema)).await;
        pooled.checkin(done, "asking for the role's rights")
    }

    /// Who keeps every server from becoming active, by a lock that has been held for a while.
    pub async fn takeover_holder(&self) -> Result<Option<LockHolder>, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, holders::of_takeovers(&mut pooled.source())).await;
        pooled.checkin(done, "looking who holds a lock")
    }

    /// Triggers, rules and policies on the tables that are not the servers' own.
    pub async fn additions(&self) -> Result<Vec<Addition>, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, additions::read(&mut pooled.source())).await;
        pooled.checkin(done, "looking for triggers")
    }

    /// Fails where the role could not serve from the tables: it would wait for the lock, be taken for a standby that can
    /// take over, and fail once it is needed.
    pub async fn check_rights(&self) -> Result<(), Error> {
        let Some(MissingRight { what, remedy }) = self.lacking().await?.into_iter().next() else {
            return Ok(());
        };
        Err(Error::Refused(format!(
            "the role of the database URL {what} in schema {}, which a server has to: {remedy}; `stanby doctor` lists \
             all that it lacks",
            self.schema
        )))
    }

    /// Fails unless a former store can be imported: there is nothing yet.
    pub async fn ensure_vacant(&self) -> Result<(), Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout * 3;
        let looked = import::ensure_vacant(pooled.connection(), &self.schema);
        let done = timeout(limit, looked).await;
        pooled.checkin(done, "looking whether the tables are empty")
    }

    /// What was imported into these tables.
    pub async fn imports(&self) -> Result<Vec<Noted>, Error> {
        let mut pooled = self.checkout_proven().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, imports::read(&mut pooled.source())).await;
        pooled.end(done, "reading what was imported")
    }

    /// What clients were given, if any server was ever active here.
    pub async fn server_info(&self) -> Result<Option<ServerInfo>, Error> {
        let mut pooled = self.checkout_proven().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, ServerInfo::read(&mut pooled.source())).await;
        pooled.end(done, "reading whose tables these are")
    }

    /// Fails when the tables hold messages that this process' keys do not decrypt. Says how many keys they are encrypted
    /// with. Takes a moment where a key is new, for that is how keys are kept from being guessed.
    pub async fn check_keys(&self) -> Result<usize, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, encryption::keys(&mut pooled.source())).await;
        let keys = pooled.checkin(done, "reading what messages are encrypted with")?;
        self.keyring.check(keys).await
    }

    /// Makes ready for a term to read messages, and to encrypt them where it is to. `client` is the leader session:
    /// nobody else may have written when the key of the term is in the tables.
    pub async fn begin_term(
        &self,
        client: &Client,
        epoch: Epoch,
        stored: KeysAndTerms,
    ) -> Result<Option<Sealer>, Error> {
        let found = self.keyring.open(stored.keys, stored.terms).await?;
        self.keyring
            .begin_term(client, &self.url, epoch, found)
            .await
    }

    /// Reads everything that a new term starts from, as of one moment.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let limit = self.statement_timeout * SNAPSHOT_STATEMENTS;
        self.proven(snapshot::Whole, limit).await
    }

    /// Prepares on each connection that the pool has what a takeover reads, so that the takeover waits for answers and not
    /// also for parsing. Costs the same however much is stored.
    pub async fn rehearse(&self) -> Result<(), Error> {
        // One that was given back is there again a moment later: a takeover that does not wait for that needs a second.
        let connections = self.pool.size().max(2);
        try_join_all((0..connections).map(|_| self.rehearse_one())).await?;
        Ok(())
    }

    async fn rehearse_one(&self) -> Result<(), Error> {
        let mut pooled = self.checkout_proven().await?;
        let limit = self.statement_timeout * SNAPSHOT_STATEMENTS;
        let done = timeout(limit, async {
            let mut source = Source::Rehearsal(pooled.connection());
            snapshot::read(&mut source).await?;
            replay::rehearse(&mut source).await
        })
        .await;
        pooled.end(done, "preparing what a takeover reads")
    }

    /// What ack inboxes are made with, there since the tables were made.
    pub async fn ack_secret(&self) -> Result<Vec<u8>, Error> {
        let mut pooled = self.checkout_proven().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, ack_secret::read(&mut pooled.source())).await;
        pooled.end(done, "reading the secret of ack inboxes")
    }

    /// How far the channels are.
    pub async fn high_water_marks(&self) -> Result<HighWaterMarks, Error> {
        let limit = self.statement_timeout + Duration::from_secs(1);
        self.proven(high_water_marks::All, limit).await
    }

    pub async fn load(&self, load: &Load) -> Result<Loaded, Error> {
        if let Some(why) = self.gate.rests() {
            return Err(Error::Unavailable(why));
        }
        if matches!(
            load.query,
            LoadQuery::Outbox { .. } | LoadQuery::Requests { .. }
        ) {
            return self.asked(&load.query).await;
        }
        self.loaded(load).await
    }

    async fn loaded(&self, load: &Load) -> Result<Loaded, Error> {
        // Postgres cancels the statement first; this is for a network that swallows the answer.
        let limit = self.statement_timeout + Duration::from_secs(1);
        let mut pooled = self.checkout_proven().await?;
        let opener = || self.keyring.opener();
        let mut done = timeout(limit, load::load(&mut pooled.source(), load, opener())).await;
        if matches!(&done, Ok(Err(fault)) if fault.is_damage()) {
            pooled.close();
            pooled = self.checkout_proven().await?;
            done = timeout(
                limit,
                load::read_row_by_row(&mut pooled.source(), load, opener()),
            )
            .await;
        }
        let what = match load.query {
            LoadQuery::Policies => "reading policies",
            LoadQuery::Gone => "reading what is gone",
            LoadQuery::DeadLetters { .. } => "reading dead letters",
            LoadQuery::Range { .. }
            | LoadQuery::Exactly { .. }
            | LoadQuery::FirstSince(_)
            | LoadQuery::Oldest { .. }
            | LoadQuery::Outbox { .. }
            | LoadQuery::Requests { .. } => "loading messages",
        };
        pooled.end(done, what)
    }

    /// Reads a little of all that an active reads again and again: what fails, and why.
    pub async fn try_loads(&self) -> Vec<Error> {
        let wants = [
            LoadQuery::Outbox {
                gaps: Vec::new(),
                ack_gaps: Vec::new(),
                due: Timestamp(0),
                put_off: Vec::new(),
                rows: 1,
                bytes: 1,
                payload_bytes: 0,
                settles: true,
            },
            LoadQuery::Requests { rows: 1 },
            LoadQuery::Policies,
            LoadQuery::Gone,
        ];
        let mut failed = Vec::new();
        for want in wants {
            let (id, channel) = (LoadId(0), ChannelId(0));
            let load = Load {
                id,
                channel,
                query: want,
            };
            let is_asked = matches!(
                load.query,
                LoadQuery::Outbox { .. } | LoadQuery::Requests { .. }
            );
            let done = if is_asked {
                self.asked(&load.query).await
            } else {
                self.loaded(&load).await
            };
            failed.extend(done.err());
        }
        failed
    }

    /// What is asked for in SQL, in one statement, without a transaction around it.
    async fn asked(&self, want: &LoadQuery) -> Result<Loaded, Error> {
        let limit = self.statement_timeout + Duration::from_secs(1);
        if let &LoadQuery::Requests { rows } = want {
            self.proven(requests::Page(rows), limit).await
        } else {
            self.proven(outbox::Page(want), limit).await
        }
    }

    /// Which of these publishes are stored there, and which limits have dropped.
    pub async fn stored(&self, wanted: &FindPublishes) -> Result<Stored, Error> {
        let limit = self.statement_timeout + Duration::from_secs(1);
        let mut found = self.proven(wanted, limit).await?;
        if !found.is_told_apart() {
            let mut pooled = self.checkout_proven().await?;
            let (mut source, opener) = (pooled.source(), self.keyring.opener());
            let told_apart = replay::tell_apart(&mut source, &mut found, opener);
            let done = timeout(limit, told_apart).await;
            pooled.end(done, "reading what publishes say")?;
        }
        Ok(found.stored)
    }

    /// Those of the connections, by heartbeat inbox, whose clients were closed or replaced within the last minutes.
    pub async fn closed_connections(&self, inboxes: &[String]) -> Result<BTreeSet<Subject>, Error> {
        if inboxes.is_empty() {
            return Ok(BTreeSet::new());
        }
        let limit = self.statement_timeout + Duration::from_secs(1);
        self.proven(replay::Closed(inboxes), limit).await
    }

    /// The oldest snapshot of the database, if anybody else holds one.
    pub async fn oldest(&self) -> Result<Option<Oldest>, Error> {
        let mut pooled = self.checkout_proven().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, oldest::read(&mut pooled.source())).await;
        pooled.end(done, "looking for the oldest snapshot")
    }

    /// Those of the tables that Postgres keeps no log of, if there are any.
    pub async fn unlogged(&self) -> Result<Option<Unlogged>, Error> {
        let mut pooled = self.checkout_proven().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, unlogged::read(&mut pooled.source())).await;
        pooled.end(done, "looking for tables without a log")
    }

    /// How many rows of `messages` are dead.
    pub async fn dead(&self) -> Result<Dead, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, vacuum::dead(pooled.connection())).await;
        pooled.checkin(done, "counting dead rows")
    }

    /// Vacuums what is rewritten all the time, unless somebody else is at it.
    pub async fn vacuum(&self) -> Result<(), Error> {
        let mut pooled = self.checkout().await?;
        // Its timeouts are of no use to anybody else.
        pooled.close_on_drop();
        let done = timeout(VACUUM_LIMIT, vacuum::vacuum(pooled.connection())).await;
        pooled.checkin(done, "vacuum")
    }

    /// Vacuums `channel_updates` if that is due, and says whether it was.
    pub async fn vacuum_channel_updates(&self) -> Result<bool, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, vacuum::updates_due(pooled.connection())).await;
        if !pooled.checkin(done, "counting dead rows")? {
            return Ok(false);
        }
        let mut pooled = self.checkout().await?;
        pooled.close_on_drop();
        let done = timeout(VACUUM_LIMIT, vacuum::vacuum_updates(pooled.connection())).await;
        pooled.checkin(done, "vacuum")?;
        Ok(true)
    }

    /// What an operator asks first; the tables need not have a server.
    pub async fn report(&self) -> Result<status::Report, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout * SNAPSHOT_STATEMENTS;
        let done = timeout(limit, status::read(pooled.connection(), &self.schema)).await;
        pooled.checkin(done, "reading the status")
    }

    /// Who is active and who would take over.
    pub async fn roles(&self) -> Result<status::Roles, Error> {
        let mut pooled = self.checkout().await?;
        let done = timeout(
            self.statement_timeout * 3,
            status::roles(pooled.connection(), &self.schema),
        );
        let done = done.await;
        pooled.checkin(done, "reading who is active")
    }

    /// The session that holds the lock, where it is not a server's.
    pub async fn stranger(&self) -> Result<Option<status::Stranger>, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(limit, status::find_stranger(pooled.connection())).await;
        pooled.checkin(done, "looking at who holds the lock")
    }

    /// Sends notifications to the sessions that listen for them.
    pub async fn notify(&self, channel: &str, payloads: &[String]) -> Result<(), Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let done = timeout(
            limit,
            status::notify(pooled.connection(), channel, payloads),
        )
        .await;
        pooled.checkin(done, "sending a notification")
    }
}
