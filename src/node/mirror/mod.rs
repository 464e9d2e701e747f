//! On to JetStream: copies channels into streams, each message exactly once, until it is stopped.
//!
//! The stream is its own checkpoint: its last message says in a header which sequence of the channel it is. Each publish
//! expects the stream to be as long as it was then, so that a publish that is late, sent twice, or of another mirror is
//! refused by the stream itself, however long ago the first one was.

mod durables;
pub mod names;
mod reverse;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config::{DatabaseUrl, Encryption, NatsConfig};
use crate::core::batch::ChannelRow;
use crate::core::ids::{ChannelId, ChannelName, Sequence};
use crate::core::limits::Limits as ChannelLimits;
use crate::core::message::Message;
use crate::core::snapshot::Snapshot;
use crate::nats;
use crate::node::nats_settings::nats_settings;
use crate::printable::with_causes;
use crate::store::{self, Keyring, PageSize, Store};
use durables::Done;
use names::Rules;
use reverse::Fed;
pub use stream::Limits;
use stream::Target;

const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// Between two looks at the tables.
const PAUSE: Duration = Duration::from_millis(500);

/// In memory, and on its way to the stream, at once.
const PAGE: PageSize = PageSize {
    messages: 1024,
    bytes: 8 << 20,
};

#[derive(Debug)]
pub struct Mirror {
    pub from: DatabaseUrl,
    pub schema: String,
    pub encryption: Encryption,
    pub nats: NatsConfig,
    pub rules: Rules,
    /// These alone; all when there are none.
    pub channels: Vec<String>,
    pub limits: Limits,
    /// The limits of the channels: a new stream gets what [`Mirror::limits`] leaves open.
    pub channel_limits: Option<ChannelLimits>,
    /// Streams feed channels, instead of the other way.
    pub reverse: bool,
    /// Durables become consumers.
    pub consumers: bool,
    /// It ends when everything is copied that there was.
    pub once: bool,
}

/// How far a channel is.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    pub channel: String,
    pub stream: String,
    /// The sequence of the last message that the stream has; 0 before the first.
    pub copied: u64,
    pub last: u64,
    /// Clients that are subscribed on the old side, in order.
    pub subscribers: Vec<String>,
    /// Durables on the old side, with and without a client.
    pub durables: Vec<Durable>,
    /// Where a stream feeds the channel: everything up to this message of the stream is published to the channel.
    pub fed: Option<u64>,
    /// Messages of the stream that are to be published to the channel.
    pub to_feed: Option<u64>,
    /// Why nothing of it is copied; the others are.
    pub refused: Option<String>,
}

/// Somebody who will come back for the channel's messages, or is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Durable {
    /// Client or queue group, and durable.
    pub name: String,
    pub online: bool,
    /// Messages of the channel that it has not acked.
    pub left: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Store(#[from] store::Error),
    /// It may work later.
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Refused(String),
}

impl Error {
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Store(store::Error::Unavailable(_)) | Self::Unreachable(_) => true,
            Self::Store(_) | Self::Refused(_) => false,
        }
    }
}

impl Mirror {
    /// Copies until it is stopped or, with `once`, until everything is copied. It may be killed at any moment. What may
    /// work later is tried again, and reported to `on_failure`.
    pub async fn run(&self, on_failure: impl Fn(&str)) -> Result<Vec<Standing>, Error> {
        let store = self.store().await?;
        let context = self.jetstream().await?;
        let (mut last_told, mut done) = (String::new(), Done::default());
        loop {
            let report = match self.round(&store, &context, &mut done).await {
                Ok(standings) => {
                    let refused = standings.iter().filter_map(|it| it.refused.as_deref());
                    let refused: Vec<&str> = refused.collect();
                    let all = refused.join("; ");
                    let is_in_vain = !refused.is_empty() && refused.len() == standings.len();
                    if is_in_vain || (self.once && !refused.is_empty()) {
                        return Err(Error::Refused(all));
                    }
                    if self.once {
                        store.close().await;
                        return Ok(standings);
                    }
                    all
                }
                Err(error) if !self.once && error.may_pass() => error.to_string(),
                Err(error) => return Err(error),
            };
            if !report.is_empty() && last_told != report {
                on_failure(&report);
            }
            last_told = report;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Everything that is there at its start.
    async fn round(
        &self,
        store: &Store,
        context: &async_nats::jetstream::Context,
        done: &mut Done,
    ) -> Result<Vec<Standing>, Error> {
        let snapshot = store.snapshot().await?;
        // A term that has begun since encrypts with a key of its own.
        store.open_keys().await?;
        let mut standings = Vec::new();
        for (id, row, names) in self.chosen(&snapshot)? {
            let stream = names.stream.clone();
            let copied = async {
                if self.reverse {
                    let target = Target::unread(context, row.name.as_str(), names);
                    let fed = reverse::feed(store, &target, row.name.as_str()).await?;
                    return Ok((0, Some(fed)));
                }
                let limits = self.limits_of(&row.name);
                let mut target = Target::open(context, row.name.as_str(), names, limits).await?;
                ensure_ahead(row, &target)?;
                while target.copied < row.last_sequence.0 {
                    match next_page(store, id, row, &target).await? {
                        Some(messages) => target.append(&messages).await?,
                        // All that was left is gone by its limits.
                        None => break,
                    }
                }
                target.note().await?;
                if self.consumers {
                    durables::follow(&snapshot, id, &target, done).await?;
                }
                Ok((target.copied, None))
            };
            standings.push(standing(&snapshot, (id, row), stream, copied.await, None)?);
        }
        Ok(standings)
    }

    /// Changes nothing.
    pub async fn status(&self) -> Result<Vec<Standing>, Error> {
        let store = self.store().await?;
        let context = self.jetstream().await?;
        let snapshot = store.snapshot().await?;
        let mut standings = Vec::new();
        for (id, row, names) in self.chosen(&snapshot)? {
            let stream = names.stream.clone();
            let name = row.name.as_str();
            let unread = Target::unread(&context, name, names.clone());
            let fed = reverse::standing(&store, &unread, name).await?;
            let found = Target::find(&context, name, names).await;
            let copied = found.map(|target| (target.copied, fed));
            standings.push(standing(&snapshot, (id, row), stream, copied, fed)?);
        }
        store.close().await;
        Ok(standings)
    }

    /// What was configured for all streams takes precedence over the channel's own.
    fn limits_of(&self, channel: &ChannelName) -> Limits {
        let own = self
            .channel_limits
            .as_ref()
            .map(|limits| limits.of(channel));
        let own = own.map_or_else(Limits::default, |own| Limits {
            messages: own.messages.and_then(|it| i64::try_from(it).ok()),
            bytes: own.bytes.and_then(|it| i64::try_from(it).ok()),
            age: own.age,
        });
        Limits {
            messages: self.limits.messages.or(own.messages),
            bytes: self.limits.bytes.or(own.bytes),
            age: self.limits.age.or(own.age),
        }
    }

    async fn store(&self) -> Result<Store, Error> {
        let store = Store::open(&self.from, &self.schema, "stanby/mirror", STATEMENT_TIMEOUT);
        let version = store.version().await?;
        if !version.is_usable() {
            return Err(Error::Refused(format!("schema {} {version}", self.schema)));
        }
        let info = store.server_info().await?.ok_or_else(|| {
            let schema = &self.schema;
            Error::Refused(format!(
                "no server has ever served from schema {schema}: there is nothing to mirror"
            ))
        })?;
        let store = store.with_keys(Keyring::new(&self.encryption, &info.cluster_id));
        store.check_keys().await?;
        Ok(store)
    }

    async fn jetstream(&self) -> Result<async_nats::jetstream::Context, Error> {
        let nats = nats_settings(&self.nats, "stanby/mirror".to_owned());
        if !nats.logins.is_empty() {
            return Err(Error::Refused(
                "a mirror takes one login for all NATS servers; give --nats-user or --nats-token"
                    .to_owned(),
            ));
        }
        // The same certificates are trusted as by the servers.
        let tls = nats::client_config(nats.tls.clone()).await;
        let tls = tls.map_err(|error| Error::Refused(with_causes(&error)))?;
        let mut options = async_nats::ConnectOptions::new()
            .name(nats.name)
            .tls_client_config(tls);
        if let Some(user) = nats.user {
            options = options.user_and_password(user, nats.password.unwrap_or_default());
        }
        if let Some(token) = nats.token {
            options = options.token(token);
        }
        if let Some(path) = &nats.credentials_file {
            let read = options.credentials_file(path).await;
            options = read.map_err(|error| unreadable(path, &error))?;
        }
        if let Some(path) = &nats.nkey_seed_file {
            let seed = tokio::fs::read_to_string(path).await;
            let seed = seed.map_err(|error| unreadable(path, &error))?;
            options = options.nkey(seed.trim().to_owned());
        }
        if nats.tls.required {
            options = options.require_tls(true);
        }
        if nats.tls.first {
            options = options.tls_first();
        }
        let client = options.connect(nats.servers.join(",")).await;
        let client = client
            .map_err(|error| Error::Unreachable(format!("NATS cannot be connected to: {error}")))?;
        Ok(async_nats::jetstream::new(client))
    }

    fn chosen<'a>(
        &self,
        snapshot: &'a Snapshot,
    ) -> Result<Vec<(ChannelId, &'a ChannelRow, names::Names)>, Error> {
        let wanted = |row: &ChannelRow| {
            let name = row.name.as_str();
            !row.deleting && (self.channels.is_empty() || self.channels.iter().any(|it| it == name))
        };
        let rows = snapshot.channels.iter().filter(|(_, row)| wanted(row));
        let rows: Vec<_> = rows.map(|(id, row)| (*id, row)).collect();
        let found: Vec<&str> = rows.iter().map(|(_, row)| row.name.as_str()).collect();
        if let Some(missing) = self
            .channels
            .iter()
            .find(|it| !found.contains(&it.as_str()))
        {
            return Err(Error::Refused(format!(
                "channel {missing:?} of --channel does not exist; `stanby status` shows the channels"
            )));
        }
        let names = self.rules.names(&found);
        let names = names.map_err(|error| Error::Refused(error.to_string()))?;
        let both = rows.into_iter().zip(names);
        Ok(both.map(|((id, row), names)| (id, row, names)).collect())
    }
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::Refused(format!("{} cannot be read: {error}", path.display()))
}

/// What is wrong with one channel or its stream keeps no other from being copied.
fn standing(
    snapshot: &Snapshot,
    (id, row): (ChannelId, &ChannelRow),
    stream: String,
    copied: Result<(u64, Option<Fed>), Error>,
    fed: Option<Fed>,
) -> Result<Standing, Error> {
    let (copied, fed, refused) = match copied {
        Ok((copied, fed)) => (copied, fed, None),
        Err(Error::Refused(why)) => (0, fed, Some(why)),
        Err(error) => return Err(error),
    };
    let online = snapshot.subscriptions.values().filter(|it| {
        let position = snapshot.positions.get(&it.position);
        it.online && position.is_some_and(|position| position.channel == id)
    });
    let mut subscribers: Vec<String> = online.map(|it| it.client_id.as_str().to_owned()).collect();
    subscribers.sort();
    subscribers.dedup();
    Ok(Standing {
        channel: row.name.as_str().to_owned(),
        stream,
        copied,
        last: row.last_sequence.0,
        subscribers,
        durables: durables::standing(snapshot, id, row.last_sequence),
        fed: fed.map(|fed| fed.through),
        to_feed: fed.map(|fed| fed.last - fed.through),
        refused,
    })
}

/// A stream that is further than the channel is another channel's: of other tables, or of one that was deleted.
fn ensure_ahead(row: &ChannelRow, target: &Target) -> Result<(), Error> {
    if target.copied <= row.last_sequence.0 {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "stream {:?} has message {} of channel {:?}, which has only {}: the tables are older ones or others, or \
         the channel was deleted and created again; name another stream with --stream-of CHANNEL=STREAM, or delete this one",
        target.names.stream, target.copied, row.name, row.last_sequence.0
    )))
}

/// `None` when nothing is left. A message that is not there must be known to be gone.
async fn next_page(
    store: &Store,
    id: ChannelId,
    row: &ChannelRow,
    target: &Target,
) -> Result<Option<Vec<Arc<Message>>>, Error> {
    let mut next = Sequence(target.copied + 1).max(row.first_sequence);
    while next <= row.last_sequence {
        let page = store.page(id, (next, row.last_sequence), PAGE).await?;
        if let Some(it) = page.unreadable.first() {
            return Err(Error::Refused(format!(
                "channel {:?}, message {}: {}; nothing after it is copied",
                row.name, it.sequence.0, it.why
            )));
        }
        if let Some((missing, _)) = page.missing {
            ensure_dropped(store, id, row, missing).await?;
        }
        if !page.messages.is_empty() {
            return Ok(Some(page.messages));
        }
        next = page.through.next();
    }
    Ok(None)
}

/// Fails where a message is missing that its limits have not dropped meanwhile.
async fn ensure_dropped(
    store: &Store,
    id: ChannelId,
    row: &ChannelRow,
    missing: Sequence,
) -> Result<(), Error> {
    let now = store.snapshot().await?;
    let now = now.channels.get(&id);
    if now.is_none_or(|it| it.first_sequence > missing) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "channel {:?}, message {missing}: it is missing from the tables, and nothing says that it is gone; nothing after it is \
         copied",
        row.name
    )))
}
