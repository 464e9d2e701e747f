//! The way back: writes everything that the tables hold as the store of a nats-streaming-server, files or tables, while no server of ours
//! serves. Nothing is changed in the tables.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::config::{DatabaseUrl, Encryption};
use crate::core::batch::ChannelRow;
use crate::core::ids::{ChannelId, ClientId, Guid, Sequence};
use crate::core::message::Message;
use crate::core::snapshot::Snapshot;
use crate::former::return_way::{self, Connected, Numbering, Stored, Told};
use crate::leadership::{self, Lease};
use crate::node::run::new_server_id;
use crate::store::files::export::{NewChannel, NewStore};
use crate::store::{self, FormerTables, Keyring, NewTables, Page, PageSize, ServerInfo, Store};

const STATEMENT_TIMEOUT: Duration = Duration::from_mins(5);

const PAGE: PageSize = PageSize {
    messages: 4096,
    bytes: 8 << 20,
};

/// In place of a publisher. The format does not have it.
const NOBODY: &str = "exported";

/// What is to be exported, and where to.
#[derive(Debug)]
pub struct Export {
    pub from: DatabaseUrl,
    pub schema: String,
    /// What payloads are decrypted with; they are written as they were published.
    pub encryption: Encryption,
    pub to: Target,
}

#[derive(Debug)]
pub enum Target {
    /// A file store.
    Directory(PathBuf),
    /// A SQL store.
    Tables(FormerTables),
}

enum New {
    Files(Box<NewStore>),
    Tables(Box<NewTables>),
}

/// A channel that is being written.
enum Channel<'a> {
    Files(NewChannel<'a>),
    Tables(&'a mut NewTables, ChannelId),
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
        store.open_keys().await?;
        let snapshot = store.snapshot().await?;
        let mut new = match &self.to {
            Target::Directory(directory) => New::Files(Box::new(NewStore::begin(directory)?)),
            Target::Tables(tables) => New::Tables(Box::new(NewTables::begin(tables).await?)),
        };
        let exported = self.write(&store, &told, &snapshot, &mut new).await;
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
                new.finish().await?;
                Ok(exported)
            }
            Err(error) => {
                new.give_up().await;
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
        new: &mut New,
    ) -> Result<Exported, Error> {
        let server = return_way::server(&Told {
            cluster_id: &told.cluster_id,
            discover: &told.discover_prefix,
            publish: &told.publish_prefix,
            subscribe: &told.subscribe_subject,
            unsubscribe: &told.unsubscribe_subject,
            close: &told.close_subject,
            close_subscription: &told.close_subscription_subject,
        });
        let clients = snapshot.clients.iter();
        let clients: Vec<Connected> = clients
            .map(|(id, row)| return_way::client(id, row))
            .collect();
        let numbering = match new {
            New::Files(files) => {
                files.server(&server)?;
                files.clients(&clients)?;
                Numbering::Channel
            }
            New::Tables(tables) => {
                tables.server(&told.cluster_id, &server).await?;
                tables.clients(&clients).await?;
                Numbering::All
            }
        };
        let mut exported = Exported {
            cluster_id: told.cluster_id.clone(),
            clients: clients.len(),
            ..Exported::default()
        };
        let subscriptions = return_way::subscriptions(snapshot, numbering);
        for (id, row) in snapshot.channels.iter().filter(|(_, row)| !row.deleting) {
            let subscriptions = subscriptions.get(id).map_or(&[][..], Vec::as_slice);
            let mut channel = match &mut *new {
                New::Files(files) => Channel::Files(files.channel(&row.name, subscriptions)?),
                New::Tables(tables) => {
                    tables.channel(*id, &row.name, subscriptions).await?;
                    Channel::Tables(tables, *id)
                }
            };
            messages(store, *id, row, &mut channel, &mut exported).await?;
            if let Channel::Files(files) = channel {
                files.finish()?;
            }
            exported.channels += 1;
        }
        Ok(exported)
    }
}

impl Channel<'_> {
    /// In their order.
    async fn add(&mut self, page: &[Stored]) -> Result<(), store::Error> {
        match self {
            Self::Files(files) => {
                for message in page {
                    files.add(message.sequence, message.timestamp, &message.record)?;
                }
                Ok(())
            }
            Self::Tables(tables, id) => tables.messages(*id, page).await,
        }
    }
}

impl New {
    async fn finish(self) -> Result<(), store::Error> {
        match self {
            Self::Files(files) => files.finish(),
            Self::Tables(tables) => tables.finish().await,
        }
    }

    /// Nothing is left of it.
    async fn give_up(self) {
        match self {
            Self::Files(files) => files.give_up(),
            Self::Tables(tables) => tables.give_up().await,
        }
    }
}

async fn messages(
    store: &Store,
    id: ChannelId,
    row: &ChannelRow,
    channel: &mut Channel<'_>,
    exported: &mut Exported,
) -> Result<(), Error> {
    let (mut next, mut written) = (row.first_sequence, Sequence(0));
    while next <= row.last_sequence {
        let span = (next, row.last_sequence);
        let Page {
            messages,
            unreadable,
            through,
            gone: _,
            missing,
        } = store.page(id, span, PAGE).await?;
        if let Some((_, missing)) = missing {
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
        let page = messages.iter();
        let page = page.map(|message| return_way::message(&row.name, message));
        channel.add(&page.collect::<Vec<_>>()).await?;
        written = messages.last().map_or(written, |last| last.sequence);
        exported.messages += messages.len() as u64;
        next = through.next();
    }
    if let Channel::Tables(tables, _) = channel
        && written == Sequence(0)
    {
        tables.goes_on_after(id, row.last_sequence.0).await?;
        return Ok(());
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
        channel
            .add(&[return_way::message(&row.name, &last)])
            .await?;
        exported.notes.push(format!(
            "channel {:?}: its last messages are gone; an empty message with sequence {} keeps their numbers from being given \
             out again",
            row.name, row.last_sequence.0
        ));
    }
    Ok(())
}
