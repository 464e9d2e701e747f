//! The way back: writes everything that the tables hold as the store of a nats-streaming-server, files or tables, while no server of ours
//! serves. Nothing is changed in the tables.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::config::{DatabaseUrl, Encryption};
use crate::core::batch::ChannelRow;
use crate::core::ids::{ChannelId, Sequence};
use crate::core::lease::Lease;
use crate::core::snapshot::Snapshot;
use crate::core::time::Timestamp;
use crate::former::encryption::is_cipher;
use crate::former::return_way::{self, AdvertisedSubjects, Connected, Numbering, Stored};
use crate::leadership;
use crate::node::run::new_server_id;
use crate::store::files::export::{NewChannel, NewStore};
use crate::store::{self, FormerTables, Keyring, NewTables, Page, PageSize, ServerInfo, Store};

const STATEMENT_TIMEOUT: Duration = Duration::from_mins(5);

const PAGE: PageSize = PageSize {
    messages: 4096,
    bytes: 8 << 20,
};

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
    /// What nats-streaming-server needs on its line, lest its limits by default drop or refuse what is there.
    pub flags: Vec<&'static str>,
    /// What could not be written as it stands.
    pub notes: Vec<String>,
}

/// As nats-streaming-server has them where line and file name none.
const CHANNELS_MAX: usize = 100;
const MESSAGES_MAX: u64 = 1_000_000;
const BYTES_MAX: u64 = 1_000_000 * 1024;
const SUBSCRIPTIONS_MAX: usize = 1000;

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
        let info = self.server_info(&store).await?;
        self.ensure_nobody_serves(&info.cluster_id, &tasks).await?;
        let store = store.with_keys(Keyring::new(&self.encryption, &info.cluster_id));
        store.open_keys().await?;
        let snapshot = store.snapshot().await?;
        let mut new = match &self.to {
            Target::Directory(directory) => New::Files(Box::new(NewStore::begin(directory)?)),
            Target::Tables(tables) => New::Tables(Box::new(NewTables::begin(tables).await?)),
        };
        let exported = self.write(&store, &info, &snapshot, &mut new).await;
        // A server that has started meanwhile has changed something.
        let unchanged = async {
            self.ensure_nobody_serves(&info.cluster_id, &tasks).await?;
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

    async fn server_info(&self, store: &Store) -> Result<ServerInfo, Error> {
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
        let diagnosis = leadership::doctor::diagnose(&settings, tasks).await?;
        diagnosis.primary?;
        let mut contenders = diagnosis.contenders?.into_iter();
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
        info: &ServerInfo,
        snapshot: &Snapshot,
        new: &mut New,
    ) -> Result<Exported, Error> {
        let server = return_way::server(&AdvertisedSubjects {
            cluster_id: &info.cluster_id,
            discover: &info.discover_prefix,
            publish: &info.publish_prefix,
            subscribe: &info.subscribe_subject,
            unsubscribe: &info.unsubscribe_subject,
            close: &info.close_subject,
            close_subscription: &info.close_subscription_subject,
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
                tables.server(&info.cluster_id, &server).await?;
                tables.clients(&clients).await?;
                Numbering::All
            }
        };
        let mut exported = Exported {
            cluster_id: info.cluster_id.clone(),
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
            if subscriptions.len() > SUBSCRIPTIONS_MAX {
                exported.needs("-max_subs 0");
            }
            messages(store, *id, row, &mut channel, &mut exported).await?;
            if let Channel::Files(files) = channel {
                files.finish()?;
            }
            exported.channels += 1;
        }
        if exported.channels > CHANNELS_MAX {
            exported.needs("-max_channels 0");
        }
        Ok(exported)
    }
}

impl Exported {
    fn needs(&mut self, flag: &'static str) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
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
    let mut writing = Writing {
        channel,
        row,
        written: Sequence(0),
        ready: Vec::new(),
        count: 0,
        bytes: 0,
        empty: 0,
    };
    let (mut next, mut like_encrypted) = (row.first_sequence, 0_u64);
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
        for message in &messages {
            writing
                .up_to(message.sequence, message.published_at)
                .await?;
            let stored = return_way::message(&row.name, message);
            writing.add(stored).await?;
        }
        writing.flush().await?;
        let begins = messages.iter().filter_map(|message| message.data.first());
        like_encrypted += begins.filter(|first| is_cipher(**first)).count() as u64;
        exported.messages += messages.len() as u64;
        next = through.next();
    }
    if like_encrypted > 0 {
        exported.notes.push(format!(
            "channel {:?}: {like_encrypted} of its messages begin with a byte that encrypted ones begin with: with -encrypt, \
             nats-streaming-server cannot deliver them; start it without",
            row.name
        ));
    }
    if writing.written == Sequence(0)
        && let Channel::Tables(tables, _) = &mut *writing.channel
    {
        tables.goes_on_after(id, row.last_sequence.0).await?;
        return Ok(());
    }
    writing.end().await?;
    if writing.empty > 0 {
        exported.notes.push(format!(
            "channel {:?}: empty messages ({}) stand where others are gone: without them, nats-streaming-server would give out their \
             numbers again, or look for them for ever",
            row.name, writing.empty
        ));
    }
    if writing.count > MESSAGES_MAX {
        exported.needs("-max_msgs 0");
    }
    if writing.bytes > BYTES_MAX {
        exported.needs("-max_bytes 0");
    }
    Ok(())
}

/// The messages of a channel on their way.
struct Writing<'a, 'b> {
    channel: &'a mut Channel<'b>,
    row: &'a ChannelRow,
    written: Sequence,
    ready: Vec<Stored>,
    count: u64,
    /// As its limits count them.
    bytes: u64,
    /// In place of what is gone.
    empty: u64,
}

impl Writing<'_, '_> {
    async fn add(&mut self, stored: Stored) -> Result<(), Error> {
        self.written = Sequence(stored.sequence);
        self.count += 1;
        self.bytes += stored.counted_bytes();
        self.ready.push(stored);
        if self.ready.len() < PAGE.messages {
            return Ok(());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.channel.add(&self.ready).await?;
        self.ready.clear();
        Ok(())
    }

    /// Empty ones before this sequence, unless it is the first. Where tables lack a row that a limit is to drop, the former
    /// server looks for it for ever; files may have holes.
    async fn up_to(&mut self, sequence: Sequence, at: Timestamp) -> Result<(), Error> {
        if let Channel::Files(_) = self.channel {
            return Ok(());
        }
        while self.written > Sequence(0) && self.written.next() < sequence {
            self.add_empty(self.written.next(), at).await?;
        }
        Ok(())
    }

    /// Only from a message does the former server learn how far its channel was.
    async fn end(&mut self) -> Result<(), Error> {
        let (last, at) = (self.row.last_sequence, self.row.last_published_at);
        self.up_to(last, at).await?;
        if self.written < last {
            self.add_empty(last, at).await?;
        }
        self.flush().await
    }

    async fn add_empty(&mut self, sequence: Sequence, at: Timestamp) -> Result<(), Error> {
        self.empty += 1;
        self.add(return_way::empty(&self.row.name, sequence, at))
            .await
    }
}
