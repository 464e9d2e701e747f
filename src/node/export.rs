//! The way back: writes everything that the tables hold as the file store of a nats-streaming-server, while no server of ours
//! serves. Nothing is changed in the tables.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::config::{DatabaseUrl, Encryption};
use crate::core::batch::ChannelRow;
use crate::core::ids::{ChannelId, ClientId, Guid, LoadId, Sequence};
use crate::core::load::{Load, Loaded, Want};
use crate::core::message::Message;
use crate::core::snapshot::Snapshot;
use crate::former::return_way::{self, Told};
use crate::leadership::{self, Lease};
use crate::node::run::new_server_id;
use crate::store::files::export::{NewChannel, NewStore};
use crate::store::{self, Keyring, ServerInfo, Store};

const STATEMENT_TIMEOUT: Duration = Duration::from_mins(5);

/// Messages and bytes of them that are in memory at once.
const PAGE_MESSAGES: usize = 4096;
const PAGE_BYTES: usize = 8 << 20;

/// In place of a publisher. The format does not have it.
const NOBODY: &str = "exported";

/// What is to be exported, and where to.
#[derive(Debug)]
pub struct Export {
    pub from: DatabaseUrl,
    pub schema: String,
    /// What payloads are decrypted with; they are written as they were published.
    pub encryption: Encryption,
    pub to: PathBuf,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Exported {
    pub cluster_id: String,
    pub channels: usize,
    pub messages: u64,
    pub clients: usize,
    /// What could not be written as it stands.
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}; nothing was exported")]
    Store(#[from] store::Error),
    #[error("{0}; nothing was exported")]
    Leadership(#[from] leadership::Error),
    #[error("{0}; nothing was exported")]
    Refused(String),
    #[error("the system gives no random numbers")]
    NoRandom,
}

impl Export {
    /// All of it, or nothing.
    pub async fn run(&self) -> Result<Exported, Error> {
        let tasks = TaskTracker::new();
        let store = Store::open(&self.from, &self.schema, "stanby/export", STATEMENT_TIMEOUT);
        let told = self.told(&store).await?;
        self.ensure_nobody_serves(&told.cluster_id, &tasks).await?;
        let store = store.with_keys(Keyring::new(&self.encryption, &told.cluster_id));
        store.check_keys().await?;
        let snapshot = store.snapshot().await?;
        let new = NewStore::begin(&self.to)?;
        let exported = self.write(&store, &told, &snapshot, &new).await;
        // A server that has started meanwhile has changed something.
        let unchanged = async {
            self.ensure_nobody_serves(&told.cluster_id, &tasks).await?;
            if store.snapshot().await? == snapshot {
                return Ok(());
            }
            Err(Error::Refused(
                "a server of this schema has served meanwhile: stop all of them first".to_owned(),
            ))
        };
        let done = match exported {
            Ok(exported) => unchanged.await.map(|()| exported),
            Err(error) => Err(error),
        };
        store.close().await;
        match done {
            Ok(exported) => {
                new.finish()?;
                Ok(exported)
            }
            Err(error) => {
                new.give_up();
                Err(error)
            }
        }
    }

    async fn told(&self, store: &Store) -> Result<ServerInfo, Error> {
        let version = store.version().await?;
        if !version.is_usable() {
            return Err(Error::Refused(format!("schema {} {version}", self.schema)));
        }
        store.server_info().await?.ok_or_else(|| {
            Error::Refused(format!(
                "no server has ever served from schema {}: there is nothing to export",
                self.schema
            ))
        })
    }

    async fn ensure_nobody_serves(
        &self,
        cluster_id: &str,
        tasks: &TaskTracker,
    ) -> Result<(), Error> {
        let settings = leadership::Settings {
            url: self.from.clone(),
            schema: self.schema.clone(),
            cluster_id: cluster_id.to_owned(),
            group: leadership::checks::IMPORT_GROUP.to_owned(),
            server_id: new_server_id().map_err(|_| Error::NoRandom)?,
            lease: Lease::DEFAULT,
            statement_timeout: STATEMENT_TIMEOUT,
        };
        let examined = leadership::examine::examine(&settings, tasks).await?;
        examined.primary?;
        let mut contenders = examined.contenders?.into_iter();
        match contenders.find(|it| it.holds_lock) {
            None => Ok(()),
            Some(holder) => Err(Error::Refused(format!(
                "{:?} holds the lock of schema {}: a server is active there; stop the servers of this schema first",
                holder.name, self.schema
            ))),
        }
    }

    async fn write(
        &self,
        store: &Store,
        told: &ServerInfo,
        snapshot: &Snapshot,
        new: &NewStore,
    ) -> Result<Exported, Error> {
        new.server(&return_way::server(&Told {
            cluster_id: &told.cluster_id,
            discover: &told.discover_prefix,
            publish: &told.publish_prefix,
            subscribe: &told.subscribe_subject,
            unsubscribe: &told.unsubscribe_subject,
            close: &told.close_subject,
            close_subscription: &told.close_subscription_subject,
        }))?;
        let clients = snapshot.clients.iter();
        let clients: Vec<Vec<u8>> = clients
            .map(|(id, row)| return_way::client(id, row))
            .collect();
        new.clients(&clients)?;
        let mut exported = Exported {
            cluster_id: told.cluster_id.clone(),
            clients: clients.len(),
            ..Exported::default()
        };
        let subscriptions = return_way::subscriptions(snapshot);
        for (id, row) in snapshot.channels.iter().filter(|(_, row)| !row.deleting) {
            let subscriptions = subscriptions.get(id).map_or(&[][..], Vec::as_slice);
            let mut channel = new.channel(&row.name, subscriptions)?;
            messages(store, *id, row, &mut channel, &mut exported).await?;
            channel.finish()?;
            exported.channels += 1;
        }
        Ok(exported)
    }
}

async fn messages(
    store: &Store,
    id: ChannelId,
    row: &ChannelRow,
    channel: &mut NewChannel<'_>,
    exported: &mut Exported,
) -> Result<(), Error> {
    let (mut next, mut written) = (row.first_sequence, Sequence(0));
    while next <= row.last_sequence {
        let load = Load {
            id: LoadId::default(),
            channel: id,
            want: Want::Range {
                first: next,
                last: row.last_sequence,
                count: PAGE_MESSAGES,
                bytes: PAGE_BYTES,
            },
        };
        let Loaded::Messages {
            messages,
            unreadable,
            through,
            gone,
        } = store.load(&load).await?
        else {
            return Err(Error::Refused("a page of messages is none".to_owned()));
        };
        let found = messages.len() + unreadable.len();
        let asked = (through.0 + 1).saturating_sub(next.0);
        let gone: u64 = gone.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        let missing = asked.saturating_sub(found as u64 + gone);
        if missing > 0 {
            exported.notes.push(format!(
                "left out: channel {:?}, {missing} of the messages {} to {}: they are missing from the tables, and nothing says \
                 that they are gone",
                row.name, next.0, through.0
            ));
        }
        for unreadable in unreadable {
            exported.notes.push(format!(
                "left out: channel {:?}, message {}: {}",
                row.name, unreadable.sequence.0, unreadable.why
            ));
        }
        for message in messages {
            let record = return_way::message(&row.name, &message);
            channel.add(message.sequence.0, message.published_at.0, &record)?;
            written = message.sequence;
            exported.messages += 1;
        }
        next = Sequence(through.0.max(next.0) + 1);
    }
    // Only a message tells the former server how far its channel was.
    let names = (ClientId::parse(NOBODY.into()), Guid::parse(NOBODY.into()));
    if written < row.last_sequence
        && let (Some(client_id), Some(guid)) = names
    {
        let last = Message {
            sequence: row.last_sequence,
            published_at: row.last_published_at,
            client_id,
            guid,
            reply: "".into(),
            data: bytes::Bytes::new(),
        };
        let record = return_way::message(&row.name, &last);
        channel.add(last.sequence.0, last.published_at.0, &record)?;
        exported.notes.push(format!(
            "channel {:?}: its last messages are gone; an empty message with sequence {} keeps their numbers from being given \
             out again",
            row.name, row.last_sequence.0
        ));
    }
    Ok(())
}
