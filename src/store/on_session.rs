//! Reads on the session that holds the lock or waits for it: the right server by definition, and there when no other
//! connection can be had. Commits and renewals wait meanwhile, so these are short.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use super::error::{Error, Fault};
use super::pool::Store;
use super::server_info::ServerInfo;
use super::source::Source;
use super::{encryption, fence, load, replay, snapshot};
use crate::config::database::DatabaseError;
use crate::core::ids::Subject;
use crate::core::load::{Load, Loaded};
use crate::core::replay::Stored;
use crate::core::snapshot::Snapshot;
use crate::core::takeover::FindPublishes;

/// The most messages of a page that is read on the leader session, between two commits.
const ON_SESSION_MESSAGES: usize = 256;
const ON_SESSION_BYTES: usize = 256 << 10;

/// What messages are encrypted with, as it is stored.
#[derive(Debug)]
pub struct KeysAndTerms {
    pub(super) keys: Vec<encryption::KeyRow>,
    pub(super) terms: Vec<encryption::TermRow>,
}

impl Store {
    /// As [`Self::server_info`], on a session that waits for the lock or holds it.
    pub async fn server_info_on(&self, client: &Client) -> Result<Option<ServerInfo>, Error> {
        self.begin_on(client, self.statement_timeout).await?;
        let read = ServerInfo::read(&mut Source::Session(client)).await;
        self.end_on(client, read).await
    }

    /// As [`Self::snapshot`], on the leader session, when no other can be had.
    pub async fn snapshot_on(&self, client: &Client) -> Result<Snapshot, Error> {
        self.begin_on(client, self.statement_timeout).await?;
        let read = snapshot::read(&mut Source::Session(client)).await;
        self.end_on(client, read).await
    }

    /// As [`Self::load`], on the leader session: a page of modest size, whose statements may take so long.
    pub async fn load_on(
        &self,
        client: &Client,
        load: &Load,
        limit: Duration,
    ) -> Result<Loaded, Error> {
        let load = load.modest(ON_SESSION_MESSAGES, ON_SESSION_BYTES);
        let opener = || self.keyring.opener();
        self.begin_on(client, limit).await?;
        let mut source = Source::Session(client);
        let mut read = load::load(&mut source, &load, opener()).await;
        if matches!(&read, Err(fault) if fault.is_damage()) {
            self.end_on(client, read).await.ok();
            self.begin_on(client, limit).await?;
            read = load::read_row_by_row(&mut source, &load, opener()).await;
        }
        self.end_on(client, read).await
    }

    /// As [`Self::stored`], on the leader session.
    pub async fn stored_on(
        &self,
        client: &Client,
        wanted: &FindPublishes,
    ) -> Result<Stored, Error> {
        self.begin_on(client, self.statement_timeout).await?;
        let mut source = Source::Session(client);
        let read = async {
            let (mut found, _) = replay::look_for(wanted, &mut source).await?;
            if !found.is_told_apart() {
                replay::tell_apart(&mut source, &mut found, self.keyring.opener()).await?;
            }
            Ok(found.stored)
        };
        let read = read.await;
        self.end_on(client, read).await
    }

    /// As [`Self::closed_connections`], on the leader session.
    pub async fn closed_connections_on(
        &self,
        client: &Client,
        inboxes: &[String],
    ) -> Result<BTreeSet<Subject>, Error> {
        self.begin_on(client, self.statement_timeout).await?;
        let read = replay::closed(inboxes, &mut Source::Session(client)).await;
        self.end_on(client, read.map(|(closed, _)| closed)).await
    }

    async fn begin_on(&self, client: &Client, limit: Duration) -> Result<(), Error> {
        let limit = limit.as_millis().max(1);
        let begin = format!("{}; SET LOCAL statement_timeout = {limit}", fence::BEGIN);
        let begun = client.batch_execute(&begin).await;
        begun.map_err(|error| Error::from(DatabaseError::of_session(&self.url, &error)))?;
        let plain = fence::ensure_plain_tables(&mut Source::Session(client)).await;
        if plain.is_err() {
            return self.end_on(client, plain).await;
        }
        Ok(())
    }

    async fn end_on<T>(&self, client: &Client, read: Result<T, Fault>) -> Result<T, Error> {
        let ended = client.batch_execute("ROLLBACK").await;
        let read = read.map_err(|fault| fault.into_error(&self.url))?;
        ended.map_err(|error| Error::from(DatabaseError::of_session(&self.url, &error)))?;
        Ok(read)
    }

    /// What [`Self::begin_term`] starts from. On the leader session, which is there in any case: few rows.
    pub async fn keys_and_terms(&self, client: &Client) -> Result<KeysAndTerms, Error> {
        let read = encryption::keys_and_terms(client);
        let limit = self.statement_timeout * 2 + Duration::from_secs(1);
        let what = "reading what messages are encrypted with";
        let read = timeout(limit, read).await;
        let read = read.map_err(|_| DatabaseError::of_timeout(&self.url, what))?;
        let (keys, terms) = read.map_err(|fault| fault.into_error(&self.url))?;
        Ok(KeysAndTerms { keys, terms })
    }
}
